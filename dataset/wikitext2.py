"""WikiText-2: articles of English Wikipedia, 33,278 words, CC BY-SA.

Merity et al., "Pointer sentinel mixture models", 2017.
"""

from __future__ import annotations

import numpy as np

from dataset import marked_text
from dataset.corpus import Corpus

_FILES = "wikitext2/{}.txt"


def load_data(split: str = "train") -> tuple[np.ndarray, dict[str, int], dict[int, str]]:
    """Load "train", "valid" or "test": (word ids, word_to_id, id_to_word)."""
    return marked_text.load_split("wikitext2", _FILES, split)


def load() -> Corpus:
    """Load all splits."""
    return marked_text.load_corpus("wikitext2", _FILES)
