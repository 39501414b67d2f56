"""Recurrent layers for a whole sequence: one loop over time, and what is different in each cell.

Each TimeX computes what ``common.time_layers.TimeLoop`` computes with the cell X of ``common.layers``, faster. They
are imported from ``common.time_layers``, like all layers over time.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

import numpy as np

from common.backend import Array, get_array_module
from common.checks import check_recurrent_weights, check_shape
from common.fast.fused import fused_steps
from common.fast.products import blocked_matmul, cache_blocks, fits_cache
from common.fast.segment_sum import UniqueRows
from common.layers import Layer, Weights, split
from common.packing import PackedSequence, from_rows, to_rows, to_rows_like
from common.parameter import Weight

Sequences = Array | PackedSequence  # (N, T, ...), or sequences of many lengths


class TimeRecurrent(Layer):
    """The loop over time that all recurrent layers share: what ``TimeLoop`` computes, faster.

    In a_t = x_t Wx + b + h_{t-1} Wh, the pre-activations of a cell's gates, only the last term needs the state: the
    first product is made for all steps at once, before the loop. Backward, the loop computes da_t and dh_{t-1}; after
    it, one product each gives the sums over all steps, and dx:

        dh_{t-1} = da_t Whᵀ (+ what a cell adds, such as dh_t ⊙ z_t in a GRU)
        dWx = Σ_t x_tᵀ da_t      dWh = Σ_t h_{t-1}ᵀ da_t      db = Σ_t da_t      dx_t = da_t Wxᵀ

    BPTT is truncated where the loop ends, at the first step of the window: the gradient of the initial state, dh_{-1},
    is left in ``dh`` and goes no further back. A subclass has these methods:

    ``_step(xp, rows_t, rows_prev)``
        From x_t Wx + b, in gates[rows_t], and the previous state, compute the state after step t. The values of the
        gates take the place of the pre-activations.
    ``_local_gradients(xp, rows_t, da)``
        Set da[rows_t], for some steps, to those factors of da that need neither dh nor dc: σ'(a), tanh'(a) and others.
    ``_backward_step(xp, rows_t, dh, da)``
        From dh_t, in dh, and these factors, compute da_t, in place of the factors, and dh_{t-1}, in place of dh.
    ``_add_recurrent_grads(da)``
        Add to the gradient of Wh, and of parameters that only this cell has.
    ``_db(db)``
        From the sum of da over all rows, compute the gradient of b.

    Rows of all steps lie one behind the other, so that an array has two axes, and a step is a slice of rows:

        rows_t                         rows of this step in ``gates``, (rows, G·H), and in ``hs_next``, (rows, H)
        rows_prev                      rows of its previous state in ``hs``, (N + rows, H)

        hs        h_-1    a b c        N rows: the initial states of sequences a, b and c
                  h_0     a b c        hs_next begins here: the states after each step
                  h_1     a b          c has ended

    Weights: Wx, (D, G·H), Wh, (H, G·H), and b, (G·H,), of the cell's G gates, as in ``common.layers``. A ``stateful``
    layer starts each window in the state in which the last one ended, ``h``, (N, H), instead of from zeros. Of packed
    sequences, rows of ``h`` and ``dh`` are in the order of their layout, the longest first: ``h[layout.inverse_order]``
    is in the order in which they were packed.
    """

    Wx, Wh, b = Weight(), Weight(), Weight()
    G: int  # gates, counting the candidate
    _order: Array | None = None  # of the packed sequences that the carried state is of
    transient = (
        *(*Layer.transient, "x", "groups", "layout", "hs", "hs_next", "gates", "WhT", "inner", "workspace", "d_inner"),
        *("cs", "cs_next", "cs_prev", "scale", "shift"),
    )

    def __init__(self, Wx: Weights, Wh: Weights, b: Weights, stateful: bool = False) -> None:
        self.Wx, self.Wh, self.b = Wx, Wh, b
        check_recurrent_weights(self)
        self.stateful = stateful
        self.h = self.dh = None

    @property
    def xp(self) -> ModuleType:
        return get_array_module(self.Wh.data)

    @property
    def state(self) -> tuple[Array | None, ...]:
        """All that is carried from one window to the next: ``layer.set_state(*layer.state)`` changes nothing."""
        return (self.h,)

    def set_state(self, h: Array | None) -> None:
        """Start the next window from h, (N, H); None is zeros.

        Raises a ValueError if the layer is not stateful, and would start from zeros all the same, or h does not fit.
        """
        self.h, self._order = self._checked_state("h", h), None

    def _checked_state(self, name: str, state: Array | None) -> Array | None:
        if state is None:
            return None
        if not self.stateful:
            raise ValueError(
                f"{type(self).__name__} starts each sequence from zeros; to set its state, make it with stateful=True"
            )
        check_shape(name, state, (len(state), len(self.Wh.data)))
        return state

    def reset_state(self) -> None:
        """Start the next window from zeros."""
        self.set_state(*(None for _ in self.state))

    def forward(self, xs: Sequences | UniqueRows) -> Sequences:
        """Map xs, (N, T, D), to the states after each step, hs, (N, T, H), which are read-only: backward needs them.

        Raises a ValueError if the shape of xs is another, or the carried state belongs to a batch of another size.
        """
        if isinstance(xs, UniqueRows):
            self.x, self.groups, self.layout = xs.rows, xs.groups, xs.layout
        else:
            (self.x, self.layout), self.groups = to_rows(xs), None
        xp = self.xp
        D = self.x.shape[1]
        if len(self.Wx.data) != D:
            raise ValueError(f"xs must have shape (N, T, {len(self.Wx.data)}), got {(self.layout.N, self.layout.T, D)}")
        self.hs, self.hs_next = self._states(xp, self.h)
        self.gates = self._gates_workspace()
        # x_t Wx + b of all steps; of words that repeat, once, and then a look-up.
        if self.groups is None:
            a = xp.matmul(self.x, self.Wx.data, out=self.gates)
            a += self.b.data[: a.shape[1]]
        else:
            a = self.x @ self.Wx.data
            a += self.b.data[: a.shape[1]]
            a.take(self.groups.index, axis=0, out=self.gates, mode="clip")  # this mode needs no buffer
        self._allocate()
        fused = fused_steps(self)
        step = fused[0] if fused else self._step
        for rows_t, rows_prev in zip(self.layout.rows, self.layout.rows_prev):
            step(xp, rows_t, rows_prev)
        self.h, self._order = self._final(self.hs_next), self.layout.order
        self.remember()
        hs = from_rows(self.hs_next, self.layout)
        make_read_only(hs)
        return hs

    def backward(self, dhs: Sequences | None, dh: Array | None = None) -> Sequences | UniqueRows:
        """Map dhs, (N, T, H), the gradient of the states after each step, to dxs, (N, T, D). None is zeros.

        dh, (N, H), is the gradient of the final state by another way than ``dhs``: of an encoder, whose final state
        its decoder starts from, it is the decoder's ``dh``.

        Raises a ValueError if there was no forward, or a shape is another.
        """
        self.recall()
        xp, layout = self.xp, self.layout
        N, H = layout.N, len(self.Wh.data)
        self.dh = self._gradient_of_final_state("dh", dh)
        dhs = None if dhs is None else to_rows_like(dhs, layout, H, "dhs")
        # With a copy of a small Wh, transposed, the products below are faster; a large one takes long to copy.
        self.WhT = xp.ascontiguousarray(self.Wh.data.T) if fits_cache(self.Wh.data) else None
        da = xp.empty(self.gates.shape, self.gates.dtype)
        fused = fused_steps(self)
        backward_step = fused[1] if fused else self._backward_step
        # A few steps at a time, whose local gradients are still in the cache when they are used.
        for steps in reversed(cache_blocks(xp, layout.T, N * da.shape[1])):
            rows = layout.rows[steps]
            if not fused:
                self._local_gradients(xp, slice(rows[0].start, rows[-1].stop), da)
            for rows_t in reversed(rows):
                dh = self.dh[: rows_t.stop - rows_t.start]  # of the sequences that have this step
                # h_t reaches the loss through the next step, and through the layer above.
                if dhs is not None:
                    dh += dhs[rows_t]
                backward_step(xp, rows_t, dh, da)
        self._add_recurrent_grads(da)
        if self.groups is not None:
            da = self.groups.segment_sum(da)
        self.Wx.add_product(self.x.T, da)
        self.b.add_grad(self._db(da.sum(axis=0)))
        dx = blocked_matmul(da, self.Wx.data.T, out=xp.empty((len(da), len(self.Wx.data)), da.dtype))
        return from_rows(dx, layout) if self.groups is None else UniqueRows(dx, self.groups, layout)

    def _gradient_of_final_state(self, name: str, d: Array | None) -> Array:
        """A copy of d, (N, H), which the loop will change; None is zeros."""
        shape = self.layout.N, len(self.Wh.data)
        copy = self.xp.zeros(shape, self.hs.dtype)
        if d is not None:
            check_shape(name, d, shape)
            copy += d
        return copy

    def _db(self, db: Array) -> Array:
        return db

    def _gates_workspace(self) -> Array:
        return self.xp.empty((len(self.layout), self.Wx.data.shape[1]), dtype=self.hs.dtype)

    def _allocate(self) -> None:
        """Make workspace for what else the cell remembers of each step."""

    def _add_recurrent_grads(self, da: Array) -> None:
        self.Wh.add_product(self._previous(self.hs).T, da)

    def _times_WhT(self, xp: ModuleType, da: Array, out: Array, columns: slice | None = None) -> Array:
        """Set out, (n, H), to da @ Wh[:, columns].T, of all columns if none are given, and return it."""
        if self.WhT is not None:
            return xp.matmul(da, self.WhT if columns is None else self.WhT[columns], out=out)
        Wh = self.Wh.data if columns is None else self.Wh.data[:, columns]
        out[...] = (Wh @ da.T).T  # OpenBLAS is slow at da @ Wh.T
        return out

    def _states(self, xp: ModuleType, initial: Array | None) -> tuple[Array, Array]:
        """Make workspace for states: initial and after each step, (N + rows, H), and its part after each step."""
        N = self.layout.N
        x, W = self.x, self.Wx.data
        dtype = x.dtype if x.dtype is W.dtype else xp.result_type(x, W)
        states = xp.empty((N + len(self.layout), len(self.Wh.data)), dtype)
        states[:N] = 0
        if initial is not None and self.stateful:
            # In the next window of packed sequences, those that have ended are missing: the last ones.
            if len(initial) != N and not (self.layout.order is not None and len(initial) > N):
                raise ValueError(
                    f"{type(self).__name__} carries a state for a batch of {len(initial)} sequences, "
                    f"but this batch has {N}; call reset_state() first"
                )
            if self._order is not None and not _is_next_window(self.layout.order, self._order):
                raise ValueError(
                    f"{type(self).__name__} carries the states of packed sequences, in the order of their lengths, but "
                    "this batch is another; call reset_state() first"
                )
            states[:N] = initial[:N]
        return states, states[N:]

    def _previous(self, states: Array) -> Array:
        """Of (N + rows, H), for each step the states before it, (rows, H)."""
        layout = self.layout
        return states[: len(layout)] if layout.is_rectangle else states[layout.previous]

    def _final(self, states: Array) -> Array:
        """Of (rows, H), the state in which each sequence ends, (N, H)."""
        layout = self.layout
        return states[layout.rows[-1]].copy() if layout.is_rectangle else states[layout.final]


def _is_next_window(order: Array | None, carried: Array) -> bool:
    """Whether sequences of this order are the first of those that the state is of. On a GPU it is not checked."""
    if order is None:
        return False
    return get_array_module(order) is not np or np.array_equal(carried[: len(order)], order)


def make_read_only(hs: Sequences) -> None:
    """Make a view read-only, as backward will need what it shows. CuPy has no read-only arrays."""
    if type(hs) is np.ndarray:
        hs.flags.writeable = False
    elif type(hs.data) is np.ndarray:
        hs.data = hs.data.view()
        hs.data.flags.writeable = False


def _activate(xp: ModuleType, a: Array, scale: Array | float, shift: Array | float) -> None:
    """Replace a, (N, ·), by scale ⊙ tanh(scale ⊙ a) + shift: with ½ and ½ that is σ(a), with 1 and 0 it is tanh(a)."""
    a *= scale
    xp.tanh(a, out=a)
    a *= scale
    a += shift


@lru_cache(maxsize=32)
def _columns(xp: ModuleType, H: int, dtype: np.dtype, gate: float, candidate: float) -> Array:
    """A number for each column of f, g, i, o: one for the gates, another for the candidate."""
    columns = xp.full(4 * H, gate, dtype)
    columns[H : 2 * H] = candidate
    return columns


class TimeRNN(TimeRecurrent):
    """T steps of a simple recurrent network: h_t = tanh(x_t Wx + h_{t-1} Wh + b). See TimeRecurrent, with G = 1.

    Source: Elman, "Finding structure in time", 1990; *Deep Learning from Scratch 2*, chapter 5;
    Werbos, "Backpropagation through time: what it does and how to do it", 1990.
    """

    G = 1

    def _gates_workspace(self) -> Array:
        return self.hs_next  # a_t becomes h_t where it stands: the one array that a long sequence needs

    def _step(self, xp: ModuleType, rows_t: slice, rows_prev: slice) -> None:
        # h = tanh(a)
        h = self.hs_next[rows_t]
        h += self.hs[rows_prev] @ self.Wh.data
        xp.tanh(h, out=h)

    def _local_gradients(self, xp: ModuleType, rows_t: slice, da: Array) -> None:
        # tanh'(a) = 1 - h²
        h, da = self.hs_next[rows_t], da[rows_t]
        xp.multiply(h, h, out=da)
        xp.subtract(1, da, out=da)

    def _backward_step(self, xp: ModuleType, rows_t: slice, dh: Array, da: Array) -> None:
        # da = dh ⊙ (1 - h²), dh_prev = da Whᵀ
        da = da[rows_t]
        da *= dh
        self._times_WhT(xp, da, out=dh)


class TimeGRU(TimeRecurrent):
    """T steps of a gated recurrent unit, whose equations stand in ``common.layers.GRU``.

    See TimeRecurrent, with G = 3 gates in the order z, r, h̃. With ``reset_after``, r is multiplied after the product
    with Wh, as in PyTorch and cuDNN, and b is (4H,).
    """

    G = 3

    def __init__(self, Wx: Weights, Wh: Weights, b: Weights, stateful: bool = False, reset_after: bool = False) -> None:
        self.reset_after = reset_after
        super().__init__(Wx, Wh, b, stateful)

    def _allocate(self) -> None:
        # What Wh_h is multiplied by, r ⊙ h_{t-1}; with reset_after, what it gives, u = h_{t-1} Wh_h + b_u.
        self.inner = self.xp.empty_like(self.hs_next)
        self.workspace = self.xp.empty_like(self.gates[: self.layout.N])

    def _step(self, xp: ModuleType, rows_t: slice, rows_prev: slice) -> None:
        h_prev, inner = self.hs[rows_prev], self.inner[rows_t]
        n, H = h_prev.shape
        a, workspace = self.gates[rows_t], self.workspace[:n]
        Wh_zr, Wh_h = self.Wh.data[:, : 2 * H], self.Wh.data[:, 2 * H :]
        # z and r, in one call
        zr, h_tilde = a[:, : 2 * H], a[:, 2 * H :]
        zr += xp.matmul(h_prev, Wh_zr, out=workspace[:, : 2 * H])
        _activate(xp, zr, 0.5, 0.5)
        z, r = split(zr, 2)
        # h̃ = tanh(a_h)
        if self.reset_after:
            xp.matmul(h_prev, Wh_h, out=inner)
            inner += self.b.data[3 * H :]
            h_tilde += r * inner
        else:
            xp.multiply(r, h_prev, out=inner)
            h_tilde += xp.matmul(inner, Wh_h, out=workspace[:, 2 * H :])
        xp.tanh(h_tilde, out=h_tilde)
        # h = (1 - z) h̃ + z h_prev = z (h_prev - h̃) + h̃
        h = xp.subtract(h_prev, h_tilde, out=self.hs_next[rows_t])
        h *= z
        h += h_tilde

    def _local_gradients(self, xp: ModuleType, rows_t: slice, da: Array) -> None:
        gates, da = self.gates[rows_t], da[rows_t]
        _, r, h_tilde = split(gates, 3)
        da_z, da_r, da_h = split(da, 3)
        H = h_tilde.shape[1]
        # 1 - z and 1 - r
        xp.subtract(1, gates[:, : 2 * H], out=da[:, : 2 * H])
        # da_h: (1 - z) (1 - h̃²)
        xp.multiply(h_tilde, h_tilde, out=da_h)
        xp.subtract(1, da_h, out=da_h)
        da_h *= da_z
        # da_z: (1 - z) z (h_prev - h̃), as h - h̃ = z (h_prev - h̃)
        da_z *= self.hs_next[rows_t] - h_tilde
        # da_r: (1 - r) r h_prev; with reset_after (1 - r) r u
        da_r *= self.inner[rows_t]
        if self.reset_after:
            da_r *= r

    def _backward_step(self, xp: ModuleType, rows_t: slice, dh: Array, da: Array) -> None:
        n, H = dh.shape
        da, workspace = da[rows_t], self.workspace[:n, :H]
        z, r, _ = split(self.gates[rows_t], 3)
        da_z, da_r, da_h = split(da, 3)
        # h is between h̃ and h_prev: back to z, to h̃, and directly to h_prev.
        da_z *= dh
        da_h *= dh
        dh *= z
        # From the candidate back through the reset gate.
        if self.reset_after:
            da_r *= da_h
            dh += self._times_WhT(xp, da_h * r, workspace, slice(2 * H, None))
        else:
            d_inner = self._times_WhT(xp, da_h, workspace, slice(2 * H, None))
            da_r *= d_inner
            d_inner *= r
            dh += d_inner
        # Through the products of the gates.
        dh += self._times_WhT(xp, da[:, : 2 * H], workspace, slice(2 * H))

    def _add_recurrent_grads(self, da: Array) -> None:
        xp, H = self.xp, self.hs.shape[1]
        h_prev, da_zr, da_h = self._previous(self.hs), da[:, : 2 * H], da[:, 2 * H :]
        dWh = xp.empty_like(self.Wh.data)
        xp.matmul(h_prev.T, da_zr, out=dWh[:, : 2 * H])
        if self.reset_after:
            self.d_inner = da_h * self.gates[:, H : 2 * H]
            xp.matmul(h_prev.T, self.d_inner, out=dWh[:, 2 * H :])
        else:
            xp.matmul(self.inner.T, da_h, out=dWh[:, 2 * H :])
        self.Wh.add_grad(dWh)

    def _db(self, db: Array) -> Array:
        return self.xp.concatenate([db, self.d_inner.sum(axis=0)]) if self.reset_after else db


class TimeLSTM(TimeRecurrent):
    """T steps of a long short-term memory, whose equations stand in ``common.layers.LSTM``.

    See TimeRecurrent, with G = 4 gates in the order f, g, i, o. ``c`` and ``dc`` are to the cell state what ``h`` and
    ``dh`` are to the hidden state.
    """

    G = 4

    def __init__(self, Wx: Weights, Wh: Weights, b: Weights, stateful: bool = False) -> None:
        super().__init__(Wx, Wh, b, stateful)
        self.c = self.dc = None

    @property
    def state(self) -> tuple[Array | None, ...]:
        return self.h, self.c

    def set_state(self, h: Array | None, c: Array | None = None) -> None:
        """Start the next window from h and c, (N, H); None is zeros. Raises as that of TimeRecurrent."""
        h, c = self._checked_state("h", h), self._checked_state("c", c)
        if h is not None and c is not None:
            check_shape("c", c, h.shape)
        self.h, self.c, self._order = h, c, None

    def forward(self, xs: Sequences) -> Sequences:
        """Map xs, (N, T, D), to the states after each step, hs, (N, T, H)."""
        hs = super().forward(xs)
        self.c = self._final(self.cs_next)
        return hs

    def backward(
        self, dhs: Sequences | None, dh: Array | None = None, dc: Array | None = None
    ) -> Sequences | UniqueRows:
        """Map dhs, (N, T, H), to dxs, (N, T, D); dc, (N, H), is to the cell state what dh is to the hidden state."""
        if self._remembered is not None:
            self.dc = self._gradient_of_final_state("dc", dc)
            self.cs_prev = self._previous(self.cs)
        return super().backward(dhs, dh)

    def _allocate(self) -> None:
        self.cs, self.cs_next = self._states(self.xp, self.c)
        self.workspace = self.xp.empty_like(self.gates[: self.layout.N])
        H = self.hs.shape[1]
        # What _activate needs for σ of the gates f, i, o and tanh of the candidate g, all in one call.
        self.scale = _columns(self.xp, H, self.gates.dtype, 0.5, 1.0)
        self.shift = _columns(self.xp, H, self.gates.dtype, 0.5, 0.0)

    def _step(self, xp: ModuleType, rows_t: slice, rows_prev: slice) -> None:
        a, h_prev = self.gates[rows_t], self.hs[rows_prev]
        a += xp.matmul(h_prev, self.Wh.data, out=self.workspace[: len(h_prev)])
        # The gates and the candidate, in one call.
        _activate(xp, a, self.scale, self.shift)
        f, g, i, o = split(a, 4)
        # c = f ⊙ c_prev + i ⊙ g
        c = xp.multiply(f, self.cs[rows_prev], out=self.cs_next[rows_t])
        c += i * g
        # h = o ⊙ tanh(c)
        h = xp.tanh(c, out=self.hs_next[rows_t])
        h *= o

    def _local_gradients(self, xp: ModuleType, rows_t: slice, da: Array) -> None:
        gates, da = self.gates[rows_t], da[rows_t]
        _, g, i, _ = split(gates, 4)
        da_f, da_g, da_i, _ = split(da, 4)
        H = g.shape[1]
        # σ'(a) = σ(a) - σ(a)² of f, and of i and o; tanh'(a) = 1 - g²
        xp.multiply(gates, gates, out=da)
        for columns in (slice(0, H), slice(2 * H, 4 * H)):
            xp.subtract(gates[:, columns], da[:, columns], out=da[:, columns])
        xp.subtract(1, da_g, out=da_g)
        # c = f ⊙ c_prev + i ⊙ g: what dc is multiplied by, on the way to each.
        da_f *= self.cs_prev[rows_t]
        da_g *= i
        da_i *= g

    def _backward_step(self, xp: ModuleType, rows_t: slice, dh: Array, da: Array) -> None:
        n, H = dh.shape
        da, dc = da[rows_t], self.dc[:n]
        f, _, _, o = split(self.gates[rows_t], 4)
        da_fgi, da_o = da[:, : 3 * H].reshape(-1, 3, H), da[:, 3 * H :]
        # h = o ⊙ tanh(c): back to the output gate.
        tanh_c = xp.tanh(self.cs_next[rows_t])  # computed anew: to keep it would take as much memory as the states
        da_o *= tanh_c
        da_o *= dh
        # And to c: dc ← dc + dh ⊙ o ⊙ (1 - tanh²(c)), where o ⊙ tanh(c) is h.
        tanh_c *= self.hs_next[rows_t]
        dc += dh * (o - tanh_c)
        # c = f ⊙ c_prev + i ⊙ g: back to these three in one call, and to c_prev.
        da_fgi *= dc[:, None]
        dc *= f
        self._times_WhT(xp, da, out=dh)


class TimePeepholeLSTM(TimeLSTM):
    """T steps of an LSTM whose gates see the cell state, whose equations stand in ``common.layers.PeepholeLSTM``.

    p, (3H,), holds p_f, p_i and p_o. Otherwise it is a TimeLSTM.
    """

    p = Weight()

    def __init__(self, Wx: Weights, Wh: Weights, b: Weights, p: Weights, stateful: bool = False) -> None:
        super().__init__(Wx, Wh, b, stateful)
        self.p = p
        check_recurrent_weights(self)

    def _step(self, xp: ModuleType, rows_t: slice, rows_prev: slice) -> None:
        a, h_prev, c_prev = self.gates[rows_t], self.hs[rows_prev], self.cs[rows_prev]
        n, H = h_prev.shape
        a += xp.matmul(h_prev, self.Wh.data, out=self.workspace[:n])
        # f and i see c_prev.
        p_f, p_i, p_o = split(self.p.data, 3)
        f, g, i, o = split(a, 4)
        f += p_f * c_prev
        i += p_i * c_prev
        _activate(xp, a[:, : 3 * H], self.scale[: 3 * H], self.shift[: 3 * H])
        c = xp.multiply(f, c_prev, out=self.cs_next[rows_t])
        c += i * g
        # o sees c.
        o += p_o * c
        _activate(xp, o, 0.5, 0.5)
        h = xp.tanh(c, out=self.hs_next[rows_t])
        h *= o

    def _backward_step(self, xp: ModuleType, rows_t: slice, dh: Array, da: Array) -> None:
        n, H = dh.shape
        da, dc = da[rows_t], self.dc[:n]
        f, _, _, o = split(self.gates[rows_t], 4)
        da_f, _, da_i, da_o = split(da, 4)
        da_fgi = da[:, : 3 * H].reshape(-1, 3, H)
        p_f, p_i, p_o = split(self.p.data, 3)
        tanh_c = xp.tanh(self.cs_next[rows_t])
        da_o *= tanh_c
        da_o *= dh
        tanh_c *= self.hs_next[rows_t]
        dc += dh * (o - tanh_c)
        dc += da_o * p_o
        da_fgi *= dc[:, None]
        dc *= f
        dc += da_f * p_f + da_i * p_i
        self._times_WhT(xp, da, out=dh)

    def _add_recurrent_grads(self, da: Array) -> None:
        super()._add_recurrent_grads(da)
        da_f, _, da_i, da_o = split(da, 4)
        dp = [da_f * self.cs_prev, da_i * self.cs_prev, da_o * self.cs_next]
        self.p.add_grad(self.xp.concatenate(dp, axis=1).sum(axis=0))


class TimeBidirectional(Layer):
    """Two recurrent layers side by side, one of which reads from the last step to the first.

    At each step the output is both states: h_t = [forward h_t, backward h_t]. What it knows of step t
    includes what comes after t, so it is not for predicting the next word.

    Neither layer may be stateful: the one that reads backward would have to start from the next window.

    Source: Schuster and Paliwal, "Bidirectional recurrent neural networks", 1997.
    """

    def __init__(self, forward_layer: TimeRecurrent, backward_layer: TimeRecurrent) -> None:
        if forward_layer.stateful or backward_layer.stateful:
            raise ValueError("a bidirectional layer cannot carry its state: the next window comes after this one")
        H, back_H = len(forward_layer.Wh.data), len(backward_layer.Wh.data)
        if back_H != H:
            raise ValueError(f"both layers need states of the same size, got {H} and {back_H}")
        self.forward_layer, self.backward_layer = forward_layer, backward_layer
        self.set_parameters([*forward_layer.parameters, *backward_layer.parameters])

    def forward(self, xs: Sequences) -> Sequences:
        """Map xs, (N, T, D), to the states of both layers, (N, T, 2H)."""
        x, layout = to_rows(xs)
        flip = layout.reversed
        h, _ = to_rows(self.forward_layer.forward(xs))
        back_h, _ = to_rows(self.backward_layer.forward(from_rows(x[flip], layout)))
        self.remember(layout)
        return from_rows(get_array_module(x).concatenate([h, back_h[flip]], axis=1), layout)

    def backward(self, dhs: Sequences) -> Sequences:
        """Map dhs, (N, T, 2H), to dxs, (N, T, D)."""
        if self._remembered is None:
            self.recall()  # says that there was no forward
        (layout,) = self._remembered
        dh = to_rows_like(dhs, layout, 2 * len(self.forward_layer.Wh.data), "dhs")
        flip = layout.reversed
        dh, back_dh = split(dh, 2)
        dx, _ = to_rows(self.forward_layer.backward(from_rows(dh, layout)))
        back_dx, _ = to_rows(self.backward_layer.backward(from_rows(back_dh[flip], layout)))
        return from_rows(dx + back_dx[flip], layout)


class TimeBiLSTM(TimeBidirectional):
    """Two TimeLSTM, with weights Wx1, Wh1, b1 and Wx2, Wh2, b2; the second reads from the last step to the first."""

    def __init__(
        self, Wx1: Array, Wh1: Array, b1: Array, Wx2: Array, Wh2: Array, b2: Array, stateful: bool = False
    ) -> None:
        super().__init__(TimeLSTM(Wx1, Wh1, b1, stateful), TimeLSTM(Wx2, Wh2, b2, stateful))
