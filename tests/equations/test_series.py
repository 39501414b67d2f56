"""Series of numbers of one's own: read, or refused in one line; and what train_series.py makes of them."""

import numpy as np
import pytest

from ch06_gated import train_series, train_sine
from dataset import series
from dataset.corpus import DatasetError


@pytest.mark.parametrize(
    ("content", "column", "name", "numbers", "missing", "note"),
    [
        ("1\n2\n3\n", "", "column 1", [1, 2, 3], [], ""),
        ("day,x\nmon,1.5\ntue,-2e1\n\n", "", "x", [1.5, -20], [], ""),
        ("mon,1\ntue,2\n", "2", "column 2", [1, 2], [], ""),
        ("a;b\n1;2\n3;4\n", "a", "a", [1, 3], [], ""),
        ("a\tb\r\n1\t2\r\n3\t4\r\n", "2", "b", [2, 4], [], ""),
        ("x\n1\nNA\n\n4\n", "x", "x", [1, None, 4], [3], ""),  # an empty line is no row
        ("x,y\n1,\n,6\n3,7\n", "x", "x", [1, None, 3], [3], ""),
        ("t,x\n1,nan\n2,5\n3\n", "x", "x", [None, 5, None], [2, 4], ""),
        ("2,9\n3,8\n", "2", "column 2", [9, 8], [], ""),  # not the column whose first number is 2
        ("land,1990,2000\nA,1,2\nB,3,4\n", "2000", "2000", [2, 4], [], ""),  # no position, so a name
        ('x\n"1,234.5"\n"-12,345"\n7\n', "", "x", [1234.5, -12345, 7], [], "thousands: 1,234.5 is 1234.5"),
        ("t;x\na;3,5\nb;0,25\n", "x", "x", [3.5, 0.25], [], "decimal points: 3,5 is 3.5"),
        ("d,x\n2024-02-10,1\n2024-02-09,\n2024-02-08,3\n", "x", "x", [3, None, 1], [3], "read from the last row"),
        ("2024/9/1,1\n2024/10/1,2\n", "", "column 2", [1, 2], [], ""),
        (
            "2024年2月,1\n2024年1月,2\n2024年3月,3\n",
            "",
            "column 2",
            [1, 2, 3],
            [],
            "dates are not in order in column 1",
        ),
        ("1500.25\n1400.10\n", "", "column 1", [1500.25, 1400.1], [], ""),  # no dates
    ],
)
def test_a_column_is_found_and_what_is_not_plain_is_told(tmp_path, content, column, name, numbers, missing, note):
    path = tmp_path / "x.csv"
    path.write_bytes(content.encode())
    found = series.load(path, column)
    assert (found.name, found.missing) == (name, missing)
    assert np.array_equal(found.numbers, np.array(numbers, float), equal_nan=True)
    assert len(found.notes) == bool(note)
    assert note in "".join(found.notes)


@pytest.mark.parametrize(
    ("content", "column", "reason"),
    [
        ("", "", "is empty"),
        ("a,b\n1,2\n", "c", "has no column 'c': its columns are a, b"),
        ("a,b\n1,2\n", "3", "has no column '3'"),
        ("1,2\n3,4\n", "c", "has no column 'c': it has 2, without names"),
        ("a,b\n\nx,2\ny,3\n", "a", "line 3: expected a number in column 1, got 'x'"),
        ("t;x\na;3,5\nb;1,234.5\n", "x", "line 2: expected a number in column 2, got '3,5'"),
        ("x\n3,5\n4,5\n", "", "line 2: expected 1 cells as in line 1, got 2"),
        ("na\n-\n", "", "has no numbers"),
    ],
)
def test_what_is_no_series_is_refused(tmp_path, content, column, reason):
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(DatasetError, match=reason):
        series.load(path, column)


@pytest.mark.parametrize("period", [4, 12, 50])
def test_the_season_is_found(period):
    t = np.arange(300)
    noise = np.random.default_rng(0).normal(size=300)
    season, alike = train_series.find_season(0.1 * t + 5 * np.sin(2 * np.pi * t / period) + 0.1 * noise)
    assert season == period
    assert 0.95 < alike <= 1


def test_a_line_has_no_season():
    assert train_series.find_season(np.arange(30.0)) == (1, 0.0)


def test_missing_numbers_are_interpolated_but_never_with_one_that_is_still_to_come():
    numbers = np.array([np.nan, 1, np.nan, 3, np.nan, np.nan, 9, np.nan, 5])
    filled = train_series.fill(numbers, 5)
    assert filled.tolist() == [1, 1, 2, 3, 3, 3, 9, 9, 5]
    assert np.isnan(numbers[2])


def test_the_forecasts_of_a_wave_with_a_trend_beat_the_simple_ones(run, tmp_path):
    t = np.arange(120)
    numbers = 0.5 * t + 10 * np.sin(2 * np.pi * t / 8)
    (tmp_path / "wave.csv").write_text("\n".join(["wave", *map(str, numbers)]))
    errors, output = run(train_series.main, "wave.csv", "--steps", 400, "--season", 8)
    assert errors["same as last"][1] == pytest.approx(np.sqrt(np.mean((numbers[96:] - numbers[95]) ** 2)))
    steps = np.arange(24)
    assert errors["same as a season ago"][1] == pytest.approx(
        np.sqrt(np.mean((numbers[96:] - numbers[88 + steps % 8]) ** 2))
    )
    assert errors["same as last"][0] == pytest.approx(np.sqrt(np.mean(np.diff(numbers[95:]) ** 2)))
    assert errors["LSTM"][0] < 0.5 * min(errors["same as last"][0], errors["same as a season ago"][0])
    assert errors["LSTM"][1] < 0.5 * errors["same as a season ago"][1]
    assert "runs/series/wave.png" in output


def test_too_few_numbers_are_one_line(error_line, tmp_path):
    (tmp_path / "x.csv").write_text("1\n" * 19)
    assert "it takes at least 20" in error_line(train_series.main, [str(tmp_path / "x.csv")])


@pytest.mark.parametrize(("script", "options"), [(train_sine, []), (train_series, ["x.csv"])])
def test_where_no_picture_can_be_written_is_known_before_the_training(
    error_line, tmp_path, monkeypatch, script, options
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("1\n" * 30)
    monkeypatch.setattr(script, "train", None)
    line = error_line(script.main, [*options, "--output", "."])
    assert "Is a directory" in line or "Permission denied" in line


def test_a_missing_number_is_not_measured(run, tmp_path):
    numbers = [*map(str, range(25))]
    for name, lines in (("whole", numbers), ("holed", [*numbers[:22], "", *numbers[23:]])):
        (tmp_path / f"{name}.csv").write_text("\n".join(["x,y", *(f"{k},{x}" for k, x in enumerate(lines))]))
    whole, _ = run(train_series.main, "whole.csv", "--steps", 5)
    errors, output = run(train_series.main, "holed.csv", "--steps", 5)
    assert "missing: 1, in line 24;" in output
    assert whole["same as last"] == [1, pytest.approx(np.sqrt(11))]  # of 1, 2, 3, 4, 5
    # The step after the gap is forecast from the one before it.
    assert errors["same as last"] == [pytest.approx(np.sqrt((1 + 1 + 4 + 1) / 4)), pytest.approx(np.sqrt(46 / 4))]
