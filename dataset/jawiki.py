"""Passages of the Japanese Wikipedia: modern Japanese, a passage a document.

They are the contexts of JaQuAD, a collection of questions about Wikipedia articles (So et al., "JaQuAD: Japanese
question answering dataset for machine reading comprehension", 2022), under CC BY-SA 3.0.
"""

from __future__ import annotations

from pathlib import Path

from dataset.corpus import DatasetError
from dataset.documents import Documents
from dataset.download import FILES, fetch
from dataset.text_file import read_json


def load() -> Documents:
    """Load 9,713 passages of 691 articles to train, and 1,431 of 101 others to choose on.

    Raises
    ------
    DatasetError
        If a file is not there and cannot be downloaded.
    """
    return Documents("jawiki", _passages("train"), _passages("dev"))


def _passages(split: str) -> list[str]:
    names = [name for name in FILES if name.startswith(f"jawiki/jaquad_{split}_")]
    return [passage for name in names for passage in read(fetch(name))]


def read(path: Path) -> list[str]:
    """Read the passages of a file of JaQuAD, or another of the form of SQuAD.

    Raises
    ------
    OSError, DatasetError
        If it cannot be read, or is not of that form.
    """
    try:
        return [
            paragraph["context"].replace("\n", " ")
            for article in read_json(path)["data"]
            for paragraph in article["paragraphs"]
        ]
    except (KeyError, TypeError, AttributeError):
        raise DatasetError(f"{path} does not hold passages in the form of SQuAD") from None
