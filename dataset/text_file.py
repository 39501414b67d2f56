"""Any text of the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dataset.corpus import SEPARATORS, SPLITTERS, Corpus, DatasetError, build_vocabulary, to_ids
from dataset.decoding import decode_utf8


def load(path: str | Path, vocab_size: int = 10_000, unit: str = "word") -> Corpus:
    """Load a UTF-8 text file: the first 90 % to train, the next 5 % to choose, the last 5 % to test.

    Lines stay in order and whole, with the spaces that they begin and end with; empty lines are left out of words.

    Parameters
    ----------
    path : path of the file
    vocab_size : int
        The most frequent words of the training split that are kept, besides ``<unk>`` and ``<eos>``.
    unit : {"word", "char"}
        What is a word: letters between spaces and punctuation, or each character.

    Raises
    ------
    DatasetError
        If there is no such file, it is not UTF-8, or it is too short to be split.
    """
    split_line = SPLITTERS[unit]
    text = read_utf8(Path(path)).removesuffix("\n")
    lines = [split_line(line) for line in text.split("\n") if unit == "char" or line.strip()]
    full = sum(len(line) > 0 for line in lines)
    if full < 3:
        words = sum(len(line) for line in lines)
        raise DatasetError(
            f"{path} has {words} {'words' if unit == 'word' else 'characters'} in {full} lines; "
            "it takes at least 3 lines that are not empty to train, choose and test on"
        )
    return split_lines(Path(path).stem, lines, vocab_size, unit)


def split_lines(name: str, lines: list[list[str]], vocab_size: int, unit: str) -> Corpus:
    """Make a corpus of lines that are split into words: 90 % to train, 5 % to choose, 5 % to test.

    At least three lines must have words. An empty one is in the same split as the line before it.
    """
    # Each split ends with the line in which its share of all words is reached, and has at least one line with words.
    lengths = np.array([len(line) for line in lines])
    full = np.flatnonzero(lengths)
    ends = np.cumsum(lengths[full])
    train_end = min(int(np.searchsorted(ends, 0.90 * ends[-1])) + 1, len(full) - 2)
    valid_end = min(max(int(np.searchsorted(ends, 0.95 * ends[-1])) + 1, train_end + 1), len(full) - 1)
    train_end, valid_end = full[[train_end, valid_end]].tolist()

    id_to_word = build_vocabulary(lines[:train_end], vocab_size)
    word_to_id = {word: i for i, word in enumerate(id_to_word)}
    parts = (lines[:train_end], lines[train_end:valid_end], lines[valid_end:])
    return Corpus(name, *(to_ids(part, word_to_id) for part in parts), id_to_word, SEPARATORS[unit])


def read_utf8(path: Path) -> str:
    """Read a UTF-8 file, or say what is wrong with it.

    Raises
    ------
    DatasetError
        If there is no such file, or it is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error
    return decode_utf8(data, path)


def read_json(path: Path) -> object:
    """Read a UTF-8 file of JSON, or say that it is damaged.

    Raises
    ------
    OSError
        If it cannot be read.
    DatasetError
        If it is not UTF-8, not JSON, or nested too deeply.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is damaged: {error}") from None
