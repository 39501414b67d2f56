"""Does a long training need more and more memory, and what does a checkpoint cost? An LSTM with Adam.

python benchmarks/long_run.py     # 10,000 steps, a record every 20, a checkpoint every 10 s
"""

from __future__ import annotations

import statistics
import tempfile
import time

import numpy as np
from step_time import memory_mb

from ch06_gated.lstm_lm import LstmLm
from common.batching import OffsetBatches
from common.optimizer import Adam
from common.runs.checkpoint import Checkpoint
from common.runs.cli import OneLineParser, non_negative_int, positive_int, run, use_utf8
from common.runs.recorder import RunRecorder
from common.trainer import RnnlmTrainer


def main(argv: list[str] | None = None) -> float:
    """Print the memory at each tenth of the steps; return by how many MB it grew from the first tenth to the last."""
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("--steps", type=positive_int, default=10_000, help="steps of training")
    parser.add_argument("--hidden-size", type=positive_int, default=32, help="size of vectors and state, D and H")
    parser.add_argument("--vocab-size", type=positive_int, default=500, help="words, V")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="seed of text and weights")
    parser.add_argument("--quick", action="store_true", help="100 steps, to see it run")
    args = parser.parse_args(argv)
    steps = 100 if args.quick else args.steps

    rng = np.random.default_rng(args.seed)
    model = LstmLm(args.vocab_size, args.hidden_size, args.hidden_size, dropout=0.2, rng=rng)
    an_epoch = min(1000, steps)
    words = rng.integers(0, args.vocab_size, 20 * 20 * an_epoch + 1)
    batches = OffsetBatches(words[:-1], words[1:], 20, 20)
    trainer = RnnlmTrainer(model, Adam(0.001))
    measured: list[float] = []

    def measure(_: dict[str, float | None]) -> None:
        if trainer.iteration * 10 // steps > len(measured):
            measured.append(memory_mb()[0])
            print(f"step {trainer.iteration:6d}  {measured[-1]:7.1f} MB")

    with parser.reporting_errors(), tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(folder, rng, seconds=10.0)
        valid = words[:500], words[1:501]
        with RunRecorder(checkpoint) as recorder:
            trainer.fit_batches(
                *(batches, -(-steps // an_epoch), 1.0, 20), valid=valid, callback=measure, recorder=recorder
            )
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            checkpoint.save(trainer, batches)
            seconds.append(time.perf_counter() - start)
        size = checkpoint.path.stat().st_size / 2**20
    print(
        f"a checkpoint of {sum(p.size for p in model.params) / 1e6:.2f} million parameters has {size:.1f} MB and takes "
        f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
    )
    growth = measured[-1] - measured[0]
    print(f"{trainer.iteration} steps, {len(trainer.history)} records: memory grew by {growth:.1f} MB")
    return growth


if __name__ == "__main__":
    run(main)
