"""From text to word ids, and back."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

UNK = "<unk>"  # stands for every word that is not in the vocabulary
EOS = "<eos>"  # ends every line

# A marker such as <unk>; a number such as 1,000.50; a word with apostrophes or hyphens inside; any other character.
_WORD = re.compile(r"<\w+>|\d+(?:[.,]\d+)*|\w+(?:['’-]\w+)*|[^\w\s]")


class DatasetError(ValueError):
    """A text that cannot be used; the message says why and what to do."""


@dataclass
class Corpus:
    """A text as word ids, split for training, choosing and testing, and its vocabulary.

    Attributes
    ----------
    name : str
    train, valid, test : (n,) int32 arrays
        The ids of the words, in the order of the text.
    id_to_word : list of str
    separator : str
        What stands between two words in print: a space, or nothing between characters.
    """

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    id_to_word: list[str]
    separator: str = " "
    word_to_id: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.word_to_id = {word: i for i, word in enumerate(self.id_to_word)}

    @property
    def sha256(self) -> str:
        """A checksum of all ids and words: the same text, split and vocabulary give the same one anywhere."""
        digest = hashlib.sha256("\n".join(self.id_to_word).encode())
        for ids in (self.train, self.valid, self.test):
            digest.update(f"\n{len(ids)}\n".encode())
            digest.update(ids.astype("<i4").tobytes())
        return digest.hexdigest()


def split_words(line: str) -> list[str]:
    """Lower-case a line and split it into words, with punctuation marks as words of their own."""
    return _WORD.findall(line.lower())


def split_characters(line: str) -> list[str]:
    """Split a line into characters, spaces included. Right for text without spaces, such as Japanese."""
    return list(line.strip())


SPLITTERS = {"word": split_words, "char": split_characters}
SEPARATORS = {"word": " ", "char": ""}  # what stands between two of them in print


def build_vocabulary(lines: Iterable[list[str]], size: int) -> list[str]:
    """``<unk>``, ``<eos>`` and the ``size`` most frequent words; of equally frequent ones, those that come first."""
    counts = Counter(word for line in lines for word in line)
    for marker in (UNK, EOS):
        counts.pop(marker, None)
    return [UNK, EOS, *(word for word, _ in counts.most_common(size))]


def to_ids(lines: Iterable[list[str]], word_to_id: dict[str, int]) -> np.ndarray:
    """The ids of all words, with ``<eos>`` after each line; words that have no id become ``<unk>``."""
    unk, eos = word_to_id.get(UNK), word_to_id[EOS]
    ids: list[int] = []
    for line in lines:
        ids.extend(word_to_id.get(word, unk) for word in line)
        ids.append(eos)
    return np.array(ids, dtype=np.int32)
