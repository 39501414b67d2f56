"""No file, however it is made, costs its loader more memory than the bound that docs/RELIABILITY.md states.

Those of weights and checkpoints are in test_npz.py and test_checkpoint.py, those of folders of models in test_fuzz.py.
"""

import contextlib
import json
import subprocess
import sys
import tracemalloc
from itertools import islice, product
from pathlib import Path

import pytest

from ch06_gated.models import load_run
from common.runs.folder import read_vocabulary
from dataset import ag_news, documents, jawiki, text_file, word_vectors
from dataset.corpus import EOS
from dataset.tokenizer import SPECIAL, SentencePieceTokenizer, load_tokenizer

SIZE = 2**17  # bytes of a file, or a little more
ROOM = 2**18  # bytes that any file may cost, besides a multiple of its size


def filled(unit):
    unit = unit.encode()
    return unit * (SIZE // len(unit))


def different(n, alphabet):
    """n different words, the shortest that there are."""
    return list(islice(("".join(word) for length in range(1, 9) for word in product(alphabet, repeat=length)), n))


LATIN, CYRILLIC = "abcdefghijklmnopqrstuvwxyz", "абвгдежзийклмнопрстуфхцчшщъыьэюя"

TEXTS = {
    "one enormous line": filled("a"),
    "one enormous line of short words": filled("я "),
    "a word that has no end": filled("猫"),
    "millions of empty lines": filled("\n"),
    "lines of one word": filled("a\n"),
    "lines of one wide character": filled("я\n"),
    "lines of two words": filled("a b\n"),
    "lines of Windows": filled("a\r\n"),
    "one emoji, which makes all characters wide": "😀\n".encode() + filled("ab c\n"),
    "all words different": " ".join(different(30_000, LATIN)).encode(),
    "all lines different": "\n".join(different(20_000, CYRILLIC)).encode(),
    "all characters different": "".join(chr(k) for k in range(0x3400, 0xA000)).encode() * 3,
}


def items(*values):
    """A JSON array of the same values again and again."""
    return b"[" + filled(",".join(values) + ",")[:-1] + b"]"


JSONS = {
    "empty arrays": items("[]"),
    "arrays in an array": items("[1]"),
    "objects": items('{"":0}'),
    "numbers": items("999"),
    "short texts": items('"яя"'),
    "nested": filled("["),
    "a number of so many digits": filled("9"),
    "a text with an emoji": '["😀'.encode() + filled("a") + b'"]',
}


def tokens(words, *special):
    return json.dumps([*special, *words], ensure_ascii=False, separators=(",", ":"))


VOCABULARIES = {
    **JSONS,
    "all words different": tokens(different(25_000, LATIN), EOS).encode(),
    "all words different and wide": tokens(different(20_000, CYRILLIC), EOS).encode(),
}

TOKENIZERS = {
    **JSONS,
    **{
        name: f'{{"unit":"word","tokens":{tokens(words, *SPECIAL)}}}'.encode()
        for name, words in {"all different": different(25_000, LATIN), "wide": different(20_000, CYRILLIC)}.items()
    },
}

PASSAGES = {
    **JSONS,
    "short passages": b'{"data":[{"paragraphs":' + items('{"context":"яя"}') + b"}]}",
    "one passage": '{"data":[{"paragraphs":[{"context":"😀'.encode() + filled("a") + b'"}]}]}',
}

ROWS = {
    "short rows": filled("1,я,\n"),
    "many fields": filled(","),
    "empty rows": filled("\n"),
    "one long field": b"1," + filled("a"),
    "long fields": (b"1," + "я".encode() * 130_000 + ",😀\n".encode()) * 2,
    "entities": (b"1," + b"&amp;" * 20_000 + b",\n") * 3,
    "no end of a quotation": b'1,"' + filled("a,\n"),
}

VECTORS = {
    "one enormous line": b"a" + filled(" 12"),
    "one enormous line, and an emoji": "😀".encode() + filled(" 12"),
    "one enormous line of spaces": b"a" + filled(" ") + b"1",
    "one enormous word": filled("a"),
    "all words different": "".join(f"{word} 1\n" for word in different(20_000, LATIN)).encode(),
}

# Of each loader: the most bytes of memory for a byte of the file, the name of the file, and what may be in it.
LOADERS = {
    "text of words": (lambda path: text_file.load(path, 10**9), 100, "text.txt", TEXTS),
    "text of characters": (lambda path: text_file.load(path, 10**9, "char"), 100, "text.txt", TEXTS),
    "documents": (documents.load_file, 100, "text.txt", TEXTS),
    "table": (ag_news.read, 200, "table.csv", ROWS),
    "vectors": (lambda path: word_vectors.load_vectors(path, WANTED), 50, "vectors.txt", VECTORS),
    "passages": (jawiki.read, 40, "passages.json", PASSAGES),
    "tokenizer": (lambda path: load_tokenizer(path.parent), 40, "tokenizer.json", TOKENIZERS),
    "vocabulary": (read_vocabulary, 40, "vocabulary.json", VOCABULARIES),
    "options": (lambda path: load_run(path.parent), 40, "options.json", JSONS),
}
WANTED = different(20_000, LATIN)


def peak(load, path):
    """The most memory that it takes to load the file, or to refuse it, in bytes."""
    tracemalloc.start()
    with contextlib.suppress(ValueError):
        load(path)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.mark.parametrize(("loader", "case"), [(name, case) for name, (*_, cases) in LOADERS.items() for case in cases])
def test_a_loader_needs_no_more_memory_than_a_multiple_of_the_file(tmp_path, loader, case):
    load, multiple, name, cases = LOADERS[loader]
    (tmp_path / name).write_bytes(cases[case])
    assert peak(load, tmp_path / name) < ROOM + multiple * len(cases[case])


def test_vectors_that_are_not_wanted_cost_nothing(tmp_path):
    (tmp_path / "vectors.txt").write_bytes(filled("a 1 2 3\n") * 4)
    assert peak(lambda path: word_vectors.load_vectors(path, ["a"]), tmp_path / "vectors.txt") < ROOM


# SentencePiece reads its models in C++, which only the operating system sees.

RESIDENT = """
import sys
import sentencepiece  # before the first look at the memory
from dataset.corpus import DatasetError
from dataset.tokenizer import SentencePieceTokenizer
def most():
    return 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
model = open(sys.argv[1], "rb").read()
before = most()
try:
    SentencePieceTokenizer(model).encode("the cat")
except DatasetError:
    pass
print(most() - before)
"""


def varint(n):
    return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])


def member(number, content):
    """A field of a protocol buffer: bytes or another message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def pieces(words):
    return b"".join(member(1, member(1, word.encode()) + b"\x15\0\0\0\0") for word in words)


# What follows a model is read as more of it.
MORE = {
    "all tokens different": pieces(different(50_000, LATIN + "猫")),
    "long tokens": pieces(word * 100 for word in different(2000, LATIN)),
    "one enormous token": pieces(["a" * 2**19]),
    "empty tokens": b"\n\0" * 2**18,
    "empty names of languages": member(2, b"\x2a\0" * 2**18),
    "a length of 2 GB": b"\n" + varint(2**31 - 1) + b"abc",
    "a length of a terabyte": b"\n" + varint(2**40) + b"abc",
    "groups in groups": b"\x0b" * 2**19,
    "a map that claims 2 GB": member(3, member(2, b"\xff\xff\xff\x7f" + b"a" * 1000)),
}


@pytest.fixture(scope="module")
def model():
    texts = ["the cat , it sleeps .", "the mouse sees a fish", "my aunt likes the rain"] * 20
    return SentencePieceTokenizer.train(texts, 28).to_bytes()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says how much memory a process needed")
@pytest.mark.parametrize("case", MORE)
def test_a_subword_model_needs_no_more_memory_than_a_multiple_of_the_file(tmp_path, model, case):
    content = model + MORE[case]
    (tmp_path / "tokenizer.model").write_bytes(content)
    found = subprocess.run(
        [sys.executable, "-c", RESIDENT, tmp_path / "tokenizer.model"], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) < 2**22 + 50 * len(content)
