"""Texts that are many documents, each with a beginning and an end, instead of one long stream."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from dataset.corpus import DatasetError
from dataset.text_file import read_utf8


@dataclass
class Documents:
    """A collection of documents, split so that what belongs together is on one side.

    Attributes
    ----------
    name : str
    train, valid : lists of str
        Documents without line breaks.
    """

    name: str
    train: list[str]
    valid: list[str]

    @property
    def sha256(self) -> str:
        """A checksum of all documents: the same text and split give the same one anywhere."""
        digest = hashlib.sha256()
        for documents in (self.train, self.valid):
            digest.update(f"{len(documents)}\n".encode())
            digest.update("".join(document + "\n" for document in documents).encode())
        return digest.hexdigest()


def split_groups(name: str, groups: list[list[str]], valid_share: float = 0.05) -> Documents:
    """Split groups of documents, in order: the last, with at least that share of all documents, are to choose on.

    Raises
    ------
    DatasetError
        If there are fewer than two groups.
    """
    if len(groups) < 2:
        raise DatasetError(
            f"{name} has {len(groups)} documents; it takes at least 2, one to train on and one to choose on"
        )
    wanted = valid_share * sum(len(group) for group in groups)
    first = len(groups)
    while first > 1 and sum(len(group) for group in groups[first:]) < wanted:
        first -= 1
    train, valid = ([document for group in part for document in group] for part in (groups[:first], groups[first:]))
    return Documents(name, train, valid)


def load_file(path: str | Path) -> Documents:
    """Load a UTF-8 text file, a document a line: the last 5 % to choose on. Empty lines are left out.

    Raises
    ------
    DatasetError
        If there is no such file, it is not UTF-8, or it has fewer than two documents.
    """
    lines = [" ".join(line.split()) for line in read_utf8(Path(path)).split("\n")]
    documents = split_groups(str(path), [[line] for line in lines if line])
    documents.name = Path(path).stem
    return documents
