"""What the command lines of all scripts share: checked numbers, and errors in one line."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from common.backend import Unavailable
from dataset.download import DownloadError

INTERRUPTED = 130  # the exit code that shells expect after Ctrl-C
PIPE_CLOSED = 141  # exit code, as a shell gives it for a program that the signal SIGPIPE has ended


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keep lines of examples as they are, and say nothing of a default that is none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        plain = action.default is None or action.default is False or action.default in ("", [])
        return action.help if plain else super()._get_help_string(action)


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that shows defaults in its help and errors in one line, with exit code 2.

    ``description`` is the docstring of a script: its first line, and its lines of commands, are what ``-h`` shows.
    """

    def __init__(self, description: str, **kwargs: Any) -> None:
        first, *others = description.strip().splitlines()
        examples = "\n".join(
            line for line in others if line.lstrip().startswith(("python ", "echo ", "pip ", "mpiexec "))
        )
        how = {"formatter_class": _HelpFormatter, "allow_abbrev": False, **kwargs}
        super().__init__(description=first, epilog=f"examples:\n{examples}" if examples else None, **how)

    def hide(self, actions: list[argparse.Action]) -> None:
        """Leave options out of ``--help``, and show them with ``--help-all``."""
        hidden = [(action, action.help) for action in actions]
        for action in actions:
            action.help = argparse.SUPPRESS

        class HelpAll(argparse.Action):
            def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
                for action, text in hidden:
                    action.help = text
                parser.print_help()
                parser.exit()

        self.add_argument("--help-all", action=HelpAll, nargs=0, help=f"show {len(hidden)} more options, and exit")

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}{self._guess(message)}\n")

    def _guess(self, message: str) -> str:
        """An option that the user may have meant by the first one that is not known."""
        match = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        near = difflib.get_close_matches(match[1], self._option_string_actions, 1) if match else []
        return f"; did you mean {near[0]}?" if near else ""

    @contextmanager
    def reporting_errors(self) -> Iterator[None]:
        """Turn what a user can mend, such as a bad file or value or no GPU, into one line and exit code 2."""
        try:
            yield
        except BrokenPipeError:  # of no interest to the user; see ``run``
            raise
        except DownloadError as error:  # in two lines
            self.exit(2, f"{self.prog}: error: {error}\n")
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
