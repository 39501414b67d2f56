"""Texts with a class each, to learn to tell the classes apart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

LabelledText = tuple[str, int]  # a text, and the number of its class, from 0


@dataclass
class LabelledTexts:
    """A collection of texts of several classes.

    Attributes
    ----------
    name : str
    classes : list of str
        The names of the classes, in the order of their numbers.
    train, valid, test : lists of (text, class)
        To train on, to choose on, and to measure with once all is chosen.
    """

    name: str
    classes: list[str]
    train: list[LabelledText]
    valid: list[LabelledText]
    test: list[LabelledText]

    @property
    def sha256(self) -> str:
        """A checksum of all texts and classes."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for part in (self.train, self.valid, self.test):
            digest.update(f"\n{len(part)}\n".encode())
            for text, label in part:
                digest.update(f"{label}\t{text}\n".encode())
        return digest.hexdigest()
