"""Layers for a whole sequence: T time steps at once, and truncated back-propagation through time.

``TimeLoop`` is the definition: T calls of a one-step cell, one after the other. ``TimeRNN``, ``TimeGRU`` and
``TimeLSTM`` compute the same, faster (``common/fast/recurrent.py``). The layers without a state, such as TimeAffine,
compute all steps in one call of the layer for one step. Arrays have the textbook's shapes outside, (N, T, D), and lie
in memory in the order of time: the N rows of one step are neighbours, so a step is one block, and all steps together
are one (T·N, D) matrix without a copy. Sequences of many lengths come packed (see ``common.packing``).

        (N, T, D) as seen                    (T, N, D) as it lies in memory

        sequence 0:  a0 a1 a2                step 0:  a0 b0
        sequence 1:  b0 b1 b2                step 1:  a1 b1
                                             step 2:  a2 b2
"""

from __future__ import annotations

from copy import copy
from types import ModuleType

import numpy

from common.backend import Array, get_array_module
from common.checks import as_ids, check_range, check_shape, check_weights, check_whole
from common.config import GPU
from common.fast.products import split_evenly
from common.fast.recurrent import (
    Sequences,
    TimeBidirectional,
    TimeBiLSTM,
    TimeGRU,
    TimeLSTM,
    TimePeepholeLSTM,
    TimeRecurrent,
    TimeRNN,
)
from common.fast.segment_sum import Unique, UniqueRows
from common.functions import as_float, cross_entropy_error, sigmoid, softmax
from common.layers import (
    GRU,
    LSTM,
    RNN,
    Affine,
    Cell,
    Dropout,
    Embedding,
    Layer,
    MatMul,
    MeanSquaredError,
    Sigmoid,
    SigmoidWithLoss,
    Softmax,
    SoftmaxWithLoss,
    Weights,
    as_labels,
    two_axes,
)
from common.np import np
from common.packing import Layout, PackedSequence, from_rows, to_rows, to_rows_like
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
    "TimeEmbeddingDropout",
    "TimeGRU",
    "TimeLSTM",
    "TimeLast",
    "TimeLoop",
    "TimeMean",
    "TimeMeanSquaredError",
    "TimePeepholeLSTM",
    "TimeRNN",
    "TimeRecurrent",
    "TimeSigmoidWithLoss",
    "TimeSoftmaxWithLoss",
    "WeightDrop",
    "cross_entropy_error",
    "np",
    "sigmoid",
    "softmax",
]

MAX_LOGITS = 2**25  # logits that exist at one time: 128 MB in float32


class TimeLoop(Layer):
    """T steps of any cell of ``common.layers``, and back-propagation through time (BPTT): the definition, for reading.

               h_0      h_1      h_2                      dhs_0    dhs_1    dhs_2        from the layer above
                ↑        ↑        ↑                        ↓        ↓        ↓
        h_-1 → cell  →  cell  →  cell → h_2     dh_-1 ←  cell  ←  cell  ←  cell ← dh_2   from outside, or 0
                ↑        ↑        ↑                        ↓        ↓        ↓
               x_0      x_1      x_2                      dx_0     dx_1     dx_2

        h_t = cell.forward(x_t, h_{t-1})                   t = 0, ..., T - 1
        dx_t, dh_{t-1} = cell.backward(dhs_t + dh_t)       t = T - 1, ..., 0
        dW = Σ_t dW_t                                      all steps use the same weights

    An LSTM hands on c and dc beside h and dh. A window is T steps of a longer text. If the layer is ``stateful``, each
    starts from the state in which the last one ended, but the gradient does not go back into that window: BPTT is
    truncated here. What is left of it is the gradient of the initial state, ``dh`` (and ``dc``).
    """

    def __init__(self, cell: Cell, stateful: bool = False) -> None:
        self.cell, self.stateful = cell, stateful
        self.set_parameters(cell.parameters)
        self.reset_state()

    def set_state(self, *state: Array | None) -> None:
        """Start the next window from h, and for an LSTM c, (N, H); None is zeros. A ValueError if not stateful."""
        if not self.stateful and any(s is not None for s in state):
            raise ValueError("TimeLoop starts each window from zeros; to set its state, make it with stateful=True")
        self.state = state

    def reset_state(self) -> None:
        """Start the next window from zeros."""
        self.set_state(*[None] * self.cell.states)

    def forward(self, xs: Array) -> Array:
        """Map xs, (N, T, D), to the states after each step, hs, (N, T, H). Raises TypeError for a PackedSequence."""
        if isinstance(xs, PackedSequence):
            raise TypeError("TimeLoop runs sequences of one length, an array (N, T, D), not a PackedSequence")
        N, T, _ = xs.shape
        Wh = self.cell.Wh.data
        xp = get_array_module(Wh)
        state = [xp.zeros((N, len(Wh)), Wh.dtype) if s is None or not self.stateful else s for s in self.state]
        steps = [copy(self.cell) for _ in range(T)]  # the same weights, and for each step what it remembers
        hs = []
        for t in range(T):
            state = steps[t].forward(xs[:, t], *state)
            state = state if isinstance(state, tuple) else (state,)
            hs.append(state[0])
        self.state = tuple(state)
        self.remember(steps)
        return xp.stack(hs, axis=1)

    def backward(self, dhs: Array, dh: Array | float = 0, dc: Array | float = 0) -> Array:
        """Map dhs, (N, T, H), to dxs, (N, T, D). dh and dc, (N, H), are the gradients of the final state.

        Afterwards, ``self.dh`` and ``self.dc`` are those of the initial state.
        """
        (steps,) = self.recall()
        dstate, dxs = [dh, dc][: self.cell.states], []
        for t in reversed(range(len(steps))):
            dstate[0] = dstate[0] + dhs[:, t]  # h_t reaches the loss through the next step, and through the layer above
            dx, *dstate = steps[t].backward(*dstate)
            dxs.insert(0, dx)
        self.dh, self.dc = [*dstate, None][:2]
        return get_array_module(dhs).stack(dxs, axis=1)


class TimeEmbedding(Embedding):
    """y_nt = W[x_nt], for N sequences of T words, with W (V, D).

    With ``distinct``, forward returns UniqueRows, for a recurrent layer that follows at once and can use them.
    """

    def __init__(self, W: Weights, distinct: bool = False) -> None:
        super().__init__(W)
        self.distinct = distinct

    def forward(self, xs: Array) -> Array | UniqueRows:
        """Map word ids xs, (N, T), to vectors, (N, T, D).

        Raises a TypeError unless the ids are integers, an IndexError unless all are in [0, V), and a ValueError unless
        they have two axes.
        """
        x, layout = to_rows(xs, "word ids", "NT")
        # Not on a GPU: products are cheap there, and finding the distinct words is not.
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
    """y_nt = x_nt W + b, with W (D, H) and b (H,)."""

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

    Source: Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016.
    """

    transient = (*Dropout.transient, "layout")

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


class TimeEmbeddingDropout(TimeEmbedding):
    """Embedding of which whole words are dropped: y_nt = m_w W[w] / (1 - p), for the word w = x_nt.

    Each of the V words has one m_w for all its places in a window: 0 with probability p, else 1.

    Source: Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016.
    """

    def __init__(self, W: Weights, p: float, rng: numpy.random.Generator | None = None) -> None:
        super().__init__(W)
        self.dropout = Dropout(p, rng)

    def forward(self, xs: Array) -> Array:
        """Map word ids xs, (N, T), to vectors, (N, T, D)."""
        y, layout = to_rows(super().forward(xs))
        m = self.dropout.forward(get_array_module(y).ones((len(self.W.data), 1), y.dtype))  # 1 / (1 - p), or 0
        (x,) = self._remembered
        self.remember(x, m)
        return from_rows(y * m[x], layout)

    def backward(self, dys: Array) -> None:
        """Add the gradient dys, (N, T, D), to the rows of dW that the words came from."""
        dy, _ = to_rows(dys, "dys")
        x, m = self.recall()
        self.W.add_rows(x, dy * m[x])


class WeightDrop(Layer):
    """A recurrent layer that computes with W̃h = M ⊙ Wh / (1 - p) in place of Wh: DropConnect.

    Each element of M, (H, G·H), is 0 with probability p, else 1. It is drawn once a window, and is the same at all its
    steps; dWh = M / (1 - p) ⊙ dW̃h.

    Source: Wan et al., "Regularization of neural networks using DropConnect", 2013; Merity, Keskar and Socher,
    "Regularizing and optimizing LSTM language models", 2018.
    """

    Wh = Weight()

    def __init__(self, layer: TimeRecurrent, p: float, rng: numpy.random.Generator | None = None) -> None:
        self.Wh = layer.Wh
        self.layer, self.dropout = layer, Dropout(p, rng)
        self.dropped: Parameter | None = None  # W̃h, made once
        self.set_parameters(layer.parameters)

    def forward(self, xs: Sequences) -> Sequences:
        """Map xs, (N, T, D), to the states after each step, hs, (N, T, H)."""
        self.remember()
        W = self.dropout.forward(self.Wh.data)
        if W is self.Wh.data:  # nothing is dropped, as in evaluation
            vars(self.layer)["Wh"] = self.Wh
        else:
            if self.dropped is None or get_array_module(self.dropped.data) is not get_array_module(W):
                self.dropped = Parameter(W, self.Wh.name)
            self.dropped.data = W
            vars(self.layer)["Wh"] = self.dropped
        return self.layer.forward(xs)

    def backward(self, dhs: Sequences) -> Sequences:
        """Map dhs, (N, T, H), to dxs, (N, T, D)."""
        self.recall()
        used = self.layer.Wh
        used.is_stale = True
        dxs = self.layer.backward(dhs)
        if used is not self.Wh:
            self.Wh.add_grad(self.dropout.backward(used.grad))
        return dxs


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

    If x is ``bidirectional``, the states [forward h, backward h] of a TimeBidirectional, y takes each where its layer
    has read the whole sequence: forward h_nT_n at the end, and backward h_n1 at the beginning.
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

    transient = (*MeanSquaredError.transient, "layout")

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
    """Mean cross entropy of all words of N sequences of T steps but those labelled ``ignore_label``.

    Each word has the same weight.
    """

    transient = (*SoftmaxWithLoss.transient, "layout")

    def forward(self, xs: Array, ts: Array) -> float:
        """Return the loss, in nats per token, of logits xs, (N, T, V), with labels ts, (N, T), or one-hot (N, T, V).

        Raises a TypeError, IndexError or ValueError unless labels are integers in [0, V), of the shape of the words.
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
    """Mean binary cross entropy of N sequences of T steps, each step with the same weight.

    Scores and labels are (N, T), as is the gradient; otherwise as in SigmoidWithLoss.
    """


def label_rows(ts: Sequences, layout: Layout, V: int) -> Array:
    """The labels, (rows,), of words with this layout; or one-hot labels, (rows, V). Otherwise a ValueError."""
    one_hot = len(getattr(ts, "shape", ())) == 3
    t, found = to_rows(ts, "labels", "NTV" if one_hot else "NT")
    if found is not layout and found.batch_sizes != layout.batch_sizes:
        raise ValueError(f"labels must have shape {(layout.N, layout.T)}, got {numpy.shape(ts)}")
    if one_hot and t.shape[1] != V:
        raise ValueError(f"one-hot labels must have shape {(layout.N, layout.T, V)}, got {ts.shape}")
    return t


class TimeAffineSoftmaxWithLoss(Layer):
    """TimeAffine followed by TimeSoftmaxWithLoss, without ever holding all logits.

        y = h W + b                               logits, (rows, V): a row is a step of a sequence
        L = -Σ_r w_r log softmax(y_r)[t_r]        w_r = 1 / n for each of the n rows that have a label, otherwise 0

        dy = w ⊙ (softmax(y) - onehot(t))
        dW = hᵀ dy    db = Σ_r dy_r    dh = dy Wᵀ

    The logits of all T·N rows are by far the largest array of a language model. L is a sum over rows, so ``forward``
    takes a slice of the rows at a time, from the logits to the gradients, and only sums outlive the slice. Evaluation
    computes the loss alone. ``common.fast.output_layer`` has the faster twin that the models use.

    Parameters
    ----------
    W : (H, V) array or Parameter
    b : (V,) array or Parameter
    ignore_label : int
        Steps with this label do not count.
    """

    W, b = Weight(), Weight()

    def __init__(self, W: Array | Parameter, b: Array | Parameter, ignore_label: int = -1) -> None:
        self.W, self.b = W, b
        check_whole("ignore_label", ignore_label)
        self.ignore_label = ignore_label
        H, V = two_axes("W", self.W)
        check_weights("TimeAffineSoftmaxWithLoss", {"W": (H, V), "b": (V,)}, W=self.W, b=self.b)

    def forward(self, hs: Sequences, ts: Sequences) -> float:
        """Return the loss, in nats per token, of hidden states hs, (N, T, H), with labels ts, (N, T).

        Labels may be one-hot, (N, T, V).

        Raises
        ------
        TypeError, IndexError, ValueError
            If the labels are not integers, not in [0, V), or not of the shape of the words.
        """
        h, layout, t, w = self.rows_and_labels(hs, ts)
        W, b, xp = self.W.data, self.b.data, get_array_module(h)
        loss, dh, dW, db = 0.0, xp.zeros_like(h), xp.zeros_like(W), xp.zeros_like(b)
        self._remembered = None  # of the last pass; in evaluation there is no backward
        for rows in split_evenly(len(h), MAX_LOGITS // len(b)):
            y = h[rows] @ W + b
            y -= y.max(axis=1, keepdims=True)  # softmax stays the same, and exp cannot overflow
            labels = xp.arange(len(y)), t[rows]  # where the labels' logits are
            y_t = y[labels]
            y = xp.exp(y)
            total = y.sum(axis=1)
            loss += w[rows] @ (xp.log(total) - y_t)  # log softmax(y)[t] = y_t - log Σ exp(y)
            if self.training:
                dy = y / total[:, None]
                dy[labels] -= 1
                dy *= w[rows, None]
                dh[rows] = dy @ W.T
                dW += h[rows].T @ dy
                db += dy.sum(axis=0)
        if self.training:
            self.remember(layout, dh, dW, db)
        return loss

    def rows_and_labels(self, hs: Sequences, ts: Sequences) -> tuple[Array, Layout, Array, Array]:
        """The hidden states, (rows, H), their layout, their labels, (rows,), and the weights of the labels, (rows,)."""
        h, layout = to_rows(hs, "hidden states", "NTH")
        h = as_float(h)
        H, V = self.W.data.shape
        if h.shape[1] != H:
            raise ValueError(f"hidden states must have shape (N, T, {H}), got {hs.shape}")
        return h, layout, *as_labels(label_rows(ts, layout, V), (len(h),), V, self.ignore_label, h.dtype)

    def backward(self, dout: float = 1.0) -> Sequences:
        """Return dhs, (N, T, H)."""
        layout, dh, dW, db = self.recall()
        self.W.add_grad(dout * dW)
        self.b.add_grad(dout * db)
        return from_rows(dout * dh, layout)
