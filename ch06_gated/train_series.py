"""Train a small LSTM on a series of your own, and compare its forecasts with the simplest ones.

    python ch06_gated/train_series.py sales.csv                      # the last column of the table
    python ch06_gated/train_series.py sales.csv --column price --season 12
    python ch06_gated/train_series.py 売上.csv --column 2 --encoding shift_jis

The first four fifths are learned, the rest is forecast in two ways: each number from all before it, one step ahead; and
all of it at once, where the network hears only what it says itself. The network hears and says how much the series
changes from one step to the next, so that a trend does not lead it out of the range that it has learned.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ch06_gated.number_lstm import free_run, make_network
from common.backend import to_float64
from common.model import Model
from common.optimizer import Adam, CosineSchedule, clip_grads
from common.runs.cli import OneLineParser, non_negative_int, positive_float, positive_int, run, use_utf8
from common.runs.plotting import check_writable, new_figure, save_figure
from dataset import series


def find_season(numbers: np.ndarray) -> tuple[int, float]:
    """The shortest lag at which a series, its trend taken out, is about as like itself as at any; up to a third of it.

    Only peaks of the correlation count: of a smooth series, the next number is always alike. Returned are the lag and
    the correlation; (1, 0.0) if there is no peak.
    """
    t = np.arange(len(numbers))
    x = numbers - np.polyval(np.polyfit(t, numbers, 1), t)
    lags = range(1, max(4, len(x) // 3))
    with np.errstate(invalid="ignore", divide="ignore"):  # where nothing changes
        alike = np.nan_to_num([np.corrcoef(x[lag:], x[:-lag])[0, 1] for lag in lags], nan=-1.0)
    peaks = [k for k in range(1, len(alike) - 1) if alike[k - 1] < alike[k] >= alike[k + 1]]
    best = max((alike[k] for k in peaks), default=0.0)
    return next(((lags[k], float(alike[k])) for k in peaks if alike[k] >= best - 0.1 and alike[k] > 0), (1, 0.0))


def fill(numbers: np.ndarray, first: int) -> np.ndarray:
    """Put numbers in place of NaN: before step ``first``, on the line between their neighbours; later, the last one.

    What is forecast must not be known from a number in between.
    """
    known = np.flatnonzero(~np.isnan(numbers[:first]))
    filled = numbers.copy()
    filled[:first] = np.interp(np.arange(first), known, numbers[known])
    for t in range(first, len(numbers)):
        if np.isnan(filled[t]):
            filled[t] = filled[t - 1]
    return filled


def train(model: Model, changes: np.ndarray, steps: int, lr: float, rng: np.random.Generator) -> None:
    """Teach the network the next of the changes, (n, 1), in windows that begin anywhere; print how the error falls."""
    T = max(1, min(50, len(changes) // 2))
    optimizer, lr_of = Adam(lr), CosineSchedule(lr, steps)
    total = 0.0
    for k in range(1, steps + 1):
        starts = rng.integers(0, len(changes) - T, 16)
        index = starts[:, None] + np.arange(T)
        model.reset_state()
        total += float(to_float64(model.forward(changes[index], changes[index + 1])))
        model.backward()
        clip_grads(model.grads, 1.0)
        optimizer.lr = lr_of(k)
        optimizer.update(model.params, model.grads)
        if k % max(1, steps // 5) == 0:
            print(f"step {k:5d}  mean squared error of the change, in its variance {total / max(1, steps // 5):.3f}")
            total = 0.0


def forecasts(
    model: Model, numbers: np.ndarray, first: int, season: int, scale: float, shift: float
) -> dict[str, list]:
    """From step ``first`` on: by name, forecasts one step ahead, and of all steps at once; arrays of one length."""
    n = len(numbers)
    changes = ((np.diff(numbers) - shift) / scale).astype(np.float32)[:, None]
    with model.evaluating():
        said = model.predict(changes[None])[0, :, 0]  # said[t] is the change from t + 1 to t + 2
    ahead = numbers[first - 1 : n - 1] + said[first - 2 : n - 2] * scale + shift
    free = free_run(model, changes[: first - 1], n - first)[:, 0] * scale + shift
    steps = np.arange(n - first)
    return {
        "LSTM": [ahead, numbers[first - 1] + np.cumsum(free)],
        "same as last": [numbers[first - 1 : n - 1], np.full(n - first, numbers[first - 1])],
        "same as a season ago": [numbers[first - season : n - season], numbers[first - season + steps % season]],
    }


def plot(truth: np.ndarray, first: int, found: dict[str, list], name: str, path: str | Path) -> None:
    """Write a PNG file: the series, and what each way of forecasting says of its last part."""
    figure = new_figure(9, 4)
    axes = figure.add_subplot()
    axes.plot(truth, color="tab:gray", lw=3, alpha=0.5, label=name)
    steps = range(first, len(truth))
    axes.plot(steps, found["LSTM"][0], color="tab:red", lw=0.8, label="LSTM, one step ahead")
    for (label, (_, free)), style in zip(found.items(), ("-", ":", "--")):
        axes.plot(steps, free, style, lw=1.5, label=f"{label}, all at once")
    axes.axvline(first, color="black", lw=0.8)
    axes.set(xlabel="step", ylabel=name)
    axes.set_title("from the black line on, forecast", fontsize=10, loc="left")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize=9)
    save_figure(figure, path)


def main(argv: list[str] | None = None) -> dict[str, list[float]]:
    """Train, print and draw; return the errors by name: one step ahead, and all at once."""
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("file", help="table, CSV or tabs, with a number per row in a column, the earliest first")
    parser.add_argument("--column", default="", help="its name, or its number from 1 on [the last one]")
    parser.add_argument("--encoding", help="of a file that is not UTF-8, such as shift_jis, euc_jp, utf-16, cp1252")
    parser.add_argument("--season", type=positive_int, help="steps after which the series repeats [found by itself]")
    parser.add_argument("--hidden-size", type=positive_int, default=16, help="units of the LSTM, H")
    parser.add_argument("--steps", type=positive_int, default=1500, help="updates of the weights")
    parser.add_argument("--lr", type=positive_float, default=0.01, help="learning rate of Adam; it falls to 0")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="of weights and windows")
    parser.add_argument("--output", help="file to write the picture to [runs/series/FILE.png]")
    args = parser.parse_args(argv)

    with parser.reporting_errors():
        read = series.load(args.file, args.column, args.encoding)
        name, first = read.name, len(read.numbers) * 4 // 5
        known = ~np.isnan(read.numbers)
        if len(known) < 20 or not known[:first].any() or not known[first:].any():
            raise ValueError(
                f"{args.file} has {known.sum()} numbers, {known[:first].sum()} of them in the first four "
                "fifths to learn from; it takes at least 20, and some in each part"
            )
        numbers = fill(read.numbers, first)
        found_season, alike = find_season(numbers[:first])
        season = args.season or found_season
        if season >= first:
            raise ValueError(f"a season of {season} steps is longer than the {first} steps to learn from")
        path = Path(args.output or Path("runs") / "series" / f"{Path(args.file).stem}.png")
        check_writable(path)
        print(f"{name}: {len(numbers):,} numbers from {numbers.min():g} to {numbers.max():g}, {first:,} to learn from")
        for note in read.notes:
            print(f"{name}: {note}")
        found_by = "" if args.season else f", found by itself: correlation {alike:.2f} at that distance"
        print(f"season: {season} steps{found_by}")
        if missing := read.missing:
            lines = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
            print(f"missing: {len(missing):,}, in line {lines}; they are interpolated or, where forecast, not measured")
        changes = np.diff(numbers[:first])
        shift, scale = float(changes.mean()), float(changes.std()) or 1.0
        print(f"the network hears and says (change - {shift:.4g}) / {scale:.4g}")
        rng = np.random.default_rng(args.seed)
        model = make_network(args.hidden_size, 0.1, rng)
        train(model, ((changes - shift) / scale).astype(np.float32)[:, None], args.steps, args.lr, rng)

        found = forecasts(model, numbers, first, season, scale, shift)
        errors = {}
        print(f"root mean squared error, in the units of {name}   one step ahead   all at once")
        for label, kinds in found.items():
            errors[label] = [float(np.sqrt(np.nanmean((kind - read.numbers[first:]) ** 2))) for kind in kinds]
            print(f"{label:>40}   {errors[label][0]:14.4g}   {errors[label][1]:11.4g}")
        best = [min(errors, key=lambda label: errors[label][kind]) for kind in (0, 1)]
        print(f"best one step ahead: {best[0]}; all at once: {best[1]}")
        plot(read.numbers, first, found, name, path)
        print(f"picture in {path}")
    return errors


if __name__ == "__main__":
    run(main)
