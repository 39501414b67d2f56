"""Recurrent layers for a whole sequence: one loop over time, and what is different in each cell.

They are imported from ``common.time_layers``, like all layers over time.
"""

from __future__ import annotations

from common.backend import Array, cut_to_cache, fits_cache, get_array_module, product
from common.layers import Layer, check_gru_bias, split
from common.packing import DistinctRows, PackedSequence, from_rows, to_rows
from common.parameter import Parameter, as_parameter

Sequences = Array | PackedSequence  # (N, T, ...), or sequences of many lengths


class TimeRecurrent(Layer):
    """The loop over time that all recurrent layers share.

    A cell turns pre-activations a_t = x_t Wx + b and its old state into a new state. This class does
    the rest, once: the product of all inputs with Wx before the loop, the loop, and after it the
    products that give dWx, dWh and dxs for all steps together. A subclass says what its cell does:

    ``_step(now, before)``
        From a and the old state, compute the new state. The cell leaves the values of its gates in place of a.
    ``_derivative(now, da)``
        Set da[now], for some steps, to what the gradients of their gates will be multiplied by, whatever it is.
    ``_step_back(now, dh, da)``
        From dh, the gradient of the new state, and da[now] of the above, compute the gradient of a, in place of
        da[now], and the gradient of the old state that comes through this step, in place of dh.
    ``_add_recurrent_grads(da)``
        Add to the gradient of Wh, and of what parameters only this cell has.

    Rows of all steps lie one behind the other, so that an array has two axes, and a step is a slice of rows:

        now                            rows of this step in ``gates``, (rows, G·H), and in the new states ``hs_new``
        before                         rows of its old state in ``hs``, (N + rows, H)

        hs        h_0    a0 b0 c0      N rows: the state before the first step
                  h_1    a1 b1 c1      hs_new begins here: the state after the first step
                  h_2    a2 b2         one sequence has ended: the old state of a and b is above it, in h_1

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

    def forward(self, xs: Sequences | DistinctRows) -> Sequences:
        """Map xs, (N, T, D), to the states after each step, hs, (N, T, H).

        Raises
        ------
        ValueError
            If the carried state belongs to a batch of another size.
        """
        self.xp = get_array_module(self.Wh.data)
        if isinstance(xs, DistinctRows):
            self.x, self.groups, self.layout = xs.rows, xs.groups, xs.layout
        else:
            (self.x, self.layout), self.groups = to_rows(xs), None
        self.hs, self.hs_new = self._states(self.h)
        self.gates = self._room_for_gates()
        if self.groups is None:
            a = self.xp.matmul(self.x, self.Wx.data, out=self.gates)
            a += self.b.data[: a.shape[1]]
        else:
            a = self.x @ self.Wx.data
            a += self.b.data[: a.shape[1]]
            a.take(self.groups.index, axis=0, out=self.gates, mode="clip")  # this mode needs no buffer
        self._prepare()
        for now, before in zip(self.layout.rows, self.layout.before):
            self._step(now, before)
        self.h = self._last(self.hs_new)
        return from_rows(self.hs_new, self.layout)

    def backward(self, dhs: Sequences) -> Sequences | DistinctRows:
        """Map dhs, (N, T, H), to dxs, (N, T, D). The gradient stops at the start of the sequence."""
        dhs, layout = to_rows(dhs)
        self.dh = self.xp.zeros((layout.N, len(self.Wh.data)), self.hs.dtype)
        # With a copy of a small Wh, transposed, the products below are faster; a large one takes long to copy.
        self.WhT = self.xp.ascontiguousarray(self.Wh.data.T) if fits_cache(self.Wh.data) else None
        da = self.xp.empty_like(self.gates)
        # A few steps at a time, whose derivatives are still in the cache when they are used.
        for steps in reversed(cut_to_cache(self.xp, layout.T, layout.N * da.shape[1])):
            rows = layout.rows[steps]
            self._derivative(slice(rows[0].start, rows[-1].stop), da)
            for now in reversed(rows):
                dh = self.dh[: now.stop - now.start]
                dh += dhs[now]
                self._step_back(now, dh, da)
        self._add_recurrent_grads(da)
        if self.groups is not None:
            da = self.groups.sum(da)
        self.Wx.add_product(self.x.T, da)
        db = self.b.grad[: da.shape[1]]
        db += da.sum(axis=0)
        dx = product(da, self.Wx.data.T, out=self.xp.empty((len(da), len(self.Wx.data)), da.dtype))
        return from_rows(dx, layout) if self.groups is None else DistinctRows(dx, self.groups, layout)

    def _room_for_gates(self) -> Array:
        return self.xp.empty((len(self.layout), self.Wx.data.shape[1]), dtype=self.hs.dtype)

    def _prepare(self) -> None:
        """Make room for what else the cell remembers of each step."""

    def _add_recurrent_grads(self, da: Array) -> None:
        self.Wh.add_product(self._old(self.hs).T, da)

    def _times_WhT(self, da: Array, out: Array, columns: slice = slice(None)) -> Array:
        """Set out, (n, H), to da @ Wh[:, columns].T, and return it."""
        if self.WhT is not None:
            return self.xp.matmul(da, self.WhT[columns], out=out)
        out[...] = (self.Wh.data[:, columns] @ da.T).T  # NumPy's library is slow at the product as it stands above
        return out

    def _states(self, initial: Array | None) -> tuple[Array, Array]:
        """Make room for states: before and after all steps, (N + rows, H), and of that those after, (rows, H)."""
        N = self.layout.N
        dtype = self.xp.result_type(self.x, self.Wx.data)
        states = self.xp.empty((N + len(self.layout), len(self.Wh.data)), dtype)
        states[:N] = 0
        if initial is not None and self.stateful:
            # In the next window of packed sequences, those that have ended are missing: the last ones.
            if len(initial) != N and not (self.layout.order is not None and len(initial) > N):
                raise ValueError(
                    f"{type(self).__name__} carries a state for a batch of {len(initial)} sequences, "
                    f"but this batch has {N}; call reset_state() first"
                )
            states[:N] = initial[:N]
        return states, states[N:]

    def _old(self, states: Array) -> Array:
        """Of (N + rows, H), for each step the states before it, (rows, H)."""
        layout = self.layout
        return states[: len(layout)] if layout.full else states[layout.old]

    def _last(self, states: Array) -> Array:
        """Of (rows, H), the state in which each sequence ends, (N, H)."""
        layout = self.layout
        return states[layout.rows[-1]].copy() if layout.full else states[layout.last]


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

    def _room_for_gates(self) -> Array:
        return self.hs_new  # a_t becomes h_t where it stands: the one array that a long sequence needs

    def _step(self, now: slice, before: slice) -> None:
        h = self.hs_new[now]
        h += self.hs[before] @ self.Wh.data
        self.xp.tanh(h, out=h)

    def _derivative(self, now: slice, da: Array) -> None:
        h, da = self.hs_new[now], da[now]
        self.xp.multiply(h, h, out=da)
        self.xp.subtract(1, da, out=da)  # tanh'(a) = 1 - tanh(a)²

    def _step_back(self, now: slice, dh: Array, da: Array) -> None:
        da = da[now]
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

    def _prepare(self) -> None:
        # What Wh_h is multiplied by, r ⊙ h_{t-1}; with reset_after, what it gives, h_{t-1} Wh_h + b_rh.
        self.inner = self.xp.empty_like(self.hs_new)
        self.room = self.xp.empty_like(self.gates[: self.layout.N])

    def _step(self, now: slice, before: slice) -> None:
        xp, h_prev, inner = self.xp, self.hs[before], self.inner[now]
        n, H = h_prev.shape
        a, room = self.gates[now], self.room[:n]
        Wh_zr, Wh_h = self.Wh.data[:, : 2 * H], self.Wh.data[:, 2 * H :]
        zr, h_new = a[:, : 2 * H], a[:, 2 * H :]
        zr += xp.matmul(h_prev, Wh_zr, out=room[:, : 2 * H])
        _activate(zr, 2 * H)
        z, r = split(zr, 2)
        if self.reset_after:
            xp.matmul(h_prev, Wh_h, out=inner)
            inner += self.b.data[3 * H :]
            h_new += r * inner
        else:
            xp.multiply(r, h_prev, out=inner)
            h_new += xp.matmul(inner, Wh_h, out=room[:, 2 * H :])
        xp.tanh(h_new, out=h_new)
        h = xp.subtract(h_prev, h_new, out=self.hs_new[now])
        h *= z
        h += h_new  # (1 - z) h̃ + z h_{t-1} = z (h_{t-1} - h̃) + h̃

    def _derivative(self, now: slice, da: Array) -> None:
        xp, gates, da = self.xp, self.gates[now], da[now]
        _, r, h_new = split(gates, 3)
        da_z, da_r, da_h = split(da, 3)
        H = h_new.shape[1]
        xp.subtract(1, gates[:, : 2 * H], out=da[:, : 2 * H])
        xp.multiply(h_new, h_new, out=da_h)
        xp.subtract(1, da_h, out=da_h)
        da_h *= da_z  # (1 - h̃²) (1 - z)
        da_z *= self.hs_new[now] - h_new  # (1 - z) z (h_{t-1} - h̃), as h - h̃ = z (h_{t-1} - h̃)
        da_r *= self.inner[now]  # (1 - r) r h_{t-1}
        if self.reset_after:
            da_r *= r

    def _step_back(self, now: slice, dh: Array, da: Array) -> None:
        n, H = dh.shape
        da, room = da[now], self.room[:n, :H]
        z, r, _ = split(self.gates[now], 3)
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
        xp, H = self.xp, self.hs.shape[1]
        h_prev, da_zr, da_h = self._old(self.hs), da[:, : 2 * H], da[:, 2 * H :]
        dWh = xp.empty_like(self.Wh.data)
        xp.matmul(h_prev.T, da_zr, out=dWh[:, : 2 * H])
        if self.reset_after:
            d_inner = da_h * self.gates[:, H : 2 * H]
            xp.matmul(h_prev.T, d_inner, out=dWh[:, 2 * H :])
            db_rh = self.b.grad[3 * H :]
            db_rh += d_inner.sum(axis=0)
        else:
            xp.matmul(self.inner.T, da_h, out=dWh[:, 2 * H :])
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

    def forward(self, xs: Sequences | DistinctRows) -> Sequences:
        """Map xs, (N, T, D), to the states after each step, hs, (N, T, H)."""
        hs = super().forward(xs)
        self.c = self._last(self.cs_new)
        return hs

    def backward(self, dhs: Sequences) -> Sequences | DistinctRows:
        """Map dhs, (N, T, H), to dxs, (N, T, D). The gradient stops at the start of the sequence."""
        self.dc = self.xp.zeros_like(self.cs[: self.layout.N])
        self.cs_old = self._old(self.cs)
        return super().backward(dhs)

    def _prepare(self) -> None:
        self.cs, self.cs_new = self._states(self.c)
        self.room = self.xp.empty_like(self.gates[: self.layout.N])

    def _step(self, now: slice, before: slice) -> None:
        xp, a, h_prev, c_prev = self.xp, self.gates[now], self.hs[before], self.cs[before]
        n, H = h_prev.shape
        a += xp.matmul(h_prev, self.Wh.data, out=self.room[:n])
        o, i, f, c_new = split(a, 4)
        if self.p is None:
            _activate(a, 3 * H)
        else:
            p_o, p_i, p_f = split(self.p.data, 3)
            i += p_i * c_prev
            f += p_f * c_prev
            _activate(a[:, H:], 2 * H)
        c = xp.multiply(f, c_prev, out=self.cs_new[now])
        c += i * c_new
        if self.p is not None:
            o += p_o * c
            _activate(o, H)
        h = xp.tanh(c, out=self.hs_new[now])
        h *= o

    def _derivative(self, now: slice, da: Array) -> None:
        xp, gates, da = self.xp, self.gates[now], da[now]
        _, i, _, c_new = split(gates, 4)
        _, da_i, da_f, da_c = split(da, 4)
        s = 3 * i.shape[1]
        xp.multiply(gates, gates, out=da)
        xp.subtract(gates[:, :s], da[:, :s], out=da[:, :s])  # σ'(a) = σ(a) - σ(a)²
        xp.subtract(1, da_c, out=da_c)  # tanh'(a) = 1 - tanh(a)²
        da_i *= c_new
        da_f *= self.cs_old[now]
        da_c *= i

    def _step_back(self, now: slice, dh: Array, da: Array) -> None:
        n, H = dh.shape
        da, dc = da[now], self.dc[:n]
        o, _, f, _ = split(self.gates[now], 4)
        da_o, da_i, da_f, _ = split(da, 4)
        tanh_c = self.xp.tanh(self.cs_new[now])  # computed anew: to keep it would take as much memory as the states
        da_o *= tanh_c
        da_o *= dh
        tanh_c *= self.hs_new[now]
        dc += dh * (o - tanh_c)  # dh/dc = o (1 - tanh(c)²), and h = o tanh(c)
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
            c_prev, c = self.cs_old, self.cs_new
            self.p.add_grad(self.xp.concatenate([da_o * c, da_i * c_prev, da_f * c_prev], axis=1).sum(axis=0))


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

    def forward(self, xs: Sequences) -> Sequences:
        """Map xs, (N, T, D), to the states of both layers, (N, T, 2H)."""
        x, layout = to_rows(xs)
        flip = layout.reversed
        h, _ = to_rows(self.ahead.forward(xs))
        back_h, _ = to_rows(self.back.forward(from_rows(x[flip], layout)))
        return from_rows(get_array_module(x).concatenate([h, back_h[flip]], axis=1), layout)

    def backward(self, dhs: Sequences) -> Sequences:
        """Map dhs, (N, T, 2H), to dxs, (N, T, D)."""
        dh, layout = to_rows(dhs)
        flip = layout.reversed
        dh, back_dh = split(dh, 2)
        dx, _ = to_rows(self.ahead.backward(from_rows(dh, layout)))
        back_dx, _ = to_rows(self.back.backward(from_rows(back_dh[flip], layout)))
        return from_rows(dx + back_dx[flip], layout)


class TimeBiLSTM(TimeBidirectional):
    """Two TimeLSTM, one of which reads from the last step to the first.

    Parameters
    ----------
    Wx1, Wh1, b1, Wx2, Wh2, b2 : arrays or Parameters
        Of the layer that reads forward, and of the one that reads backward; see TimeLSTM.
    """

    def __init__(self, Wx1, Wh1, b1, Wx2, Wh2, b2) -> None:
        super().__init__(TimeLSTM(Wx1, Wh1, b1), TimeLSTM(Wx2, Wh2, b2))
