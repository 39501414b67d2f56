"""Data parallel training: many processes train one model together, and talk by MPI.

    mpiexec -n 4 python ch06_gated/train_lstm_lm.py --mpi

Each process, a *rank*, has the whole model and trains on its share of every batch: of the sequences 0, 1, 2, ... of a
batch, rank r of R takes r, r + R, r + 2R, .... The loss of a batch is a mean over its words, so its gradient is that of
the shares, each weighed by its part of the words, added up:

    dW = Σ_r (words of rank r / words of all) dW_r

All gradients of a model lie in one array, so one Allreduce adds them up. Then each rank has the same gradients, takes
the same step, and has the same weights as the others without ever sending them. What is trained does not depend on the
number of ranks but by rounding: the sums are made in another order. Dropout masks do not either; see ``ReplicatedRng``.
"""

from __future__ import annotations

import io
import os
import re
import sys
import time
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from common.backend import Array, Unavailable, cores
from common.evaluation import SingleProcess
from common.fast.flat_buffer import flat_buffers
from common.layers import Dropout
from common.packing import Layout, PackedSequence
from common.runs.cli import INTERRUPTED

if TYPE_CHECKING:
    from common.batching import OffsetBatches, SentenceBatches
    from common.model import Model

_PATIENCE = 1.0  # seconds in which rank 0 may say first what all ranks have to say
_DELIVERY = 0.3  # seconds that mpiexec needs to pass on what was said


class MpiUnavailable(Unavailable):
    """mpi4py is not installed, or finds no MPI library, or another than that of mpiexec."""


def launched() -> int:
    """How many processes mpiexec has started, of MPICH and its kin or of Open MPI; 1 without it."""
    counts = (os.environ.get(name, "") for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"))
    return max(int(count) if re.fullmatch("[0-9]{1,9}", count) else 1 for count in counts)


class DataParallel(SingleProcess):
    """One of many processes that train one model. Use it in a ``with`` block: if one rank fails, all end.

    Inside the block only rank 0 prints; the others print their errors when they end. Raises MpiUnavailable, with a
    sentence that says what to install.
    """

    def __init__(self) -> None:
        try:
            from mpi4py import MPI
            from threadpoolctl import threadpool_limits
        except (ImportError, RuntimeError) as error:
            raise MpiUnavailable(
                f'--mpi needs MPI, which cannot be used ({" ".join(str(error).split())}): pip install -e ".[mpi]"'
            ) from None
        self._MPI = MPI
        self.comm = MPI.COMM_WORLD
        self.rank, self.size = self.comm.rank, self.comm.size
        if self.size == 1 < launched():
            raise MpiUnavailable(
                f"mpiexec has started {launched()} processes, which cannot find each other: it belongs to another MPI "
                "than mpi4py does; use the mpiexec beside this Python"
            )
        self.shard = slice(self.rank, None, self.size)
        # As many threads on a machine as it has cores; more would get into each other's way. Everywhere the same
        # number, as the rounding of a product depends on it.
        neighbours = self.comm.Split_type(MPI.COMM_TYPE_SHARED).size
        threads = self.comm.allreduce(max(1, cores() // neighbours), MPI.MIN)
        if "OPENBLAS_NUM_THREADS" not in os.environ:
            threadpool_limits(threads, "blas")

    def __enter__(self) -> DataParallel:
        self._streams = sys.stdout, sys.stderr
        if self.rank > 0:
            sys.stdout, sys.stderr = open(os.devnull, "w", encoding="utf-8"), io.StringIO()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        said = sys.stderr
        if self.rank > 0:
            sys.stdout.close()
            sys.stdout, sys.stderr = self._streams
        if kind is None or self.size == 1 or (kind is SystemExit and not error.code):
            return
        code = 1
        try:
            if self.rank > 0:
                time.sleep(_PATIENCE)
                sys.stderr.write(said.getvalue())
            if kind is SystemExit:
                code = error.code if isinstance(error.code, int) else 1
            elif kind is KeyboardInterrupt:
                code = INTERRUPTED
                print("interrupted", file=sys.stderr)
            else:
                print(f"rank {self.rank} of {self.size} has failed:", file=sys.stderr)
                traceback.print_exception(kind, error, trace)
            sys.stderr.flush()
            time.sleep(_DELIVERY)
        finally:  # even if Ctrl-C is pressed again: the others wait for this rank, and would wait for ever
            self.comm.Abort(code)
            os._exit(code)  # Abort may come back before it takes effect

    def replicate(self, model: Model, batches: OffsetBatches | SentenceBatches) -> Replica:
        """Give all ranks the weights of rank 0; return the model that each trains in its place."""
        self.send_weights(model)
        replica = Replica(self, model, batches)
        for layer in replica.dropouts:
            if layer.rng is None:
                raise ValueError("with many processes, dropout needs a generator of its own: TimeDropout(p, rng)")
            if not isinstance(layer.rng, ReplicatedRng):
                layer.rng = ReplicatedRng(self, layer)
        return replica

    def send_weights(self, model: Model) -> None:
        for w in flat_buffers(model.params)[0]:
            self.comm.Bcast(w)

    def add_up(self, *arrays: np.ndarray) -> None:
        """Replace each array by its sum over all ranks."""
        for x in arrays:
            self.comm.Allreduce(self._MPI.IN_PLACE, x)

    def sum(self, *values: float) -> tuple[float, ...]:
        total = np.array(values, dtype=np.float64)
        self.add_up(total)
        return tuple(total.tolist())

    def any(self, *values: bool) -> tuple[bool, ...]:
        return tuple(votes > 0 for votes in self.sum(*values))

    def gather(self, rows: Array | None, like: Array) -> Array | None:
        (n,) = self.sum(0 if rows is None else len(rows))
        if n == 0:
            return None
        whole = np.zeros((int(n), len(like)), like.dtype)
        if rows is not None:
            whole[self.shard] = rows
        self.add_up(whole)
        return whole

    def wait(self) -> None:
        self.comm.Barrier()


class Replica:
    """A model on one rank, whose loss and gradients are those of the whole batch: of all ranks, added up.

    ``forward`` takes the part of the window that this rank has, or None if it has no word of it.
    """

    def __init__(self, ranks: DataParallel, model: Model, batches: OffsetBatches | SentenceBatches) -> None:
        self.ranks, self.model, self.batches = ranks, model, batches
        self.dropouts = [layer for layer in model.layers if isinstance(layer, Dropout)]

    def __getattr__(self, name: str) -> Any:
        """All else is the model's: ``params``, ``grads``, ``reset_state``."""
        return getattr(self.model, name)

    def forward(self, x: Array | PackedSequence | None, t: Array | PackedSequence | None) -> float:
        for layer in self.dropouts:
            layer.rng.begin(self.batches.layout)
        self.has_words = x is not None
        loss = float(self.model.forward(x, t)) * self.batches.token_share if self.has_words else 0.0
        return self.ranks.sum(loss)[0]

    def backward(self, dout: float = 1.0) -> None:
        if self.has_words:
            self.model.backward(dout * self.batches.token_share)
        else:
            self.model.reset_state()
            for g in self.model.grads:
                g.fill(0)
        self.ranks.add_up(*flat_buffers(self.model.grads)[0])


class ReplicatedRng:
    """Random numbers for the masks of a dropout layer that do not depend on the number of ranks.

    It takes the place of the layer's generator, which must be in the same state on all ranks. Each rank draws the
    numbers of the whole batch, which takes as long as in one process alone, and uses those of its own sequences.
    """

    def __init__(self, ranks: DataParallel, layer: Dropout) -> None:
        self.ranks, self.source = ranks, layer.rng
        self.locked = getattr(layer, "locked", False)

    def begin(self, layout: Layout) -> None:
        """Begin with a window. A rank that has no word in it draws no mask, so each window has a seed of its own."""
        self.generator = np.random.default_rng(int(self.source.integers(2**63)))
        self.layout = layout

    def random(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """Numbers in [0, 1), (rows or sequences of this rank, ...): one for each element of the layer's input."""
        ranks, layout = self.ranks, self.layout
        if self.locked:  # one mask per sequence, for all its rows
            return self.generator.random((layout.N, *shape[1:]), dtype)[ranks.shard]
        return self.generator.random((len(layout), *shape[1:]), dtype)[layout.sequence % ranks.size == ranks.rank]
