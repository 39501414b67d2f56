"""Passages of the Japanese Wikipedia: modern Japanese, one passage per document.

They are the contexts of JaQuAD, a collection of questions about Wikipedia articles (So et al., "JaQuAD: Japanese
question answering dataset for machine reading comprehension", 2022), under CC BY-SA 3.0.
"""

from __future__ import annotations

from pathlib import Path

from dataset.corpus import DatasetError, Documents
from dataset.download import FILES, fetch
from dataset.text_file import read_json


def load() -> Documents:
    """Load 9,713 passages of 691 articles for training, and 1,431 of 101 others for validation.

    Raises
    ------
    DatasetError
        If a file is not there and cannot be downloaded.
    """
    splits = (
        [passage for name in FILES if name.startswith(f"jawiki/jaquad_{split}_") for passage in read(fetch(name))]
        for split in ("train", "dev")
    )
    return Documents("jawiki", *splits)


def read(path: Path) -> list[str]:
    """Read the passages of a file in the format of SQuAD; raises OSError or DatasetError if it has another."""
    try:
        return [
            paragraph["context"].replace("\n", " ")
            for article in read_json(path)["data"]
            for paragraph in article["paragraphs"]
        ]
    except (KeyError, TypeError, AttributeError):
        raise DatasetError(f"{path} does not hold passages in the form of SQuAD") from None
