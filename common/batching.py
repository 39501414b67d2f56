"""Mini-batches from one long text, for training with a carried state."""

from __future__ import annotations

from collections.abc import Iterator

from common.backend import Array, get_array_module


class OffsetBatches:
    """Windows of a long text, read by ``batch_size`` readers who start at different places.

    Reader n starts at n / batch_size of the text. Each batch holds the next ``time_size`` words of
    every reader, so the state in which a reader's window ends is the state in which its next begins.

        text        a b c d e f g h i j k l          batch_size 2, time_size 3
        reader 0    a b c | d e f
        reader 1    g h i | j k l                    batch 0: [abc, ghi], batch 1: [def, jkl]

    Parameters
    ----------
    xs, ts : (n,) arrays
        Word ids, and for each the id of the word that follows.
    batch_size : int
        Readers, N.
    time_size : int
        Words in a window, T.
    restart : bool
        False: a new epoch goes on where the last one stopped, around the end of the text, so that windows
        fall differently each time. True: each epoch starts at the same places; reset the state then.

    Raises
    ------
    ValueError
        If a size is not positive or the text is shorter than one batch.
    """

    def __init__(self, xs: Array, ts: Array, batch_size: int, time_size: int, restart: bool = False) -> None:
        if batch_size <= 0 or time_size <= 0:
            raise ValueError(f"batch_size and time_size must be positive, got {batch_size} and {time_size}")
        if len(xs) != len(ts):
            raise ValueError(f"xs and ts must have the same length, got {len(xs)} and {len(ts)}")
        if len(xs) < batch_size * time_size:
            raise ValueError(
                f"the text has {len(xs)} words with a successor, but one batch needs "
                f"batch_size x time_size = {batch_size} x {time_size} = {batch_size * time_size}"
            )
        self.xs, self.ts = xs, ts
        self.batch_size, self.time_size = batch_size, time_size
        self.restart = restart
        self.time = 0  # how far each reader has read

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.xs) // (self.batch_size * self.time_size)

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """One epoch: batches of xs and ts, (N, T) each."""
        xp = get_array_module(self.xs)
        n = len(self.xs)
        starts = xp.arange(self.batch_size)[:, None] * (n // self.batch_size)
        steps = xp.arange(self.time_size)
        if self.restart:
            self.time = 0
        for _ in range(len(self)):
            index = (starts + self.time + steps) % n  # (N, T)
            self.time += self.time_size
            yield self.xs[index], self.ts[index]
