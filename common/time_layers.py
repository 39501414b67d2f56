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
from common.layers import Affine, Dropout, Embedding, Layer, SoftmaxWithLoss, check_gru_bias, split
from common.parameter import Parameter, as_parameter, stacked

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
        return super().forward(xs.swapaxes(0, 1)).swapaxes(0, 1)

    def backward(self, dys: Array) -> Array:
        """Map dys, (N, T, D), to dxs of the same shape."""
        return super().backward(dys.swapaxes(0, 1)).swapaxes(0, 1)

    def mask_shape(self, x: Array) -> tuple[int, ...]:
        """One mask for all steps, or one for each; x is (T, N, D)."""
        return (1, *x.shape[1:]) if self.locked else x.shape


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
        self.dWb = None
        super().__init__(self.W, self.b)

    def forward(self, hs: Array, ts: Array) -> float:
        """Return the loss, in nats a word, of hidden states hs, (N, T, H), with labels ts, (N, T)."""
        xp = get_array_module(hs)
        self.shape = ts.shape
        # The bias is the weight of an input that is always 1: h W + b = [h 1] [W; b].
        Wb = stacked(self.W, self.b)
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
        return from_rows(dh, *self.shape)

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
        From a, (N, G·H), and the old state hs[t], (N, H), compute the new state hs[t + 1]. The cell
        leaves the values of its gates in place of a; they are kept in ``gates``, (T, N, G·H).
    ``_derivative(steps, da)``
        Set da, (some steps, N, G·H), to what the gradient of a will be multiplied by, whatever comes later.
    ``_step_back(t, dh, da)``
        From dh, the gradient of hs[t + 1], and da, step t of the above, compute the gradient of a, in
        place of da, and the gradient of hs[t] that comes through this step, in place of dh.
    ``_add_recurrent_grads(da)``
        Add to the gradient of Wh, and of what parameters only this cell has.

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
        self.xp = get_array_module(self.Wh.data)
        N, T, _ = xs.shape
        self.x, self.groups = (xs.rows, xs.groups) if isinstance(xs, DistinctRows) else (to_rows(xs), None)
        a = self.x @ self.Wx.data
        a += self.b.data[: a.shape[1]]
        if self.groups is not None:
            a = a.take(self.groups.index, axis=0)
        self.gates = a.reshape(T, N, -1)
        self.hs = self._states(self.h, T, N)
        self._prepare(T, N)
        for t in range(T):
            self._step(t, self.gates[t], self.hs)
        self.h = self.hs[T].copy()
        return self.hs[1:].swapaxes(0, 1)

    def backward(self, dhs: Array) -> Array | DistinctRows:
        """Map dhs, (N, T, H), to dxs, (N, T, D). The gradient stops at the start of the sequence."""
        N, T, H = dhs.shape
        dhs = dhs.swapaxes(0, 1)
        self.dh = dh = self.xp.zeros((N, H), dtype=dhs.dtype)
        # With a copy of a small Wh, transposed, the products below are faster; a large one takes long to copy.
        small = self.xp is not np or self.Wh.data.size <= _CACHED
        self.WhT = self.xp.ascontiguousarray(self.Wh.data.T) if small else None
        da = self.xp.empty_like(self.gates)
        # A few steps at a time, whose derivatives are still in the cache when they are used.
        for steps in reversed(_slices(T, _CACHED // da[0].size if self.xp is np else T)):
            self._derivative(steps, da[steps])
            for t in reversed(range(T)[steps]):
                dh += dhs[t]
                self._step_back(t, dh, da[t])
        self._add_recurrent_grads(da)
        da = _flat(da)
        if self.groups is not None:
            da = self.groups.sum(da)
        self.Wx.add_product(self.x.T, da)
        db = self.b.grad[: da.shape[1]]
        db += da.sum(axis=0)
        dx = da @ self.Wx.data.T
        return from_rows(dx, N, T) if self.groups is None else DistinctRows(dx, self.groups, N, T)

    def _prepare(self, T: int, N: int) -> None:
        """Make room for what else the cell remembers of each step."""

    def _add_recurrent_grads(self, da: Array) -> None:
        self.Wh.add_product(_flat(self.hs[:-1]).T, _flat(da))

    def _times_WhT(self, da: Array, out: Array, columns: slice = slice(None)) -> Array:
        """Set out, (N, H), to da @ Wh[:, columns].T, and return it."""
        if self.WhT is not None:
            return self.xp.matmul(da, self.WhT[columns], out=out)
        out[...] = (self.Wh.data[:, columns] @ da.T).T  # NumPy's library is slow at the product as it stands above
        return out

    def _states(self, initial: Array | None, T: int, N: int) -> Array:
        """Room for the states before and after each step, (T + 1, N, H); the first is ``initial`` if it is carried."""
        states = self.xp.empty((T + 1, N, len(self.Wh.data)), dtype=self.gates.dtype)
        states[0] = 0
        if initial is not None and self.stateful:
            if len(initial) != N:
                raise ValueError(
                    f"{type(self).__name__} carries a state for a batch of {len(initial)} sequences, "
                    f"but this batch has {N}; call reset_state() first"
                )
            states[0] = initial
        return states


def _flat(x: Array) -> Array:
    """(T, N, H) -> (T·N, H), without a copy."""
    return x.reshape(-1, x.shape[-1])


def _activate(a: Array, gates: int) -> None:
    """Replace the first ``gates`` columns of a, (N, ·), by σ of them and the others by tanh, in one call of tanh."""
    s = a[:, :gates]
    s *= 0.5
    get_array_module(a).tanh(a, out=a)
    s *= 0.5  # σ(a) = ½ tanh(½ a) + ½
    s += 0.5


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

    def _derivative(self, steps: slice, da: Array) -> None:
        h = self.hs[1:][steps]
        self.xp.multiply(h, h, out=da)
        self.xp.subtract(1, da, out=da)  # tanh'(a) = 1 - tanh(a)²

    def _step_back(self, t: int, dh: Array, da: Array) -> None:
        da *= dh
        self._times_WhT(da, out=dh)


class TimeGRU(TimeRecurrent):
    """T steps of a gated recurrent unit, whose equations stand in ``common.layers.GRU``.

    Parameters and attributes: see TimeRecurrent, with G = 3 gates in the order z, r, h̃; and

    Parameters
    ----------
    b : (3H,) array or Parameter; (4H,) with ``reset_after``
    reset_after : bool
        Multiply by r after the product with Wh, as PyTorch and cuDNN do, not before.
    """

    def __init__(
        self,
        Wx: Array | Parameter,
        Wh: Array | Parameter,
        b: Array | Parameter,
        stateful: bool = False,
        reset_after: bool = False,
    ) -> None:
        super().__init__(Wx, Wh, b, stateful)
        check_gru_bias(self.Wh, self.b, reset_after)
        self.reset_after = reset_after

    def _prepare(self, T: int, N: int) -> None:
        H = len(self.Wh.data)
        # What Wh_h is multiplied by, r ⊙ h_{t-1}; with reset_after, what it gives, h_{t-1} Wh_h + b_rh.
        self.inner = self.xp.empty((T, N, H), dtype=self.gates.dtype)
        self.room = self.xp.empty_like(self.gates[0])

    def _step(self, t: int, a: Array, hs: Array) -> None:
        xp, h_prev, inner = self.xp, hs[t], self.inner[t]
        H = h_prev.shape[1]
        Wh_zr, Wh_h = self.Wh.data[:, : 2 * H], self.Wh.data[:, 2 * H :]
        zr, h_new = a[:, : 2 * H], a[:, 2 * H :]
        zr += xp.matmul(h_prev, Wh_zr, out=self.room[:, : 2 * H])
        _activate(zr, 2 * H)
        z, r = split(zr, 2)
        if self.reset_after:
            xp.matmul(h_prev, Wh_h, out=inner)
            inner += self.b.data[3 * H :]
            h_new += r * inner
        else:
            xp.multiply(r, h_prev, out=inner)
            h_new += xp.matmul(inner, Wh_h, out=self.room[:, 2 * H :])
        xp.tanh(h_new, out=h_new)
        h = xp.subtract(h_prev, h_new, out=hs[t + 1])
        h *= z
        h += h_new  # (1 - z) h̃ + z h_{t-1} = z (h_{t-1} - h̃) + h̃

    def _derivative(self, steps: slice, da: Array) -> None:
        xp, gates, H = self.xp, self.gates[steps], self.hs.shape[2]
        r, h_new = gates[..., H : 2 * H], gates[..., 2 * H :]
        da_z, da_r, da_h = split(da, 3)
        xp.multiply(gates, gates, out=da)
        xp.subtract(1, da, out=da)
        xp.subtract(1, gates[..., : 2 * H], out=da[..., : 2 * H])
        da_h *= da_z  # (1 - h̃²) (1 - z)
        da_z *= self.hs[1:][steps] - h_new  # (1 - z) z (h_{t-1} - h̃), as h - h̃ = z (h_{t-1} - h̃)
        da_r *= self.inner[steps]  # (1 - r) r h_{t-1}
        if self.reset_after:
            da_r *= r

    def _step_back(self, t: int, dh: Array, da: Array) -> None:
        H = dh.shape[1]
        room = self.room[:, :H]
        z, r, _ = split(self.gates[t], 3)
        da_z, da_r, da_h = split(da, 3)
        da_z *= dh
        da_h *= dh
        dh *= z
        if self.reset_after:
            da_r *= da_h
            dh += self._times_WhT(da_h * r, room, slice(2 * H, None))
        else:
            d_inner = self._times_WhT(da_h, room, slice(2 * H, None))
            da_r *= d_inner
            d_inner *= r
            dh += d_inner
        dh += self._times_WhT(da[:, : 2 * H], room, slice(2 * H))

    def _add_recurrent_grads(self, da: Array) -> None:
        H = da.shape[2] // 3
        h_prev, r, da_h = _flat(self.hs[:-1]), self.gates[..., H : 2 * H], da[..., 2 * H :]
        dWh = self.xp.empty_like(self.Wh.data)
        self.xp.matmul(h_prev.T, _flat(da)[:, : 2 * H], out=dWh[:, : 2 * H])
        if self.reset_after:
            d_inner = _flat(da_h * r)
            self.xp.matmul(h_prev.T, d_inner, out=dWh[:, 2 * H :])
            db_rh = self.b.grad[3 * H :]
            db_rh += d_inner.sum(axis=0)
        else:
            self.xp.matmul(_flat(self.inner).T, _flat(da)[:, 2 * H :], out=dWh[:, 2 * H :])
        self.Wh.add_grad(dWh)


class TimeLSTM(TimeRecurrent):
    """T steps of a long short-term memory, whose equations stand in ``common.layers.LSTM``.

    Parameters and attributes: see TimeRecurrent, with G = 4 gates in the order o, i, f, c̃; and

    Parameters
    ----------
    p : (3H,) array or Parameter, optional
        p_o, p_i and p_f: the gates see the memory too (peephole connections).

    Attributes
    ----------
    c, dc : (N, H) arrays or None
        To the memory what h and dh are to the state.
    """

    def __init__(
        self,
        Wx: Array | Parameter,
        Wh: Array | Parameter,
        b: Array | Parameter,
        stateful: bool = False,
        p: Array | Parameter | None = None,
    ) -> None:
        super().__init__(Wx, Wh, b, stateful)
        self.p = None
        if p is not None:
            self.p = as_parameter(p, "p")
            self.parameters.append(self.p)
        self.c = None
        self.dc = None

    @property
    def state(self) -> tuple[Array | None, ...]:
        return self.h, self.c

    def set_state(self, h: Array | None, c: Array | None = None) -> None:
        """Start the next sequence, if ``stateful``, from h and c, (N, H); None is zeros."""
        self.h, self.c = h, c

    def forward(self, xs: Array | DistinctRows) -> Array:
        """Map xs, (N, T, D), to the states after each step, hs, (N, T, H)."""
        hs = super().forward(xs)
        self.c = self.cs[-1].copy()
        return hs

    def backward(self, dhs: Array) -> Array | DistinctRows:
        """Map dhs, (N, T, H), to dxs, (N, T, D). The gradient stops at the start of the sequence."""
        self.dc = self.xp.zeros_like(self.cs[0])
        self.dc_dh = self.xp.empty_like(self.tanh_c)
        return super().backward(dhs)

    def _prepare(self, T: int, N: int) -> None:
        self.cs = self._states(self.c, T, N)
        self.tanh_c = self.xp.empty_like(self.cs[1:])
        self.room = self.xp.empty_like(self.gates[0])

    def _step(self, t: int, a: Array, hs: Array) -> None:
        xp, H, c_prev = self.xp, hs.shape[2], self.cs[t]
        a += xp.matmul(hs[t], self.Wh.data, out=self.room)
        o, i, f, c_new = split(a, 4)
        if self.p is None:
            _activate(a, 3 * H)
        else:
            p_o, p_i, p_f = split(self.p.data, 3)
            i += p_i * c_prev
            f += p_f * c_prev
            _activate(a[:, H:], 2 * H)
        c = xp.multiply(f, c_prev, out=self.cs[t + 1])
        c += i * c_new
        if self.p is not None:
            o += p_o * c
            _activate(o, H)
        tanh_c = xp.tanh(c, out=self.tanh_c[t])
        xp.multiply(o, tanh_c, out=hs[t + 1])

    def _derivative(self, steps: slice, da: Array) -> None:
        xp, gates, H = self.xp, self.gates[steps], self.hs.shape[2]
        o, i, _, c_new = split(gates, 4)
        da_o, da_i, da_f, da_c = split(da, 4)
        tanh_c, dc_dh = self.tanh_c[steps], self.dc_dh[steps]
        xp.multiply(gates, gates, out=da)
        xp.subtract(gates[..., : 3 * H], da[..., : 3 * H], out=da[..., : 3 * H])  # σ'(a) = σ(a) - σ(a)²
        xp.subtract(1, da_c, out=da_c)  # tanh'(a) = 1 - tanh(a)²
        da_o *= tanh_c
        da_i *= c_new
        da_f *= self.cs[:-1][steps]
        da_c *= i
        xp.multiply(self.hs[1:][steps], tanh_c, out=dc_dh)
        xp.subtract(o, dc_dh, out=dc_dh)  # o (1 - tanh(c)²), as h = o tanh(c)

    def _step_back(self, t: int, dh: Array, da: Array) -> None:
        dc, H = self.dc, dh.shape[1]
        _, _, f, _ = split(self.gates[t], 4)
        da_o, da_i, da_f, _ = split(da, 4)
        da_o *= dh
        dc += dh * self.dc_dh[t]
        if self.p is not None:
            p_o, p_i, p_f = split(self.p.data, 3)
            dc += da_o * p_o
        da_ifc = da[:, H:].reshape(-1, 3, H)
        da_ifc *= dc[:, None]
        dc *= f
        if self.p is not None:
            dc += da_i * p_i + da_f * p_f
        self._times_WhT(da, out=dh)

    def _add_recurrent_grads(self, da: Array) -> None:
        super()._add_recurrent_grads(da)
        if self.p is not None:
            da_o, da_i, da_f, _ = split(da, 4)
            c_prev, c = self.cs[:-1], self.cs[1:]
            self.p.add_grad(_flat(self.xp.concatenate([da_o * c, da_i * c_prev, da_f * c_prev], axis=2)).sum(axis=0))


class TimeBidirectional(Layer):
    """Two recurrent layers side by side, one of which reads from the last step to the first.

    At each step the output is both states: h_t = [forward h_t, backward h_t]. What it knows of step t
    includes what comes after t, so it is not for predicting the next word.

    Parameters
    ----------
    ahead, back : TimeRecurrent
        Neither may be stateful: where the one that reads backward should start, nobody knows.

    References
    ----------
    Schuster and Paliwal, "Bidirectional recurrent neural networks", 1997.
    """

    def __init__(self, ahead: TimeRecurrent, back: TimeRecurrent) -> None:
        if ahead.stateful or back.stateful:
            raise ValueError("a bidirectional layer cannot carry its state: the next window comes after this one")
        self.ahead, self.back = ahead, back
        super().__init__(*ahead.parameters, *back.parameters)

    def forward(self, xs: Array) -> Array:
        """Map xs, (N, T, D), to the states of both layers, (N, T, 2H)."""
        hs, back_hs = self.ahead.forward(xs), self.back.forward(xs[:, ::-1])
        return get_array_module(hs).concatenate([hs, back_hs[:, ::-1]], axis=2)

    def backward(self, dhs: Array) -> Array:
        """Map dhs, (N, T, 2H), to dxs, (N, T, D)."""
        dhs, back_dhs = split(dhs, 2)
        return self.ahead.backward(dhs) + self.back.backward(back_dhs[:, ::-1])[:, ::-1]


class TimeBiLSTM(TimeBidirectional):
    """Two TimeLSTM, one of which reads from the last step to the first.

    Parameters
    ----------
    Wx1, Wh1, b1, Wx2, Wh2, b2 : arrays or Parameters
        Of the layer that reads forward, and of the one that reads backward; see TimeLSTM.
    """

    def __init__(self, Wx1, Wh1, b1, Wx2, Wh2, b2) -> None:
        super().__init__(TimeLSTM(Wx1, Wh1, b1), TimeLSTM(Wx2, Wh2, b2))
