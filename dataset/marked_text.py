"""Texts that come split into words, with rare words marked ``<unk>`` already: PTB and WikiText-2."""

from __future__ import annotations

import numpy as np

from dataset.corpus import EOS, Corpus, DatasetError
from dataset.download import fetch

SPLITS = ("train", "valid", "test")


def load_split(name: str, files: str, split: str) -> tuple[np.ndarray, dict[str, int], dict[int, str]]:
    """Load one split of ``files``, a name with ``{}`` for the split's: corpus, word_to_id, id_to_word.

    ``corpus`` is an (n,) int32 array of word ids, with ``<eos>`` for each newline. Ids are numbered in the order in
    which the words first appear in the training split.
    """
    if split not in SPLITS:
        raise DatasetError(f"{name} has the splits {', '.join(SPLITS)}, not {split!r}")
    word_to_id: dict[str, int] = {}
    for word in _words(files.format("train")):
        word_to_id.setdefault(word, len(word_to_id))
    corpus = np.array([word_to_id[word] for word in _words(files.format(split))], dtype=np.int32)
    return corpus, word_to_id, {i: word for word, i in word_to_id.items()}


def load_corpus(name: str, files: str) -> Corpus:
    """Load all splits."""
    (train, word_to_id, _), (valid, _, _), (test, _, _) = (load_split(name, files, split) for split in SPLITS)
    return Corpus(name, train, valid, test, list(word_to_id))


def _words(file: str) -> list[str]:
    return fetch(file).read_text(encoding="utf-8").replace("\n", f" {EOS} ").split()
