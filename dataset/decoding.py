"""From the bytes of a file to text: UTF-8, or an error that names the encoding and the command that converts it."""

from __future__ import annotations

import codecs
import re
import shlex
import unicodedata
from collections import Counter
from pathlib import Path

from dataset.corpus import DatasetError

# The byte order marks with which files begin. That of UTF-32 comes first: it begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}

# Encodings of seven bits, whose escape sequences switch to other characters.
_ESCAPE = re.compile(rb"\x1b\$[@AB()]")
_SWITCHING = ("ISO-2022-JP", "ISO-2022-JP-2", "ISO-2022-KR")

# Encodings of eight bits, in the order in which they are tried: the characters that text in each has, and their least
# share of all that is not ASCII. Bytes that are decoded by a wrong encoding have few of them.
_KANA = "[\u3001-\u30ff]"
_LIKELY = {
    "EUC-JP": (_KANA, 0.1),
    "CP932 (Shift_JIS)": (_KANA, 0.1),
    "CP1252 (Latin-1)": ("[\xa0À-ÿŒœŠšŽžŸ€£§©®°ªº«»¿¡·“”„‘’–—…•™]", 0.9),
}


def decode_utf8(data: bytes, path: str | Path | None) -> str:
    """Decode the contents of a file, drop its byte order mark and make all line ends ``\\n``.

    ``path`` is for messages; None stands for standard input. Raises DatasetError if the bytes are not UTF-8 text.
    """
    name, file = ("standard input", "") if path is None else (path, f" {shlex.quote(str(path))} > utf8.txt")
    convert = f"train on it with --encoding, or convert it first: iconv -f {{}} -t UTF-8{file}"
    if encoding := _known_encoding(data):
        raise DatasetError(f"{name} is not UTF-8 text, but {encoding}; {convert.format(encoding)}")
    if b"\0" in data:
        raise DatasetError(f"{name} is not UTF-8 text, nor any other: byte {data.index(0):,} is zero")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        fault = f"{name} is not UTF-8 text (byte {error.start:,}: {error.reason})"
        if _is_damaged_utf8(data):
            advice = f"most of it is, and without the rest it can be had with: iconv -c -f UTF-8 -t UTF-8{file}"
        elif encoding := _likely_encoding(data):
            advice = f"it looks like {encoding}; {convert.format(encoding.split()[0])}"
        else:
            advice = f"nor does it look like {', '.join(_LIKELY)}; if it is text, {convert.format('ITS_ENCODING')}"
        raise DatasetError(f"{fault}; {advice}") from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _known_encoding(data: bytes) -> str | None:
    """The encoding, if the first bytes, an escape sequence or zero bytes show that it is not UTF-8."""
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return encoding
    if _ESCAPE.search(data) and data.isascii():
        return next((encoding for encoding in _SWITCHING if _decode(data, encoding)), _SWITCHING[0])
    # UTF-16 and UTF-32 without a mark: spaces have zero bytes, and read in the right order there are most of them.
    spaces: dict[str, int] = {}
    for encoding in ("UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE") if b"\0" in data else ():
        spaces[encoding] = sum(character in " \r\n" for character in _decode(data, encoding))
    return max(spaces, key=spaces.__getitem__) if any(spaces.values()) else None


def _decode(data: bytes, encoding: str) -> str:
    """The text, or "" if it is not in this encoding or has control characters or unassigned ones."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return ""
    strange = {c for c in set(text) if unicodedata.category(c) in ("Cc", "Cn", "Co") and not c.isspace()}
    return "" if strange - {"\x1a", "\x1b"} else text  # the end of old files, and of colours


def _is_damaged_utf8(data: bytes) -> bool:
    """Whether most of what is not ASCII is UTF-8, as in a text that was cut off, or joined from several."""
    counts = Counter(data.decode("utf-8", errors="replace"))
    return sum(n for c, n in counts.items() if not c.isascii()) > 3 * counts["\ufffd"]


def _likely_encoding(data: bytes) -> str | None:
    """The first encoding in which the text decodes and has enough of the expected characters."""
    for encoding, (expected, share) in _LIKELY.items():
        counts = Counter(_decode(data, encoding.split()[0]))
        non_ascii = {c: n for c, n in counts.items() if not c.isascii()}
        found = sum(n for c, n in non_ascii.items() if re.match(expected, c))
        mostly_ascii = sum(non_ascii.values()) < counts.total() / 2
        if found and found >= share * sum(non_ascii.values()) and (mostly_ascii or expected is _KANA):
            return encoding
    return None
