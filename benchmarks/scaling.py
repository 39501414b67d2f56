"""Does a training get faster with more processes? Tokens per second, and what of the time is spent in communication.

    pip install -e ".[mpi]"
    python benchmarks/scaling.py

One training step of an LSTM (V 10,000, D = H = 200, batches of 64 x 35 words, SGD, clip), three ways: in one process
whose BLAS has two threads; in one rank with one thread; and in two ranks with one thread each, which share the batch.
They take turns in rounds, so that a machine that others use too slows all of them; figures are medians over the rounds.

The time in communication has two parts: waiting for the slower rank, and adding up the gradients, which is one
Allreduce over the bytes of all weights. From what is measured here, the second table predicts the speed of p ranks:

    a step of p ranks = a step on 64 / p sequences, alone + 2 (p - 1) / p · bytes / bandwidth + 2 log2(p) · latency

The first term is measured with one rank on so small a batch. The others are the cost of the usual algorithm, in which
each rank sends and receives, in 2 log2(p) messages, all but its p-th part of the gradients twice. Assumed is that all
ranks are as fast as the one here and have a core, its cache and its part of the memory for themselves, that none waits
for another, and that nothing else is sent. Bandwidth and latency are once those measured here, between two ranks that
share a memory, and once those of a network of 10 Gbit/s with 50 µs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ch06_gated.lstm_lm import LstmLm
from common.batching import OffsetBatches
from common.optimizer import SGD, clip_grads
from common.runs.cli import OneLineParser, positive_int, run, use_utf8
from common.runs.distributed import DataParallel

T = 35
NETWORK = {"bandwidth": 10e9 / 8, "latency": 50e-6}  # bytes per second, seconds
PREDICTED = (8, 64)

Measured = dict[str, float]


class TimedComm:
    """A communicator that counts the seconds that are spent in it: waiting for others, and adding up arrays."""

    def __init__(self, comm) -> None:
        self.comm = comm
        self.waiting = self.adding = 0.0

    def Allreduce(self, *arguments) -> None:
        start = time.perf_counter()
        self.comm.Barrier()
        begin = time.perf_counter()
        self.comm.Allreduce(*arguments)
        self.waiting += begin - start
        self.adding += time.perf_counter() - begin

    def Bcast(self, array: np.ndarray) -> None:
        self.comm.Bcast(array)


def measure(args: argparse.Namespace) -> None:
    """Train some steps with the ranks there are; rank 0 prints the mean times of a step, in seconds."""
    V, H, N, steps = args.vocab_size, args.hidden_size, args.batch_size, args.steps
    with DataParallel() as ranks:
        ranks.comm = comm = TimedComm(ranks.comm)
        rng = np.random.default_rng(0)
        words = rng.zipf(1.3, N * T * (steps + 2) + 1) % V
        batches = OffsetBatches(words[:-1], words[1:], N, T, shard=ranks.shard)
        model = LstmLm(V, H, H, rng=rng)
        optimizer = SGD(1.0)
        replica = ranks.replicate(model, batches)
        for k, (x, t) in enumerate(batches):
            if k == 2:  # the first steps make room for arrays
                comm.waiting = comm.adding = 0.0
                start = time.perf_counter()
            replica.forward(x, t)
            replica.backward()
            clip_grads(model.grads, 0.25)
            optimizer.update(model.params, model.grads)
        seconds = time.perf_counter() - start
        size = sum(g.nbytes for g in model.grads)
        small, start = np.zeros(1), time.perf_counter()
        for _ in range(1000):
            comm.comm.Allreduce(small, small.copy())
        latency = (time.perf_counter() - start) / 1000
        found = {"step": seconds / steps, "waiting": comm.waiting / steps, "adding": comm.adding / steps}
        print(json.dumps({**found, "bytes": size, "latency": latency}))


def start(args: argparse.Namespace, ranks: int, threads: int, batch_size: int) -> Measured:
    """Measure in so many new processes."""
    launcher = shutil.which("mpiexec", path=Path(sys.executable).parent) or shutil.which("mpiexec")
    if launcher is None:
        raise OSError('there is no mpiexec: pip install -e ".[mpi]"')
    command = [launcher, "-n", str(ranks), sys.executable, __file__, "--worker", f"--batch-size={batch_size}"]
    command += [f"--vocab-size={args.vocab_size}", f"--hidden-size={args.hidden_size}", f"--steps={args.steps}"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise OSError(f"{ranks} ranks have failed: {ended.stderr.strip()}")
    return json.loads(ended.stdout)


def medians(rounds: Iterable[Measured]) -> Measured:
    rounds = list(rounds)
    return {name: statistics.median(measured[name] for measured in rounds) for name in rounds[0]}


def predict(p: int, alone: float, size: float, bandwidth: float, latency: float) -> float:
    """Seconds of a step of p ranks, of which each computes for ``alone`` seconds."""
    return alone + 2 * (p - 1) / p * size / bandwidth + 2 * np.log2(p) * latency


def table(rows: list[tuple[object, ...]]) -> None:
    head, *body = ([str(cell) for cell in row] for row in rows)
    for row in (head, ["---", *["---:"] * (len(head) - 1)], *body):
        print(f"| {' | '.join(row)} |")


def main(argv: list[str] | None = None) -> None:
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("--rounds", type=positive_int, default=5, help="turns of each way; medians over them")
    parser.add_argument("--steps", type=positive_int, default=12, help="training steps in a turn")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file, too")
    parser.add_argument("--vocab-size", type=positive_int, default=10_000, help="words, V")
    parser.add_argument("--hidden-size", type=positive_int, default=200, help="size of vectors and state, D and H")
    parser.add_argument("--batch-size", type=positive_int, default=64, help="sequences of a batch, N: a multiple of 64")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        measure(args)
        return

    n = args.batch_size
    if n % max(PREDICTED):
        parser.error(f"the batch size must be a multiple of {max(PREDICTED)}, got {n}")
    ways = {
        "one process, 2 threads": (1, 2, n),
        "1 rank, 1 thread": (1, 1, n),
        "2 ranks, 1 thread each": (2, 1, n),
        **{f"1 rank, {n // p} of {n} sequences": (1, 1, n // p) for p in PREDICTED},
    }
    turns: dict[str, list[Measured]] = {name: [] for name in ways}
    with parser.reporting_errors():
        for _ in range(args.rounds):
            for name, (ranks, threads, batch_size) in ways.items():
                turns[name].append(start(args, ranks, threads, batch_size))
    found = {name: medians(measured) for name, measured in turns.items()}

    rows: list[tuple[object, ...]] = [("", "tokens/s", "ms a step", "of it waiting", "of it adding up")]
    for name, (_, _, batch_size) in ways.items():
        f = found[name]
        ms = (f"{1000 * f[part]:.1f}" for part in ("step", "waiting", "adding"))
        rows.append((name, f"{batch_size * T / f['step']:,.0f}", *ms))
    table(rows)

    two, one = found["2 ranks, 1 thread each"], found["1 rank, 1 thread"]
    size = two["bytes"]
    here = {"bandwidth": size / two["adding"], "latency": two["latency"] / 2}
    print(
        f"\n{size / 1e6:.1f} MB of gradients; between two ranks here {here['bandwidth'] / 1e9:.2f} GB/s, "
        f"{1e6 * here['latency']:.1f} µs\n"
    )
    rows = [("predicted", "memory: tokens/s", "of p x 1 rank", "network: tokens/s", "of p x 1 rank")]
    predictions = {}
    for p in PREDICTED:
        alone = found[f"1 rank, {n // p} of {n} sequences"]["step"]
        for what, batch_size, compute in ((f"{n} sequences in all", n, alone), (f"{n} a rank", p * n, one["step"])):
            row: list[str] = []
            for place, link in (("memory", here), ("network", NETWORK)):
                speed = batch_size * T / predict(p, compute, size, **link)
                efficiency = speed / (p * n * T / one["step"])
                predictions[f"{p} ranks, {what}, {place}"] = {"tokens_per_second": speed, "efficiency": efficiency}
                row += [f"{speed:,.0f}", f"{efficiency:.0%}"]
            rows.append((f"{p} ranks, {what}", *row))
    table(rows)
    if args.json:
        result = {"machine": platform.platform(), "cores": os.cpu_count(), "rounds": args.rounds, "steps": args.steps}
        text = json.dumps({**result, "measured": found, "link": here, "predicted": predictions}, indent=2)
        Path(args.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
