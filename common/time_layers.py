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

import numpy as np

from common.backend import Array, Groups, cut, cut_to_cache, fastest_power, get_array_module, product
from common.functions import split_labels
from common.layers import Affine, Dropout, Embedding, IdentityWithLoss, Layer, SoftmaxWithLoss
from common.packing import DistinctRows, from_rows, to_rows
from common.parameter import Parameter, as_parameter, stacked
from common.recurrent_layers import (
    Sequences,
    TimeBidirectional,
    TimeBiLSTM,
    TimeGRU,
    TimeLSTM,
    TimeRecurrent,
    TimeRNN,
)

__all__ = [
    "TimeAffine",
    "TimeAffineSoftmaxWithLoss",
    "TimeBiLSTM",
    "TimeBidirectional",
    "TimeDropout",
    "TimeEmbedding",
    "TimeGRU",
    "TimeIdentityWithLoss",
    "TimeLSTM",
    "TimeLast",
    "TimeMean",
    "TimeRNN",
    "TimeRecurrent",
    "TimeSoftmaxWithLoss",
]

_LOGITS = 2**25  # logits that exist at one time, at most: 128 MB in float32
_POWER, _UNIT = fastest_power()  # e^y = b^(y / ln b), where b^x is exp2(x) or exp(x), and _UNIT is ln b
_SAFE_SUM = 1e9  # a sum of exp(logits) in (10^-9, 10^9) says that none overflowed, and none that counts vanished


class TimeEmbedding(Embedding):
    """y_nt = W[x_nt], for N sequences of T words.

    Parameters
    ----------
    W : (V, D) array or Parameter
    distinct : bool
        Return DistinctRows, for a recurrent layer that follows at once; it knows what to do with them.
    """

    def __init__(self, W: Array | Parameter, distinct: bool = False) -> None:
        super().__init__(W)
        self.distinct = distinct

    def forward(self, xs: Array) -> Array | DistinctRows:
        """Map word ids xs, (N, T), to vectors, (N, T, D)."""
        x, layout = to_rows(xs)
        # On a GPU it is the other way round: products are cheap, finding the distinct words is not.
        if self.distinct and get_array_module(x) is np:
            groups = Groups(x)
            return DistinctRows(self.W.data.take(groups.distinct, axis=0), groups, layout)
        return from_rows(super().forward(x), layout)

    def backward(self, dys: Array | DistinctRows) -> None:
        """Add the gradient dys, (N, T, D), to the rows of dW that the words came from."""
        if isinstance(dys, DistinctRows):
            self.W.add_rows(dys.groups.distinct, dys.rows)
        else:
            super().backward(to_rows(dys)[0])


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
        dy, layout = to_rows(dys)
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

    def __init__(self, p: float, rng: np.random.Generator, locked: bool = False) -> None:
        super().__init__(p, rng)
        self.locked = locked

    def forward(self, xs: Array) -> Array:
        """Map xs, (N, T, D), to ys of the same shape."""
        x, self.layout = to_rows(xs)
        return from_rows(super().forward(x), self.layout)

    def backward(self, dys: Array) -> Array:
        """Map dys, (N, T, D), to dxs of the same shape."""
        dy, layout = to_rows(dys)
        return from_rows(super().backward(dy), layout)

    def draw_mask(self, shape: tuple[int, ...], xp: ModuleType) -> Array:
        """Draw the mask of all rows or, if it is locked, of all sequences, whose rows share it."""
        if not self.locked:
            return super().draw_mask(shape, xp)
        return super().draw_mask((self.layout.N, *shape[1:]), xp)[self.layout.sequence]


class TimeMean(Layer):
    """y_n = (1 / T_n) Σ_t x_nt: a sequence of T_n steps in one vector, padding left out."""

    def forward(self, xs: Sequences) -> Array:
        """Map xs, (N, T, H), to y, (N, H), in the order in which the sequences were packed."""
        x, self.layout = to_rows(xs)
        layout = self.layout
        T_n = layout.lengths[layout.sequence]  # (rows,)
        self.weights = ((layout.step < T_n) / T_n).astype(x.dtype)[:, None]
        x = self.weights * x
        y = get_array_module(x).zeros((layout.N, x.shape[1]), x.dtype)
        for now in layout.rows:
            y[: now.stop - now.start] += x[now]
        return y[layout.place]

    def backward(self, dy: Array) -> Sequences:
        """Map dy, (N, H), to dxs, (N, T, H)."""
        layout, xp = self.layout, get_array_module(dy)
        dx = dy[xp.argsort(layout.place)[layout.sequence]]  # to each row that of its sequence
        dx *= self.weights
        return from_rows(dx, layout)


class TimeLast(Layer):
    """y_n = x_nT_n: a sequence of T_n steps in one vector, that of its last real step.

    Parameters
    ----------
    bidirectional : bool
        Of x = [ahead, back], the states of a TimeBidirectional, take each where its layer has read the
        whole sequence: ahead_nT_n at the end, and back_n1 at the beginning.
    """

    def __init__(self, bidirectional: bool = False) -> None:
        super().__init__()
        self.bidirectional = bidirectional

    def forward(self, xs: Sequences) -> Array:
        """Map xs, (N, T, H), to y, (N, H), in the order in which the sequences were packed."""
        x, self.layout = to_rows(xs)
        layout, xp = self.layout, get_array_module(x)
        self.last, self.first = layout.last[layout.place], layout.place
        self.H = x.shape[1] // 2 if self.bidirectional else x.shape[1]  # the columns of ``ahead``
        return xp.concatenate([x[self.last, : self.H], x[self.first, self.H :]], axis=1)

    def backward(self, dy: Array) -> Sequences:
        """Map dy, (N, H), to dxs, (N, T, H)."""
        dx = get_array_module(dy).zeros((len(self.layout), dy.shape[1]), dy.dtype)
        dx[self.last, : self.H] = dy[:, : self.H]
        dx[self.first, self.H :] = dy[:, self.H :]
        return from_rows(dx, self.layout)


class TimeIdentityWithLoss(IdentityWithLoss):
    """Mean squared error of all steps of N sequences, each with the same weight."""

    def forward(self, xs: Array, ts: Array) -> float:
        """Return the loss of outputs xs with targets ts, both (N, T, D)."""
        x, self.layout = to_rows(xs)
        return super().forward(x, to_rows(ts)[0])

    def backward(self, dout: float = 1.0) -> Array:
        """Return dxs, (N, T, D)."""
        return from_rows(super().backward(dout), self.layout)


class TimeSoftmaxWithLoss(SoftmaxWithLoss):
    """Mean cross entropy of all labelled words of N sequences of T steps, each word with the same weight.

    Parameters
    ----------
    ignore_label : int
        Steps with this label do not count.
    """

    def forward(self, xs: Array, ts: Array) -> float:
        """Return the loss, in nats a word, of logits xs, (N, T, V), with labels ts, (N, T)."""
        x, self.layout = to_rows(xs)
        return super().forward(x, to_rows(ts)[0])

    def backward(self, dout: float = 1.0) -> Array:
        """Return dxs, (N, T, V)."""
        return from_rows(super().backward(dout), self.layout)


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

    def __init__(self, W: Array | Parameter, b: Array | Parameter, ignore_label: int = -1) -> None:
        self.W = as_parameter(W, "W")
        self.b = as_parameter(b, "b")
        self.ignore_label = ignore_label
        self._kept = None
        super().__init__(self.W, self.b)

    def forward(self, hs: Array, ts: Array) -> float:
        """Return the loss, in nats a word, of hidden states hs, (N, T, H), with labels ts, (N, T)."""
        h, self.layout = to_rows(hs)
        xp = get_array_module(h)
        t, weights = split_labels(to_rows(ts)[0], self.ignore_label, h.dtype)
        self.Wb = stacked(self.W, self.b)
        self.slice = self.dh = None  # gives back the memory of the last step
        self.dh = xp.empty_like(h)
        self.earlier = None  # d[W; b] of all slices but the last
        loss = 0
        for rows in cut(len(h), _LOGITS // self.b.data.size):
            if rows.start > 0 and self.training:
                rh1, y = self._use_slice()
                d = rh1.T @ y
                self.earlier = d if self.earlier is None else self.earlier + d
            t_, w = t[rows], weights[rows]
            h1 = _with_ones(h[rows], 1 / _UNIT)  # what W and b are multiplied by
            y = self._room(len(h1), h)
            at = xp.arange(0, y.size, y.shape[1]) + t_  # where the labels' logits are
            y_t, total = self._exp_logits(h1, at, y)
            loss += w @ (xp.log(total) - _UNIT * y_t)
            if self.training:
                # dlogits = w (y / total - onehot(t)) = r (y - total onehot(t)) with r = w / total:
                # r will scale the H columns of h and dh, not the many more columns of y.
                y.reshape(-1)[at] -= total
                self.slice = rows, h[rows], y, (w / total)[:, None]
        return loss

    def backward(self, dout: float = 1.0) -> Array:
        """Return dhs, (N, T, H)."""
        rh1, y = self._use_slice()
        if dout != 1:
            rh1 *= dout
        if self.Wb is not None:
            self.Wb.add_product(rh1.T, y)
        else:
            self.W.add_product(rh1[:, :-1].T, y)
            self.b.add_grad(rh1[:, -1] @ y)
        if self.earlier is not None:
            dWb = self.earlier if dout == 1 else dout * self.earlier
            self.W.add_grad(dWb[:-1])
            self.b.add_grad(dWb[-1])
        return from_rows(self.dh if dout == 1 else dout * self.dh, self.layout)

    def _use_slice(self) -> tuple[Array, Array]:
        """Set the rows of dh that belong to the slice; return r ⊙ [h 1] and y, whose product is its d[W; b]."""
        rows, h, y, r = self.slice
        dh = product(y, self.W.data.T, out=self.dh[rows])
        dh *= r
        return _with_ones(h, r), y

    def _room(self, rows: int, like: Array) -> Array:
        """Room for logits, (rows, V), kept from step to step: new memory costs as much time as a product.

        NumPy makes it once, for as many rows as there can be: on most systems, what is not written to costs nothing,
        and to make room for more and more rows, as batches of sentences need them, would leave holes in the memory.
        """
        if type(self._kept) is not type(like) or self._kept.dtype != like.dtype or len(self._kept) < rows:
            self._kept = None  # gives it back before taking more
            xp, V = get_array_module(like), self.b.data.size
            most = max(rows, _LOGITS // V) if xp is np else rows
            self._kept = xp.empty((most, V), like.dtype)
        return self._kept[:rows]

    def _exp_logits(self, h1: Array, at: Array, y: Array) -> tuple[Array, Array]:
        """Set y, (n, V), to exp of the logits, or of what they are above the largest of their row.

        h1 is [h 1] / ``_UNIT``. ``at``, (n,), is where the labels' logits are in y, counted row by row. Return
        these exponents, (n,), / ``_UNIT``, and the sum of each row, (n,).
        """
        xp = get_array_module(y)
        self._logits(h1, y)
        y_t, total = self._exp(y, at, subtract_max=xp is not np)
        # NumPy saves the two passes that subtracting takes, and makes them only where it must.
        if xp is np and not 1 / _SAFE_SUM < total.min() <= total.max() < _SAFE_SUM:
            self._logits(h1, y)
            y_t, total = self._exp(y, at, subtract_max=True)
        return y_t, total

    def _logits(self, h1: Array, y: Array) -> None:
        """Set y, (n, V), to logits / ``_UNIT``: h1 [W; b], if that matrix is at hand; else without b."""
        if self.Wb is not None:
            product(h1, self.Wb.data, out=y)
        else:
            product(h1[:, :-1], self.W.data, out=y)

    @np.errstate(over="ignore")
    def _exp(self, y: Array, at: Array, subtract_max: bool) -> tuple[Array, Array]:
        """Replace each row of y, logits / ``_UNIT``, by exp of the logits, or of logits - max, which cannot overflow.

        Return what stood at the labels, (n,), and the sum of each row, (n,). NumPy makes its passes over a few rows
        at a time, while they are in the cache.
        """
        xp = get_array_module(y)
        y_t, total, ones = xp.empty(len(y), y.dtype), xp.empty(len(y), y.dtype), xp.ones(y.shape[1], y.dtype)
        flat = y.reshape(-1)
        power, b = getattr(xp, _POWER), self.b.data / _UNIT if self.Wb is None else None
        for rows in cut_to_cache(xp, *y.shape):
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
