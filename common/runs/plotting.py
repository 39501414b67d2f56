"""Pictures, drawn without a display and without pyplot's global state; Matplotlib is imported with the first one."""

from __future__ import annotations

import importlib.util
import sys
import unicodedata
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Fonts with Chinese and Japanese characters, of Linux, macOS and Windows; DejaVu Sans, the usual one, has none.
_CJK_FONTS = ("Noto Sans CJK JP", "IPAexGothic", "IPAGothic", "Hiragino Sans", "Yu Gothic", "MS Gothic")
_CJK = ("Cjk", "Hiragana", "Katakana", "Hangul", "Ideographic", "Fullwidth", "Halfwidth", "Katakana-Hiragana")


def plot_learning_curve(
    history: list[dict[str, float | None]], path: str | Path, title: str = "", floor: float | None = None
) -> None:
    """Write the perplexities of a history (see RnnlmTrainer) to a PNG file, against epochs.

    A dashed line shows ``floor``, the lowest perplexity that any model can have.
    """
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    # Inside an epoch, how well the model did just then; without such records, the means of the epochs.
    inside = [record for record in history if record["epoch"] % 1] or history
    train = [(record["epoch"], record["train_perplexity"]) for record in inside]
    axes.plot(*zip(*train), color="tab:blue", lw=1, label="train")
    valid = [(r["epoch"], r["valid_perplexity"]) for r in history if r["valid_perplexity"] is not None]
    if valid:
        axes.plot(*zip(*valid), "o-", color="tab:orange", label="valid")
        best = min(valid, key=lambda point: point[1])
        axes.plot(*best, "*", color="tab:red", ms=14, label=f"best: {best[1]:.1f} at epoch {best[0]:g}")
    if floor is not None:
        axes.axhline(floor, ls="--", color="black", lw=1, label=f"floor {floor:.3f}")
    axes.set(xlabel="epoch", ylabel="perplexity (log scale)")
    use_log_scale(axes)
    axes.set_title(title, parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def use_log_scale(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def check_writable(path: str | Path) -> None:
    """Make the folder of a picture; raise OSError now, rather than after a training, if it cannot be written to."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with open(path, "ab"):
        pass
    if new:
        path.unlink()


def show(path: str | Path) -> None:
    """Show a picture in a window, until it is closed. Raises ValueError if there is no display."""
    import matplotlib
    import matplotlib.pyplot as plt

    if matplotlib.get_backend().lower() == "agg":
        raise ValueError(f"there is no display to show the picture on; it is in {path}")
    axes = plt.figure(layout="tight").add_subplot()
    axes.imshow(plt.imread(path))
    axes.axis("off")
    plt.show()


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write the picture. Of characters that no font has, a line says what to install."""
    from matplotlib.text import Text

    if Path(path).is_dir():  # Matplotlib would write a file of its own naming
        raise IsADirectoryError(f"{path} is a folder; the picture needs the name of a file")
    texts = figure.findobj(Text)
    for text in texts:
        if not (characters := text.get_text()).isascii():  # bytes of a file name that are no characters become ?
            text.set_text(characters.encode("utf-8", "replace").decode())
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
            font = 'the Japanese one of pip install -e ".[ja]", or Noto Sans CJK JP (Debian: fonts-noto-cjk)'
        some = "".join(sorted(missing)[:10])
        print(f"no font here has the characters {some}: install one that has them, such as {font}", file=sys.stderr)


def _fonts(characters: set[str]) -> tuple[list[str], set[str]]:
    """The names of fonts, to take a character from the first that has it; and the characters that none has."""
    from matplotlib import font_manager

    manager, names = font_manager.fontManager, ["DejaVu Sans"]
    missing = {character for character in characters if character.isprintable()} - _characters(names[0])
    if missing:
        found = set(font_manager.findSystemFonts())
        if package := importlib.util.find_spec("matplotlib_fontja"):  # of the extra ja: IPAexGothic
            found.add(str(Path(package.submodule_search_locations[0]) / "fonts" / "ipaexg.ttf"))
        for path in sorted(found - {font.fname for font in manager.ttflist}):
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
