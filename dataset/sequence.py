"""Questions and answers as rows of characters: the textbook's sums ("addition.txt") and dates ("date.txt").

    52+607 _659                               a sum and its result, filled with spaces to 7 and 4 characters
    august 19, 2003              _2003-08-19  a date as people write it, and in the order of ISO 8601

Answers begin with ``_``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from itertools import islice
from pathlib import Path

import numpy as np

from dataset.corpus import DatasetError
from dataset.download import data_dir
from dataset.text_file import read_utf8

Pairs = tuple[np.ndarray, np.ndarray]

_LINES = 50_000
# Those of calendar depend on the locale.
_MONTHS = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

_vocabulary: tuple[dict[str, int], dict[int, str]] | None = None  # of the last load


def load_data(file_name: str = "addition.txt", seed: int | None = 1984) -> tuple[Pairs, Pairs]:
    """Load questions and answers as character ids: (x_train, t_train), (x_test, t_test).

    Questions are (n, T) arrays, answers (n, L), and begin with the id of ``_``. The lines are shuffled; the last tenth
    is the test set. ``seed`` seeds NumPy's global generator, as in the textbook; with None, it is not seeded.

    The file is the first of these that exists: the path itself; ``dataset/`` and the name in a folder of ``sys.path``,
    as beside the textbook's scripts; ``sequence/`` and the name in the data folder (``RNN_DATA_DIR``). If there is
    none, "addition.txt" and "date.txt" are generated, 50,000 lines, the same every time.

    Characters are numbered in the order in which they first occur, for each file separately. (In the textbook's
    module, a second file extends the vocabulary of the first.)

    Raises
    ------
    DatasetError
        If there is no such file, or its lines are not questions and answers, each of one length.
    """
    global _vocabulary
    questions, answers = _split(*_read(file_name))
    id_to_char = dict(enumerate(dict.fromkeys("".join(q + a for q, a in zip(questions, answers)))))
    char_to_id = {char: i for i, char in id_to_char.items()}
    x, t = (np.array([[char_to_id[char] for char in text] for text in texts], int) for texts in (questions, answers))
    if seed is not None:
        np.random.seed(seed)
    order = np.arange(len(x))
    np.random.shuffle(order)
    x, t = x[order], t[order]
    end = len(x) - len(x) // 10
    _vocabulary = char_to_id, id_to_char
    return (x[:end], t[:end]), (x[end:], t[end:])


def get_vocab() -> tuple[dict[str, int], dict[int, str]]:
    """Return char_to_id and id_to_char of the file that was loaded last."""
    if _vocabulary is None:
        raise DatasetError("there is no vocabulary yet: call load_data first")
    return _vocabulary


def _read(file_name: str) -> tuple[str, list[str]]:
    """The name of the file for messages, and its lines."""
    folders = [Path(folder, "dataset") for folder in sys.path]
    with suppress(DatasetError, RuntimeError):  # without a home folder there is no data folder
        folders.append(data_dir() / "sequence")
    for path in (Path(file_name), *(folder / file_name for folder in folders)):
        if os.path.isfile(path):
            return str(path), read_utf8(path).rstrip("\n").split("\n")
    if file_name in _MADE:
        return file_name, list(islice(_MADE[file_name](), _LINES))
    raise DatasetError(
        f"there is no file {file_name}: expected a path, a file in dataset/ beside the code or in sequence/ in the "
        f"data folder (RNN_DATA_DIR), or {' or '.join(_MADE)}, which are made up where there is no file"
    )


def _split(name: str, lines: list[str]) -> tuple[list[str], list[str]]:
    """The part of each line before ``_``, and the rest."""
    pairs = [(line[:mark], line[mark:]) if (mark := line.find("_")) >= 0 else (line, "") for line in lines]
    expected = [len(part) for part in pairs[0]]
    for k, pair in enumerate(pairs, start=1):
        if not all(pair):
            raise DatasetError(f"{name}, line {k}: expected a question, _ and an answer, got {lines[k - 1][:60]!r}")
        if (found := [len(part) for part in pair]) != expected:
            raise DatasetError(
                f"{name}, line {k}: expected {expected[0]} characters and, from _ on, {expected[1]}, as in line 1, "
                f"got {found[0]} and {found[1]}: fill them with spaces"
            )
    questions, answers = zip(*pairs)
    return list(questions), list(answers)


def _additions() -> Iterator[str]:
    """Sums of two numbers of 1 to 3 digits; 1, 2 and 3 digits are equally likely, and no sum comes twice."""
    rng = np.random.default_rng(0)
    seen = set()
    while True:
        for a, b in rng.integers(0, 10 ** rng.integers(1, 4, (10_000, 2))).tolist():
            if (min(a, b), max(a, b)) not in seen:
                seen.add((min(a, b), max(a, b)))
                yield f"{a}+{b}".ljust(7) + f"_{a + b}".ljust(5)


def _dates() -> Iterator[str]:
    """Days from 1970 to 2016 in four formats, a quarter in lower case and a quarter in upper case."""
    rng = np.random.default_rng(0)
    first, end = date(1970, 1, 1).toordinal(), date(2017, 1, 1).toordinal()
    while True:
        for ordinal, form, case in zip(
            rng.integers(first, end, 10_000).tolist(), rng.integers(0, 4, 10_000), rng.integers(0, 4, 10_000)
        ):
            day = date.fromordinal(ordinal)
            month = _MONTHS[day.month - 1]
            text = [
                f"{day.month}/{day.day}/{day:%y}",
                f"{month[:3]} {day.day}, {day.year}",
                f"{month} {day.day}, {day.year}",
                f"{_DAYS[day.weekday()]}, {month} {day.day}, {day.year}",
            ][form]
            yield [text, text, text.lower(), text.upper()][case].ljust(29) + f"_{day}"


_MADE = {"addition.txt": _additions, "date.txt": _dates}
