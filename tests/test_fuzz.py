"""Text files and tokenizers with anything in them: a clear error, or a result that makes sense.

RNN_FUZZ_CASES=2500 pytest tests/test_fuzz.py is the long run; weights and checkpoints have theirs beside their tests.
"""

import numpy as np
import pytest
from fuzzing import CHANGES, FUZZ_CASES, mutated
from helpers import write_text
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataset import documents, text_file
from dataset.corpus import DatasetError
from dataset.tokenizer import TOKENIZERS, load_tokenizer

LINES = st.lists(st.text(max_size=12), max_size=12).map(lambda lines: "\n".join(lines).encode("utf-8", "replace"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def result(function, path, *args):
    """What a loader returns; None if it refuses, and names the file."""
    refusal = None
    try:
        return function(path, *args)
    except DatasetError as error:
        refusal = str(error)
    assert str(path) in refusal
    return None


@settings(max_examples=FUZZ_CASES)
@given(content=st.one_of(st.binary(max_size=200), LINES), unit=st.sampled_from(["word", "char"]))
@example(content=b"\xff\xfea\x00", unit="word")
@example(content=b"\x00\n\x00\n\x00", unit="char")
@example(content="\ufeff\n\u2028\n\x85\n...\n".encode(), unit="word")
def test_text_files(folder, content, unit):
    path = folder / "text.txt"
    path.write_bytes(content)
    corpus = result(text_file.load, path, 5, unit)
    if corpus is None:
        return
    V = len(corpus.id_to_word)
    assert V <= 5 + 2
    assert len(set(corpus.id_to_word)) == V
    for split in (corpus.train, corpus.valid, corpus.test):
        assert len(split) > 0
        assert 0 <= split.min() <= split.max() < V


@settings(max_examples=FUZZ_CASES)
@given(content=st.one_of(st.binary(max_size=200), LINES))
def test_files_of_documents(folder, content):
    path = folder / "documents.txt"
    path.write_bytes(content)
    found = result(documents.load_file, path)
    if found is None:
        return
    assert found.train
    assert found.valid
    assert all(document.strip() and "\n" not in document for document in found.train + found.valid)


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request, tmp_path_factory):
    """The folder of a tokenizer, its only file, and the content."""
    folder = tmp_path_factory.mktemp("tokenizer")
    lines = write_text(folder / "text.txt", 100).read_text(encoding="utf-8").splitlines()
    (folder / "text.txt").unlink()
    TOKENIZERS[request.param].train(lines, 28).save(folder)
    (path,) = folder.iterdir()
    return folder, path, path.read_bytes()


@settings(max_examples=FUZZ_CASES)
@given(changes=CHANGES)
def test_mutated_tokenizers(tokenizer, changes):
    folder, path, content = tokenizer
    path.write_bytes(mutated(content, changes))
    found = result(load_tokenizer, folder)
    if found is None:
        return
    ids = found.encode("the cat sees 新聞 .")
    assert all(0 <= i < found.vocab_size for i in ids)
    assert isinstance(found.decode(ids), str)
    assert np.array_equal(ids, found.encode("the cat sees 新聞 ."))
