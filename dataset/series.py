"""A series of numbers from a table: one row per time."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from dataset.corpus import DatasetError
from dataset.text_file import read_utf8

_MISSING = {"", "na", "n/a", "nan", "null", "none", "-", "?"}


def load(path: str | Path, column: str = "") -> tuple[str, np.ndarray, list[int]]:
    """Load a column of a table of commas, tabs or semicolons, with or without a line of names.

    Parameters
    ----------
    column : str
        Its name, or its number from 1 on; otherwise the last column.

    Returns
    -------
    name : str
    numbers : (n,) float64 array
        Missing ones are interpolated between their neighbours.
    missing : list of int
        The rows of those, from 1 on, the line of names not counted.

    Raises
    ------
    DatasetError
        If the file cannot be read, has no such column, or something else than numbers in it.
    """
    content = read_utf8(Path(path))
    first = content.partition("\n")[0]
    delimiter = max("\t;,", key=first.count)
    rows = [row for row in csv.reader(io.StringIO(content, newline=""), delimiter=delimiter) if row]
    if not rows:
        raise DatasetError(f"{path} is empty")
    names = [cell.strip() for cell in rows[0]]
    if column in names:
        k = names.index(column)
    elif column == "":
        k = len(names) - 1
    elif column.isdigit() and 1 <= int(column) <= len(names):
        k = int(column) - 1
    else:
        raise DatasetError(f"{path} has no column {column!r}: its columns are {', '.join(names)}")
    has_names = _number(names[k]) is None
    cells = [row[k] if k < len(row) else "" for row in rows[has_names:]]
    numbers = np.array([np.nan if (x := _number(cell)) is None else x for cell in cells])
    for i, cell in enumerate(cells):
        if np.isnan(numbers[i]) and cell.strip().lower() not in _MISSING:
            raise DatasetError(f"{path}, row {i + 1 + has_names}, column {k + 1}: {cell!r} is not a number")
    missing = np.flatnonzero(np.isnan(numbers))
    if len(missing) == len(numbers):
        raise DatasetError(f"{path} has no numbers in column {names[k]!r}")
    known = np.flatnonzero(~np.isnan(numbers))
    numbers[missing] = np.interp(missing, known, numbers[known])
    return (names[k] if has_names else f"column {k + 1}"), numbers, (missing + 1).tolist()


def _number(cell: str) -> float | None:
    try:
        x = float(cell)
    except ValueError:
        return None
    return x if np.isfinite(x) else None
