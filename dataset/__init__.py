"""Texts to train on: ``load("sotu")``, ``load("ptb")``, ``load("wikitext2")`` or ``load("path/to/text.txt")``.

Documents, each with a beginning and an end: ``load_documents("bungo")``, "jawiki", "sotu" or a path.
Each text is a module of this package, which is imported when the text is asked for.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from dataset.corpus import SPLITTERS, Corpus, DatasetError, Documents

__all__ = ["Corpus", "DatasetError", "Documents", "load", "load_documents", "splitter"]

_MODULES = ["ag_news", "bungo", "documents", "jawiki", "ptb", "sequence", "sotu", "text_file", "wikitext2"]
_SPLIT_TEXTS = ["ptb", "wikitext2"]  # already split into words, with a fixed vocabulary


def __getattr__(name: str) -> ModuleType:
    """Import ``dataset.ptb`` and the like when they are first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'dataset' has no attribute {name!r}")
    return _module(name)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"dataset.{name}")


def load(name: str, vocab_size: int | None = 10_000, unit: str = "word", encoding: str | None = None) -> Corpus:
    """Load "sotu", "bungo", "ptb", "wikitext2", or the UTF-8 text file of that path.

    ``vocab_size`` is the number of words to keep, the most frequent ones; ptb and wikitext2 keep all of theirs.
    ``unit``, "word" or "char", says what a text is split into. bungo, which has no spaces, is always split into
    characters.

    Raises
    ------
    DatasetError
        If the text cannot be found, downloaded or used.
    """
    if name in _SPLIT_TEXTS:
        if unit == "char":
            raise DatasetError(f"{name} comes split into words, with rare ones left out: it has no characters to offer")
        return _module(name).load()
    if name == "bungo":
        return _module("bungo").load_corpus(vocab_size)
    if name == "sotu":
        return _module("sotu").load(vocab_size, unit)
    _check_is_file(name, [*_SPLIT_TEXTS, "bungo", "sotu"])
    return _module("text_file").load(name, vocab_size, unit, encoding)


def load_documents(name: str, encoding: str | None = None) -> Documents:
    """Load "bungo", "jawiki", "sotu", or the UTF-8 file of that path, with one document per line.

    Raises
    ------
    DatasetError
        If they cannot be found, downloaded or used.
    """
    if name in ("bungo", "jawiki"):
        return _module(name).load()
    if name == "sotu":
        return _module("sotu").load_documents()
    _check_is_file(name, ["bungo", "jawiki", "sotu"])
    return _module("documents").load_file(name, encoding)


def _check_is_file(name: str, texts: list[str]) -> None:
    """Raise a DatasetError, with what the user may have meant, if there is no such file or folder."""
    if not Path(name).expanduser().exists():
        near = difflib.get_close_matches(str(name), texts, 1)
        guess = f"; did you mean {near[0]}?" if near else f"; texts that need no file are {', '.join(texts)}"
        raise DatasetError(f"cannot read {name}: there is no such file{guess}")


def splitter(name: str, unit: str = "word") -> Callable[[str], list[str]]:
    """Return the function that splits a line as ``load(name, unit=unit)`` splits those of its text."""
    if name in _SPLIT_TEXTS:
        return str.split
    return SPLITTERS["char" if name == "bungo" else unit]
