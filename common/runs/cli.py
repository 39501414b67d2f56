"""What the command lines of all scripts share: checked numbers, and errors in one line."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from common.backend import Unavailable

INTERRUPTED = 130  # the exit code that shells expect after Ctrl-C
PIPE_CLOSED = 141  # exit code, as a shell gives it for a program that the signal SIGPIPE has ended


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that shows defaults in its help and errors in one line, with exit code 2."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=argparse.ArgumentDefaultsHelpFormatter, **kwargs)

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")

    @contextmanager
    def reporting_errors(self) -> Iterator[None]:
        """Turn what a user can mend, such as a bad file or value or no GPU, into one line and exit code 2."""
        try:
            yield
        except BrokenPipeError:  # of no interest to the user; see ``run``
            raise
        except (OSError, ValueError, MemoryError, FloatingPointError, Unavailable) as error:
            self.error(str(error))


def number(kind: type, low: float, high: float = float("inf"), low_included: bool = False) -> Callable[[str], float]:
    """Return a converter for ``add_argument(type=...)``: low < number < high or, if ``low_included``, low <= number."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
            if not math.isfinite(value):
                raise ValueError
        except (ValueError, OverflowError):  # more digits than a float can have
            raise argparse.ArgumentTypeError(f"{text!r} is not {'a whole' if kind is int else 'a'} number") from None
        if not (low < value < high or (low_included and value == low)):
            bounds = f"{'at least' if low_included else 'more than'} {low:g}"
            if high < float("inf"):
                bounds += f" and less than {high:g}"
            raise argparse.ArgumentTypeError(f"must be {bounds}, got {text}")
        return value

    return convert


positive_int = number(int, 0)
non_negative_int = number(int, 0, low_included=True)
positive_float = number(float, 0)
fraction = number(float, 0, 1, low_included=True)


def utf8_text(text: str) -> str:
    """A converter for ``add_argument(type=...)``: text in any language, in a locale that knows only ASCII, too."""
    foreign = any("\udc80" <= character <= "\udcff" for character in text)  # bytes that Python could not decode
    return os.fsencode(text).decode("utf-8") if foreign else text


def use_utf8() -> None:
    """Print any language in any locale, and each line as it is made, even into a file."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def run(main: Callable[[], object]) -> None:
    """Run a script's ``main``. Ctrl-C ends it with a line; a reader of its output that has seen enough, without one."""
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # as of ``head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where Python writes, when it ends, what is left
        sys.exit(PIPE_CLOSED)
