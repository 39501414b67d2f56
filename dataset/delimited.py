"""Rows of a table in a text file: cells with commas, tabs or semicolons between them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

from dataset.corpus import DatasetError
from dataset.text_file import read_utf8

Row = tuple[int, list[str]]  # the line of the file where it begins, from 1 on, and its cells


def read_rows(path: str | Path, encoding: str | None = None) -> list[Row]:
    """Read the rows of a table but blank ones; a cell in quotation marks may have line breaks in it.

    The delimiter is the one that cuts most rows into the same number of cells, two or more. Where none does, a row is
    one cell.

    Raises
    ------
    DatasetError
        If the file cannot be read, has no rows, or has quotation marks that do not belong together.
    """
    content = read_utf8(Path(path), encoding)
    tables: list[list[Row]] = []
    errors: dict[str, str] = {}
    for delimiter in "\t;,":
        rows: list[Row] = []
        try:
            for row in _rows(content, delimiter):
                rows.append(row)
        except csv.Error as error:
            errors[delimiter] = f"line {rows[-1][0] + 1 if rows else 1} or later: {error}"
        else:
            tables.append([row for row in rows if any(cell.strip() for cell in row[1])])
    best = max(tables, key=_regularity, default=[])
    if errors and _regularity(best) == 0:
        error = errors[max(errors, key=content.count)]
        raise DatasetError(f'{path}, {error}; a quotation mark inside a cell must be doubled, as in "He said ""no"""')
    if not best:
        raise DatasetError(f"{path} is empty")
    return best


def width(rows: list[Row]) -> int:
    """How many cells most rows have."""
    return Counter(len(cells) for _, cells in rows).most_common(1)[0][0]


def _rows(content: str, delimiter: str):
    lines = content.split("\n")
    if delimiter == "\t" and len({line.count("\t") for line in lines if line.strip()}) == 1:
        # Each line is a row. So a lone quotation mark stands for itself, and does not join lines.
        yield from ((k, [_unquoted(cell) for cell in line.split("\t")]) for k, line in enumerate(lines, start=1))
        return
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    begins = 1
    for cells in reader:
        yield begins, cells
        begins = reader.line_num + 1


def _unquoted(cell: str) -> str:
    """A cell without the quotation marks around it, if those inside are doubled."""
    inner = cell[1:-1]
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else cell


def _regularity(rows: list[Row]) -> int:
    """How many rows have the same number of cells, two or more."""
    found = width(rows) if rows else 0
    return sum(len(cells) == found for _, cells in rows) if found > 1 else 0
