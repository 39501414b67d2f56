"""From text to word ids, and back."""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

UNK = "<unk>"  # stands for every word that is not in the vocabulary
EOS = "<eos>"  # ends every line


class DatasetError(ValueError):
    """A text that cannot be used; the message says why and what to do."""


@dataclass
class Corpus:
    """A text as word ids, split into training, validation and test set, and its vocabulary.

    ``train``, ``valid`` and ``test`` are (n,) int32 arrays, in the order of the text. ``separator`` stands between two
    words in print: a space, or nothing between characters; ``note`` is what a user should know of how it was read.
    """

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    id_to_word: list[str]
    separator: str = " "
    note: str = ""
    word_to_id: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.word_to_id = {word: i for i, word in enumerate(self.id_to_word)}

    @property
    def sha256(self) -> str:
        """A checksum of all ids and words: the same text, split and vocabulary give the same one on any machine."""
        digest = hashlib.sha256("\n".join(self.id_to_word).encode())
        for ids in (self.train, self.valid, self.test):
            digest.update(f"\n{len(ids)}\n".encode())
            digest.update(ids.astype("<i4").tobytes())
        return digest.hexdigest()

    def in_vocabulary(self, id_to_word: list[str]) -> Corpus:
        """The same text in another vocabulary, such as that of a trained model; words that it lacks become ``<unk>``.

        Raises DatasetError if there are such words, but no ``<unk>``.
        """
        word_to_id = {word: i for i, word in enumerate(id_to_word)}
        new = np.array([word_to_id.get(word, word_to_id.get(UNK, -1)) for word in self.id_to_word], np.int32)
        splits = [new[ids] for ids in (self.train, self.valid, self.test)]
        if any((ids < 0).any() for ids in splits):
            raise DatasetError(f"{self.name} has words that are not in the vocabulary, and the vocabulary has no {UNK}")
        return Corpus(self.name, *splits, id_to_word, self.separator)


@dataclass
class Documents:
    """Documents without line breaks, split into training and validation set."""

    name: str
    train: list[str]
    valid: list[str]

    @property
    def sha256(self) -> str:
        """A checksum of all documents: the same text and split give the same one on any machine."""
        digest = hashlib.sha256()
        for documents in (self.train, self.valid):
            digest.update(f"{len(documents)}\n".encode())
            digest.update("".join(document + "\n" for document in documents).encode())
        return digest.hexdigest()


def split_words(line: str) -> list[str]:
    """Lower-case a line and split it into words, where each punctuation mark is a word.

    Accents, vowel signs and other marks stay with their letter, and the parts of an emoji together.
    """
    # İ becomes i and a dot above it; without that dot, it is the i of the same word in lower case.
    return _word_pattern().findall(line.lower().replace("i\u0307", "i"))


def split_characters(line: str) -> list[str]:
    """Split a line into characters, spaces included, without the line end: for code, and for Japanese."""
    return list(line.removesuffix("\n"))


@functools.cache
def _word_pattern() -> re.Pattern[str]:
    """The pattern of a word, compiled at first use, because it searches all of Unicode for marks."""
    # Python's \w lacks the marks that combine with letters. There are none between U+20000 and U+E0100.
    points = (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0))
    marks = "".join(chr(point) for point in points if unicodedata.category(chr(point)).startswith("M"))
    # And the joiner and non-joiner. ASCII, which mostly follows a word, is ruled out first: that is faster.
    marks = rf"(?:(?![\0-\x7f])[{marks}\u200c\u200d])"
    letters = rf"\w+(?:{marks}+\w+)*{marks}*"
    # Emoji: skin tones, tags, and the joiner before the next one; a flag is two regional indicators.
    flag = "[\U0001f1e6-\U0001f1ff]"
    symbol = rf"[^\w\s](?:{marks}|[\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f])*"
    return re.compile(
        rf"<{letters}>"  # a marker such as <unk>
        rf"|\d+(?:[.,]\d+)*{marks}*"  # a number such as 1,000.50
        rf"|{letters}(?:['’·׳״\u00ad-]{letters})*"  # a word, with apostrophes or hyphens inside
        rf"|{flag}{flag}|{symbol}(?:(?<=\u200d){symbol})*"  # any other character
    )


SPLITTERS = {"word": split_words, "char": split_characters}
SEPARATORS = {"word": " ", "char": ""}  # what stands between two of them in print


def build_vocabulary(lines: Iterable[list[str]], size: int | None, repeated: bool = False) -> list[str]:
    """``<unk>``, ``<eos>`` and the ``size`` most frequent words, or all; ties go to the word that comes first.

    ``repeated`` leaves out words that occur once, so that the model learns what to expect of ``<unk>``: all words of
    the validation and test text that are not in this one become that word. A text so short that these are more than a
    fifth of it keeps them.
    """
    counts = Counter(word for line in lines for word in line)
    has_unk = counts.pop(UNK, 0) > 0
    counts.pop(EOS, None)
    once = sum(count == 1 for count in counts.values())
    if repeated and size is not None and not has_unk and 5 * once <= counts.total():
        size = min(size, len(counts) - once)
    return [UNK, EOS, *(word for word, _ in counts.most_common(size))]


def to_ids(lines: Iterable[list[str]], word_to_id: dict[str, int]) -> np.ndarray:
    """The ids of all words, with ``<eos>`` after each line; words that have no id become ``<unk>``."""
    unk, eos = word_to_id.get(UNK), word_to_id[EOS]
    ids: list[int] = []
    for line in lines:
        ids.extend(word_to_id.get(word, unk) for word in line)
        ids.append(eos)
    return np.array(ids, dtype=np.int32)


def make_corpus(
    name: str,
    train: list[list[str]],
    valid: list[list[str]],
    test: list[list[str]],
    vocab_size: int | None,
    unit: str,
    repeated: bool = False,
) -> Corpus:
    """Make a corpus of three splits, lines of words.

    The vocabulary is that of the training split; if ``vocab_size`` is None, it has all words of all splits.
    """
    counted = train if vocab_size is not None else [*train, *valid, *test]
    id_to_word = build_vocabulary(counted, vocab_size, repeated)
    word_to_id = {word: i for i, word in enumerate(id_to_word)}
    return Corpus(name, *(to_ids(lines, word_to_id) for lines in (train, valid, test)), id_to_word, SEPARATORS[unit])
