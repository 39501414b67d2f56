"""Sequences of many lengths side by side, with no work spent on padding.

A batch of sentences is as long as its longest, and padded to be a rectangle, more than half of it may be
padding. Packed, the sequences are sorted by length, and what lies in memory is, step by step, the rows of
those that have not ended: the batch shrinks.

        padded             sorted, and step by step           packed rows
        a0 a1 a2           b0 b1 b2 b3 b4     step 0: b a c   b0 a0 c0 b1 a1 b2 a2 b3 b4
        b0 b1 b2 b3 b4     a0 a1 a2           step 1: b a
        c0                 c0                 step 2: b a     batch_sizes 3 2 2 1 1
                                              step 3: b
                                              step 4: b

A batch of sequences of one length, an array (N, T, ...), is the case in which it never shrinks: its rows in the order
of time are one step behind the other, and are a view if the array lies in memory in that order. Layers over time take
both, and ask ``to_rows`` for the rows and ``from_rows`` for what they came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache

import numpy as np

from common.backend import Array, Groups, get_array_module


class Layout:
    """Which rows belong to which step, for sequences sorted by length.

    Parameters
    ----------
    batch_sizes : sequence of int
        How many sequences have a step t, for t = 0, ..., T - 1: never more than at the step before.
    order : (N,) array of int, optional
        The place of the n-th longest among the sequences that were packed. None: an array that was never packed.
    lengths : (N,) array of int, optional
        The steps of each sequence, where those that follow are padding; see ``pad``.

    Attributes
    ----------
    N, T : int
        Sequences, and steps of the longest.
    rows : list of slice
        The rows of each step; row n of a step belongs to sequence n.
    before : list of slice
        The rows of the state before each step, among the states: N initial ones, and then a row for each row.
    full : bool
        Whether all sequences are equally long: a rectangle.
    """

    def __init__(
        self, batch_sizes: Sequence[int], order: np.ndarray | None = None, lengths: np.ndarray | None = None
    ) -> None:
        self.batch_sizes = list(batch_sizes)
        self.order = order
        if lengths is not None:
            self.lengths = lengths
        self.N, self.T = self.batch_sizes[0], len(self.batch_sizes)
        ends = np.cumsum(self.batch_sizes).tolist()
        self.rows = [slice(end - n, end) for end, n in zip(ends, self.batch_sizes)]
        # The state before step t is that after step t - 1, of the sequences that go on; N rows of initial state lead.
        starts = [0, *(self.N + rows.start for rows in self.rows)]
        self.before = [slice(start, start + n) for start, n in zip(starts, self.batch_sizes)]
        self.full = self.batch_sizes[-1] == self.N

    def __len__(self) -> int:
        """Rows of all steps."""
        return self.rows[-1].stop

    # Index arrays, (rows,) or (N,), on the CPU

    @cached_property
    def starts(self) -> np.ndarray:
        """The first row of each step, (T,)."""
        return np.array([rows.start for rows in self.rows])

    @cached_property
    def sequence(self) -> np.ndarray:
        """The sequence that each row belongs to: 0 1 2 0 1 0 1 0 0 in the picture above."""
        return np.concatenate([np.arange(n) for n in self.batch_sizes])

    @cached_property
    def step(self) -> np.ndarray:
        """The step that each row belongs to: 0 0 0 1 1 2 2 3 4."""
        return np.repeat(np.arange(self.T), self.batch_sizes)

    @cached_property
    def lengths(self) -> np.ndarray:
        """The steps of each sequence, without padding."""
        return np.bincount(self.sequence)

    @cached_property
    def old(self) -> np.ndarray:
        """For each row, the row of the state before it, counted as in ``before``."""
        return np.concatenate([np.arange(before.start, before.stop) for before in self.before])

    @cached_property
    def last(self) -> np.ndarray:
        """The row of the last step of each sequence."""
        return self.starts[self.lengths - 1] + np.arange(self.N)

    @cached_property
    def reversed(self) -> np.ndarray:
        """For each row, the row of the same sequence at the same distance from its end; padding stays behind."""
        return self.starts[self.lengths[self.sequence] - 1 - self.step] + self.sequence

    @cached_property
    def place(self) -> np.ndarray:
        """Where the n-th of the sequences that were packed stands, sorted by length: inverse of ``order``."""
        return np.arange(self.N) if self.order is None else np.argsort(self.order)


@lru_cache(maxsize=32)
def rectangle(N: int, T: int) -> Layout:
    """The layout of an array (N, T, ...)."""
    return Layout((N,) * T)


class PackedSequence:
    """Sequences of many lengths, without padding. ``pack`` makes them, and ``pad`` those with padding after all.

    Parameters
    ----------
    data : (rows, ...) array
        The elements, in the order of ``layout``.
    layout : Layout
    """

    def __init__(self, data: Array, layout: Layout) -> None:
        self.data, self.layout = data, layout

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the array that padding would make of it, (N, T, ...)."""
        return (self.layout.N, self.layout.T, *self.data.shape[1:])

    @property
    def size(self) -> int:
        """Elements that are there."""
        return self.data.size

    def windows(self, time_size: int) -> Iterator[PackedSequence]:
        """Yield the first ``time_size`` steps, the next, ..., each with those sequences that go on. Views.

        The sequences of a window are the first of the window before, so a carried state fits.
        """
        layout = self.layout
        for start in range(0, layout.T, time_size):
            steps = slice(start, start + time_size)
            sizes, rows = layout.batch_sizes[steps], layout.rows[steps]
            yield PackedSequence(self.data[rows[0].start : rows[-1].stop], Layout(sizes, layout.order[: sizes[0]]))


def pack(sequences: Sequence[Array]) -> PackedSequence:
    """Pack arrays of any lengths, (T_n, ...) each, in any order.

    Raises
    ------
    ValueError
        If there is no sequence, or one is empty.
    """
    lengths = _lengths(sequences)
    order = np.argsort(-lengths, kind="stable")
    ended = np.searchsorted(np.sort(lengths), np.arange(lengths.max()), side="right")  # before each step
    layout = Layout((len(lengths) - ended).tolist(), order)
    xp = get_array_module(sequences[0])
    joined = xp.concatenate([sequences[n] for n in order])  # one sequence behind the other
    starts = np.concatenate([[0], np.cumsum(lengths[order])[:-1]])
    return PackedSequence(joined[xp.asarray(starts[layout.sequence] + layout.step)], layout)


def pad(sequences: Sequence[Array], value: float = 0) -> PackedSequence:
    """Fill all sequences up with ``value`` to the length of the longest, where ``pack`` leaves the rest out.

    Layers that need the end of a sequence find it, as the layout has the lengths. All layers compute the padding, too:
    this is what packing saves, and here to compare it with.

    Raises
    ------
    ValueError
        If there is no sequence, or one is empty.
    """
    lengths = _lengths(sequences)
    N, T = len(lengths), int(lengths.max())
    first = sequences[0]
    rows = get_array_module(first).zeros((T, N, *first.shape[1:]), first.dtype)
    rows += value
    for n, sequence in enumerate(sequences):
        rows[: len(sequence), n] = sequence
    return PackedSequence(rows.reshape(T * N, *first.shape[1:]), Layout((N,) * T, np.arange(N), lengths))


def _lengths(sequences: Sequence[Array]) -> np.ndarray:
    lengths = np.array([len(sequence) for sequence in sequences])
    if len(lengths) == 0 or lengths.min() == 0:
        raise ValueError("there must be at least one sequence, and each needs at least one step")
    return lengths


def unpack(packed: PackedSequence) -> list[Array]:
    """Return the sequences, in the order in which they were packed; inverse of ``pack`` and of ``pad``."""
    layout, xp = packed.layout, get_array_module(packed.data)
    sequences = [packed.data[xp.asarray(layout.starts[:length] + n)] for n, length in enumerate(layout.lengths)]
    return [sequences[n] for n in layout.place]


def to_rows(x: Array | PackedSequence) -> tuple[Array, Layout]:
    """(N, T, ...) -> (T·N, ...), rows in the order of time, and their layout. No copy if ``x`` lies in that order."""
    if isinstance(x, PackedSequence):
        return x.data, x.layout
    N, T = x.shape[:2]
    return x.swapaxes(0, 1).reshape(T * N, *x.shape[2:]), rectangle(N, T)


def from_rows(rows: Array, layout: Layout) -> Array | PackedSequence:
    """Rows in the order of time -> (N, T, ...), or a packed sequence; never copies. Inverse of ``to_rows``."""
    if layout.order is not None:
        return PackedSequence(rows, layout)
    return rows.reshape(layout.T, layout.N, *rows.shape[1:]).swapaxes(0, 1)


class DistinctRows:
    """A sequence of vectors in which vectors repeat: row r is rows[groups.index[r]].

    Of the 6,400 words of a batch perhaps 2,000 are distinct. A product x_nt Wx of all of them is the
    product of 2,000 rows and a look-up; the gradients of equal words can be summed before they are
    multiplied. The results are those of the full (N, T, D) array, but for the order of summation.

    Attributes
    ----------
    rows : (U, D) array
    groups : Groups
        Of the words, in the order of time.
    layout : Layout
    """

    def __init__(self, rows: Array, groups: Groups, layout: Layout) -> None:
        self.rows, self.groups, self.layout = rows, groups, layout
