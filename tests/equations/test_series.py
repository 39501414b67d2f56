"""Series of numbers of one's own: read, or refused in one line; and what train_series.py makes of them."""

import numpy as np
import pytest

from ch06_gated import train_series
from dataset import series
from dataset.corpus import DatasetError


@pytest.mark.parametrize(
    ("content", "column", "name", "numbers", "missing"),
    [
        ("1\n2\n3\n", "", "column 1", [1, 2, 3], []),
        ("day,x\nmon,1.5\ntue,-2e1\n\n", "", "x", [1.5, -20], []),
        ("a;b\n1;2\n3;4\n", "a", "a", [1, 3], []),
        ("a\tb\r\n1\t2\r\n3\t4\r\n", "2", "b", [2, 4], []),
        ("x\n1\nNA\n\n4\n", "x", "x", [1, 2.5, 4], [2]),  # an empty line is no row
        ("x,y\n1,\n,6\n3,7\n", "x", "x", [1, 2, 3], [2]),
        ("t,x\n1,nan\n2,5\n3\n", "x", "x", [5, 5, 5], [1, 3]),
    ],
)
def test_a_column_is_found_and_missing_numbers_lie_between_their_neighbours(
    tmp_path, content, column, name, numbers, missing
):
    path = tmp_path / "x.csv"
    path.write_bytes(content.encode())
    found = series.load(path, column)
    assert (found[0], found[1].tolist(), found[2]) == (name, numbers, missing)


@pytest.mark.parametrize(
    ("content", "column", "reason"),
    [
        ("", "", "is empty"),
        ("a,b\n1,2\n", "c", "has no column 'c': its columns are a, b"),
        ("a,b\n1,2\n", "3", "has no column '3'"),
        ("a,b\nx,2\ny,3\n", "a", "row 2, column 1: 'x' is not a number"),
        ("a\nna\n-\n", "", "has no numbers"),
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
    assert train_series.find_season(0.1 * t + 5 * np.sin(2 * np.pi * t / period) + 0.1 * noise) == period


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
