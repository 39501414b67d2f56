"""Tokenizers: there and back, special tokens, files, and the errors when training is impossible."""

import io
import json
import os

import pytest
import sentencepiece

from dataset.corpus import DatasetError
from dataset.tokenizer import SPECIAL, TOKENIZERS, CharTokenizer, SentencePieceTokenizer, WordTokenizer, load_tokenizer

DOCUMENTS = ["吾輩は猫である。名前はまだ無い。", "the cat , it sleeps .", "どこで生れたかとんと見当がつかぬ。"] * 20
EACH = pytest.mark.parametrize("kind", TOKENIZERS)


def trained(kind, documents=DOCUMENTS):
    return TOKENIZERS[kind].train(documents, 43 if kind == "subword" else 100)


@EACH
def test_text_comes_back(kind):
    tokenizer = trained(kind)
    for document in DOCUMENTS[:3]:
        found = tokenizer.decode(tokenizer.encode(document))
        assert found == document if kind != "word" else found.replace(" ", "") == document.replace(" ", "")


@EACH
def test_special_tokens_have_ids_that_no_text_has_and_leave_no_trace(kind):
    tokenizer = trained(kind)
    special = tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id
    assert special == (0, 1, 2, 3)
    ids = tokenizer.encode("the <s> cat </s> <pad>")
    assert not set(ids) & {1, 2, 3}
    assert all(0 <= i < tokenizer.vocab_size for i in ids)
    the = tokenizer.encode("the")
    assert tokenizer.decode([1, *the, 2, 3, 3]) == "the"


@EACH
def test_the_same_documents_give_the_same_tokenizer(kind):
    assert trained(kind).sha256 == trained(kind).sha256
    assert trained(kind).sha256 != trained(kind, [*DOCUMENTS, "sleeps sleeps the cat the cat"] * 2).sha256


@EACH
def test_saved_and_loaded(kind, tmp_path):
    tokenizer = trained(kind)
    path = tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is type(tokenizer)
    assert loaded.sha256 == tokenizer.sha256
    assert loaded.encode(DOCUMENTS[0]) == tokenizer.encode(DOCUMENTS[0])
    os.utime(path, (0, 0))
    assert loaded.save(tmp_path) == path
    assert path.stat().st_mtime == 0  # it is not written again
    path.write_bytes(b"another")
    loaded.save(tmp_path)
    assert path.read_bytes() == tokenizer.to_bytes()


def test_words_are_lower_case_and_unknown_ones_are_marked():
    tokenizer = WordTokenizer.train(["The cat sees the cat ."], 6)
    assert tokenizer.tokens[4:] == ["the", "cat"]
    assert tokenizer.encode("The dog") == [4, 0]
    assert tokenizer.decode([4, 0]) == "the <unk>"


def test_8000_tokens_are_kept_if_nothing_else_is_said():
    assert WordTokenizer.train([str(k) for k in range(9000)]).vocab_size == 8000
    with pytest.raises(DatasetError, match="8,000 is too large"):
        SentencePieceTokenizer.train(DOCUMENTS)


def test_long_documents_are_not_left_out():
    # SentencePiece by itself would skip a line of more than 4,192 bytes, and so never see the 猫 in it.
    tokenizer = SentencePieceTokenizer.train(["猫" * 3000, "犬"] * 3, 8)
    assert tokenizer.unk_id not in tokenizer.encode("猫")


@pytest.mark.parametrize(
    ("documents", "size", "message"),
    [
        (DOCUMENTS, 8000, r"8,000 is too large for this text: at most \d+ will do"),
        (DOCUMENTS, 10, r"10 is too small for this text: it needs \d+"),
        ([], 100, "no text to train"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_explained(documents, size, message):
    with pytest.raises(DatasetError, match=message):
        SentencePieceTokenizer.train(documents, size)


def test_the_size_that_would_do_does():
    with pytest.raises(DatasetError) as error:
        SentencePieceTokenizer.train(DOCUMENTS, 8000)
    most = int(str(error.value).split("at most ")[1].split()[0])
    assert SentencePieceTokenizer.train(DOCUMENTS, most).vocab_size == most


def test_no_room_for_tokens_is_refused():
    with pytest.raises(DatasetError, match="more than 4 tokens"):
        CharTokenizer.train(DOCUMENTS, 4)
    assert CharTokenizer.train(DOCUMENTS, 5).vocab_size == 5


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.model", b""),
        ("tokenizer.model", b"garbage"),
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"\xff"),
        ("tokenizer.json", b"[]"),
        ("tokenizer.json", b'{"unit": "word", "tokens": [1]}'),
        ("tokenizer.json", b'{"unit": "word", "tokens": ["a"]}'),
        ("tokenizer.json", b'{"unit": "byte", "tokens": []}'),
        ("tokenizer.json", json.dumps({"unit": "word", "tokens": [*SPECIAL, "a", "a"]}).encode()),
        ("other.txt", b""),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("which", [4, 20, -1])
def test_a_subword_model_with_a_token_that_is_not_utf8_is_refused(tmp_path, which):
    tokenizer = trained("subword")
    token = tokenizer.id_to_token(which % tokenizer.vocab_size).encode()
    head = b"\n" + bytes([len(token)])
    assert tokenizer.to_bytes().count(head + token + b"\x15") == 1
    model = tokenizer.to_bytes().replace(head + token + b"\x15", head + b"\xff" * len(token) + b"\x15")
    (tmp_path / "tokenizer.model").write_bytes(model)
    with pytest.raises(DatasetError, match=r"tokens that are not UTF-8"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("ids", [(1, 0, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2), (0, 1, 2, -1), (0, 1, 2, 4)])
def test_a_subword_model_with_other_special_ids_is_refused(ids):
    model, options = io.BytesIO(), dict(zip(("unk_id", "bos_id", "eos_id", "pad_id"), ids))
    train = sentencepiece.SentencePieceTrainer.train
    train(sentence_iterator=iter(DOCUMENTS), model_writer=model, vocab_size=43 - (-1 in ids), minloglevel=2, **options)
    with pytest.raises(DatasetError, match="other ids for <unk>, <s>, </s> and <pad> than 0, 1, 2, 3"):
        SentencePieceTokenizer(model.getvalue())


def test_a_subword_model_whose_tables_lead_out_of_memory_is_refused(tmp_path):
    """SentencePiece before 0.2.2 reads it, and ends the process with the first text."""
    model = bytearray(trained("subword").to_bytes())
    size = (179_200).to_bytes(4, "little")  # of the tree of characters to normalise, 4 bytes a node
    start = model.index(size) + len(size)
    for k in range(start, start + 179_200, 4):
        model[k : k + 4] = (int.from_bytes(model[k : k + 4], "little") | 0x7FFFFE00).to_bytes(4, "little")  # far away
    (tmp_path / "tokenizer.model").write_bytes(model)
    with pytest.raises(DatasetError, match="not a SentencePiece model, or it is damaged"):
        load_tokenizer(tmp_path).encode("the cat")
