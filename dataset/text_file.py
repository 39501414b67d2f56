"""Any UTF-8 text file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dataset.corpus import SPLITTERS, Corpus, DatasetError, make_corpus
from dataset.decoding import decode_utf8


def load(path: str | Path, vocab_size: int | None = 10_000, unit: str = "word") -> Corpus:
    """Load a UTF-8 text file: the first 90 % for training, the next 5 % for validation, the last 5 % for testing.

    Lines stay whole and in order. Characters (``unit="char"``) include all spaces and empty lines; words do not.
    The ``vocab_size`` most frequent words of the training split are kept, besides ``<unk>`` and ``<eos>``; those that
    occur once are left out, as in ``build_vocabulary``.

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
            "it takes at least 3 lines that are not empty, for training, validation and testing"
        )
    return split_lines(Path(path).stem, lines, vocab_size, unit, repeated=True)


def split_lines(name: str, lines: list[list[str]], vocab_size: int | None, unit: str, repeated: bool = False) -> Corpus:
    """Make a corpus of lines that are split into words: 90 % for training, 5 % for validation, 5 % for testing.

    At least three lines must have words. An empty line is in the same split as the line before it.
    """
    # Each split ends with the line in which its share of all words is reached, and has at least one line with words.
    lengths = np.array([len(line) for line in lines])
    full = np.flatnonzero(lengths)
    ends = np.cumsum(lengths[full])
    train_end = min(int(np.searchsorted(ends, 0.90 * ends[-1])) + 1, len(full) - 2)
    valid_end = min(max(int(np.searchsorted(ends, 0.95 * ends[-1])) + 1, train_end + 1), len(full) - 1)
    train_end, valid_end = full[[train_end, valid_end]].tolist()
    return make_corpus(
        name, lines[:train_end], lines[train_end:valid_end], lines[valid_end:], vocab_size, unit, repeated
    )


def read_utf8(path: Path) -> str:
    """Read a UTF-8 file; raises DatasetError, which says why, if it cannot be read or decoded."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error
    return decode_utf8(data, path)


def read_json(path: Path) -> object:
    """Read a JSON file; raises OSError if it cannot be read, DatasetError if it is damaged or nested too deeply."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is damaged: {error}") from None
