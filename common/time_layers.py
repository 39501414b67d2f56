"""Layers for a whole sequence: T time steps at once, and truncated back-propagation through time.

Each TimeX computes what T calls of X from ``common.layers`` compute, and faster. Arrays have the
textbook's shapes outside, (N, T, D), and lie in memory in the order of time: the N rows of one
step are neighbours, so a step is one block, and all steps together are one (T·N, D) matrix
without a copy. Sequences of many lengths come packed (see ``common.packing``).

        (N, T, D) as seen                    (T, N, D) as it lies in memory

        sequence 0:  a0 a1 a2                step 0:  a0 b0
        sequence 1:  b0 b1 b2                step 1:  a1 b1
                                             step 2:  a2 b2
"""

from __future__ import annotations

from types import ModuleType

import numpy

from common.backend import Array, Unique, blocked_matmul, cache_blocks, fastest_exp, get_array_module, split_evenly
from common.checks import as_ids, check_range, check_shape, check_weights, check_whole
from common.config import GPU
from common.fast.flat_buffer import AffineWithBias
from common.fast.recurrent_layers import (
    Sequences,
    TimeBidirectional,
    TimeBiLSTM,
    TimeGRU,
    TimeLSTM,
    TimeRecurrent,
    TimeRNN,
    make_read_only,
)
from common.functions import as_float, cross_entropy_error, sigmoid, softmax
from common.layers import (
    GRU,
    LSTM,
    RNN,
    Affine,
    Dropout,
    Embedding,
    Layer,
    MatMul,
    MeanSquaredError,
    Sigmoid,
    SigmoidWithLoss,
    Softmax,
    SoftmaxWithLoss,
    as_labels,
    two_axes,
)
from common.np import np
from common.packing import Layout, UniqueRows, from_rows, to_rows, to_rows_like
from common.parameter import Parameter, Weight

__all__ = [
    # As in the textbook, whose models take all of these from here, too.
    "GPU",
    "GRU",
    "LSTM",
    "RNN",
    "Affine",
    "Dropout",
    "Embedding",
    "MatMul",
    "MeanSquaredError",
    "Sigmoid",
    "SigmoidWithLoss",
    "Simple_TimeAffine",
    "Simple_TimeSoftmaxWithLoss",
    "Softmax",
    "SoftmaxWithLoss",
    "TimeAffine",
    "TimeAffineSoftmaxWithLoss",
    "TimeBiLSTM",
    "TimeBidirectional",
    "TimeDropout",
    "TimeEmbedding",
    "TimeGRU",
    "TimeLSTM",
    "TimeLast",
    "TimeMean",
    "TimeMeanSquaredError",
    "TimeRNN",
    "TimeRecurrent",
    "TimeSigmoidWithLoss",
    "TimeSoftmaxWithLoss",
    "cross_entropy_error",
    "np",
    "sigmoid",
    "softmax",
]

_LOGITS = 2**25  # logits that exist at one time, at most: 128 MB in float32
_POWER, _UNIT = fastest_exp()  # e^y = b^(y / ln b), where b^x is exp2(x) or exp(x), and _UNIT is ln b
_SAFE_SUM = 1e9  # a sum of exp(logits) in (10^-9, 10^9) says that none overflowed, and none that counts vanished


class TimeEmbedding(Embedding):
    """y_nt = W[x_nt], for N sequences of T words.

    Parameters
    ----------
    W : (V, D) array or Parameter
    distinct : bool
        Return UniqueRows, for a recurrent layer that follows at once; it knows what to do with them.
    """

    def __init__(self, W: Array | Parameter, distinct: bool = False) -> None:
        super().__init__(W)
        self.distinct = distinct

    def forward(self, xs: Array) -> Array | UniqueRows:
        """Map word ids xs, (N, T), to vectors, (N, T, D).

        Raises
        ------
        TypeError, IndexError, ValueError
            If the ids are not integers, not all in [0, V), or not of shape (N, T).
        """
        x, layout = to_rows(xs, "word ids", "NT")
        # On a GPU it is the other way round: products are cheap, finding the distinct words is not.
        if not self.distinct or get_array_module(x) is not numpy:
            return from_rows(super().forward(x), layout)
        groups = Unique(as_ids(x, "word ids"))
        check_range(groups.distinct, len(self.W.data), "word ids")
        self.remember(x)
        return UniqueRows(self.W.data.take(groups.distinct, axis=0), groups, layout)

    def backward(self, dys: Array | UniqueRows) -> None:
        """Add the gradient dys, (N, T, D), to the rows of dW that the words came from."""
        if isinstance(dys, UniqueRows):
            self.recall()
            self.W.add_rows(dys.groups.distinct, dys.rows, distinct=True)
        else:
            super().backward(to_rows(dys, "dys")[0])


class TimeAffine(Affine):
    """y_nt = x_nt W + b.

    Parameters
    ----------
    W : (D, H) array or Parameter
    b : (H,) array or Parameter
    """

    def forward(self, xs: Array) -> Array:
        """Map xs, (N, T, D), to ys, (N, T, H)."""
        x, layout = to_rows(xs)
        return from_rows(super().forward(x), layout)

    def backward(self, dys: Array) -> Array:
        """Map dys, (N, T, H), to dxs, (N, T, D)."""
        dy, layout = to_rows(dys, "dys")
        return from_rows(super().backward(dy), layout)


class TimeDropout(Dropout):
    """Dropout over a sequence: with its own mask at every time step or, if ``locked``, with one for all steps.

    A locked mask (variational dropout) drops the same elements from the first step to the last.

    Parameters
    ----------
    p, rng
        As in Dropout.
    locked : bool

    References
    ----------
    Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016.
    """

    passing = (*Dropout.passing, "layout")

    def __init__(self, p: float = 0.5, rng: numpy.random.Generator | None = None, locked: bool = False) -> None:
        super().__init__(p, rng)
        self.locked = locked

    def forward(self, xs: Array, train_flg: bool | None = None) -> Array:
        """Map xs, (N, T, D), to ys of the same shape."""
        x, self.layout = to_rows(xs)
        return from_rows(super().forward(x, train_flg), self.layout)

    def backward(self, dys: Array) -> Array:
        """Map dys, (N, T, D), to dxs of the same shape."""
        dy, layout = to_rows(dys, "dys")
        return from_rows(super().backward(dy), layout)

    def draw_mask(self, shape: tuple[int, ...], xp: ModuleType) -> Array:
        """Draw the mask of all rows or, if it is locked, of all sequences, whose rows share it."""
        layout = self.layout
        if self.locked:
            return super().draw_mask((layout.N, *shape[1:]), xp)[layout.sequence]
        if self.rng is None and layout.order is None:  # the numbers in the textbook's order
            return to_rows(super().draw_mask((layout.N, layout.T, *shape[1:]), xp))[0]
        return super().draw_mask(shape, xp)


class TimeMean(Layer):
    """y_n = (1 / T_n) Σ_t x_nt: a sequence of T_n steps in one vector, padding left out."""

    def forward(self, xs: Sequences) -> Array:
        """Map xs, (N, T, H), to y, (N, H), in the order in which the sequences were packed."""
        x, layout = to_rows(xs)
        x = as_float(x)
        T_n = layout.lengths[layout.sequence]  # (rows,)
        weights = ((layout.step < T_n) / T_n).astype(x.dtype)[:, None]
        self.remember(weights, layout)
        x = weights * x
        y = get_array_module(x).zeros((layout.N, x.shape[1]), x.dtype)
        for rows_t in layout.rows:
            y[: rows_t.stop - rows_t.start] += x[rows_t]
        return y[layout.inverse_order]

    def backward(self, dy: Array) -> Sequences:
        """Map dy, (N, H), to dxs, (N, T, H)."""
        weights, layout = self.recall()
        check_shape("dy", dy, (layout.N, *dy.shape[1:]))
        dx = dy[get_array_module(dy).argsort(layout.inverse_order)[layout.sequence]]  # to each row that of its sequence
        dx *= weights
        return from_rows(dx, layout)


class TimeLast(Layer):
    """y_n = x_nT_n: a sequence of T_n steps in one vector, that of its last real step.

    Parameters
    ----------
    bidirectional : bool
        Of x = [forward h, backward h], the states of a TimeBidirectional, take each where its layer has read the
        whole sequence: forward h_nT_n at the end, and backward h_n1 at the beginning.
    """

    def __init__(self, bidirectional: bool = False) -> None:
        self.bidirectional = bidirectional

    def forward(self, xs: Sequences) -> Array:
        """Map xs, (N, T, H), to y, (N, H), in the order in which the sequences were packed."""
        x, layout = to_rows(xs)
        last, first = layout.final[layout.inverse_order], layout.inverse_order
        width = x.shape[1]
        H = width // 2 if self.bidirectional else width  # the columns of the forward layer
        self.remember(layout, last, first, H, width)
        return get_array_module(x).concatenate([x[last, :H], x[first, H:]], axis=1)

    def backward(self, dy: Array) -> Sequences:
        """Map dy, (N, H), to dxs, (N, T, H)."""
        layout, last, first, H, width = self.recall()
        check_shape("dy", dy, (layout.N, width))
        dx = get_array_module(dy).zeros((len(layout), width), dy.dtype)
        dx[last, :H] = dy[:, :H]
        dx[first, H:] = dy[:, H:]
        return from_rows(dx, layout)


class TimeMeanSquaredError(MeanSquaredError):
    """Mean squared error of all steps of N sequences, each with the same weight."""

    passing = (*MeanSquaredError.passing, "layout")

    def forward(self, xs: Array, ts: Array) -> float:
        """Return the loss of outputs xs with targets ts, both (N, T, D)."""
        x, self.layout = to_rows(xs)
        return super().forward(x, to_rows_like(ts, self.layout, x.shape[1], "targets"))

    def backward(self, dout: float = 1.0) -> Array:
        """Return dxs, (N, T, D)."""
        dx = super().backward(dout)
        return from_rows(dx, self.layout)


TimeIdentityWithLoss = TimeMeanSquaredError  # its earlier name


class TimeSoftmaxWithLoss(SoftmaxWithLoss):
    """Mean cross entropy of all labelled words of N sequences of T steps, each word with the same weight.

    Parameters
    ----------
    ignore_label : int
        Steps with this label do not count.
    """

    passing = (*SoftmaxWithLoss.passing, "layout")

    def forward(self, xs: Array, ts: Array) -> float:
        """Return the loss, in nats per token, of logits xs, (N, T, V), with labels ts, (N, T), or one-hot (N, T, V).

        Raises
        ------
        TypeError, IndexError, ValueError
            If the labels are not integers, not in [0, V), or not of the shape of the words.
        """
        x, self.layout = to_rows(xs, "logits", "NTV")
        return super().forward(x, label_rows(ts, self.layout, x.shape[1]))

    def backward(self, dout: float = 1.0) -> Array:
        """Return dxs, (N, T, V)."""
        dx = super().backward(dout)
        return from_rows(dx, self.layout)


# The textbook has slower twins of these two, for reading; here both names are one layer.
Simple_TimeAffine, Simple_TimeSoftmaxWithLoss = TimeAffine, TimeSoftmaxWithLoss


class TimeSigmoidWithLoss(SigmoidWithLoss):
    """Mean cross entropy of yes or no of N sequences of T steps, each step with the same weight.

    Scores and labels are (N, T), as is the gradient; otherwise as in SigmoidWithLoss.
    """


def label_rows(ts: Sequences, layout: Layout, V: int) -> Array:
    """The labels, (rows,), of words with this layout; or one-hot labels, (rows, V).

    Raises
    ------
    ValueError
        If they have another layout.
    """
    one_hot = len(getattr(ts, "shape", ())) == 3
    t, found = to_rows(ts, "labels", "NTV" if one_hot else "NT")
    if found is not layout and found.batch_sizes != layout.batch_sizes:
        raise ValueError(f"labels must have shape {(layout.N, layout.T)}, got {numpy.shape(ts)}")
    if one_hot and t.shape[1] != V:
        raise ValueError(f"one-hot labels must have shape {(layout.N, layout.T, V)}, got {ts.shape}")
    return t


class TimeAffineSoftmaxWithLoss(Layer):
    """TimeAffine followed by TimeSoftmaxWithLoss, without ever holding all logits.

    The logits, T·N·V numbers, are by far the largest arrays of a language model. The loss is a mean over
    words, so it can be computed a slice of the rows at a time. Each slice of logits is turned into its gradient
    where it stands, and used for dW, db and dh before the next slice takes its place: all but the last in
    ``forward``; the last, which may be the only one, in ``backward``. Evaluation computes the loss alone.

    Parameters
    ----------
    W : (H, V) array or Parameter
    b : (V,) array or Parameter
    ignore_label : int
        Steps with this label do not count.
    """

    W, b = Weight(), Weight()
    Wb: AffineWithBias | None = None  # [W; b] as one matrix, where a model has laid them out so
    _kept: Array | None = None
    passing = (*Layer.passing, "Wb", "_kept")

    def __init__(self, W: Array | Parameter, b: Array | Parameter, ignore_label: int = -1) -> None:
        self.W, self.b = W, b
        check_whole("ignore_label", ignore_label)
        self.ignore_label = ignore_label
        H, V = two_axes("W", self.W)
        check_weights("TimeAffineSoftmaxWithLoss", {"W": (H, V), "b": (V,)}, W=self.W, b=self.b)

    def forward(self, hs: Array, ts: Array) -> float:
        """Return the loss, in nats per token, of hidden states hs, (N, T, H), with labels ts, (N, T).

        Labels may be one-hot, (N, T, V).

        Raises
        ------
        TypeError, IndexError, ValueError
            If the labels are not integers, not in [0, V), or not of the shape of the words.
        """
        h, layout = to_rows(hs, "hidden states", "NTH")
        h = as_float(h)
        H, V = self.W.data.shape
        if h.shape[1] != H:
            raise ValueError(f"hidden states must have shape (N, T, {H}), got {hs.shape}")
        t, weights = as_labels(label_rows(ts, layout, V), (len(h),), V, self.ignore_label, h.dtype)
        if self.Wb is not None and not self.Wb.valid:
            self.Wb = None
        xp = get_array_module(h)
        self._remembered = None  # gives back the memory of the last pass
        dh = xp.empty(h.shape, h.dtype) if self.training else None
        slice_ = earlier = None  # earlier: d[W; b] of all slices but the last
        loss = 0
        for rows in split_evenly(len(h), _LOGITS // V):
            if rows.start > 0 and self.training:
                rh1, y = self._use_slice(slice_, dh)
                d = rh1.T @ y
                earlier = d if earlier is None else earlier + d
            t_, w = t[rows], weights[rows]
            h1 = _with_ones(h[rows], 1 / _UNIT)  # what W and b are multiplied by
            y = self._workspace(len(h1), h)
            at = xp.arange(0, y.size, V) + t_  # where the labels' logits are
            y_t, total = self._exp_logits(h1, at, y)
            loss += w @ (xp.log(total) - _UNIT * y_t)
            if self.training:
                # dlogits = w (y / total - onehot(t)) = r (y - total onehot(t)) with r = w / total:
                # r will scale the H columns of h and dh, not the many more columns of y.
                y.reshape(-1)[at] -= total
                slice_ = rows, h[rows], y, (w / total)[:, None]
        if self.training:
            self.remember(layout, dh, slice_, earlier)
        return loss

    def backward(self, dout: float = 1.0) -> Array:
        """Return dhs, (N, T, H)."""
        layout, dh, slice_, earlier = self.recall()
        rh1, y = self._use_slice(slice_, dh)
        if dout != 1:
            rh1 *= dout
        if self.Wb is not None and self.Wb.valid:
            self.Wb.add_product(rh1.T, y)
        else:
            self.W.add_product(rh1[:, :-1].T, y)
            self.b.add_grad(rh1[:, -1] @ y)
        if earlier is not None:
            dWb = earlier if dout == 1 else dout * earlier
            self.W.add_grad(dWb[:-1])
            self.b.add_grad(dWb[-1])
        dhs = from_rows(dh if dout == 1 else dout * dh, layout)
        make_read_only(dhs)  # a second backward returns the same
        return dhs

    def _use_slice(self, slice_: tuple, dh: Array) -> tuple[Array, Array]:
        """Set the rows of dh that belong to the slice; return r ⊙ [h 1] and y, whose product is its d[W; b]."""
        rows, h, y, r = slice_
        dh = blocked_matmul(y, self.W.data.T, out=dh[rows])
        dh *= r
        return _with_ones(h, r), y

    def _workspace(self, rows: int, like: Array) -> Array:
        """Room for logits, (rows, V), kept from step to step: new memory costs as much time as a product.

        NumPy makes it once, for as many rows as there can be: on most systems, what is not written to costs nothing,
        and to make workspace for more and more rows, as batches of sentences need them, would leave holes in memory.
        """
        if type(self._kept) is not type(like) or self._kept.dtype != like.dtype or len(self._kept) < rows:
            self._kept = None  # gives it back before taking more
            xp, V = get_array_module(like), self.b.data.size
            most = max(rows, _LOGITS // V) if xp is numpy else rows
            self._kept = xp.empty((most, V), like.dtype)
        return self._kept[:rows]

    def _exp_logits(self, h1: Array, at: Array, y: Array) -> tuple[Array, Array]:
        """Set y, (n, V), to exp of the logits, or of what they are above the largest of their row.

        h1 is [h 1] / ``_UNIT``. ``at``, (n,), is where the labels' logits are in y, counted row by row. Return
        these exponents, (n,), / ``_UNIT``, and the sum of each row, (n,).
        """
        xp = get_array_module(y)
        self._logits(h1, y)
        y_t, total = self._exp(y, at, subtract_max=xp is not numpy)
        # NumPy saves the two passes that subtracting takes, and makes them only where it must.
        if xp is numpy and not 1 / _SAFE_SUM < numpy.minimum.reduce(total) <= numpy.maximum.reduce(total) < _SAFE_SUM:
            self._logits(h1, y)
            y_t, total = self._exp(y, at, subtract_max=True)
        return y_t, total

    def _logits(self, h1: Array, y: Array) -> None:
        """Set y, (n, V), to logits / ``_UNIT``: h1 [W; b], if that matrix is at hand; else without b."""
        if self.Wb is not None:
            blocked_matmul(h1, self.Wb.data, out=y)
        else:
            blocked_matmul(h1[:, :-1], self.W.data, out=y)

    @numpy.errstate(over="ignore", under="ignore")
    def _exp(self, y: Array, at: Array, subtract_max: bool) -> tuple[Array, Array]:
        """Replace each row of y, logits / ``_UNIT``, by exp of the logits, or of logits - max, which cannot overflow.

        Return what stood at the labels, (n,), and the sum of each row, (n,). NumPy makes its passes over a few rows
        at a time, while they are in the cache.
        """
        xp = get_array_module(y)
        y_t, total, ones = xp.empty(len(y), y.dtype), xp.empty(len(y), y.dtype), xp.ones(y.shape[1], y.dtype)
        flat = y.reshape(-1)
        power, b = getattr(xp, _POWER), self.b.data / _UNIT if self.Wb is None else None
        for rows in cache_blocks(xp, *y.shape):
            y_ = y[rows]
            if b is not None:
                y_ += b
            if subtract_max:
                y_ -= y_.max(axis=1, keepdims=True)
            y_t[rows] = flat[at[rows]]
            power(y_, out=y_)
            xp.matmul(y_, ones, out=total[rows])  # a sum, four times as fast as y_.sum(axis=1)
        return y_t, total


def _with_ones(h: Array, r: Array | float) -> Array:
    """r ⊙ [h 1]: h, (n, H), with a column of ones, (n, H + 1), each row times that of r, (n, 1)."""
    xp = get_array_module(h)
    h1 = xp.empty((len(h), h.shape[1] + 1), h.dtype)
    xp.multiply(h, r, out=h1[:, :-1])
    h1[:, -1:] = r
    return h1
