"""Texts that are many documents, each with a beginning and an end, instead of one long stream."""

from __future__ import annotations

from pathlib import Path

from dataset.corpus import DatasetError, Documents
from dataset.text_file import read_utf8

__all__ = ["Documents", "load_file", "split_groups"]


def split_groups(name: str, groups: list[list[str]], valid_share: float = 0.05) -> Documents:
    """Split groups of documents, in order: the last groups, with at least that share of all documents, are ``valid``.

    Raises DatasetError if there are fewer than two groups.
    """
    if len(groups) < 2:
        raise DatasetError(
            f"{name} has {len(groups)} documents; it takes at least 2, one for training and one for validation"
        )
    wanted = valid_share * sum(len(group) for group in groups)
    first = len(groups)
    while first > 1 and sum(len(group) for group in groups[first:]) < wanted:
        first -= 1
    train, valid = ([document for group in part for document in group] for part in (groups[:first], groups[first:]))
    return Documents(name, train, valid)


def load_file(path: str | Path, encoding: str | None = None) -> Documents:
    """Load a UTF-8 text file with one document per line; the last 5 % are for validation. Empty lines are skipped.

    Raises
    ------
    DatasetError
        If there is no such file, it is not UTF-8, or it has fewer than two documents.
    """
    lines = [" ".join(line.split()) for line in read_utf8(Path(path), encoding).split("\n")]
    documents = split_groups(str(path), [[line] for line in lines if line])
    documents.name = Path(path).stem
    return documents
