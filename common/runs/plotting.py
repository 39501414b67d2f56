"""Pictures. They are drawn without a display, and without touching pyplot's global state.

Matplotlib is imported when the first is drawn.
"""

from __future__ import annotations

import sys
import unicodedata
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Fonts with Chinese and Japanese characters, of Linux, macOS and Windows; DejaVu Sans, the usual one, has none.
_CJK_FONTS = ("Noto Sans CJK JP", "IPAexGothic", "IPAGothic", "Hiragino Sans", "Yu Gothic", "MS Gothic")
_CJK = ("Cjk", "Hiragana", "Katakana", "Hangul", "Ideographic", "Fullwidth", "Halfwidth", "Katakana-Hiragana")


def plot_learning_curve(
    history: list[dict[str, float | None]], path: str | Path, title: str = "", floor: float | None = None
) -> None:
    """Write the perplexities of a history (see RnnlmTrainer) to a PNG file, against epochs.

    Parameters
    ----------
    history : list of dict
    path : path of the file
    title : str
        Printed above the curves.
    floor : float, optional
        The lowest perplexity that any model can have: a dashed line.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = _figure(7, 4.5)
    axes = figure.add_subplot()
    # Inside an epoch, how well the model did just then; without such records, the means of the epochs.
    inside = [record for record in history if record["epoch"] % 1] or history
    train = [(record["epoch"], record["train_perplexity"]) for record in inside]
    axes.plot(*zip(*train), color="tab:blue", lw=1, label="train")
    valid = [(r["epoch"], r["valid_perplexity"]) for r in history if r["valid_perplexity"] is not None]
    if valid:
        axes.plot(*zip(*valid), "o-", color="tab:orange", label="valid")
        axes.annotate(f"{valid[-1][1]:.1f}", valid[-1], xytext=(0, 8), textcoords="offset points", ha="right")
    if floor is not None:
        axes.axhline(floor, ls="--", color="black", lw=1, label=f"floor {floor:.3f}")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("epoch")
    axes.set_ylabel("perplexity (log scale)")
    axes.set_title(title, parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def plot_gradient_norms(panels: dict[str, dict[str, Sequence[float]]], path: str | Path) -> None:
    """Write a PNG file of gradients against time: panels side by side, and in each a curve a model.

    Parameters
    ----------
    panels : dict of dict
        ``panels[title][model][k]`` is the norm of the gradient k steps back in time.
    path : path of the file
    """
    figure = _figure(1 + 4.5 * len(panels), 4.2)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (title, curves) in zip(axes, panels.items()):
        for name, norms in curves.items():
            ax.plot(norms, label=name)
        ax.set_yscale("log")
        ax.set_title(title)
        ax.set_xlabel("k, steps back from the word that the loss is about")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("‖∂L / ∂x‖ k steps back, relative to k = 0 (log scale)")
    axes[-1].legend()
    _save(figure, path)


def plot_maps(
    maps: dict[str, np.ndarray], units: Sequence[int], words: Sequence[str], path: str | Path, title: str = ""
) -> None:
    """Write a PNG file of heat maps, one below the other: a row a unit, a column a word.

    Parameters
    ----------
    maps : dict of (units, words) arrays
        Those within [0, 1] are coloured from white to blue, others from blue over white to red, symmetric around 0.
    units : sequence of int
        The numbers of the units, to label the rows with.
    words : sequence of str
    path : path of the file
    title : str
    """
    figure = _figure(max(6, 2 + 0.45 * len(words)), len(maps) * (0.5 + 0.1 * len(units)) + 1.2)
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
        range(len(words)), [_visible(word) for word in words], rotation=60, ha="right", rotation_mode="anchor"
    )
    axes[-1].tick_params(axis="x", labelsize=9)
    for label in axes[-1].get_xticklabels():
        label.set_parse_math(False)
    axes[-1].set_xlabel("word that is read")
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def plot_confusion(counts: np.ndarray, classes: Sequence[str], path: str | Path, title: str = "") -> None:
    """Write a confusion matrix to a PNG file: how many texts of each class were taken for which.

    Parameters
    ----------
    counts : (C, C) array of int
        counts[i, j] texts are of class i and were taken for class j.
    classes : sequence of str
    path : path of the file
    title : str
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = _figure(1.6 + 1.1 * len(classes), 1.3 + 0.9 * len(classes))
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(counts.shape):
        text = f"{counts[i, j]:,}\n{shares[i, j]:.1%}"
        axes.text(j, i, text, ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black", fontsize=9)
    for axis, label in ((axes.xaxis, "class that the model says"), (axes.yaxis, "class of the text")):
        axis.set_ticks(range(len(classes)), classes)
        axis.set_label_text(label)
    figure.colorbar(image, ax=axes, label="share of the texts of a class")
    axes.set_title(title, parse_math=False)
    _save(figure, path)


def plot_waves(panels: dict[str, tuple[np.ndarray, np.ndarray]], path: str | Path) -> None:
    """Write a PNG file of a wave and its continuation by a network, a panel a network.

    Parameters
    ----------
    panels : dict of pairs of arrays
        ``panels[title]`` is the whole wave, (T,), and what the network says of its last steps.
    path : path of the file
    """
    figure = _figure(9, 0.6 + 2.2 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (title, (truth, said)) in zip(axes, panels.items()):
        first = len(truth) - len(said)
        ax.plot(truth, color="tab:gray", lw=3, alpha=0.5, label="truth")
        ax.plot(range(first, len(truth)), said, color="tab:red", lw=1.2, label="network, on its own output")
        ax.axvline(first, color="black", lw=0.8, ls=":", label="it hears the truth up to here")
        ax.set_title(title, fontsize=10, loc="left")
        ax.set_ylabel("value")
        ax.grid(alpha=0.3)
    axes[-1].set_xlabel("step")
    axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, 1.45), ncols=3, fontsize=9)
    _save(figure, path)


def show(path: str | Path) -> None:
    """Show a picture in a window, until it is closed.

    Raises
    ------
    ValueError
        If there is no display.
    """
    import matplotlib
    import matplotlib.pyplot as plt

    if matplotlib.get_backend().lower() == "agg":
        raise ValueError(f"there is no display to show the picture on; it is in {path}")
    figure = plt.figure(layout="tight")
    axes = figure.add_subplot()
    axes.imshow(plt.imread(path))
    axes.axis("off")
    plt.show()


def _figure(width: float, height: float) -> Figure:
    """A figure of so many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _visible(word: str) -> str:
    """A word, or a sign for a space or a tab."""
    return "␣" if word == " " else repr(word)[1:-1] if word.isspace() else word


def _save(figure: Figure, path: str | Path) -> None:
    """Write the picture. Of characters that no font has, a line says what to install."""
    from matplotlib.text import Text

    if Path(path).is_dir():  # Matplotlib would write a file of its own naming
        raise IsADirectoryError(f"{path} is a folder; the picture needs the name of a file")
    texts = figure.findobj(Text)
    families, missing = _fonts({character for text in texts for character in text.get_text()})
    for text in texts:
        text.set_family(families)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph |Matplotlib currently does not support")  # one a character
        figure.savefig(path)
    if missing:
        first = min(missing)
        font = f"Noto Sans {_script(first)} (Debian: fonts-noto-core)" if first.isalpha() else "Symbola"
        if any(_script(character) in _CJK for character in missing):
            font = "Noto Sans CJK JP (Debian: fonts-noto-cjk)"
        some = "".join(sorted(missing)[:10])
        print(f"no font here has the characters {some}: install one that has them, such as {font}", file=sys.stderr)


def _fonts(characters: set[str]) -> tuple[list[str], set[str]]:
    """The names of fonts, to take a character from the first that has it; and the characters that none has."""
    from matplotlib import font_manager

    manager, names = font_manager.fontManager, ["DejaVu Sans"]
    missing = {character for character in characters if character.isprintable()} - _characters(names[0])
    if missing:
        for path in sorted(set(font_manager.findSystemFonts()) - {font.fname for font in manager.ttflist}):
            with suppress(RuntimeError, OSError):  # newer than Matplotlib's list, or no font that it can read
                manager.addfont(path)
        installed = {font.name for font in manager.ttflist}
        wanted = (*_CJK_FONTS, *sorted({f"Noto Sans {_script(character)}" for character in missing}), "Symbola")
        names += [name for name in wanted if name in installed]
        missing = missing.difference(*map(_characters, names))
    return names, missing


def _characters(name: str) -> set[str]:
    """The characters that a font has."""
    from matplotlib import font_manager

    return set(map(chr, font_manager.get_font(font_manager.findfont(name)).get_charmap()))


def _script(character: str) -> str:
    """The script of a character: the first word of its name, as in DEVANAGARI LETTER HA."""
    return unicodedata.name(character, "").split(" ")[0].title()
