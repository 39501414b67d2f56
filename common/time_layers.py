"""Layers for a whole sequence: T time steps at once, and truncated back-propagation through time.

Each TimeX computes what T calls of X from ``common.layers`` compute, and faster. Arrays have the
textbook's shapes outside, (N, T, D), and lie in memory in the order of time: the N rows of one
step are neighbours, so a step is one block, and all steps together are one (T·N, D) matrix
without a copy.

        (N, T, D) as seen                    (T, N, D) as it lies in memory

        sequence 0:  a0 a1 a2                step 0:  a0 b0
        sequence 1:  b0 b1 b2                step 1:  a1 b1
                                             step 2:  a2 b2
"""

from __future__ import annotations

import numpy as np

from common.backend import Array, Groups, get_array_module
from common.functions import split_labels
from common.layers import Affine, Dropout, Embedding, Layer, SoftmaxWithLoss
from common.parameter import Parameter, as_parameter

_LOGITS = 2**25  # logits that exist at one time, at most: 128 MB in float32
_CACHED = 2**18  # logits that fit a core's cache: elementwise work on more waits for memory
_SAFE_SUM = 1e9  # a sum of exp(logits) in (10^-9, 10^9) says that none overflowed, and none that counts vanished


def to_rows(x: Array) -> Array:
    """(N, T, ...) -> (T·N, ...), rows in the order of time. No copy if ``x`` lies in that order."""
    N, T = x.shape[:2]
    return x.swapaxes(0, 1).reshape(T * N, *x.shape[2:])


def from_rows(rows: Array, N: int, T: int) -> Array:
    """(T·N, ...) in the order of time -> (N, T, ...). Never copies; inverse of ``to_rows``."""
    return rows.reshape(T, N, *rows.shape[1:]).swapaxes(0, 1)


class DistinctRows:
    """A sequence of vectors in which vectors repeat: x_nt = rows[index_nt].

    Of the 6,400 words of a batch perhaps 2,000 are distinct. A product x_nt Wx of all of them is the
    product of 2,000 rows and a look-up; the gradients of equal words can be summed before they are
    multiplied. The results are those of the full (N, T, D) array, but for the order of summation.

    Attributes
    ----------
    rows : (U, D) array
    groups : Groups
        Of the T·N words, in the order of time.
    shape : (N, T, D)
    """

    def __init__(self, rows: Array, groups: Groups, N: int, T: int) -> None:
        self.rows = rows
        self.groups = groups
        self.shape = N, T, rows.shape[1]


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
        # On a GPU it is the other way round: products are cheap, finding the distinct words is not.
        if self.distinct and get_array_module(xs) is np:
            groups = Groups(to_rows(xs))
            return DistinctRows(self.W.data[groups.distinct], groups, *xs.shape)
        return super().forward(xs.T).swapaxes(0, 1)

    def backward(self, dys: Array | DistinctRows) -> None:
        """Add the gradient dys, (N, T, D), to the rows of dW that the words came from."""
        if isinstance(dys, DistinctRows):
            self.W.grad[dys.groups.distinct] += dys.rows
        else:
            super().backward(to_rows(dys))


class TimeAffine(Affine):
    """y_nt = x_nt W + b.

    Parameters
    ----------
    W : (D, H) array or Parameter
    b : (H,) array or Parameter
    """

    def forward(self, xs: Array) -> Array:
        """Map xs, (N, T, D), to ys, (N, T, H)."""
        N, T, _ = xs.shape
        return from_rows(super().forward(to_rows(xs)), N, T)

    def backward(self, dys: Array) -> Array:
        """Map dys, (N, T, H), to dxs, (N, T, D)."""
        N, T, _ = dys.shape
        return from_rows(super().backward(to_rows(dys)), N, T)


class TimeDropout(Dropout):
    """Dropout with its own mask at every time step."""

    def forward(self, xs: Array) -> Array:
        """Map xs, (N, T, D), to ys of the same shape."""
        return super().forward(xs.swapaxes(0, 1)).swapaxes(0, 1)

    def backward(self, dys: Array) -> Array:
        """Map dys, (N, T, D), to dxs of the same shape."""
        return super().backward(dys.swapaxes(0, 1)).swapaxes(0, 1)


class TimeSoftmaxWithLoss(SoftmaxWithLoss):
    """Mean cross entropy of all labelled words of N sequences of T steps, each word with the same weight.

    Parameters
    ----------
    ignore_label : int
        Steps with this label do not count.
    """

    def forward(self, xs: Array, ts: Array) -> float:
        """Return the loss, in nats a word, of logits xs, (N, T, V), with labels ts, (N, T)."""
        self.shape = ts.shape
        return super().forward(to_rows(xs), to_rows(ts))

    def backward(self, dout: float = 1.0) -> Array:
        """Return dxs, (N, T, V)."""
        return from_rows(super().backward(dout), *self.shape)


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
        super().__init__(self.W, self.b)

    def forward(self, hs: Array, ts: Array) -> float:
        """Return the loss, in nats a word, of hidden states hs, (N, T, H), with labels ts, (N, T)."""
        xp = get_array_module(hs)
        self.shape = ts.shape
        # The bias is the weight of an input that is always 1: h W + b = [h 1] [W; b].
        Wb = xp.concatenate([self.W.data, self.b.data[None]])
        h = to_rows(hs)
        h1 = xp.concatenate([h, xp.ones_like(h[:, :1])], axis=1)
        t, weights = split_labels(to_rows(ts), self.ignore_label, h.dtype)
        self.dh = xp.empty_like(h)
        loss = 0
        for rows in _slices(len(h), _LOGITS // Wb.shape[1]):
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
                dWb = (r * h1_).T @ y
                self.dWb = dWb if rows.start == 0 else xp.add(self.dWb, dWb, out=dWb)
                dh = xp.matmul(y, self.W.data.T, out=self.dh[rows])
                dh *= r
        return loss

    def backward(self, dout: float = 1.0) -> Array:
        """Return dhs, (N, T, H)."""
        dWb, dh = (self.dWb, self.dh) if dout == 1 else (dout * self.dWb, dout * self.dh)
        self.W.add_grad(dWb[:-1])
        self.b.add_grad(dWb[-1])
        return from_rows(dh, *self.shape)

    def _room(self, rows: int, Wb: Array) -> Array:
        """Room for logits, (rows, V), kept from step to step: new memory costs as much time as a product."""
        kept = self._kept
        if type(kept) is not type(Wb) or kept.dtype != Wb.dtype or len(kept) < rows:
            self._kept = get_array_module(Wb).empty((rows, Wb.shape[1]), Wb.dtype)
        return self._kept[:rows]

    @staticmethod
    def _exp(y: Array, t: Array, subtract_max: bool) -> tuple[Array, Array]:
        """Replace each row of y by exp(y), or by exp(y - max(y)), which cannot overflow.

        Return the exponents at t, (rows,), and the sum of each row, (rows,). NumPy makes its
        passes over a few rows at a time, while they are in the cache.
        """
        xp = get_array_module(y)
        y_t, total, ones = xp.empty_like(y[:, 0]), xp.empty_like(y[:, 0]), xp.ones_like(y[0])
        for rows in _slices(len(y), _CACHED // y.shape[1] if xp is np else len(y)):
            y_ = y[rows]
            if subtract_max:
                y_ -= y_.max(axis=1, keepdims=True)
            y_t[rows] = y_[xp.arange(len(y_)), t[rows]]
            xp.exp(y_, out=y_)
            xp.matmul(y_, ones, out=total[rows])  # a sum, four times as fast as y_.sum(axis=1)
        return y_t, total


def _slices(n: int, size: int) -> list[slice]:
    """Cut range(n) into as few slices of at most ``size`` as will do, of nearly the same length."""
    count = -(-n // max(size, 1))
    return [slice(n * k // count, n * (k + 1) // count) for k in range(count)]


class TimeRecurrent(Layer):
    """The loop over time that all recurrent layers share.

    A cell turns pre-activations a_t = x_t Wx + b and its old state into a new state. This class does
    the rest, once: the product of all inputs with Wx before the loop, the loop, and after it the
    products that give dWx, dWh and dxs for all steps together. A subclass says what its cell does:

    ``_step(t, a, hs)``
        From a, (N, G·H), and the old state hs[t], (N, H), compute the new state hs[t + 1].
    ``_derivative(hs)``
        Return, for all steps at once, what their derivatives have in common: (T, N, G·H).
    ``_step_back(t, dh, da)``
        From dh, the gradient of hs[t + 1], and da, step t of the above, compute the gradient of a, in
        place of da, and the part of the gradient of hs[t] that comes through this step, in place of dh.

    Parameters
    ----------
    Wx : (D, G·H) array or Parameter
        Input weights of the cell's G gates, side by side; a simple RNN has one.
    Wh : (H, G·H) array or Parameter
    b : (G·H,) array or Parameter
    stateful : bool
        Start each sequence in the state in which the last one ended, and so train through a long text
        window by window (truncated back-propagation through time), instead of starting from zeros.

    Attributes
    ----------
    h : (N, H) array or None
        The carried state.
    dh : (N, H) array or None
        After ``backward``, the gradient of the state that the sequence started from.
    """

    def __init__(
        self, Wx: Array | Parameter, Wh: Array | Parameter, b: Array | Parameter, stateful: bool = False
    ) -> None:
        self.Wx = as_parameter(Wx, "Wx")
        self.Wh = as_parameter(Wh, "Wh")
        self.b = as_parameter(b, "b")
        super().__init__(self.Wx, self.Wh, self.b)
        self.stateful = stateful
        self.h = None
        self.dh = None

    @property
    def state(self) -> tuple[Array | None, ...]:
        """All that is carried from one sequence to the next: ``layer.set_state(*layer.state)`` changes nothing."""
        return (self.h,)

    def set_state(self, h: Array | None) -> None:
        """Start the next sequence, if ``stateful``, from h, (N, H); None is zeros."""
        self.h = h

    def reset_state(self) -> None:
        """Start the next sequence from zeros."""
        self.set_state(*(None for _ in self.state))

    def forward(self, xs: Array | DistinctRows) -> Array:
        """Map xs, (N, T, D), to the states after each step, hs, (N, T, H).

        Raises
        ------
        ValueError
            If the carried state belongs to a batch of another size.
        """
        self.xp = xp = get_array_module(self.Wh.data)
        N, T, _ = xs.shape
        H = len(self.Wh.data)
        self.x, self.groups = (xs.rows, xs.groups) if isinstance(xs, DistinctRows) else (to_rows(xs), None)
        a = self.x @ self.Wx.data
        a += self.b.data
        if self.groups is not None:
            a = a.take(self.groups.index, axis=0)
        a = a.reshape(T, N, -1)

        self.hs = hs = xp.empty((T + 1, N, H), dtype=a.dtype)  # hs[t + 1] is the state after step t
        hs[0] = self._initial(self.h, N)
        for t in range(T):
            self._step(t, a[t], hs)
        self.h = hs[T].copy()
        return hs[1:].swapaxes(0, 1)

    def backward(self, dhs: Array) -> Array | DistinctRows:
        """Map dhs, (N, T, H), to dxs, (N, T, D). The gradient stops at the start of the sequence."""
        xp = get_array_module(dhs)
        N, T, H = dhs.shape
        dhs = dhs.swapaxes(0, 1)
        self.dh = dh = xp.zeros((N, H), dtype=dhs.dtype)
        # `da @ Wh.T` with a copy of the transposed matrix: the product is up to twice as fast.
        self.WhT = xp.ascontiguousarray(self.Wh.data.T)
        da = self._derivative(self.hs)
        for t in reversed(range(T)):
            dh += dhs[t]
            self._step_back(t, dh, da[t])
        da = da.reshape(T * N, -1)
        self.Wh.add_grad(self.hs[:T].reshape(T * N, H).T @ da)
        if self.groups is not None:
            da = self.groups.sum(da)
        self.Wx.add_grad(self.x.T @ da)
        self.b.add_grad(da.sum(axis=0))
        dx = da @ self.Wx.data.T
        return from_rows(dx, N, T) if self.groups is None else DistinctRows(dx, self.groups, N, T)

    def _initial(self, state: Array | None, N: int) -> Array | float:
        if state is None or not self.stateful:
            return 0
        if len(state) != N:
            raise ValueError(
                f"{type(self).__name__} carries a state for a batch of {len(state)} sequences, "
                f"but this batch has {N}; call reset_state() first"
            )
        return state


class TimeRNN(TimeRecurrent):
    """T steps of a simple recurrent network: h_t = tanh(x_t Wx + h_{t-1} Wh + b).

    Parameters and attributes: see TimeRecurrent, with G = 1.

    References
    ----------
    Elman, "Finding structure in time", 1990; *Deep Learning from Scratch 2*, chapter 5;
    Werbos, "Backpropagation through time: what it does and how to do it", 1990.
    """

    def _step(self, t: int, a: Array, hs: Array) -> None:
        h = self.xp.matmul(hs[t], self.Wh.data, out=hs[t + 1])
        h += a
        self.xp.tanh(h, out=h)

    def _derivative(self, hs: Array) -> Array:
        return 1 - hs[1:] * hs[1:]  # tanh'(a) = 1 - tanh(a)²

    def _step_back(self, t: int, dh: Array, da: Array) -> None:
        da *= dh
        self.xp.matmul(da, self.WhT, out=dh)
