"""Compare trainings: a table of their best epochs, and their learning curves in one picture.

python ch06_gated/compare_runs.py runs/rnnlm-sotu runs/lstm-sotu
"""

from __future__ import annotations

import csv
from pathlib import Path

import ch06_gated  # noqa: F401 - it makes sure of the packages
from common.runs.cli import OneLineParser, run, use_utf8
from common.runs.folder import described
from common.runs.plotting import new_figure, save_figure, use_log_scale

STYLES = ("-", "--", ":", "-.")


def read_history(folder: Path) -> tuple[str, str, list[dict[str, float]]]:
    """The name of the model, the figure that its valid text is measured in, and the record of each epoch.

    Raises ValueError or OSError if the folder is not one of a training, or no epoch of it has been measured.
    """
    with described(folder, "training") as options:
        model = str(options["model"])
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    figure = next((name for name in ("valid_perplexity", "valid_accuracy") if rows and name in rows[0]), None)
    if figure is None:
        raise ValueError(f"{folder} has no valid perplexity or accuracy in its history")
    epochs = [row for row in rows if row[figure]]
    if not epochs:
        raise ValueError(f"{folder}: no epoch has ended yet")
    wanted = ("epoch", "seconds", figure)
    return model, figure, [{name: float(row[name]) for name in wanted} for row in epochs]


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Print the table, write the picture, and return the best figure of each run."""
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("folders", nargs="+", help="of trainings: runs/NAME ...")
    parser.add_argument("--output", default="runs/comparison.png", help="file to write the picture to")
    args = parser.parse_args(argv)

    best = {}
    with parser.reporting_errors():
        runs = {folder: read_history(Path(folder)) for folder in args.folders}
        figures = {figure for _, figure, _ in runs.values()}
        if len(figures) > 1:
            raise ValueError(f"these trainings cannot be compared: they have {' and '.join(sorted(figures))}")
        [figure] = figures
        title = figure.replace("_", " ")
        picture = new_figure(8, 4.5)
        axes = picture.add_subplot()
        print(f"best {title}  at epoch  of epochs  minutes  run")
        for k, (folder, (model, _, epochs)) in enumerate(runs.items()):
            at = (min if figure == "valid_perplexity" else max)(epochs, key=lambda record: record[figure])
            best[folder] = at[figure]
            minutes = epochs[-1]["seconds"] / 60
            row = f"{at[figure]:{len(title) + 5}.2f}  {at['epoch']:8.0f}  {len(epochs):9d}  {minutes:7.1f}"
            print(f"{row}  {folder} ({model})")
            x, y = zip(*((record["epoch"], record[figure]) for record in epochs))
            [line] = axes.plot(x, y, STYLES[k % 4], marker=".", label=f"{Path(folder).name}: {at[figure]:.2f}")
            axes.plot(at["epoch"], at[figure], "*", ms=13, color=line.get_color())
        if figure == "valid_perplexity":
            use_log_scale(axes)
        axes.set(xlabel="epoch", ylabel=title)
        axes.set_title(f"{title} after each epoch; the stars are the best", fontsize=10, loc="left")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=9)
        for text in axes.get_legend().get_texts():
            text.set_parse_math(False)
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        save_figure(picture, args.output)
    print(f"picture in {args.output}")
    return best


if __name__ == "__main__":
    run(main)
