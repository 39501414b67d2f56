"""AG News: headlines of the world, sports, business, and science and technology.

120,000 labelled news items to train on and 7,600 to test on, as selected by Zhang, Zhao and LeCun
("Character-level convolutional networks for text classification", 2015) from a corpus that A. Gulli collected for
research and other non-commercial use.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

from dataset.corpus import DatasetError
from dataset.download import fetch
from dataset.labelled import LabelledText, LabelledTexts
from dataset.table import read_table

CLASSES = ["World", "Sports", "Business", "Sci/Tech"]

# Of each 20 items of the training file, one is for validation.
_VALID_EVERY = 20

# An HTML entity whose & has become a space, as in "Great Britain #39;s"; and a tag.
_BROKEN_ENTITY = re.compile(r" ?(?<![&\w])(#\d+|quot|amp|lt|gt|nbsp);")
_TAG = re.compile(r"<[^<>]*>")


def load(
    train_file: str | Path | None = None, test_file: str | Path | None = None, encoding: str | None = None
) -> LabelledTexts:
    """Load the canonical files, or others in one of the forms of ``read``.

    Raises
    ------
    DatasetError
        If a file cannot be downloaded or read, or has another format.
    """
    items = read(train_file or fetch("ag_news/train.csv"), encoding)
    if len(items) < _VALID_EVERY:
        raise DatasetError(f"{train_file} has {len(items)} items; it takes at least {_VALID_EVERY} to train on")
    return LabelledTexts(
        "ag_news",
        CLASSES,
        train=[item for k, item in enumerate(items) if k % _VALID_EVERY],
        valid=items[::_VALID_EVERY],
        test=read(test_file or fetch("ag_news/test.csv"), encoding),
    )


def read(path: str | Path, encoding: str | None = None) -> list[LabelledText]:
    """Read the items of a file: title and description as one text, and the class, from 0.

    Three columns are class (1 to 4), title and description, with their names in the first row or without. Two are text
    and class (0 to 3), in any order.
    """
    table = read_table(path, encoding)
    first = 1 if len(table.columns.texts) > 1 else 0
    items = []
    for text, label, line in table.rows:
        if label not in map(str, range(first, first + len(CLASSES))):
            raise DatasetError(
                f"{path}, line {line}: expected a class from {first} to {first + len(CLASSES) - 1}, got {label!r} "
                f"({table.columns}); without --corpus ag_news, classes may have any names"
            )
        try:
            text = clean(text)
        except ValueError as error:  # an entity with too many digits
            raise DatasetError(f"{path}, line {line}: {error}") from None
        if text:
            items.append((text, int(label) - first))
    return items


def clean(text: str) -> str:
    """Remove the traces of web pages from a text: entities, tags, and backslashes for line ends."""
    text = html.unescape(_BROKEN_ENTITY.sub(r"&\1;", text.replace("\\", " ")))
    return " ".join(_TAG.sub(" ", text).split())
