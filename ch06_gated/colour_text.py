"""Colour a text by what a language model makes of it: a picture, and a page for the browser.

    python ch06_gated/colour_text.py runs/lstm-sotu --text "we the people of the united states"
    python ch06_gated/colour_text.py runs/lstm-sotu --by unit              # one unit of the last recurrent layer
    python ch06_gated/colour_text.py runs/lstm-sotu --by saliency          # which words the last one hangs on

surprise
    -log2 P(word | all words before it), in bits: 0 for a word that the model was sure of.
unit
    One number of the state after each word: of an LSTM the cell state c, otherwise h. Red is positive, blue negative.
saliency
    ‖∂ log P(last word) / ∂x_t‖, where x_t is the vector of word t: how far the prediction would move with it.
"""

from __future__ import annotations

import html
import unicodedata
from pathlib import Path

import numpy as np

from ch06_gated.models import load_run
from common.backend import to_cpu
from common.functions import log_softmax
from common.runs.cli import OneLineParser, non_negative_int, run, use_utf8, utf8_text
from common.runs.folder import Run, SentenceRun
from common.runs.plotting import new_figure, save_figure
from common.time_layers import TimeLSTM

TEXT = "the president of the united states has the power to make war , and it is our duty to keep the peace ."


def surprise(trained: Run | SentenceRun, ids: list[int]) -> np.ndarray:
    """-log2 P(w_t | w_1, ..., w_{t-1}) of each word, (T,), in bits."""
    read = [*trained.start_ids, *ids]
    with trained.model.evaluating():
        logits = to_cpu(trained.model.predict(np.array([read[:-1]])))[0, -len(ids) :].astype(np.float64)
    return -log_softmax(logits)[np.arange(len(ids)), ids] / np.log(2)


def unit_states(trained: Run | SentenceRun, ids: list[int]) -> np.ndarray:
    """The state of the last recurrent layer after each word, (T, H): of an LSTM the cell state, otherwise h."""
    model = trained.model
    with model.evaluating():
        model.predict(np.array([[*trained.start_ids, *ids]]))
        layer = model.recurrent_layers[-1]
        states = layer.cs_next if isinstance(layer, TimeLSTM) else layer.hs_next
        return to_cpu(states)[-len(ids) :].copy()


def saliency(trained: Run | SentenceRun, ids: list[int]) -> np.ndarray:
    """‖∂ log P(w_T | w_1, ..., w_{T-1}) / ∂x_t‖ for each word vector x_t but the last, (T - 1,)."""
    model, read = trained.model, np.array([[*trained.start_ids, *ids]])
    xs, ts = read[:, :-1], read[:, 1:].copy()
    ts[:, :-1] = model.loss_layer.ignore_label  # the loss is that of the last word alone
    with model.evaluating():
        # Both are as they were after the block.
        model.layers[0].distinct = False  # or equal words have one gradient together
        model.loss_layer.training = True  # or it keeps nothing for backward
        model.forward(xs, ts)
        dx = model.loss_layer.backward(1.0)
        for layer in reversed(model.hidden_layers[1:]):
            dx = layer.backward(dx)
    return np.linalg.norm(to_cpu(dx)[0], axis=1)[-(len(ids) - 1) :]


def colours(values: np.ndarray, signed: bool) -> list[tuple[float, float, float]]:
    """White for 0 to red for the largest; with a sign, to blue for the other end."""
    limit = float(np.abs(values).max()) or 1.0
    shares = np.clip(values / limit, -1, 1)
    return [(1.0, 1 - s, 1 - s) if s >= 0 or not signed else (1 + s, 1 + s, 1.0) for s in 0.75 * shares]


def write_page(words: list[str], values: np.ndarray, signed: bool, separator: str, title: str, path: Path) -> None:
    """Write a page that needs no other file; the number of each word shows when the mouse is on it."""
    spans = []
    for word, value, (r, g, b) in zip(words, values, colours(values, signed)):
        colour = f"rgb({255 * r:.0f},{255 * g:.0f},{255 * b:.0f})"
        shown = html.escape(word).replace("\n", "⏎<br>")
        spans.append(f'<span style="background:{colour}" title="{value:.3g}">{shown}</span>')
    style = "body{background:#fff;color:#111;font:18px/1.9 sans-serif;max-width:46em;margin:2em auto;padding:0 1em}"
    path.write_text(
        f'<!doctype html><meta charset="utf-8"><title>{html.escape(title)}</title><style>{style}</style>'
        f"<h1 style='font-size:1.1em'>{html.escape(title)}</h1><p>{separator.join(spans)}</p>\n",
        encoding="utf-8",
    )


def width(word: str) -> float:
    """Columns that a word takes in a font of fixed width: two for a Chinese or Japanese character."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in word)


def draw(words: list[str], values: np.ndarray, signed: bool, gap: int, title: str, path: Path) -> None:
    """Write a PNG file of the words in lines of 80 columns, each on its colour."""
    places, x, line = [], 0.0, 0
    for word in words:
        if x > 0 and x + width(word) > 80:
            x, line = 0.0, line + 1
        places.append((x, line))
        x += width(word) + gap
    figure = new_figure(9, 0.7 + 0.3 * (line + 1))
    axes = figure.add_subplot()
    for word, (x, y), colour in zip(words, places, colours(values, signed)):
        box = {"facecolor": colour, "edgecolor": "none", "pad": 1.5}
        axes.text(x, -y, word, family="monospace", fontsize=9.5, bbox=box, parse_math=False, va="center")
    axes.set(xlim=(-1, 81), ylim=(-line - 0.6, 0.6))
    axes.axis("off")
    axes.set_title(title, fontsize=10, loc="left", parse_math=False)
    save_figure(figure, path)


def main(argv: list[str] | None = None) -> np.ndarray:
    """Write picture and page, and return the numbers behind the colours."""
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("folder", help="of a training: runs/NAME")
    parser.add_argument("--text", type=utf8_text, default=TEXT, help="what the model reads, at most 300 words")
    parser.add_argument("--by", choices=("surprise", "unit", "saliency"), default="surprise", help="what colours mean")
    parser.add_argument("--unit", type=non_negative_int, help="number of the unit [the one that changes most]")
    parser.add_argument("--output", help="file to write the page to, and beside it the picture [FOLDER/BY.html]")
    args = parser.parse_args(argv)

    with parser.reporting_errors():
        trained = load_run(args.folder)
        words = trained.words(args.text)
        if not 2 <= len(words) <= 300:
            raise ValueError(f"the text needs 2 to 300 words, got {len(words)}")
        ids = trained.ids(words)
        words = [word if trained.knows(word) else f"{word} <unk>" for word in words]
        name = Path(args.folder).name
        if args.by == "surprise":
            values = surprise(trained, ids)
            title = f"surprise of {name}: {values.mean():.2f} bits per word, from 0 (white) to {values.max():.1f} (red)"
        elif args.by == "saliency":
            values = np.append(saliency(trained, ids), 0)
            title = f"what {name} hangs the last word, {words[-1]}, on"
        else:
            states = unit_states(trained, ids)
            unit = int(states.std(axis=0).argmax()) if args.unit is None else args.unit
            if unit >= states.shape[1]:
                raise ValueError(f"the layer has units 0 to {states.shape[1] - 1}, got {unit}")
            values = states[:, unit]
            title = f"unit {unit} of {name}: from {values.min():.2f} (blue if negative) to {values.max():.2f} (red)"
        page = Path(args.output or Path(args.folder) / f"{args.by}.html")
        separator = getattr(trained, "separator", "")
        signed = args.by == "unit"
        write_page(words, values, signed, separator, title, page)
        draw(words, values, signed, len(separator), title, page.with_suffix(".png"))
    print(f"page in {page}, picture in {page.with_suffix('.png')}")
    return values


if __name__ == "__main__":
    run(main)
