"""Penn Treebank as prepared by Mikolov: newspaper English, 10,000 words, the field's yardstick.

The text belongs to the Linguistic Data Consortium; it is fetched for research use and never passed on.
"""

from __future__ import annotations

import numpy as np

from dataset import marked_text
from dataset.corpus import Corpus

_FILES = "ptb/ptb.{}.txt"


def load_data(split: str = "train") -> tuple[np.ndarray, dict[str, int], dict[int, str]]:
    """Load "train", "valid" (which the textbook calls "val", too) or "test": (word ids, word_to_id, id_to_word)."""
    return marked_text.load_split("ptb", _FILES, "valid" if split == "val" else split)


def load() -> Corpus:
    """Load all splits."""
    return marked_text.load_corpus("ptb", _FILES)
