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
of time are step after step, and are a view if the array lies in memory in that order. Layers over time take
both, and ask ``to_rows`` for the rows and ``from_rows`` for what they came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from types import ModuleType

import numpy as np

from common.backend import Array, get_array_module, to_cpu


class Layout:
    """Which rows belong to which step, for sequences sorted by length.

    Attributes
    ----------
    N, T : int
        Sequences, and steps of the longest.
    batch_sizes : list of int
        How many sequences have a step t, for t = 0, ..., T - 1: never more than at the step before.
    starts : (T,) array of int
        The first row of each step. Where this array is, on the CPU or on a GPU, all index arrays are made.
    lengths : (N,) array of int
        The real steps of each sequence; rows beyond them are padding.
    order : (N,) array of int, or None
        ``order[k]`` is the index, as they were packed, of the k-th longest sequence. None: an array, never packed.
    rows : list of slice
        The rows of each step; row n of a step belongs to sequence n.
    rows_prev : list of slice
        The rows of the state before each step, among the states: N initial ones, and then a row for each row.
    is_rectangle : bool
        Whether all sequences are equally long: a rectangle.
    """

    def __init__(self, batch_sizes: Sequence[int], starts: Array, lengths: Array, order: Array | None = None) -> None:
        self.batch_sizes = list(batch_sizes)
        self.starts, self.lengths, self.order = starts, lengths, order
        self.N, self.T = self.batch_sizes[0], len(self.batch_sizes)
        ends = np.cumsum(self.batch_sizes).tolist()
        self.rows = [slice(end - n, end) for end, n in zip(ends, self.batch_sizes)]
        # The state before step t is that after step t - 1, of the sequences that go on; N rows of initial state lead.
        firsts = [0, *(self.N + rows.start for rows in self.rows)]
        self.rows_prev = [slice(first, first + n) for first, n in zip(firsts, self.batch_sizes)]
        self.is_rectangle = self.batch_sizes[-1] == self.N

    @property
    def xp(self) -> ModuleType:
        return get_array_module(self.starts)

    def __len__(self) -> int:
        """Rows of all steps."""
        return self.rows[-1].stop

    # Index arrays, (rows,) or (N,)

    @cached_property
    def step(self) -> Array:
        """The step that each row belongs to: 0 0 0 1 1 2 2 3 4 in the picture above."""
        return self.xp.searchsorted(self.starts, self.xp.arange(len(self)), side="right") - 1

    @cached_property
    def sequence(self) -> Array:
        """The sequence that each row belongs to: 0 1 2 0 1 0 1 0 0."""
        return self.xp.arange(len(self)) - self.starts[self.step]

    @cached_property
    def previous(self) -> Array:
        """For each row, the row of the state before it, counted as in ``rows_prev``."""
        return self.xp.where(self.step > 0, self.N + self.starts[self.step - 1], 0) + self.sequence

    @cached_property
    def final(self) -> Array:
        """The row of the last step of each sequence."""
        return self.starts[self.lengths - 1] + self.xp.arange(self.N)

    @cached_property
    def reversed(self) -> Array:
        """For each row, the row of the same sequence at the same distance from its end; padding stays behind."""
        return self.starts[self.lengths[self.sequence] - 1 - self.step] + self.sequence

    @cached_property
    def inverse_order(self) -> Array:
        """``inverse_order[n]`` is the place, sorted by length, of the sequence that was packed as the n-th."""
        return self.xp.arange(self.N) if self.order is None else self.xp.argsort(self.order)


@lru_cache(maxsize=32)
def rectangle(N: int, T: int, xp: ModuleType = np) -> Layout:
    """The layout of an array (N, T, ...) of NumPy or CuPy."""
    return Layout((N,) * T, xp.arange(T) * N, xp.full(N, T))


class PackedSequence:
    """Sequences of many lengths: ``data``, (rows, ...), in the order of ``layout``. ``pack`` and ``pad`` make them."""

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

        The sequences of a window are the first ones of the window before, so the carried state fits.
        """
        whole = self.layout
        for t in range(0, whole.T, time_size):
            steps = slice(t, t + time_size)
            sizes, rows = whole.batch_sizes[steps], whole.rows[steps]
            first, n = rows[0].start, sizes[0]
            lengths = whole.xp.minimum(whole.lengths[:n] - t, len(sizes))
            layout = Layout(sizes, whole.starts[steps] - first, lengths, whole.order[:n])
            yield PackedSequence(self.data[first : rows[-1].stop], layout)


def packed_index(starts: np.ndarray, lengths: np.ndarray, xp: ModuleType = np) -> tuple[Array, Layout]:
    """How to pack sequences that lie in one array, data[starts[n]:][:lengths[n]]: their packed rows are data[index].

    Return ``index``, (rows,), and the layout, both made by ``xp``. A GPU is sent one array, of T + 3 N numbers.
    """
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[order], lengths[order]
    ended = np.searchsorted(lengths[::-1], np.arange(lengths[0]), side="right")  # before each step
    batch_sizes = len(order) - ended
    firsts = np.cumsum(batch_sizes) - batch_sizes
    firsts, lengths, order, starts = _send([firsts, lengths, order, starts], xp)
    layout = Layout(batch_sizes.tolist(), firsts, lengths, order)
    return starts[layout.sequence] + layout.step, layout


def padded_index(starts: np.ndarray, lengths: np.ndarray, T: int, xp: ModuleType = np) -> tuple[Array, Array, Array]:
    """The same for sequences padded to T steps: ``index``, (N, T); whether there is an element, (N, T); lengths, (N,).

    A GPU is sent one small array, of 2 N numbers. Where there is no element, the index is 0.
    """
    steps = xp.arange(T)
    starts, lengths = _send([starts, lengths], xp)
    inside = steps < lengths[:, None]
    return xp.where(inside, starts[:, None] + steps, 0), inside, lengths


def _send(arrays: list[np.ndarray], xp: ModuleType) -> list[Array]:
    """Arrays of one axis; to a GPU, all in one copy."""
    if xp is np:
        return arrays
    ends = np.cumsum([len(x) for x in arrays]).tolist()
    joined = xp.asarray(np.concatenate(arrays))
    return [joined[end - len(x) : end] for x, end in zip(arrays, ends)]


def pack(sequences: Sequence[Array], xp: ModuleType | None = None) -> PackedSequence:
    """Pack arrays of any lengths, (T_n, ...) each, in any order; a ValueError if there is none, or one is empty.

    With ``xp``, NumPy arrays are packed as arrays of that module: to a GPU go two arrays, elements and numbers.
    """
    data, starts, lengths = _join(sequences, xp)
    index, layout = packed_index(starts, lengths, get_array_module(data))
    return PackedSequence(data[index], layout)


def pad(sequences: Sequence[Array], value: float = 0, xp: ModuleType | None = None) -> PackedSequence:
    """Fill all sequences up with ``value`` to the length of the longest, where ``pack`` leaves the rest out.

    Layers that need the end of a sequence find it, as the layout has the lengths. All layers compute the padding, too:
    this is what packing saves, and here to compare it with.
    """
    data, starts, lengths = _join(sequences, xp)
    xp = get_array_module(data)
    N, T = len(lengths), int(lengths.max())
    index, inside, lengths = padded_index(starts, lengths, T, xp)
    index, inside = index.T.reshape(-1), inside.T.reshape(-1, *[1] * (data.ndim - 1))  # (T·N, ...)
    layout = Layout((N,) * T, xp.arange(T) * N, lengths, xp.arange(N))
    return PackedSequence(xp.where(inside, data[index], value), layout)


def _join(sequences: Sequence[Array], xp: ModuleType | None) -> tuple[Array, np.ndarray, np.ndarray]:
    """The sequences one behind the other, and where each starts and how long it is."""
    lengths = np.array([len(sequence) for sequence in sequences])
    if len(lengths) == 0 or lengths.min() == 0:
        raise ValueError("there must be at least one sequence, and each needs at least one step")
    data = get_array_module(sequences[0]).concatenate(sequences)
    return data if xp is None else xp.asarray(data), np.cumsum(lengths) - lengths, lengths


def unpack(packed: PackedSequence) -> list[Array]:
    """Return the sequences, in the order in which they were packed; inverse of ``pack`` and of ``pad``."""
    layout = packed.layout
    lengths, place = to_cpu(layout.lengths).tolist(), to_cpu(layout.inverse_order).tolist()
    sequences = [packed.data[layout.starts[:length] + n] for n, length in enumerate(lengths)]
    return [sequences[n] for n in place]


def to_rows(x: Array | PackedSequence, what: str = "xs", axes: str = "NTD") -> tuple[Array, Layout]:
    """(N, T, ...) -> (T·N, ...), rows in the order of time, and their layout. No copy if ``x`` lies in that order.

    Raises
    ------
    ValueError, TypeError
        If x, whose name is ``what``, has other axes than ``axes``, or nothing in it; or if it is no array.
    """
    if isinstance(x, (list, tuple)):
        x = np.asarray(x)
    shape = getattr(x, "shape", None)
    if shape is None:
        raise TypeError(f"{what} must be an array ({', '.join(axes)}) or a PackedSequence, got {type(x).__name__}")
    if len(shape) != len(axes) or 0 in shape:
        raise ValueError(f"{what} must have shape ({', '.join(axes)}), and none of them 0, got {shape}")
    if isinstance(x, PackedSequence):
        return x.data, x.layout
    N, T = shape[:2]
    return x.swapaxes(0, 1).reshape(T * N, *x.shape[2:]), rectangle(N, T, get_array_module(x))


def to_rows_like(x: Array | PackedSequence, layout: Layout, width: int, what: str) -> Array:
    """The rows, (rows, width), of sequences that must have this layout: else a ValueError names both shapes."""
    rows, found = to_rows(x, what)
    if rows.shape[1] != width or (found is not layout and found.batch_sizes != layout.batch_sizes):
        raise ValueError(f"{what} must have shape {(layout.N, layout.T, width)}, got {x.shape}")
    return rows


def from_rows(rows: Array, layout: Layout) -> Array | PackedSequence:
    """Rows in the order of time -> (N, T, ...), or a packed sequence; never copies. Inverse of ``to_rows``."""
    if layout.order is not None:
        return PackedSequence(rows, layout)
    return rows.reshape(layout.T, layout.N, *rows.shape[1:]).swapaxes(0, 1)
