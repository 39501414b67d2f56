"""What the gates and the cell state of a trained model do while it reads a sentence, as heat maps.

python ch06_gated/train_lstm_lm.py                    # leaves runs/lstm-sotu
python ch06_gated/show_gates.py runs/lstm-sotu
python ch06_gated/show_gates.py runs/lstm-sotu --sentence "the war is over , and the people are free ."
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ch06_gated.models import load_run
from common.layers import split
from common.runs.cli import OneLineParser, positive_int, run, use_utf8, utf8_text
from common.runs.folder import Run, SentenceRun
from common.runs.plotting import new_figure, save_figure, show
from common.time_layers import TimeGRU, TimeLSTM, TimeRecurrent

# What to see, in an LSTM and in a GRU.
NOTES = (
    "Where the forget gate is dark and the input gate is white,\nthe cell state stays as it is: the unit remembers.",
    "Where the update gate is dark,\nthe state stays as it is: the unit remembers.",
)

SENTENCE = "the president of the united states has the power to make war , and it is our duty to keep the peace ."


def gates_of(layer: TimeRecurrent) -> dict[str, np.ndarray]:
    """Return, by name, what a layer with gates kept of the sequence it read last: arrays, (T·N, H).

    Raises
    ------
    ValueError
        If the layer has no gates.
    """
    if isinstance(layer, TimeLSTM):
        f, _, i, o = split(layer.gates, 4)
        return {
            "input gate i: how much is taken in": i,
            "forget gate f: how much is kept": f,
            "output gate o: how much is shown": o,
            "cell state c": layer.cs_next,
            "hidden state h": layer.hs_next,
        }
    if isinstance(layer, TimeGRU):
        z, r, h_tilde = split(layer.gates, 3)
        return {
            "update gate z: how much of the old state is kept": z,
            "reset gate r: how much of it the candidate may see": r,
            "candidate h̃": h_tilde,
            "hidden state h": layer.hs_next,
        }
    raise ValueError("this model has no gates: it is a simple RNN")


def read(
    trained: Run | SentenceRun, words: list[str], layer: int, units: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Let the model read a sentence; return the maps of one layer, (units, words), and the numbers of the units.

    A state has hundreds of units. Shown are those whose state changes most from word to word.
    """
    model = trained.model
    recurrent = [layer for layer in model.layers if isinstance(layer, TimeRecurrent)]
    if layer > len(recurrent):
        raise ValueError(f"there is no layer {layer}: the model has {len(recurrent)}")
    with model.evaluating():
        # The state before the first word is that after the end of another sentence, or after <s>.
        model.predict(np.array([[*trained.start_ids, *trained.ids(words)]]))
        maps = {name: values[-len(words) :] for name, values in gates_of(recurrent[layer - 1]).items()}  # (words, H)
    change = np.abs(np.diff(maps["hidden state h"], axis=0)).sum(axis=0)
    chosen = np.argsort(-change, kind="stable")[:units]
    return {name: values[:, chosen].T for name, values in maps.items()}, chosen


def plot_maps(
    maps: dict[str, np.ndarray],
    units: Sequence[int],
    words: Sequence[str],
    path: str | Path,
    title: str = "",
    note: str = "",
) -> None:
    """Write a PNG file of heat maps, (units, words) each, one below the other.

    Those within [0, 1] are coloured from white to blue, others from blue over white to red, symmetric around 0.
    """
    figure = new_figure(max(6, 2 + 0.45 * len(words)), len(maps) * (0.5 + 0.1 * len(units)) + 1.2)
    axes = figure.subplots(len(maps), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (name, values) in zip(axes, maps.items()):
        limit = float(np.abs(values).max()) or 1.0
        colours = (
            {"cmap": "Blues", "vmin": 0, "vmax": 1}
            if values.min() >= 0 and limit <= 1
            else {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        )
        image = ax.imshow(values, aspect="auto", interpolation="nearest", **colours)
        figure.colorbar(image, ax=ax, pad=0.01)
        ax.set_title(name, fontsize=10, loc="left")
        ax.set_ylabel("unit")
        ax.set_yticks(range(len(units)), units, fontsize=6)
    axes[-1].set_xticks(
        range(len(words)), [visible(word) for word in words], rotation=60, ha="right", rotation_mode="anchor"
    )
    axes[-1].tick_params(axis="x", labelsize=9)
    for label in axes[-1].get_xticklabels():
        label.set_parse_math(False)
    axes[-1].set_xlabel(f"word that is read\n{note}" if note else "word that is read")
    figure.suptitle(title, parse_math=False)
    save_figure(figure, path)


def visible(word: str) -> str:
    """A word, or a sign for a space or a tab."""
    return "␣" if word == " " else repr(word)[1:-1] if word.isspace() else word


def main(argv: list[str] | None = None) -> dict[str, np.ndarray]:
    """Write the picture, and return the maps in it."""
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("folder", help="of a training: runs/NAME")
    parser.add_argument("--sentence", type=utf8_text, default=SENTENCE, help="what the model reads")
    parser.add_argument("--layer", type=positive_int, default=1, help="recurrent layer to look into")
    parser.add_argument("--units", type=positive_int, default=8, help="units to show: those that change most")
    parser.add_argument("--output", help="file to write the picture to [FOLDER/gates.png]")
    parser.add_argument("--show", action="store_true", help="show the picture in a window, too")
    args = parser.parse_args(argv)

    with parser.reporting_errors():
        trained = load_run(args.folder)
        words = trained.words(args.sentence)
        if not words:
            raise ValueError("the sentence needs at least one word")
        maps, units = read(trained, words, args.layer, args.units)
        words = [word if trained.knows(word) else f"{word} <unk>" for word in words]
        path = Path(args.output or Path(args.folder) / "gates.png")
        title = f"{type(trained.model).__name__}, layer {args.layer}: the {len(units)} units that change most"
        plot_maps(maps, units, words, path, title, NOTES[type(trained.model).__name__ == "GruLm"])
        print(f"picture in {path}")
        if args.show:
            show(path)
    return maps


if __name__ == "__main__":
    run(main)
