"""Texts to train on: ``load("sotu")``, ``load("ptb")``, ``load("wikitext2")`` or ``load("path/to/text.txt")``.

Documents, each with a beginning and an end: ``load_documents("bungo")``, "jawiki", "sotu" or a path.
"""

from __future__ import annotations

from collections.abc import Callable

from dataset import bungo, documents, jawiki, ptb, sotu, text_file, wikitext2
from dataset.corpus import SPLITTERS, Corpus, DatasetError
from dataset.documents import Documents


def load(name: str, vocab_size: int = 10_000, unit: str = "word") -> Corpus:
    """Load a text by its name or its path.

    Parameters
    ----------
    name : str
        "sotu", "bungo", "ptb", "wikitext2", or the path of a UTF-8 text file.
    vocab_size : int
        Most frequent words to keep, for sotu, bungo and files; ptb and wikitext2 have a vocabulary of their own.
    unit : {"word", "char"}
        What sotu or a file is split into; ptb and wikitext2 come split into words, and bungo has no spaces between
        words: it is always split into characters.

    Raises
    ------
    DatasetError
        If the text cannot be had or cannot be used.
    """
    if name == "sotu":
        return sotu.load(vocab_size, unit)
    if name == "bungo":
        return bungo.load_corpus(vocab_size)
    if name in ("ptb", "wikitext2") and unit == "char":
        raise DatasetError(f"{name} comes split into words, with rare ones left out: it has no characters to offer")
    if name == "ptb":
        return ptb.load()
    if name == "wikitext2":
        return wikitext2.load()
    return text_file.load(name, vocab_size, unit)


def load_documents(name: str) -> Documents:
    """Load documents by the name of their collection or the path of a UTF-8 file with a document a line.

    Parameters
    ----------
    name : str
        "bungo", "jawiki", "sotu", or a path.

    Raises
    ------
    DatasetError
        If they cannot be had or cannot be used.
    """
    if name == "bungo":
        return bungo.load()
    if name == "jawiki":
        return jawiki.load()
    if name == "sotu":
        return sotu.load_documents()
    return documents.load_file(name)


def splitter(name: str, unit: str = "word") -> Callable[[str], list[str]]:
    """Return the function that splits a line as ``load(name, unit=unit)`` splits those of its text.

    Parameters
    ----------
    name, unit : str
        As in ``load``.
    """
    if name in ("ptb", "wikitext2"):
        return str.split  # these come split
    return SPLITTERS["char" if name == "bungo" else unit]
