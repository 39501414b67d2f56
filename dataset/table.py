"""A table of your own texts, each with a class."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dataset.corpus import DatasetError
from dataset.delimited import Row, read_rows, width
from dataset.labelled import LabelledText, LabelledTexts

# Names of columns in tables that people share, in lower case.
_LABELS = (
    *("label", "class", "class index", "category", "target", "sentiment", "genre", "topic", "intent", "y"),
    *("ラベル", "分類", "クラス", "カテゴリ", "カテゴリー", "ジャンル"),
)
_TEXTS = (
    *("text", "title", "description", "sentence", "review", "message", "comment", "content", "body", "headline"),
    *("テキスト", "本文", "文", "文章", "タイトル", "内容"),
)


@dataclass
class Columns:
    """Which columns of a table have the class and the text, from 0; and their names, if its first row has them."""

    label: int
    texts: list[int]
    names: list[str]

    def __str__(self) -> str:
        label, *texts = [
            f"{k + 1} ({self.names[k]})" if self.names and self.names[k] else str(k + 1)
            for k in (self.label, *self.texts)
        ]
        return f"class in column {label}, text in column{'s' if len(texts) > 1 else ''} {', '.join(texts)}"


@dataclass
class Table:
    """Texts, the names of their classes and the lines where they stand, and what there is to tell of them."""

    rows: list[tuple[str, str, int]]
    columns: Columns
    notes: list[str]


def load(train_file: str | Path, test_file: str | Path | None = None, encoding: str | None = None) -> LabelledTexts:
    """Load a table of texts and their classes: a row each, cells separated by commas, tabs or semicolons.

    Columns are found by their names, if the first row has such as "label" and "text"; otherwise the class is in the
    first or last column, whichever has fewer different entries, and the text in all others. Of each ten texts of a
    class, the fifth is for validation and, without a test file, the tenth for testing.

    Raises
    ------
    DatasetError
        If a file cannot be read or is no such table, or has one class or about as many as texts.
    """
    table = read_table(train_file, encoding)
    names = sorted({label for _, label, _ in table.rows}, key=_in_order)
    _check_classes(train_file, table, names)
    numbers = {name: k for k, name in enumerate(names)}
    parts: dict[str, list[LabelledText]] = {"train": [], "valid": [], "test": []}
    seen = [0] * len(names)  # of each class
    for text, label, _ in table.rows:
        k = numbers[label]
        place = seen[k] % 10
        part = "valid" if place == 4 else "test" if place == 9 and test_file is None else "train"
        parts[part].append((" ".join(text.split()), k))
        seen[k] += 1
    notes = [str(table.columns), *table.notes]
    if test_file is not None:
        test = read_table(test_file, encoding, table.columns)
        notes += [f"{Path(test_file).name}: {note}" for note in test.notes]
        for text, label, line in test.rows:
            if label not in numbers:
                raise DatasetError(f"{test_file}, line {line}: there is no class {label!r} in {train_file}")
            parts["test"].append((" ".join(text.split()), numbers[label]))
    for part, wanted in (("valid", "validation"), ("test", "testing")):
        if not parts[part]:
            raise DatasetError(f"{train_file} is too short for {wanted}: each class should have ten texts or more")
    tested = {label for _, label in parts["test"]}
    few = [f"{name} ({seen[k]})" for name, k in numbers.items() if k not in tested]
    if few:
        notes.append(f"too few texts to test these classes, too: {_some(few)}")
    return LabelledTexts(Path(train_file).stem, names, **parts, notes=notes)


def read_table(path: str | Path, encoding: str | None = None, like: Columns | None = None) -> Table:
    """Read texts and the names of their classes; see ``load``. With ``like``, of a table with the same columns."""
    rows = read_rows(path, encoding)
    cells = width(rows)
    if cells == 1:
        raise DatasetError(
            f"{path} is not a table: expected a class and a text on each line, with a comma or tab between"
        )
    for line, row in rows:
        if len(row) != cells:
            raise DatasetError(
                f"{path}, line {line}: expected {cells} cells as in most rows, got {len(row)}: {str(row)[:80]}; a text "
                'that has a comma, semicolon or tab in it stands in quotation marks, "as, here"'
            )
    columns = _find_columns(rows) if like is None else _same_columns(path, rows, like)
    found, empty = [], []
    for line, row in rows[bool(columns.names) :]:
        text = " ".join(row[k] for k in columns.texts)
        label = " ".join(row[columns.label].split())
        if not label:
            raise DatasetError(f"{path}, line {line}: there is no class in column {columns.label + 1}: {text[:60]!r}")
        if text.strip():
            found.append((text, label, line))
        else:
            empty.append(str(line))
    if not found:
        raise DatasetError(f"{path} has no texts")
    notes = [f"rows without a text are left out, {len(empty):,} in all: line {_some(empty)}"] if empty else []
    return Table(found, columns, notes)


def _find_columns(rows: list[Row]) -> Columns:
    first, others = rows[0][1], [row for _, row in rows[1:]]
    cells = range(len(first))
    # A name stands once in its column.
    names = [
        name if name not in {row[k].strip().lower() for row in others} else "" for k, name in enumerate(_lower(first))
    ]
    texts = [k for k in cells if names[k] in _TEXTS]
    labels = [k for k in cells if names[k] in _LABELS]
    has_names = bool(texts or labels)
    label = labels[0] if labels else _label_column(others if has_names else [first, *others], texts)
    if not has_names:  # names of another kind: of the classes, this one alone has one text
        counts = Counter(row[label].strip() for row in others)
        has_names = first[label].strip() not in counts and len(counts) > 1 and min(counts.values()) > 1
    texts = [k for k in texts if k != label] or [k for k in cells if k != label]
    return Columns(label, texts, [cell.strip() for cell in first] if has_names else [])


def _same_columns(path: str | Path, rows: list[Row], like: Columns) -> Columns:
    """The columns of another table: if it has the names, too, they may be in another order."""
    first = _lower(rows[0][1])
    if like.names and sorted(first) == sorted(_lower(like.names)):
        label, *texts = [first.index(like.names[k].lower()) for k in (like.label, *like.texts)]
        return Columns(label, texts, rows[0][1])
    if len(first) <= max(like.label, *like.texts):
        raise DatasetError(f"{path} has {len(first)} columns; expected the {like!s}, as in the training file")
    return Columns(like.label, like.texts, [])


def _label_column(rows: list[list[str]], texts: list[int]) -> int:
    """The first or the last column that is not empty: the one with fewer different entries, but more than one."""
    last = max((k for row in rows for k, cell in enumerate(row) if cell.strip()), default=0)
    different = {k: len({row[k] for row in rows}) for k in (0, last) if k not in texts} or {0: 1}
    return min(different, key=lambda k: (different[k] == 1, different[k]))


def _check_classes(path: str | Path, table: Table, names: list[str]) -> None:
    """Raise a DatasetError if the classes cannot be what was meant."""
    n, texts = len(table.rows), {text for text, _, _ in table.rows}
    if len(names) < 2:
        raise DatasetError(f"{path}: all {n:,} texts are of the class {names[0]!r}; it takes at least two classes")
    such = f"{path} has {len(names):,} different classes in {n:,} rows, such as {names[0][:30]!r}"
    if len(texts) < len(names):
        raise DatasetError(f"{such}, and only {len(texts):,} different texts: are the columns swapped? {table.columns}")
    if len(names) > 10 and 2 * len(names) > n:
        raise DatasetError(f"{such} ({table.columns}): name the columns label and text in the first row")


def _lower(cells: list[str]) -> list[str]:
    return [cell.strip().lower() for cell in cells]


def _some(items: list[str], most: int = 5) -> str:
    return ", ".join(items[:most]) + (", ..." if len(items) > most else "")


def _in_order(name: str) -> tuple[float, str]:
    """Numbers by value, and other names after them in the order of the alphabet."""
    return (int(name), "") if re.fullmatch(r"-?\d{1,18}", name) else (float("inf"), name)
