"""How far back gradients reach: their norm against time, for an RNN, a GRU and an LSTM on the same text.

    python ch06_gated/gradient_through_time.py

The loss is that of the last word of a window alone. Its gradient with respect to the vector of an earlier word says
how much that word can still teach. The picture shows it before training, and after a few hundred steps: the median of
some seeds, and their range.

What a gate keeps from one step to the next decides how far the gradient reaches at first. With biases of zero, the
update gate of a GRU is near σ(0) = 1/2, so that half of the state is kept. The forget gate of the LSTM here begins with
a bias of 1, and keeps σ(1) = 0.73. Training moves both to where the text needs them, and that may be less far: a text
whose next word depends on the last few asks for no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import dataset
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated.gru_lm import GruLm
from ch06_gated.lstm_lm import LstmLm
from common.batching import OffsetBatches
from common.optimizer import Adam
from common.recurrent_lm import RecurrentLm
from common.runs.cli import OneLineParser, non_negative_int, number, positive_float, positive_int, run, use_utf8
from common.runs.plotting import new_figure, save_figure, show
from common.trainer import RnnlmTrainer

MODELS = {"RNN": SimpleRnnlm, "GRU": GruLm, "LSTM": LstmLm}


def gradient_norms(model: RecurrentLm, xs: np.ndarray, ts: np.ndarray) -> np.ndarray:
    """Return how the gradient of the last word's loss L shrinks from word vector to earlier word vector, (T,).

        norm_k = (1 / N) Σ_n |∂L / ∂x_{n, T-1-k}|        k steps back; element k of the result is norm_k / norm_0

    The model has one recurrent layer and no dropout; xs, ts, (N, T) each, are word ids and the words that follow.
    """
    embedding, recurrent, _ = model.layers
    distinct, embedding.distinct = embedding.distinct, False  # a gradient for each word, equal ones included
    last_only = np.full_like(ts, model.loss_layer.ignore_label)
    last_only[:, -1] = ts[:, -1]
    model.reset_state()
    model.loss_layer.forward(recurrent.forward(embedding.forward(xs)), last_only)
    dxs = recurrent.backward(model.loss_layer.backward())  # (N, T, D)
    embedding.distinct = distinct
    model.reset_state()  # training begins elsewhere in the text
    norms = np.sqrt((dxs.astype(np.float64) ** 2).sum(axis=2)).mean(axis=0)[::-1]
    return norms / norms[0]


def plot_gradient_norms(
    panels: dict[str, dict[str, Sequence[float]]],
    path: str | Path,
    ranges: dict[tuple[str, str], np.ndarray] | None = None,
) -> None:
    """Write a PNG file: ``panels[title][model][k]`` is the norm of the gradient k steps back in time.

    ``ranges[title, model]``, (2, T), are the lowest and the highest of several seeds.
    """
    figure = new_figure(1 + 4.5 * len(panels), 4.2)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (title, curves) in zip(axes, panels.items()):
        for (name, norms), style in zip(curves.items(), ("-", "--", ":")):
            [line] = ax.plot(norms, style, label=name)
            if ranges:
                ax.fill_between(range(len(norms)), *ranges[title, name], color=line.get_color(), alpha=0.15, lw=0)
        ax.set_yscale("log")
        ax.set_title(title)
        ax.set_xlabel("k, steps back from the word that the loss is about")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("‖∂L / ∂x‖ k steps back, relative to k = 0 (log scale)")
    axes[-1].legend()
    if ranges:
        figure.suptitle("medians over the seeds; shaded: from the lowest to the highest", fontsize=10)
    save_figure(figure, path)


def main(argv: list[str] | None = None) -> dict[str, dict[str, np.ndarray]]:
    """Write the picture, and return the norms in it."""
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("--corpus", default="sotu", help="sotu, ptb, wikitext2, or the path of a UTF-8 text file")
    parser.add_argument("--vocab-size", type=positive_int, default=2000, help="words to keep, for sotu and files")
    parser.add_argument("--wordvec-size", type=positive_int, default=100, help="size of a word's vector, D")
    parser.add_argument("--hidden-size", type=positive_int, default=100, help="size of the recurrent state, H")
    parser.add_argument("--forget-bias", type=number(float, -10, 10), default=1.0, help="of the LSTM, before training")
    parser.add_argument("--time-size", type=positive_int, default=100, help="words to look back, T")
    parser.add_argument("--windows", type=positive_int, default=20, help="windows to take the mean of, N")
    parser.add_argument("--epochs", type=positive_int, default=1, help="times through the text that is trained on")
    parser.add_argument("--train-words", type=positive_int, default=300_000, help="words to train on")
    parser.add_argument("--lr", type=positive_float, default=0.002, help="learning rate of Adam")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="first seed of the initial weights")
    parser.add_argument("--seeds", type=positive_int, default=3, help="seeds to take the median of")
    parser.add_argument("--output", default="gradient_through_time.png", help="file to write the picture to")
    parser.add_argument("--show", action="store_true", help="show the picture in a window, too")
    parser.add_argument("--quick", action="store_true", help="small models and little training, to see it run")
    args = parser.parse_args(argv)
    if args.quick:
        parser.set_defaults(vocab_size=200, wordvec_size=20, hidden_size=20, train_words=20_000, seeds=1)
        args = parser.parse_args(argv)

    with parser.reporting_errors():
        corpus = dataset.load(args.corpus, args.vocab_size)
        batches = OffsetBatches(corpus.valid[:-1], corpus.valid[1:], args.windows, args.time_size)
        xs, ts = next(iter(batches))
        train = corpus.train[: args.train_words]
        found: dict[tuple[str, str], list[np.ndarray]] = {}
        for name, model_class in MODELS.items():
            options = {"forget_bias": args.forget_bias} if model_class is LstmLm else {}
            for seed in range(args.seed, args.seed + args.seeds):
                V, D, H = len(corpus.id_to_word), args.wordvec_size, args.hidden_size
                model = model_class(V, D, H, rng=np.random.default_rng(seed), **options)
                found.setdefault(("before training", name), []).append(gradient_norms(model, xs, ts))
                print(f"{name}, seed {seed}")
                RnnlmTrainer(model, Adam(args.lr)).fit(
                    train[:-1], train[1:], args.epochs, batch_size=20, time_size=35, max_grad=1.0, eval_interval=None
                )
                found.setdefault(("after training", name), []).append(gradient_norms(model, xs, ts))
        panels: dict[str, dict[str, np.ndarray]] = {"before training": {}, "after training": {}}
        for (title, name), norms in found.items():
            panels[title][name] = np.median(norms, axis=0)
        ranges = {key: np.array([np.min(norms, axis=0), np.max(norms, axis=0)]) for key, norms in found.items()}

        print("norm of the gradient, relative to that of the last word")
        far = min(20, args.time_size - 1)
        for title, curves in panels.items():
            for name, norms in curves.items():
                print(f"{title:15}  {name:4}  {far} steps back {norms[far]:9.2e}  {len(norms) - 1}: {norms[-1]:9.2e}")
        plot_gradient_norms(panels, args.output, ranges)
        print(f"picture in {Path(args.output)}")
        if args.show:
            show(args.output)
    return panels


if __name__ == "__main__":
    run(main)
