"""Pictures. They are drawn without a display, and without touching pyplot's global state."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter


def plot_learning_curve(history: list[dict[str, float | None]], path: str | Path, title: str = "") -> None:
    """Write the perplexities of a history (see RnnlmTrainer) to a PNG file, against epochs.

    Parameters
    ----------
    history : list of dict
    path : path of the file
    title : str
        Printed above the curves.
    """
    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # Inside an epoch, how well the model did just then; without such records, the means of the epochs.
    inside = [record for record in history if record["epoch"] % 1] or history
    train = [(record["epoch"], record["train_perplexity"]) for record in inside]
    axes.plot(*zip(*train), color="tab:blue", lw=1, label="train")
    valid = [(r["epoch"], r["valid_perplexity"]) for r in history if r["valid_perplexity"] is not None]
    if valid:
        axes.plot(*zip(*valid), "o-", color="tab:orange", label="valid")
        axes.annotate(f"{valid[-1][1]:.1f}", valid[-1], xytext=(0, 8), textcoords="offset points", ha="right")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("epoch")
    axes.set_ylabel("perplexity (log scale)")
    axes.set_title(title, parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)
