"""Command lines: numbers are checked, and what a user can mend is one line and exit code 2."""

import io
import math
import sys

import pytest

from common.backend import GpuUnavailable
from common.runs.cli import (
    OneLineParser,
    fraction,
    non_negative_int,
    number,
    positive_float,
    positive_int,
    use_utf8,
)


def parse(convert, text):
    parser = OneLineParser("What it does.", prog="prog")
    parser.add_argument("--size", type=convert)
    return parser.parse_args([f"--size={text}"]).size


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (positive_int, "1", 1),
        (positive_int, "35", 35),
        (non_negative_int, "0", 0),
        (positive_float, "0.002", 0.002),
        (positive_float, "1e-3", 0.001),
        (positive_float, "20", 20.0),
        (fraction, "0", 0.0),
        (fraction, "0.999", 0.999),
        (number(float, 1, low_included=True), "1", 1.0),
        (number(int, 2, 5), "4", 4),
    ],
)
def test_numbers_inside_the_bounds_are_converted(convert, text, value):
    found = parse(convert, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("convert", "text", "reason"),
    [
        (positive_int, "0", "must be more than 0, got 0"),
        (positive_int, "-3", "must be more than 0, got -3"),
        (positive_int, "1.5", "'1.5' is not a whole number"),
        (positive_int, "ten", "'ten' is not a whole number"),
        (positive_int, "", "'' is not a whole number"),
        (positive_int, "1e3", "'1e3' is not a whole number"),
        (positive_int, "inf", "'inf' is not a whole number"),
        (positive_int, "1" * 400, f"'{'1' * 400}' is not a whole number"),
        (non_negative_int, "-1", "must be at least 0, got -1"),
        (positive_float, "0", "must be more than 0, got 0"),
        (positive_float, "-0.0", "must be more than 0, got -0.0"),
        (positive_float, "fast", "'fast' is not a number"),
        (fraction, "1", "must be at least 0 and less than 1, got 1"),
        (fraction, "-0.1", "must be at least 0 and less than 1, got -0.1"),
        (number(float, 1, low_included=True), "0.5", "must be at least 1, got 0.5"),
        (number(int, 2, 5), "2", "must be more than 2 and less than 5, got 2"),
        (number(int, 2, 5), "5", "must be more than 2 and less than 5, got 5"),
    ],
)
def test_other_numbers_are_refused_with_the_reason(error_line, convert, text, reason):
    assert error_line(parse, convert, text) == f"prog: error: argument --size: {reason}"


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("convert", [positive_float, fraction])
def test_what_is_not_finite_is_refused(error_line, convert, text):
    assert not math.isfinite(float(text))
    assert text in error_line(parse, convert, text)


def test_an_unknown_option_is_one_line(error_line):
    line = error_line(OneLineParser("What it does.", prog="prog").parse_args, ["--colour"])
    assert line == "prog: error: unrecognized arguments: --colour"


def test_an_argument_of_two_lines_is_still_one_line(error_line):
    error_line(OneLineParser("What it does.", prog="prog").parse_args, ["--two\nlines"])


def test_help_shows_defaults(capsys):
    parser = OneLineParser("What it does.", prog="prog")
    parser.add_argument("--size", type=positive_int, default=35, help="how large")
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "What it does." in out
    assert "how large (default: 35)" in out


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file or directory", "text.txt"),
        ValueError("text.txt is\n   empty\n"),
        GpuUnavailable("text.txt: the GPU needs CuPy"),
    ],
)
def test_what_a_user_can_mend_becomes_one_line(error_line, error):
    def run():
        with OneLineParser("What it does.", prog="prog").reporting_errors():
            raise error

    line = error_line(run)
    assert line.startswith("prog: error: ")
    assert "text.txt" in line
    assert "  " not in line


@pytest.mark.parametrize("error", [KeyError("bug"), TypeError("bug"), RuntimeError("bug"), KeyboardInterrupt()])
def test_mistakes_of_the_program_stay_tracebacks(error):
    with pytest.raises(type(error)), OneLineParser("What it does.", prog="prog").reporting_errors():
        raise error


def test_without_an_error_nothing_is_reported(capsys):
    with OneLineParser("What it does.", prog="prog").reporting_errors():
        pass
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_any_language_can_be_printed_in_any_locale(monkeypatch, name):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, name, io.TextIOWrapper(printed, encoding="ascii"))
    use_utf8()
    print("言葉 é", file=getattr(sys, name), flush=True)
    # A file name in another encoding holds such a half of a character.
    print("\udcff", file=getattr(sys, name), flush=True)
    assert printed.getvalue().split() == ["言葉".encode(), "é".encode(), rb"\udcff"]


def test_streams_that_have_no_encoding_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    use_utf8()
    print("言葉")
    assert sys.stdout.getvalue() == "言葉\n"
