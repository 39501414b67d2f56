"""What the fuzz tests share: how many cases, and how to damage a file."""

from __future__ import annotations

import os

from hypothesis import strategies as st

FUZZ_CASES = int(os.environ.get("RNN_FUZZ_CASES", "100"))  # of each test

CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=8), st.integers(0, 8)), max_size=6)


def mutated(content: bytes, changes: list[tuple[float, bytes, int]]) -> bytes:
    """Put each of some bytes in place of ``removed`` others, somewhere."""
    for share, inserted, removed in changes:
        where = int(share * len(content))
        content = content[:where] + inserted + content[where + removed :]
    return content
