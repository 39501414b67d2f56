"""Any UTF-8 text file."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np

from dataset.corpus import SPLITTERS, Corpus, DatasetError, make_corpus
from dataset.decoding import decode_utf8


def load(path: str | Path, vocab_size: int | None = 10_000, unit: str = "word", encoding: str | None = None) -> Corpus:
    """Load a UTF-8 text file: the first 90 % for training, the next 5 % for validation, the last 5 % for testing.

    Lines stay whole and in order. Characters (``unit="char"``) include all spaces and empty lines; words do not. Where
    lines of prose were broken at some width, those of a paragraph are joined, but not of characters. A text of fewer
    than three lines is cut into lines of 100 words or characters.
    The ``vocab_size`` most frequent words of the training split are kept, besides ``<unk>`` and ``<eos>``; those that
    occur once are left out, as in ``build_vocabulary``.

    Raises
    ------
    DatasetError
        If there is no such file, it is not UTF-8, or it is too short to be split.
    """
    split_line = SPLITTERS[unit]
    text = read_utf8(Path(path), encoding).removesuffix("\n")
    raw, note = text.split("\n"), ""
    if unit == "word" and is_wrapped(raw):
        raw, note = join_paragraphs(raw), "its lines were broken at some width: those of a paragraph are read as one"
    lines = [split_line(line) for line in raw if unit == "char" or line.strip()]
    del raw, text  # a large text needs the memory for its words
    full = sum(len(line) > 0 for line in lines)
    if full < 3:
        words = [word for line in lines for word in line]
        if len(words) < 300:
            raise DatasetError(
                f"{path} has {len(words)} {'words' if unit == 'word' else 'characters'} in {full} lines; it takes "
                "at least 3 lines that are not empty, or 300 words, for training, validation and testing"
            )
        lines = [words[k : k + 100] for k in range(0, len(words), 100)]
        note = f"it has few lines: each 100 {'words' if unit == 'word' else 'characters'} are read as one"
    corpus = split_lines(Path(path).stem, lines, vocab_size, unit, repeated=True)
    corpus.note = note
    return corpus


def is_wrapped(lines: list[str]) -> bool:
    """Whether lines were broken at some width: most are about as long as the longest, and few end a sentence."""
    full = [line.rstrip() for line in lines if line.strip()]
    inner = [a.rstrip() for a, b in pairwise(lines) if a.strip() and b.strip()]  # another line of the paragraph follows
    if len(inner) < max(20, len(full) / 2) or len(full) == len(lines):
        return False
    width = int(np.quantile([len(line) for line in inner], 0.95))
    near = sum(0.75 * width <= len(line) <= 1.1 * width for line in inner)
    ended = sum(line.endswith((".", "!", "?", "。", ";", ":", ",", "{", "}")) for line in inner)
    return 40 <= width <= 120 and near > 0.8 * len(inner) and ended < 0.4 * len(inner)


def join_paragraphs(lines: list[str]) -> list[str]:
    """One line for each run of lines between empty ones."""
    text = "\n".join(line.strip() for line in lines)
    return [" ".join(part.split("\n")) for part in re.split(r"\n\n+", text)]


def split_lines(name: str, lines: list[list[str]], vocab_size: int | None, unit: str, repeated: bool = False) -> Corpus:
    """Make a corpus of lines that are split into words: 90 % for training, 5 % for validation, 5 % for testing.

    At least three lines must have words. An empty line is in the same split as the line before it.
    """
    # Each split ends with the line in which its share of all words is reached, and has at least one line with words.
    lengths = np.array([len(line) for line in lines])
    full = np.flatnonzero(lengths)
    ends = np.cumsum(lengths[full])
    train_end = min(int(np.searchsorted(ends, 0.90 * ends[-1])) + 1, len(full) - 2)
    valid_end = min(max(int(np.searchsorted(ends, 0.95 * ends[-1])) + 1, train_end + 1), len(full) - 1)
    train_end, valid_end = full[[train_end, valid_end]].tolist()
    return make_corpus(
        name, lines[:train_end], lines[train_end:valid_end], lines[valid_end:], vocab_size, unit, repeated
    )


def read_utf8(path: Path, encoding: str | None = None) -> str:
    """Read a file in UTF-8, or in another encoding; raises DatasetError, which says why, if it cannot be read."""
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error
    if encoding is None:
        return decode_utf8(data, path)
    try:
        return decode_utf8(data.decode(encoding).encode(), path)
    except (LookupError, UnicodeError) as error:
        raise DatasetError(f"cannot read {path} as {encoding}: {error}") from None


def read_json(path: Path) -> object:
    """Read a JSON file; raises OSError if it cannot be read, DatasetError if it is damaged or nested too deeply."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is damaged: {error}") from None
