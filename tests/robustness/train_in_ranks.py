"""What the tests of distributed training run with mpiexec: python train_in_ranks.py FOLDER [WHAT].

Without WHAT: train each of CASES, and let rank 0 write to FOLDER/SIZE.npz what has come out of it.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated.lstm_lm import LstmLm
from common.batching import OffsetBatches, SentenceBatches
from common.evaluation import SINGLE_PROCESS, SingleProcess
from common.optimizer import SGD, Adam
from common.runs import distributed, recorder
from common.runs.checkpoint import Checkpoint
from common.runs.distributed import DataParallel
from common.runs.recorder import RunRecorder
from common.trainer import RnnlmTrainer

V = 12
RNG = np.random.default_rng(0)
TEXT = RNG.integers(0, V, 401)
# The last batch of 5 has one sentence: the others of its ranks have nothing to do.
SENTENCES = [RNG.integers(0, V, n) for n in RNG.integers(2, 15, 11)]
OFFSET = {"batch_size": 5, "time_size": 6}

# name: (model class, its options, how the sentences are batched; None for one long text)
CASES = {
    "plain": (SimpleRnnlm, {}, None),
    "dropout, tied": (LstmLm, {"dropout": 0.3, "tie_weights": True, "layers": 2}, None),
    "locked dropout": (LstmLm, {"dropout": 0.3, "locked_dropout": True}, None),
    "packed": (LstmLm, {}, {}),
    "packed, dropout": (LstmLm, {"dropout": 0.3}, {"bucketed": True}),
    "packed, locked dropout": (SimpleRnnlm, {"dropout": 0.3, "locked_dropout": True}, {}),
    "padded, dropout": (LstmLm, {"dropout": 0.3}, {"packed": False}),
}


def build(name: str, ranks: SingleProcess) -> tuple[RnnlmTrainer, OffsetBatches | SentenceBatches, dict]:
    """A trainer, what it trains on, and what it measures."""
    model_class, options, sentences = CASES[name]
    model = model_class(V, 8, 8, **options, dtype=np.float64, rng=np.random.default_rng(1))
    trainer = RnnlmTrainer(model, SGD(0.5) if name == "plain" else Adam(0.01), parallel=ranks)
    if sentences is None:
        batches = OffsetBatches(TEXT[:-1], TEXT[1:], **OFFSET, shard=ranks.shard)
        return trainer, batches, {"valid": (TEXT[:99], TEXT[1:100])}
    batches = SentenceBatches(SENTENCES, 5, 4, **sentences, shard=ranks.shard)
    return trainer, batches, {"valid": SentenceBatches(SENTENCES, 4, 4, shuffled=False, shard=ranks.shard)}


def train(name: str, ranks: SingleProcess = SINGLE_PROCESS, epochs: int = 3) -> dict[str, np.ndarray]:
    """Train, and return all weights and all perplexities."""
    trainer, batches, valid = build(name, ranks)
    trainer.fit_batches(batches, epochs, 0.5, 3, **valid, lr_decay=2)
    return outcome(trainer)


def outcome(trainer: RnnlmTrainer) -> dict[str, np.ndarray]:
    columns = [name for name in trainer.history[0] if "seconds" not in name and "second" not in name]
    history = np.array([[record[name] or 0.0 for name in columns] for record in trainer.history])
    return {"history": history, **{p.name: p.data for p in trainer.model.parameters}}


def assert_same_on_all(ranks: DataParallel, arrays: dict[str, np.ndarray]) -> None:
    """The weights of all ranks must be the same bytes, though they are never sent."""
    for name, x in arrays.items():
        others = ranks.comm.allgather(x.tobytes())
        assert all(other == others[0] for other in others), name


def train_all(ranks: DataParallel, folder: Path) -> None:
    found = {}
    for name in CASES:
        arrays = train(name, ranks)
        assert_same_on_all(ranks, arrays)
        found |= {f"{name}/{key}": x for key, x in arrays.items()}
    if ranks.is_main:
        np.savez(folder / f"{ranks.size}.npz", **found)


@contextmanager
def pressed_by_the_last(ranks: DataParallel, step: int):
    """Ctrl-C, on the last rank alone."""
    count = 0

    def pressed() -> bool:
        nonlocal count
        count += 1
        return count >= step and ranks.rank == ranks.size - 1

    usual = recorder.deferred_interrupt
    recorder.deferred_interrupt = contextmanager(lambda: iter([pressed]))
    try:
        yield
    finally:
        recorder.deferred_interrupt = usual


def stop(ranks: DataParallel, folder: Path) -> None:
    """Train each case until somebody presses Ctrl-C, in the middle of a batch, and leave a checkpoint.

    After step 6, all sentences of rank 1 of 2 have ended, and one of rank 0 goes on.
    """
    for step in (5, 6):
        for name in CASES:
            trainer, batches, valid, checkpoint = begin(name, ranks, folder / f"{name} {step}")
            with pressed_by_the_last(ranks, step), RunRecorder(checkpoint) as keep:
                trainer.fit_batches(batches, 3, 0.5, 3, **valid, lr_decay=2, recorder=keep)
            assert trainer.interrupted
            assert trainer.iteration == step


def go_on(ranks: DataParallel, folder: Path) -> None:
    """Go on with what ``stop`` has left."""
    for step in (5, 6):
        found = {}
        for name in CASES:
            trainer, batches, valid, checkpoint = begin(name, ranks, folder / f"{name} {step}")
            checkpoint.restore(trainer, batches)
            trainer.fit_batches(batches, 3 - trainer.epoch, 0.5, 3, **valid, lr_decay=2)
            found |= {f"{name}/{key}": x for key, x in outcome(trainer).items()}
        if ranks.is_main:
            np.savez(folder / f"resumed after {step}.npz", **found)


def begin(name: str, ranks: DataParallel, run: Path) -> tuple:
    trainer, batches, valid = build(name, ranks)
    if ranks.is_main:
        run.mkdir(exist_ok=True)
    rng = trainer.model.layers[1].rng if "dropout" in name else np.random.default_rng(0)
    return trainer, batches, valid, Checkpoint(run, rng)


def fail(ranks: DataParallel, folder: Path) -> None:
    """An error on the last rank, while the others go on and wait for it."""
    trainer, batches, _ = build("plain", ranks)
    if ranks.rank == ranks.size - 1:
        trainer.optimizer.update = lambda *_: 1 / 0
    trainer.fit_batches(batches, 1000)


def hang_up(ranks: DataParallel, folder: Path) -> None:
    """The last rank says good-bye in the middle, as a script does that has found an error in its options."""
    if ranks.rank == ranks.size - 1:
        print("a line for the user", file=sys.stderr)
        sys.exit(2)
    ranks.wait()


def lose(ranks: DataParallel, folder: Path) -> None:
    """A loss that is not finite on one rank alone."""
    trainer, batches, _ = build("plain", ranks)
    forward = trainer.model.forward
    trainer.model.forward = lambda x, t: forward(x, t) * (np.inf if ranks.rank else 1)
    trainer.fit_batches(batches, 1)


def skip(ranks: DataParallel, folder: Path) -> None:
    """Skip two steps whose loss is not finite on the last rank alone, or on one process."""
    trainer, batches, _ = build("plain", ranks)
    forward, made = trainer.model.forward, []

    def spoilt_forward(x: np.ndarray, t: np.ndarray) -> float:
        made.append(x)
        return forward(x, t) * (np.inf if len(made) in (3, 9) and ranks.rank == ranks.size - 1 else 1)

    trainer.model.forward = spoilt_forward
    trainer.fit_batches(batches, 2, 0.5, 3, skip_bad_steps=True)
    found = outcome(trainer)
    assert_same_on_all(ranks, found)
    if ranks.is_main:
        np.savez(folder / f"skip {ranks.size}.npz", **found)
    print(trainer.skipped, "skipped")


def fill_the_disk(ranks: DataParallel, folder: Path) -> None:
    """Rank 0 cannot write the checkpoint that comes after step 5."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails, as on a full disk
    trainer, batches, _, checkpoint = begin("plain", ranks, folder / "full")
    update, checkpoint.seconds = trainer.optimizer.update, 0

    def filling_update(params: list[np.ndarray], grads: list[np.ndarray]) -> None:
        update(params, grads)
        if trainer.optimizer.t == 5 and ranks.is_main:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))

    trainer.optimizer.update = filling_update
    with RunRecorder(checkpoint) as keep:
        trainer.fit_batches(batches, 2, recorder=keep)


def interrupt(ranks: DataParallel, folder: Path) -> None:
    """Ctrl-C, on all ranks, while they do not train."""
    raise KeyboardInterrupt


def interrupt_twice(ranks: DataParallel, folder: Path) -> None:
    """Ctrl-C on the last rank, and again while it says so; the others wait for it."""
    if ranks.rank == ranks.size - 1:
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        raise KeyboardInterrupt
    ranks.wait()


def count(ranks: DataParallel, folder: Path) -> None:
    """Say which arrays are added up in one step, by their bytes, and how many bytes all gradients have."""
    added, comm = [], ranks.comm

    class Counting:
        Bcast = comm.Bcast

        @staticmethod
        def Allreduce(place: object, array: np.ndarray) -> None:
            added.append(array.nbytes)
            comm.Allreduce(place, array)

    ranks.comm = Counting
    trainer, batches, _ = build("plain", ranks)
    replica = ranks.replicate(trainer.model, batches)
    replica.forward(*next(iter(batches)))
    replica.backward()
    print(*added, sum(g.nbytes for g in trainer.model.grads))


def threads(ranks: DataParallel, folder: Path) -> None:
    """Say how many threads each rank's BLAS has."""
    from threadpoolctl import threadpool_info

    print(max(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"))


if __name__ == "__main__":
    if "WORKER_CORES" in os.environ:
        distributed.cores = lambda: int(os.environ["WORKER_CORES"])
    folder, *what = sys.argv[1:]
    with DataParallel() as ranks:
        globals()[what[0] if what else "train_all"](ranks, Path(folder))
