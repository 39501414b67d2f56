"""Pretrained word vectors in the usual text format: a word and its numbers per line.

    the 0.418 0.24968 -0.41242 ...
    of 0.70853 0.57088 -0.4716 ...

This is the format of GloVe (Pennington, Socher and Manning, 2014); word2vec adds a first line with the number of words
and of dimensions.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from dataset.corpus import DatasetError


def load_vectors(path: str | Path, words: Collection[str]) -> tuple[dict[str, np.ndarray], int]:
    """Read the vectors of ``words`` that the file has, (D,) float32 arrays, and D. Only these are kept in memory.

    Of two vectors for one word, the first is taken.

    Raises
    ------
    DatasetError
        If the file cannot be read, or a line is not a word and D numbers.
    """
    words = set(words)
    vectors: dict[str, np.ndarray] = {}
    D = 0
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            for k, line in enumerate(file, start=1):
                fields = line.rstrip().split(" ")
                if k == 1 and len(fields) == 2 and all(field.isdecimal() for field in fields):
                    continue
                D = D or len(fields) - 1
                word = " ".join(fields[:-D]) if D else ""  # a few "words" of some files have spaces inside
                if not word:
                    raise DatasetError(f"{path}, line {k}: expected a word and {D or 'its'} numbers, got {line[:60]!r}")
                if word in words and word not in vectors:
                    vectors[word] = _numbers(fields[-D:], path, k)
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is not UTF-8 text; vectors in word2vec's binary form must be converted") from None
    if not D:
        raise DatasetError(f"{path} has no vectors")
    return vectors, D


def _numbers(fields: list[str], path: str | Path, k: int) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, and refused below
            vector = np.array([float(field) for field in fields], dtype=np.float32)
    except ValueError:
        vector = np.array(np.nan)
    if not np.isfinite(vector).all():
        raise DatasetError(f"{path}, line {k}: expected {len(fields)} finite numbers, got {' '.join(fields)[:60]!r}")
    return vector
