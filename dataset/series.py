"""A series of numbers from a table: one row per time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataset.corpus import DatasetError
from dataset.delimited import Row, read_rows

_MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "-", "--", "?", "."}
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?")
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")
_DATE = re.compile(r"\d{4}[-/年]\d{1,2}\D?")


@dataclass
class Series:
    """A column of a table: its name, its numbers, (n,) float64, NaN where they are missing, and the lines of those.

    ``notes`` says what a user should know of how it was read.
    """

    name: str
    numbers: np.ndarray
    missing: list[int]
    notes: list[str]


def load(path: str | Path, column: str = "", encoding: str | None = None) -> Series:
    """Load a column of a table of commas, tabs or semicolons, with or without a row of names.

    Rows whose dates fall, as 2024-02-01 before 2024-01-01, are read from the last to the first.

    Parameters
    ----------
    column : str
        Its name, or its number from 1 on; otherwise the last column.

    Raises
    ------
    DatasetError
        If the file cannot be read, has no such column, or something else than numbers in it.
    """
    rows = read_rows(path, encoding)
    names = [cell.strip() for cell in rows[0][1]]
    k, has_names = _find_column(path, rows, names, column)
    body = rows[has_names:]
    for line, row in body:
        if len(row) > len(names):
            raise DatasetError(
                f"{path}, line {line}: expected {len(names)} cells as in line {rows[0][0]}, got {len(row)}: {row}; a "
                'number that has a comma in it stands in quotation marks, "1,5", or between tabs or semicolons'
            )
    cells = [row[k].strip() if k < len(row) else "" for _, row in body]
    numbers, notes = _to_numbers(path, k, body, cells)
    missing = [line for (line, _), x in zip(body, numbers) if np.isnan(x)]
    if len(missing) == len(numbers):
        raise DatasetError(f"{path} has no numbers in column {names[k] if has_names else k + 1}")
    if order := _order_of_dates([row for _, row in body]):
        notes.append(order)
        if order.startswith("dates fall"):
            numbers = numbers[::-1].copy()
    return Series(names[k] if has_names else f"column {k + 1}", numbers, missing, notes)


def _find_column(path: str | Path, rows: list[Row], names: list[str], column: str) -> tuple[int, bool]:
    """The column, from 0, and whether the first row has names: in some column it has a word above numbers."""
    above = [any(_number(row[k]) is not None for _, row in rows[1:] if k < len(row)) for k in range(len(names))]
    words = [_number(name) is None and name.lower() not in _MISSING for name in names]
    has_names = any(word and number for word, number in zip(words, above))
    if column == "":
        return len(names) - 1, has_names
    if has_names and column in names:
        return names.index(column), True
    if column.isdecimal() and 1 <= int(column) <= len(names):
        return int(column) - 1, has_names
    if column in names:  # as 1990 above the numbers of that year
        return names.index(column), True
    have = f"its columns are {', '.join(names)}" if has_names else f"it has {len(names)}, without names"
    raise DatasetError(f"{path} has no column {column!r}: {have}")


def _to_numbers(path: str | Path, k: int, body: list[Row], cells: list[str]) -> tuple[np.ndarray, list[str]]:
    """The numbers of column k, NaN where there is none; and how commas in them are read, if there are any."""
    commas, notes = [cell for cell in cells if "," in cell], []
    if commas and all(map(_THOUSANDS.fullmatch, commas)):
        notes = [f"commas separate thousands: {commas[0]} is {commas[0].replace(',', '')}"]
        cells = [cell.replace(",", "") for cell in cells]
    elif commas and all(map(_DECIMAL_COMMA.fullmatch, commas)):
        notes = [f"commas are decimal points: {commas[0]} is {commas[0].replace(',', '.')}"]
        cells = [cell.replace(",", ".") for cell in cells]
    numbers = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if (x := _number(cell)) is not None:
            numbers[i] = x
        elif cell.lower() not in _MISSING:
            raise DatasetError(f"{path}, line {body[i][0]}: expected a number in column {k + 1}, got {cell[:40]!r}")
    return numbers, notes


def _order_of_dates(rows: list[list[str]]) -> str:
    """What there is to say of the order of the first column of dates such as 2024-01-31 9:00, 2024/1/31, 2024年1月."""
    for k in range(len(rows[0])):
        cells = [row[k].strip() if k < len(row) else "" for row in rows]
        if all(map(_DATE.match, cells)):
            dates = [[int(number) for number in re.findall(r"\d{1,18}", cell)] for cell in cells]
            if dates == sorted(dates):
                return ""
            if dates == sorted(dates, reverse=True):
                return f"dates fall in column {k + 1}: read from the last row to the first"
            return f"dates are not in order in column {k + 1}: the order of the rows is taken for that of time"
    return ""


def _number(cell: str) -> float | None:
    try:
        x = float(cell)
    except ValueError:
        return None
    return x if np.isfinite(x) else None
