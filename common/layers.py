"""Layers for one time step: the equations and their derivatives.

``forward`` remembers what ``backward`` needs. ``backward`` takes the gradient of the loss with respect to the
layer's output, sets the gradients of the layer's parameters, and returns the gradient with respect to the
layer's input. ``dX`` is the gradient of the loss with respect to ``X``, and ``a`` is a pre-activation: ``da_f`` is the
gradient of what the forget gate f = σ(a_f) is computed from.

Gradients need not be set to zero: a pass is a ``forward`` and the ``backward`` that follows, and the gradients of a
pass replace those of the last one. Within a pass, the uses of one parameter add up; see ``Parameter``.
"""

from __future__ import annotations

from types import ModuleType

import numpy

from common.backend import Array, get_array_module, underflow_is_zero, uniform
from common.checks import (
    as_ids,
    check_inputs,
    check_range,
    check_recurrent_weights,
    check_shape,
    check_upstream,
    check_weights,
    check_whole,
    two_axes,
)
from common.config import GPU
from common.functions import as_float, as_labels, cross_entropy_error, sigmoid, softmax
from common.np import np
from common.parameter import Arrays, Parameter, Weight, unique_parameters

__all__ = [
    # As in the textbook, whose models take these from here, too.
    "GPU",
    "GRU",
    "LSTM",
    "RNN",
    "Affine",
    "Cell",
    "Dropout",
    "Embedding",
    "Gate",
    "Layer",
    "MatMul",
    "MeanSquaredError",
    "OneGateGRU",
    "PeepholeLSTM",
    "Sigmoid",
    "SigmoidWithLoss",
    "Softmax",
    "SoftmaxWithLoss",
    "cross_entropy_error",
    "np",
    "softmax",
]

Weights = Array | Parameter  # what a layer is made with; it keeps a Parameter


class Layer:
    """What all layers share: parameters, what forward remembers for backward, and whether the layer is training.

    A layer of your own needs no base class, only ``params``, ``grads``, ``forward`` and ``backward``. If it is a Layer,
    its parameters are attributes that the class declares as ``Weight()``, ``forward`` calls ``remember`` and
    ``backward`` calls ``recall``. ``parameters`` are in the order in which they were assigned.
    """

    training = True  # whether layers such as Dropout do what they do in training only
    parameters: list[Parameter] = []  # noqa: RUF012
    _bases: list[Parameter] = []  # noqa: RUF012
    _remembered: tuple | None = None
    transient: tuple[str, ...] = ("_remembered",)  # attributes of the current pass: not copied with the layer

    @property
    def params(self) -> list[Array]:
        """The parameters' arrays, in a fixed order."""
        return Arrays(p.data for p in self.parameters)

    @params.setter
    def params(self, value: object) -> None:
        raise TypeError(
            f"{type(self).__name__}.params cannot be assigned: declare each array, `W = Weight()` in the class, and "
            "assign it, `self.W = W`; or write the class without Layer"
        )

    @property
    def grads(self) -> list[Array]:
        """The gradients' arrays, in the order of ``params``: the same from beginning to end."""
        return Arrays(p.grad for p in self.parameters)

    @property
    def train_flg(self) -> bool:
        """The textbook's name of ``training``."""
        return self.training

    @train_flg.setter
    def train_flg(self, value: bool) -> None:
        self.training = value

    def remember(self, *values: object) -> None:
        """Keep what backward needs. A new pass begins: the gradients of the last one are stale."""
        self._remembered = values
        for p in self._bases:
            p.is_stale = True

    def recall(self) -> tuple:
        """What forward has remembered. The layer begins to add to the gradients of its parameters.

        Raises a ValueError if there was no forward.
        """
        if self._remembered is None:
            raise ValueError(f"{type(self).__name__}.backward was called without a forward before it")
        for p in self._bases:
            p.begin(self)
        return self._remembered

    def set_parameters(self, parameters: list[Parameter]) -> None:
        """Have these parameters. A new list each time, as copies of a layer share it."""
        self.parameters = parameters
        self._bases = unique_parameters(parameters)

    def tie(self, old: Parameter, new: Parameter) -> None:
        """Use ``new`` wherever the layer, or a layer in it, has used ``old``."""
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                value.tie(old, new)
            elif value is old:
                vars(self)[name] = new
        self.set_parameters([new if p is old else p for p in self.parameters])

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        for name in {"forward", "backward"} & vars(cls).keys():
            setattr(cls, name, underflow_is_zero(vars(cls)[name]))

    def __getstate__(self) -> dict[str, object]:
        """What is copied and pickled: all but the current pass."""
        return {name: value for name, value in vars(self).items() if name not in self.transient}


class MatMul(Layer):
    """y = x W, with W (D, H)."""

    W = Weight()

    def __init__(self, W: Weights) -> None:
        self.W = W

    def forward(self, x: Array) -> Array:
        """Map x, (N, D), to y, (N, H)."""
        check_shape("x", x, (len(x), len(self.W.data)))
        self.remember(x)
        return x @ self.W.data

    def backward(self, dy: Array) -> Array:
        """Map dy, (N, H), to dx = dy Wᵀ, (N, D); dW = xᵀ dy."""
        (x,) = self.recall()
        check_shape("dy", dy, (len(x), self.W.data.shape[1]))
        self.W.add_product(x.T, dy)
        return dy @ self.W.data.T


class Affine(Layer):
    """y = x W + b, with W (D, H) and b (H,)."""

    W, b = Weight(), Weight()

    def __init__(self, W: Weights, b: Weights) -> None:
        self.W, self.b = W, b
        D, H = two_axes("W", self.W)
        check_weights(type(self).__name__, {"W": (D, H), "b": (H,)}, W=self.W, b=self.b)

    def forward(self, x: Array) -> Array:
        """Map x, (N, D), to y, (N, H)."""
        check_shape("x", x, (len(x), len(self.W.data)))
        self.remember(x)
        y = x @ self.W.data
        y += self.b.data
        return y

    def backward(self, dy: Array) -> Array:
        """Map dy, (N, H), to dx = dy Wᵀ, (N, D); dW = xᵀ dy, db = Σ_n dy_n."""
        (x,) = self.recall()
        check_shape("dy", dy, (len(x), self.W.data.shape[1]))
        self.W.add_product(x.T, dy)
        self.b.add_grad(dy.sum(axis=0))
        return dy @ self.W.data.T


class Embedding(Layer):
    """y_n = W[x_n]: the vector of a word is a row of W, (V, D)."""

    W = Weight()

    def __init__(self, W: Weights) -> None:
        self.W = W
        two_axes("W", self.W)

    def forward(self, x: Array) -> Array:
        """Map word ids x, (N,) or any shape (...), to vectors y, (..., D).

        Raises a TypeError unless the ids are integers, and an IndexError unless all are in [0, V).
        """
        x = as_ids(x, "word ids")
        check_range(x, len(self.W.data), "word ids")
        self.remember(x)
        return self.W.data.take(x, axis=0)

    def backward(self, dy: Array) -> None:
        """Add each row of dy, (..., D), to the gradient of the row it came from. Ids have no gradient."""
        (x,) = self.recall()
        D = self.W.data.shape[1]
        check_shape("dy", dy, (*x.shape, D))
        self.W.add_rows(x.reshape(-1), dy.reshape(-1, D))


class Softmax(Layer):
    """y = softmax(x), row by row."""

    def forward(self, x: Array) -> Array:
        """Map x, (N, V), to probabilities y, (N, V)."""
        y = softmax(x)
        self.remember(y)
        return y

    def backward(self, dy: Array) -> Array:
        """Map dy, (N, V), to dx = y ⊙ (dy - Σ_k y_k dy_k), (N, V)."""
        (y,) = self.recall()
        check_shape("dy", dy, y.shape)
        return y * (dy - (y * dy).sum(axis=-1, keepdims=True))


class Sigmoid(Layer):
    """y = σ(x) = 1 / (1 + exp(-x)), element by element."""

    def forward(self, x: Array) -> Array:
        """Map x, of any shape, to y, of the same shape."""
        y = sigmoid(x)
        self.remember(y)
        return y

    def backward(self, dy: Array) -> Array:
        """Map dy to dx = dy ⊙ y ⊙ (1 - y)."""
        (y,) = self.recall()
        check_shape("dy", dy, y.shape)
        return dy * y * (1 - y)


class Dropout(Layer):
    """Training: y = x ⊙ m / (1 - p), where each element of m is 0 with probability p, else 1. Otherwise y = x.

    Division by 1 - p keeps the expected value of y at x, so that evaluation needs no change.

    Parameters
    ----------
    p : float in [0, 1)
    rng : numpy.random.Generator, optional
        Source of the masks; on a GPU, of their seeds. None: NumPy's global generator, as in the textbook, which
        ``np.random.seed`` seeds.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.
    """

    def __init__(self, p: float = 0.5, rng: numpy.random.Generator | None = None) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"dropout probability must be in [0, 1), got {p}")
        if not (rng is None or hasattr(rng, "random")):
            raise TypeError(f"rng must be a numpy.random.Generator or None, got {rng!r}")
        self.p, self.rng = p, rng

    def forward(self, x: Array, train_flg: bool | None = None) -> Array:
        """Map x, of any shape, to y, of the same shape. ``train_flg``, if given, takes the place of ``training``."""
        training = self.training if train_flg is None else train_flg
        x = as_float(x)
        m = self.draw_mask(x.shape, get_array_module(x)) if training and self.p > 0 else None
        self.remember(m)
        return x if m is None else self._drop(x, m)

    def backward(self, dy: Array) -> Array:
        """Map dy to dx = dy ⊙ m / (1 - p); dx = dy when nothing was dropped."""
        (m,) = self.recall()
        if m is None:
            return dy
        check_shape("dy", dy, m.shape)
        return self._drop(dy, m)

    def _drop(self, x: Array, m: Array) -> Array:
        y = x * m  # a mask of booleans takes a quarter of the memory, and no more time
        y *= 1 / (1 - self.p)
        return y

    def draw_mask(self, shape: tuple[int, ...], xp: ModuleType) -> Array:
        """True with probability 1 - p. Drawn in float32 whatever the dtype: one seed, one mask."""
        if self.rng is None:
            return xp.random.rand(*shape) >= self.p
        return uniform(self.rng, shape, xp) >= self.p


class SoftmaxWithLoss(Layer):
    """Mean cross entropy: L = -(1 / n) Σ_i log softmax(x_i)[t_i] over the n rows i that have a label.

    Rows whose label is ``ignore_label`` count neither in the sum nor in n. When all rows are ignored, the loss and its
    gradient are 0.
    """

    def __init__(self, ignore_label: int = -1) -> None:
        check_whole("ignore_label", ignore_label)
        self.ignore_label = ignore_label

    def forward(self, x: Array, t: Array) -> float:
        """Return the loss, in nats, of logits x, (N, V), with labels t, (N,), or one-hot labels, (N, V).

        Raises a TypeError, IndexError or ValueError unless there is a label for each row: an integer in [0, V).
        """
        if getattr(x, "ndim", None) != 2 or x.size == 0:
            raise ValueError(f"logits must have shape (N, V), and none of them 0, got {numpy.shape(x)}")
        x = as_float(x)
        N, V = x.shape
        xp = get_array_module(x)
        labels, weights = as_labels(t, (N,), V, self.ignore_label, x.dtype)
        x = x - x.max(axis=1, keepdims=True)
        y = xp.exp(x)
        total = y.sum(axis=1)
        # log softmax(x)[t] = x_t - log Σ exp(x), without the logarithm of a probability that has vanished
        loss = (weights * (xp.log(total) - x[xp.arange(N), labels])).sum()
        y /= total[:, None]
        self.remember(y, labels, weights)
        return loss

    @property
    def y(self) -> Array:
        """softmax(x), (N, V), of the last forward."""
        return self._remembered[0]

    def backward(self, dout: float = 1.0) -> Array:
        """Return dx = (softmax(x) - onehot(t)) / n, (N, V), times dout."""
        y, labels, weights = self.recall()
        dx = y.copy()
        dx[get_array_module(y).arange(len(dx)), labels] -= 1
        dx *= (dout * weights)[:, None]
        return dx


class SigmoidWithLoss(Layer):
    """Mean binary cross entropy: L = -(1 / n) Σ_i [t_i log σ(x_i) + (1 - t_i) log(1 - σ(x_i))].

    It is computed as max(x, 0) - x t + log(1 + exp(-|x|)), which is finite for every x.
    """

    def forward(self, x: Array, t: Array) -> float:
        """Return the loss, in nats, of scores x with labels t, 0 or 1, of the same shape; otherwise a ValueError."""
        x = as_float(x)
        xp = get_array_module(x)
        check_shape("labels", t, x.shape)
        if xp is numpy and not ((t == 0) | (t == 1)).all():
            raise ValueError("labels must be 0 or 1")
        self.remember(x, t)
        loss = xp.maximum(x, 0) - x * t + xp.log(1 + xp.exp(-xp.maximum(x, -x)))
        return loss.sum() / loss.size

    def backward(self, dout: float = 1.0) -> Array:
        """Return dx = (σ(x) - t) / n, of the shape of x, times dout."""
        x, t = self.recall()
        return ((sigmoid(x) - t) * (dout / x.size)).astype(x.dtype)


class MeanSquaredError(Layer):
    """Mean squared error: L = (1 / n) Σ_i (x_i - t_i)² over all n numbers, for outputs that are numbers themselves."""

    def forward(self, x: Array, t: Array) -> float:
        """Return the loss of outputs x with targets t, both (N, D); a ValueError if their shapes differ."""
        if x.shape != t.shape:
            raise ValueError(f"outputs and targets must have the same shape, got {x.shape} and {t.shape}")
        d = as_float(x) - as_float(t)
        self.remember(d)
        return (d * d).sum() / d.size

    def backward(self, dout: float = 1.0) -> Array:
        """Return dx = 2 (x - t) / n, (N, D), times dout."""
        (d,) = self.recall()
        return d * (2 * dout / d.size)


IdentityWithLoss = MeanSquaredError  # its earlier name


class Cell(Layer):
    """One step of a recurrent network: what the cells share. ``TimeLoop`` runs any of them over a sequence.

    ``forward`` maps x and the previous state to the next state; ``backward`` maps the gradient of the next state to
    those of x and of the previous state. Weights: Wx, (D, G·H), Wh, (H, G·H), and b, (G·H,), of G gates side by side.
    """

    Wx, Wh, b = Weight(), Weight(), Weight()
    G: int  # gates, counting the candidate
    states = 1  # h; of an LSTM 2, h and c

    def __init__(self, Wx: Weights, Wh: Weights, b: Weights) -> None:
        self.Wx, self.Wh, self.b = Wx, Wh, b
        check_recurrent_weights(self)


class RNN(Cell):
    """One step of a simple recurrent network.

        a = x Wx + h_prev Wh + b
        h = tanh(a)

    Backward, from dh:

        da = dh ⊙ (1 - h²)                          tanh'(a) = 1 - tanh(a)²
        dWx = xᵀ da    dWh = h_prevᵀ da    db = Σ_n da_n
        dx = da Wxᵀ    dh_prev = da Whᵀ

    Weights: Wx, (D, H), Wh, (H, H), and b, (H,).

    Source: Elman, "Finding structure in time", 1990; *Deep Learning from Scratch 2*, chapter 5.
    """

    G = 1

    def forward(self, x: Array, h_prev: Array) -> Array:
        """Map x, (N, D), and h_prev, (N, H), to h, (N, H)."""
        check_inputs(self, x, h_prev=h_prev)
        xp = get_array_module(x)
        h = xp.tanh(x @ self.Wx.data + h_prev @ self.Wh.data + self.b.data)
        self.remember(x, h_prev, h)
        return h

    def backward(self, dh: Array) -> tuple[Array, Array]:
        """Map dh, (N, H), to dx, (N, D), and dh_prev, (N, H)."""
        x, h_prev, h = self.recall()
        check_shape("dh", dh, h.shape)
        # Through tanh.
        da = dh * (1 - h**2)
        # The gradients of the parameters.
        self.Wx.add_grad(x.T @ da)
        self.Wh.add_grad(h_prev.T @ da)
        self.b.add_grad(da.sum(axis=0))
        # The gradients of the inputs.
        return da @ self.Wx.data.T, da @ self.Wh.data.T


class Gate(Layer):
    """How much of each element passes, from nothing to all, is learnt and depends on x.

        g = σ(x W + b)
        y = g ⊙ x

    Backward, from dy:

        da = dy ⊙ x ⊙ g ⊙ (1 - g)                   σ'(a) = σ(a) (1 - σ(a))
        dW = xᵀ da    db = Σ_n da_n
        dx = dy ⊙ g + da Wᵀ                         x reaches y in two ways

    Weights: W, (D, D), and b, (D,).

    Source: *Deep Learning from Scratch 2*, section 6.2.
    """

    W, b = Weight(), Weight()

    def __init__(self, W: Weights, b: Weights) -> None:
        self.W, self.b = W, b
        D, _ = two_axes("W", self.W)
        check_weights("Gate", {"W": (D, D), "b": (D,)}, W=self.W, b=self.b)

    def forward(self, x: Array) -> Array:
        """Map x, (N, D), to y, (N, D)."""
        check_shape("x", x, (len(x), len(self.W.data)))
        g = sigmoid(x @ self.W.data + self.b.data)
        self.remember(x, g)
        return g * x

    def backward(self, dy: Array) -> Array:
        """Map dy, (N, D), to dx, (N, D)."""
        x, g = self.recall()
        check_shape("dy", dy, x.shape)
        da = dy * x * g * (1 - g)
        self.W.add_grad(x.T @ da)
        self.b.add_grad(da.sum(axis=0))
        return dy * g + da @ self.W.data.T


class OneGateGRU(Cell):
    """One step of a recurrent network with one gate, the shortest way from RNN to GRU.

        [a_z a_h] = x Wx + h_prev Wh + b            pre-activations
        z = σ(a_z)                                  gate: how much of the previous state is kept
        h̃ = tanh(a_h)                               candidate: what would replace it
        h = (1 - z) ⊙ h̃ + z ⊙ h_prev

    Backward, from dh:

        da_z = dh ⊙ (h_prev - h̃) ⊙ z ⊙ (1 - z)      σ'(a) = σ(a) (1 - σ(a))
        da_h = dh ⊙ (1 - z) ⊙ (1 - h̃²)              tanh'(a) = 1 - tanh(a)²
        da = [da_z da_h]
        dWx = xᵀ da    dWh = h_prevᵀ da    db = Σ_n da_n
        dx = da Wxᵀ    dh_prev = dh ⊙ z + da Whᵀ

    Weights: Wx, (D, 2H), Wh, (H, 2H), and b, (2H,): those of z and of h̃, side by side.
    """

    G = 2

    def forward(self, x: Array, h_prev: Array) -> Array:
        """Map x, (N, D), and h_prev, (N, H), to h, (N, H)."""
        check_inputs(self, x, h_prev=h_prev)
        xp = get_array_module(x)
        # The gate and the candidate.
        a_z, a_h = split(x @ self.Wx.data + h_prev @ self.Wh.data + self.b.data, 2)
        z, h_tilde = sigmoid(a_z), xp.tanh(a_h)
        self.remember(x, h_prev, z, h_tilde)
        # h is between the candidate and the previous state.
        return (1 - z) * h_tilde + z * h_prev

    def backward(self, dh: Array) -> tuple[Array, Array]:
        """Map dh, (N, H), to dx, (N, D), and dh_prev, (N, H)."""
        x, h_prev, z, h_tilde = self.recall()
        check_shape("dh", dh, z.shape)
        xp = get_array_module(x)
        # Through the gate's σ and the candidate's tanh.
        da_z = dh * (h_prev - h_tilde) * z * (1 - z)
        da_h = dh * (1 - z) * (1 - h_tilde**2)
        da = xp.concatenate([da_z, da_h], axis=1)
        # The gradients of the parameters.
        self.Wx.add_grad(x.T @ da)
        self.Wh.add_grad(h_prev.T @ da)
        self.b.add_grad(da.sum(axis=0))
        # The previous state reaches h directly, and through both products.
        return da @ self.Wx.data.T, dh * z + da @ self.Wh.data.T


class GRU(Cell):
    """One step of a gated recurrent unit.

        a_z = x Wx_z + h_prev Wh_z + b_z
        z = σ(a_z)                                  update gate: how much of the previous state is kept
        a_r = x Wx_r + h_prev Wh_r + b_r
        r = σ(a_r)                                  reset gate: how much of it the candidate sees
        s = (r ⊙ h_prev) Wh_h                       with ``reset_after``: u = h_prev Wh_h + b_u, s = r ⊙ u
        a_h = x Wx_h + b_h + s
        h̃ = tanh(a_h)                               candidate
        h = (1 - z) ⊙ h̃ + z ⊙ h_prev

    Backward, from dh:

        da_z = dh ⊙ (h_prev - h̃) ⊙ z ⊙ (1 - z)
        da_h = dh ⊙ (1 - z) ⊙ (1 - h̃²)
                                                    with ``reset_after``:
        drh = da_h Wh_hᵀ                            du = da_h ⊙ r
        da_r = drh ⊙ h_prev ⊙ r ⊙ (1 - r)           da_r = da_h ⊙ u ⊙ r ⊙ (1 - r)
        dWh_h = (r ⊙ h_prev)ᵀ da_h                  dWh_h = h_prevᵀ du    db_u = Σ_n du_n
        dh_prev = dh ⊙ z + drh ⊙ r                  dh_prev = dh ⊙ z + du Wh_hᵀ

        dh_prev ← dh_prev + [da_z da_r] [Wh_z Wh_r]ᵀ
        [dWh_z dWh_r] = h_prevᵀ [da_z da_r]
        da = [da_z da_r da_h]
        dWx = xᵀ da    db = Σ_n da_n    dx = da Wxᵀ

    Weights: Wx, (D, 3H), Wh, (H, 3H), and b, (3H,): those of z, r and h̃, side by side. With ``reset_after``, b is
    (4H,), and b_u comes last.

    Here z is the part that is kept, as in Cho et al., PyTorch and Keras. Chung et al. and the textbook write the
    complement, h = (1 - z) ⊙ h_prev + z ⊙ h̃: z there is 1 - z here, so its weights have the opposite sign;
    ``common.interop`` converts them. Cho et al. have r before the product with Wh_h, PyTorch and cuDNN after it.

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine
    translation", 2014; Chung et al., "Empirical evaluation of gated recurrent neural networks on sequence modeling",
    2014; *Deep Learning from Scratch 2*, appendix C.
    """

    G = 3

    def __init__(self, Wx: Weights, Wh: Weights, b: Weights, reset_after: bool = False) -> None:
        self.reset_after = reset_after
        super().__init__(Wx, Wh, b)

    def forward(self, x: Array, h_prev: Array) -> Array:
        """Map x, (N, D), and h_prev, (N, H), to h, (N, H)."""
        check_inputs(self, x, h_prev=h_prev)
        xp = get_array_module(x)
        H = h_prev.shape[1]
        Wh_zr, Wh_h, b = self.Wh.data[:, : 2 * H], self.Wh.data[:, 2 * H :], self.b.data
        # The part of the pre-activations that comes from the input.
        a = x @ self.Wx.data + b[: 3 * H]
        # The gates, side by side.
        z, r = split(sigmoid(a[:, : 2 * H] + h_prev @ Wh_zr), 2)
        # The candidate sees as much of the previous state as r lets through.
        u = h_prev @ Wh_h + b[3 * H :] if self.reset_after else None
        s = r * u if self.reset_after else (r * h_prev) @ Wh_h
        h_tilde = xp.tanh(a[:, 2 * H :] + s)
        self.remember(x, h_prev, z, r, h_tilde, u)
        # h is between the candidate and the previous state.
        return (1 - z) * h_tilde + z * h_prev

    def backward(self, dh: Array) -> tuple[Array, Array]:
        """Map dh, (N, H), to dx, (N, D), and dh_prev, (N, H)."""
        x, h_prev, z, r, h_tilde, u = self.recall()
        check_shape("dh", dh, z.shape)
        xp = get_array_module(x)
        H = h_prev.shape[1]
        Wh_zr, Wh_h = self.Wh.data[:, : 2 * H], self.Wh.data[:, 2 * H :]
        # h is between h̃ and h_prev: back to z, to h̃, and directly to h_prev.
        da_z = dh * (h_prev - h_tilde) * z * (1 - z)
        da_h = dh * (1 - z) * (1 - h_tilde**2)
        dh_prev = dh * z
        # From the candidate back through the reset gate.
        if self.reset_after:
            du = da_h * r
            dr = da_h * u
            dWh_h = h_prev.T @ du
            dh_prev += du @ Wh_h.T
        else:
            drh = da_h @ Wh_h.T
            dr = drh * h_prev
            dWh_h = (r * h_prev).T @ da_h
            dh_prev += drh * r
        da_r = dr * r * (1 - r)
        # Through the products of the gates.
        da_zr = xp.concatenate([da_z, da_r], axis=1)
        dh_prev += da_zr @ Wh_zr.T
        # The gradients of the parameters.
        da = xp.concatenate([da_zr, da_h], axis=1)
        db = da.sum(axis=0)
        self.Wx.add_grad(x.T @ da)
        self.Wh.add_grad(xp.concatenate([h_prev.T @ da_zr, dWh_h], axis=1))
        self.b.add_grad(xp.concatenate([db, du.sum(axis=0)]) if self.reset_after else db)
        return da @ self.Wx.data.T, dh_prev


class LSTM(Cell):
    """One step of a long short-term memory.

        [a_f a_g a_i a_o] = x Wx + h_prev Wh + b    pre-activations
        f = σ(a_f)                                  forget gate: how much of the cell state is kept
        g = tanh(a_g)                               candidate
        i = σ(a_i)                                  input gate: how much of the candidate is added
        o = σ(a_o)                                  output gate: how much of the cell state is shown
        c = f ⊙ c_prev + i ⊙ g                      cell state
        h = o ⊙ tanh(c)                             hidden state

    Backward, from dh and dc, the gradients of h and c:

        da_o = dh ⊙ tanh(c) ⊙ o ⊙ (1 - o)
        dc ← dc + dh ⊙ o ⊙ (1 - tanh²(c))           c reaches the loss through h, too
        da_f = dc ⊙ c_prev ⊙ f ⊙ (1 - f)
        da_g = dc ⊙ i ⊙ (1 - g²)
        da_i = dc ⊙ g ⊙ i ⊙ (1 - i)
        da = [da_f da_g da_i da_o]
        dWx = xᵀ da    dWh = h_prevᵀ da    db = Σ_n da_n
        dx = da Wxᵀ    dh_prev = da Whᵀ    dc_prev = dc ⊙ f

    Weights: Wx, (D, 4H), Wh, (H, 4H), and b, (4H,): those of f, g, i and o, side by side, in the textbook's order.

    Source: Hochreiter and Schmidhuber, "Long short-term memory", 1997; with the forget gate, Gers, Schmidhuber and
    Cummins, "Learning to forget: continual prediction with LSTM", 2000; *Deep Learning from Scratch 2*, chapter 6.
    """

    G = 4
    states = 2

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, Array]:
        """Map x, (N, D), h_prev and c_prev, (N, H), to h and c, (N, H)."""
        check_inputs(self, x, h_prev=h_prev, c_prev=c_prev)
        xp = get_array_module(x)
        # The gates and the candidate.
        a_f, a_g, a_i, a_o = split(x @ self.Wx.data + h_prev @ self.Wh.data + self.b.data, 4)
        f, g, i, o = sigmoid(a_f), xp.tanh(a_g), sigmoid(a_i), sigmoid(a_o)
        # Keep a part of the cell state, and add a part of the candidate.
        c = f * c_prev + i * g
        # Show a part of it.
        h = o * xp.tanh(c)
        self.remember(x, h_prev, c_prev, f, g, i, o, c)
        return h, c

    def backward(self, dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        """Map dh and dc, (N, H), the gradients of h and c, to dx, (N, D), dh_prev and dc_prev, (N, H).

        A gradient that is 0 everywhere may be the number 0.
        """
        x, h_prev, c_prev, f, g, i, o, c = self.recall()
        check_upstream(c.shape, dh=dh, dc=dc)
        xp = get_array_module(x)
        tanh_c = xp.tanh(c)
        # h = o ⊙ tanh(c): back to the output gate, and to c.
        da_o = dh * tanh_c * o * (1 - o)
        dc = dc + dh * o * (1 - tanh_c**2)
        # c = f ⊙ c_prev + i ⊙ g: back to all four.
        da_f = dc * c_prev * f * (1 - f)
        da_g = dc * i * (1 - g**2)
        da_i = dc * g * i * (1 - i)
        dc_prev = dc * f
        # The gradients of the parameters.
        da = xp.concatenate([da_f, da_g, da_i, da_o], axis=1)
        self.Wx.add_grad(x.T @ da)
        self.Wh.add_grad(h_prev.T @ da)
        self.b.add_grad(da.sum(axis=0))
        return da @ self.Wx.data.T, da @ self.Wh.data.T, dc_prev


class PeepholeLSTM(LSTM):
    """An LSTM whose gates see the cell state: f and i the previous one, o the next one.

        f = σ(a_f + p_f ⊙ c_prev)      i = σ(a_i + p_i ⊙ c_prev)      o = σ(a_o + p_o ⊙ c)

    All else is as in an LSTM. Backward, what is added:

        dc ← dc + da_o ⊙ p_o                        before da_f, da_g and da_i
        dc_prev = dc ⊙ f + da_f ⊙ p_f + da_i ⊙ p_i
        dp = Σ_n [da_f ⊙ c_prev   da_i ⊙ c_prev   da_o ⊙ c]_n

    Weights: those of an LSTM; and p, (3H,), with p_f, p_i and p_o.

    Source: Gers, Schraudolph and Schmidhuber, "Learning precise timing with LSTM recurrent networks", 2002.
    """

    p = Weight()

    def __init__(self, Wx: Weights, Wh: Weights, b: Weights, p: Weights) -> None:
        super().__init__(Wx, Wh, b)
        self.p = p
        check_recurrent_weights(self)

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, Array]:
        check_inputs(self, x, h_prev=h_prev, c_prev=c_prev)
        xp = get_array_module(x)
        a_f, a_g, a_i, a_o = split(x @ self.Wx.data + h_prev @ self.Wh.data + self.b.data, 4)
        p_f, p_i, p_o = split(self.p.data, 3)
        # What to keep, what to write, and where: f and i see what is in the cell.
        f, g, i = sigmoid(a_f + p_f * c_prev), xp.tanh(a_g), sigmoid(a_i + p_i * c_prev)
        c = f * c_prev + i * g
        # What to show: o sees what is in the cell now.
        o = sigmoid(a_o + p_o * c)
        h = o * xp.tanh(c)
        self.remember(x, h_prev, c_prev, f, g, i, o, c)
        return h, c

    def backward(self, dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        x, h_prev, c_prev, f, g, i, o, c = self.recall()
        check_upstream(c.shape, dh=dh, dc=dc)
        xp = get_array_module(x)
        p_f, p_i, p_o = split(self.p.data, 3)
        tanh_c = xp.tanh(c)
        # h = o ⊙ tanh(c), and o depends on c, too.
        da_o = dh * tanh_c * o * (1 - o)
        dc = dc + dh * o * (1 - tanh_c**2) + da_o * p_o
        # c = f ⊙ c_prev + i ⊙ g, and f and i depend on c_prev, too.
        da_f = dc * c_prev * f * (1 - f)
        da_g = dc * i * (1 - g**2)
        da_i = dc * g * i * (1 - i)
        dc_prev = dc * f + da_f * p_f + da_i * p_i
        # The gradients of the parameters.
        da = xp.concatenate([da_f, da_g, da_i, da_o], axis=1)
        self.Wx.add_grad(x.T @ da)
        self.Wh.add_grad(h_prev.T @ da)
        self.b.add_grad(da.sum(axis=0))
        self.p.add_grad(xp.concatenate([da_f * c_prev, da_i * c_prev, da_o * c], axis=1).sum(axis=0))
        return da @ self.Wx.data.T, da @ self.Wh.data.T, dc_prev


def split(a: Array, n: int) -> list[Array]:
    """Split the last axis of a, (..., n·H), into n views, (..., H), one for each gate."""
    H = a.shape[-1] // n
    return [a[..., k * H : (k + 1) * H] for k in range(n)]
