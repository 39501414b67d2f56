"""Passages of the Japanese Wikipedia: modern Japanese, a passage a document.

They are the contexts of JaQuAD, a collection of questions about Wikipedia articles (So et al., "JaQuAD: Japanese
question answering dataset for machine reading comprehension", 2022), under CC BY-SA 3.0.
"""

from __future__ import annotations

import json

from dataset.documents import Documents
from dataset.download import FILES, fetch


def load() -> Documents:
    """Load 9,713 passages of 691 articles to train, and 1,431 of 101 others to choose on.

    Raises
    ------
    DatasetError
        If a file is not there and cannot be downloaded.
    """
    return Documents("jawiki", _passages("train"), _passages("dev"))


def _passages(split: str) -> list[str]:
    return [
        paragraph["context"].replace("\n", " ")
        for name in FILES
        if name.startswith(f"jawiki/jaquad_{split}_")
        for article in json.loads(fetch(name).read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
    ]
