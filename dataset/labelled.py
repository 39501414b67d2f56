"""Texts with a class each, for a classifier."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

LabelledText = tuple[str, int]  # a text, and the number of its class, from 0


@dataclass
class LabelledTexts:
    """Texts of several classes, split into training, validation and test set.

    ``classes`` has the names of the classes, in the order of their numbers; ``notes`` says what a user should know of
    how they were read.
    """

    name: str
    classes: list[str]
    train: list[LabelledText]
    valid: list[LabelledText]
    test: list[LabelledText]
    notes: list[str] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """A checksum of all texts and classes."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for part in (self.train, self.valid, self.test):
            digest.update(f"\n{len(part)}\n".encode())
            for text, label in part:
                digest.update(f"{label}\t{text}\n".encode())
        return digest.hexdigest()
