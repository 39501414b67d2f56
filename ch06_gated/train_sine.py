"""Train small LSTMs to continue a sine wave, and let them run on their own output.

    python ch06_gated/train_sine.py

Two ways to the same end. The network 1-5-1 (one number in, five units, one number out) reads the wave as one long
sequence: its state goes on from window to window. The network 1-2-1 reads windows that begin anywhere, each from a
state of zeros, and has to find out in each where on the wave it is. Both learn to say the next number, and then hear
nothing but what they say themselves. For numbers of your own, see train_series.py.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ch06_gated.number_lstm import free_run, make_network
from common.backend import Array, get_array_module, require_gpu, to_float64, to_floats
from common.batching import OffsetBatches
from common.model import Model
from common.optimizer import Adam
from common.runs.cli import OneLineParser, non_negative_int, number, positive_float, positive_int, run, use_utf8
from common.runs.plotting import check_writable, new_figure, save_figure

STEPS_A_CYCLE = 50

# Units, and whether the windows follow each other or begin anywhere.
NETWORKS = {"1-5-1": (5, "continuing"), "1-2-1": (2, "random")}


def sine(cycles: int) -> np.ndarray:
    """sin(2π t / 50) for the steps t of some cycles, (50 · cycles, 1)."""
    t = np.arange(STEPS_A_CYCLE * cycles, dtype=np.float32)[:, None]
    return np.sin(t * (2 * math.pi / STEPS_A_CYCLE))


def random_windows(xs: Array, ts: Array, batch_size: int, time_size: int, rng: np.random.Generator) -> Iterator:
    """As many windows as the wave has room for, each from a place drawn at random: pairs of arrays, (N, T, 1)."""
    xp = get_array_module(xs)
    for _ in range(len(xs) // (batch_size * time_size)):
        starts = xp.asarray(rng.integers(0, len(xs) - time_size + 1, batch_size))
        index = starts[:, None] + xp.arange(time_size)
        yield xs[index], ts[index]


def train(model: Model, wave: np.ndarray, windows: str, args: argparse.Namespace, rng: np.random.Generator) -> None:
    """Teach the network the next number of the wave; print how the error falls."""
    sizes = *model.asarrays(wave[:-1], wave[1:]), args.batch_size, args.time_size
    in_order = OffsetBatches(*sizes, restart=True)
    optimizer = Adam(args.lr)
    for epoch in range(args.epochs):
        optimizer.lr = args.lr * (1 - epoch / args.epochs)  # shorter and shorter steps, to come to rest
        model.reset_state()
        total = 0.0
        for xs, ts in in_order if windows == "continuing" else random_windows(*sizes, rng):
            if windows == "random":
                model.reset_state()
            total += to_float64(model.forward(xs, ts))
            model.backward()
            optimizer.update(model.params, model.grads)
        if (epoch + 1) % max(1, args.epochs // 5) == 0:
            [error] = to_floats(total / len(in_order))
            print(f"  epoch {epoch + 1:4d}  mean squared error, one step ahead {error:.2e}")


def plot_waves(panels: dict[str, tuple[np.ndarray, np.ndarray]], path: str | Path) -> None:
    """Write a PNG file: for each network, the whole wave, (T,), and what the network generates for its last steps."""
    figure = new_figure(9, 0.6 + 2.2 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (title, (truth, generated)) in zip(axes, panels.items()):
        first = len(truth) - len(generated)
        ax.plot(truth, color="tab:gray", lw=3, alpha=0.5, label="truth")
        ax.plot(range(first, len(truth)), generated, color="tab:red", lw=1.2, label="network, on its own output")
        ax.axvline(first, color="black", lw=0.8, ls=":", label="its input is the truth up to here")
        ax.set_title(title, fontsize=10, loc="left")
        ax.set_ylabel("value")
        ax.grid(alpha=0.3)
    axes[-1].set_xlabel("step")
    axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, 1.45), ncols=3, fontsize=9)
    save_figure(figure, path)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train both networks; return the mean squared error of each when it runs free."""
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("--cycles", type=number(int, 1), default=100, help="cycles of 50 steps to train on")
    parser.add_argument("--batch-size", type=positive_int, default=10, help="windows side by side, N")
    parser.add_argument("--time-size", type=positive_int, default=50, help="steps that gradients reach back, T")
    parser.add_argument("--epochs", type=positive_int, default=300, help="times through the wave")
    parser.add_argument("--lr", type=positive_float, default=0.02, help="learning rate of Adam; it falls to 0")
    parser.add_argument("--init-range", type=positive_float, default=0.1, help="draw initial weights from ± this")
    parser.add_argument(
        "--free-cycles", type=positive_int, default=5, help="cycles to run free, after one that is context"
    )
    parser.add_argument("--seed", type=non_negative_int, default=0, help="of weights and random windows")
    parser.add_argument("--gpu", action="store_true", help="train on an NVIDIA GPU with CuPy")
    parser.add_argument("--output", default="runs/sine/sine.png", help="file to write the picture to")
    parser.add_argument("--quick", action="store_true", help="10 epochs, to see it run; they teach little")
    args = parser.parse_args(argv)
    if args.quick:
        parser.set_defaults(epochs=10)
        args = parser.parse_args(argv)

    errors, panels = {}, {}
    with parser.reporting_errors():
        check_writable(args.output)
        if args.gpu:
            require_gpu()
        wave = sine(args.cycles)
        truth = sine(1 + args.free_cycles)
        context, to_say = truth[:STEPS_A_CYCLE], truth[STEPS_A_CYCLE:]
        for name, (hidden_size, windows) in NETWORKS.items():
            print(f"{name}, windows {windows}")
            rng = np.random.default_rng(args.seed)
            model = make_network(hidden_size, args.init_range, rng)
            if args.gpu:
                model.to_gpu()
            train(model, wave, windows, args, rng)
            generated = free_run(model, context, len(to_say))
            errors[name] = float(((generated - to_say) ** 2).mean())
            print(f"  mean squared error, running free for {args.free_cycles} cycles: {errors[name]:.2e}")
            panels[f"{name}: mean squared error {errors[name]:.1e}"] = truth[:, 0], generated[:, 0]
        plot_waves(panels, args.output)
    print(f"picture in {args.output}")
    return errors


if __name__ == "__main__":
    run(main)
