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

import numpy as np

from common.backend import Array, Groups, cut, cut_to_cache, get_array_module
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
            return DistinctRows(self.W.data[groups.distinct], groups, layout)
        return from_rows(super().forward(x), layout)

    def backward(self, dys: Array | DistinctRows) -> None:
        """Add the gradient dys, (N, T, D), to the rows of dW that the words came from."""
        if isinstance(dys, DistinctRows):
            self.W.grad[dys.groups.distinct] += dys.rows
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

    def draw_mask(self, shape: tuple[int, ...]) -> np.ndarray:
        """Draw the mask of all rows or, if it is locked, of all sequences, whose rows share it."""
        if not self.locked:
            return super().draw_mask(shape)
        return super().draw_mask((self.layout.N, *shape[1:]))[self.layout.sequence]


class TimeMean(Layer):
    """y_n = (1 / T_n) Σ_t x_nt: a sequence of T_n steps in one vector, padding left out."""

    def forward(self, xs: Sequences) -> Array:
        """Map xs, (N, T, H), to y, (N, H), in the order in which the sequences were packed."""
        x, self.layout = to_rows(xs)
        layout, xp = self.layout, get_array_module(x)
        T_n = layout.lengths[layout.sequence]  # (rows,)
        weights = (layout.step < T_n) / T_n
        self.weights = xp.asarray(weights.astype(x.dtype))[:, None]
        x = self.weights * x
        y = xp.zeros((layout.N, x.shape[1]), x.dtype)
        for now in layout.rows:
            y[: now.stop - now.start] += x[now]
        return y[xp.asarray(layout.place)]

    def backward(self, dy: Array) -> Sequences:
        """Map dy, (N, H), to dxs, (N, T, H)."""
        layout, xp = self.layout, get_array_module(dy)
        dx = dy[xp.asarray(np.argsort(layout.place)[layout.sequence])]  # to each row that of its sequence
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
        self.last, self.first = xp.asarray(layout.last[layout.place]), xp.asarray(layout.place)
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

    The logits, T·N·V numbers, are by far the largest arrays of a language model. The loss is a
    mean over words, so it can be computed a slice of the rows at a time. ``forward`` turns each
    slice of logits into its gradient where it stands and uses it at once for dW, db and dh;
    ``backward`` only hands them out. In evaluation ``forward`` computes the loss alone.

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
        self.dWb = None
        super().__init__(self.W, self.b)

    def forward(self, hs: Array, ts: Array) -> float:
        """Return the loss, in nats a word, of hidden states hs, (N, T, H), with labels ts, (N, T)."""
        h, self.layout = to_rows(hs)
        xp = get_array_module(h)
        # The bias is the weight of an input that is always 1: h W + b = [h 1] [W; b].
        Wb = stacked(self.W, self.b)
        h1 = xp.concatenate([h, xp.ones_like(h[:, :1])], axis=1)
        t, weights = split_labels(to_rows(ts)[0], self.ignore_label, h.dtype)
        self.dh = xp.empty_like(h)
        loss = 0
        for rows in cut(len(h), _LOGITS // Wb.shape[1]):
            h1_, t_, w = h1[rows], t[rows], weights[rows]
            y = xp.matmul(h1_, Wb, out=self._room(len(h1_), Wb))
            with np.errstate(over="ignore"):
                y_t, total = self._exp(y, t_, subtract_max=xp is not np)
            # NumPy saves the two passes that subtracting takes, and makes them only where it must.
            if xp is np and not 1 / _SAFE_SUM < total.min() <= total.max() < _SAFE_SUM:
                xp.matmul(h1_, Wb, out=y)
                y_t, total = self._exp(y, t_, subtract_max=True)
            loss += (w * (xp.log(total) - y_t)).sum()
            if self.training:
                # dlogits = w (y / total - onehot(t)) = r (y - total onehot(t)) with r = w / total:
                # r scales the H columns of h and dh, not the many more columns of y.
                y[xp.arange(len(t_)), t_] -= total
                r = (w / total)[:, None]
                if rows.start == 0:
                    xp.matmul((r * h1_).T, y, out=self._dWb_room(Wb))
                else:
                    self.dWb += (r * h1_).T @ y
                dh = xp.matmul(y, self.W.data.T, out=self.dh[rows])
                dh *= r
        return loss

    def backward(self, dout: float = 1.0) -> Array:
        """Return dhs, (N, T, H)."""
        dWb, dh = (self.dWb, self.dh) if dout == 1 else (dout * self.dWb, dout * self.dh)
        self.W.add_grad(dWb[:-1])
        self.b.add_grad(dWb[-1])
        return from_rows(dh, self.layout)

    def _room(self, rows: int, Wb: Array) -> Array:
        """Room for logits, (rows, V), kept from step to step: new memory costs as much time as a product."""
        kept = self._kept
        if type(kept) is not type(Wb) or kept.dtype != Wb.dtype or len(kept) < rows:
            self._kept = get_array_module(Wb).empty((rows, Wb.shape[1]), Wb.dtype)
        return self._kept[:rows]

    def _dWb_room(self, Wb: Array) -> Array:
        """Room for the gradient of Wb, also kept, and in memory in the same order."""
        if type(self.dWb) is not type(Wb) or (self.dWb.dtype, self.dWb.shape) != (Wb.dtype, Wb.shape):
            self.dWb = get_array_module(Wb).empty_like(Wb)
        return self.dWb

    @staticmethod
    def _exp(y: Array, t: Array, subtract_max: bool) -> tuple[Array, Array]:
        """Replace each row of y by exp(y), or by exp(y - max(y)), which cannot overflow.

        Return the exponents at t, (rows,), and the sum of each row, (rows,). NumPy makes its
        passes over a few rows at a time, while they are in the cache.
        """
        xp = get_array_module(y)
        y_t, total, ones = xp.empty_like(y[:, 0]), xp.empty_like(y[:, 0]), xp.ones_like(y[0])
        for rows in cut_to_cache(xp, *y.shape):
            y_ = y[rows]
            if subtract_max:
                y_ -= y_.max(axis=1, keepdims=True)
            y_t[rows] = y_[xp.arange(len(y_)), t[rows]]
            xp.exp(y_, out=y_)
            xp.matmul(y_, ones, out=total[rows])  # a sum, four times as fast as y_.sum(axis=1)
        return y_t, total
