"""AG News: headlines of the world, sports, business, and science and technology.

120,000 labelled news items to train on and 7,600 to test on, as selected by Zhang, Zhao and LeCun
("Character-level convolutional networks for text classification", 2015) from a corpus that A. Gulli collected for
research and other non-commercial use.
"""

from __future__ import annotations

import csv
import html
import io
import re
from pathlib import Path

from dataset.corpus import DatasetError
from dataset.download import fetch
from dataset.labelled import LabelledText, LabelledTexts
from dataset.text_file import read_utf8

CLASSES = ["World", "Sports", "Business", "Sci/Tech"]

# Of each 20 items of the training file, one is for validation.
_VALID_EVERY = 20

# An HTML entity whose & has become a space, as in "Great Britain #39;s"; and a tag.
_BROKEN_ENTITY = re.compile(r" ?(?<![&\w])(#\d+|quot|amp|lt|gt|nbsp);")
_TAG = re.compile(r"<[^<>]*>")


def load(train_file: str | Path | None = None, test_file: str | Path | None = None) -> LabelledTexts:
    """Load the canonical files, or others with the same columns: class (1 to 4), title, description.

    Raises
    ------
    DatasetError
        If a file cannot be downloaded or read, or has another format.
    """
    items = read(train_file or fetch("ag_news/train.csv"))
    if len(items) < _VALID_EVERY:
        raise DatasetError(f"{train_file} has {len(items)} items; it takes at least {_VALID_EVERY} to train on")
    return LabelledTexts(
        "ag_news",
        CLASSES,
        train=[item for k, item in enumerate(items) if k % _VALID_EVERY],
        valid=items[::_VALID_EVERY],
        test=read(test_file or fetch("ag_news/test.csv")),
    )


def read(path: str | Path) -> list[LabelledText]:
    """Read the items of a file: title and description as one text, and the class, from 0."""
    items = []
    rows = csv.reader(io.StringIO(read_utf8(Path(path)), newline=""))
    try:
        for k, row in enumerate(rows, start=1):
            if len(row) != 3 or row[0] not in ("1", "2", "3", "4"):
                raise ValueError(f'row {k}: expected "class 1 to 4","title","description", got {str(row)[:80]}')
            text = clean(f"{row[1]} {row[2]}")
            if text:
                items.append((text, int(row[0]) - 1))
    except (csv.Error, ValueError) as error:  # too long a field, or an entity with too many digits
        raise DatasetError(f"{path}: {error} (up to line {rows.line_num:,})") from None
    if not items:
        raise DatasetError(f"{path} has no items")
    return items


def clean(text: str) -> str:
    """Remove the traces of web pages from a text: entities, tags, and backslashes for line ends."""
    text = html.unescape(_BROKEN_ENTITY.sub(r"&\1;", text.replace("\\", " ")))
    return " ".join(_TAG.sub(" ", text).split())
