"""A table of your own texts, each with a class."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

from dataset.corpus import DatasetError
from dataset.labelled import LabelledText, LabelledTexts
from dataset.text_file import read_utf8

# Names of columns in tables that people share, in lower case.
_LABELS = ("label", "class", "class index", "category", "target", "sentiment", "y", "ラベル", "分類")
_TEXTS = ("text", "title", "description", "sentence", "review", "message", "content", "body", "headline", "本文", "文")


def load(train_file: str | Path, test_file: str | Path | None = None) -> LabelledTexts:
    """Load a table of texts and their classes: a line each, separated by commas, tabs or semicolons.

    Columns are found by their names, if the first line has such as "label" and "text"; otherwise the class is in the
    first or last column, whichever has fewer different entries, and the text in all others. Of each ten texts of a
    class, the fifth is for validation and, without a test file, the tenth for testing.

    Raises
    ------
    DatasetError
        If a file cannot be read or is no such table, or has one class or as many as texts.
    """
    rows = read_table(train_file)
    names = sorted({label for _, label in rows}, key=_in_order)
    if len(names) < 2:
        raise DatasetError(
            f"{train_file}: all {len(rows):,} texts are of the class {names[0]!r}; it takes at least two"
        )
    if len(names) > 50 and 2 * len(names) > len(rows):
        raise DatasetError(
            f"{train_file} has {len(names):,} different classes in {len(rows):,} lines, such as {names[0][:30]!r}: "
            "name the columns label and text in the first line"
        )
    numbers = {name: k for k, name in enumerate(names)}
    parts: dict[str, list[LabelledText]] = {"train": [], "valid": [], "test": []}
    seen = [0] * len(names)  # of each class
    for text, label in rows:
        k = numbers[label]
        place = seen[k] % 10
        part = "valid" if place == 4 else "test" if place == 9 and test_file is None else "train"
        parts[part].append((text, k))
        seen[k] += 1
    if test_file is not None:
        for text, label in read_table(test_file):
            if label not in numbers:
                raise DatasetError(f"{test_file} has the class {label!r}, which {train_file} has not")
            parts["test"].append((text, numbers[label]))
    for part, wanted in (("valid", "validation"), ("test", "testing")):
        if not parts[part]:
            raise DatasetError(f"{train_file} is too short for {wanted}: each class should have ten texts or more")
    return LabelledTexts(Path(train_file).stem, names, **parts)


def read_table(path: str | Path) -> list[tuple[str, str]]:
    """Read texts and the names of their classes; see ``load``. Rows that are blank are left out."""
    content = read_utf8(Path(path))
    tables = {delimiter: _rows(content, delimiter, path) for delimiter in ("\t", ",", ";")}

    # The right delimiter cuts most rows into the same number of cells, two or more.
    def regularity(rows: list[list[str]]) -> int:
        (width, count), *_ = Counter(map(len, rows)).most_common(1) or [(0, 0)]
        return count if width > 1 else 0

    rows = max(tables.values(), key=regularity)
    if regularity(rows) == 0:
        raise DatasetError(
            f"{path} is not a table: expected a class and a text on each line, with a comma or tab between"
        )
    width = Counter(map(len, rows)).most_common(1)[0][0]
    for k, row in enumerate(rows, start=1):
        if len(row) != width:
            raise DatasetError(f"{path}: row {k} has {len(row)} cells, and others {width}: {str(row)[:80]}")
    header = [cell.strip().lower() for cell in rows[0]]
    texts = [k for k, name in enumerate(header) if name in _TEXTS]
    labels = [k for k, name in enumerate(header) if name in _LABELS]
    if texts or labels:
        rows = rows[1:]
    label = labels[0] if labels else _label_column(rows, texts, width)
    texts = [k for k in texts if k != label] or [k for k in range(width) if k != label]
    found = [(" ".join(" ".join(row[k] for k in texts).split()), row[label].strip()) for row in rows]
    for k, (text, name) in enumerate(found, start=1):
        if not name:
            raise DatasetError(f"{path}: row {k} has no class: {text[:60]!r}")
    return [(text, name) for text, name in found if text]


def _rows(content: str, delimiter: str, path: str | Path) -> list[list[str]]:
    """The rows of a table but blank ones. Quotation marks stand for themselves in a table with tabs."""
    quoting = csv.QUOTE_NONE if delimiter == "\t" and '\t"' not in content else csv.QUOTE_MINIMAL
    try:
        rows = list(csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, quoting=quoting))
    except csv.Error as error:  # too long a cell
        raise DatasetError(f"{path}: {error}") from None
    return [row for row in rows if any(cell.strip() for cell in row)]


def _label_column(rows: list[list[str]], texts: list[int], width: int) -> int:
    """The first or the last column: the one with fewer different entries, but more than one."""
    different = {k: len({row[k] for row in rows}) for k in (0, width - 1) if k not in texts} or {0: 1}
    return min(different, key=lambda k: (different[k] == 1, different[k]))


def _in_order(name: str) -> tuple[float, str]:
    """Numbers by value, and other names after them in the order of the alphabet."""
    return (int(name), "") if name.lstrip("-").isdigit() else (float("inf"), name)
