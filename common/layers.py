"""Layers for one time step: the equations, and their derivatives, a line each.

``forward`` remembers what ``backward`` needs. ``backward`` takes the gradient of the loss with respect to the
layer's output, gives their gradients to the layer's parameters, and returns the gradient with respect to the
layer's input. ``dX`` is the gradient of the loss with respect to ``X`` throughout.

Nobody sets gradients to zero: a pass is a ``forward`` and the ``backward`` that follows, and the gradients of a
pass replace those of the last one. Within a pass, the uses of one parameter add up; see ``Parameter``.
"""

from __future__ import annotations

from types import ModuleType

import numpy

from common.backend import Array, get_array_module, underflow_is_zero, uniform
from common.checks import all_in_range, as_ids, check_range, check_shape, check_weights, check_whole, from_one_hot
from common.config import GPU
from common.functions import as_float, cross_entropy_error, sigmoid, softmax, split_labels
from common.np import np
from common.parameter import Arrays, Parameter, Weight, unique_parameters

__all__ = [
    # As in the textbook, whose models take these from here, too.
    "GPU",
    "GRU",
    "LSTM",
    "RNN",
    "Affine",
    "Dropout",
    "Embedding",
    "Gate",
    "Layer",
    "MatMul",
    "MeanSquaredError",
    "OneGateGRU",
    "Sigmoid",
    "SigmoidWithLoss",
    "Softmax",
    "SoftmaxWithLoss",
    "cross_entropy_error",
    "np",
    "softmax",
]


class Layer:
    """What all layers share: parameters, what forward remembers for backward, and whether the layer is training.

    A layer of your own needs no base class, only ``params``, ``grads``, ``forward`` and ``backward``. If it is a Layer,
    its parameters are attributes that the class declares as ``Weight()``, ``forward`` calls ``remember`` and
    ``backward`` calls ``recall``: with these two a pass begins and ends.

    Attributes
    ----------
    parameters : list of Parameter
        In the order in which they were assigned.
    training : bool
        Whether layers such as Dropout do what they do in training only.
    """

    training = True
    parameters: list[Parameter] = []  # noqa: RUF012
    _bases: list[Parameter] = []  # noqa: RUF012
    _remembered: tuple | None = None
    passing: tuple[str, ...] = ("_remembered",)  # what belongs to the pass in hand, and is not copied with the layer

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
        """Keep what backward needs. With this, a new pass begins."""
        self._remembered = values
        for p in self._bases:
            p.is_stale = True

    def recall(self) -> tuple:
        """What forward has remembered. With this, the layer begins to give gradients to its parameters.

        Raises
        ------
        ValueError
            If there was no forward.
        """
        if self._remembered is None:
            raise ValueError(f"{type(self).__name__}.backward was called without a forward before it")
        for p in self._bases:
            p.begin(self)
        return self._remembered

    def set_parameters(self, parameters: list[Parameter]) -> None:
        """Have these parameters. A list of its own each time, as copies of a layer share it."""
        self.parameters = parameters
        self._bases = unique_parameters(parameters)

    def tie(self, old: Parameter, new: Parameter) -> None:
        """Use ``new`` wherever the layer has used ``old``."""
        for name, value in vars(self).items():
            if value is old:
                vars(self)[name] = new
        self.set_parameters([new if p is old else p for p in self.parameters])

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        for name in {"forward", "backward"} & vars(cls).keys():
            setattr(cls, name, underflow_is_zero(vars(cls)[name]))

    def __getstate__(self) -> dict[str, object]:
        """What is copied and pickled: all but the pass in hand."""
        return {name: value for name, value in vars(self).items() if name not in self.passing}


class MatMul(Layer):
    """y = x W.

    Parameters
    ----------
    W : (D, H) array or Parameter
    """

    W = Weight()

    def __init__(self, W: Array | Parameter) -> None:
        self.W = W

    def forward(self, x: Array) -> Array:
        """Map x, (N, D), to y, (N, H)."""
        check_shape("x", x, (len(x), len(self.W.data)))
        self.remember(x)
        return x @ self.W.data

    def backward(self, dy: Array) -> Array:
        """Map dy, (N, H), to dx, (N, D)."""
        (x,) = self.recall()
        check_shape("dy", dy, (len(x), self.W.data.shape[1]))
        self.W.add_product(x.T, dy)
        return dy @ self.W.data.T


class Affine(Layer):
    """y = x W + b.

    Parameters
    ----------
    W : (D, H) array or Parameter
    b : (H,) array or Parameter
    """

    W, b = Weight(), Weight()

    def __init__(self, W: Array | Parameter, b: Array | Parameter) -> None:
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
        """Map dy, (N, H), to dx, (N, D)."""
        (x,) = self.recall()
        check_shape("dy", dy, (len(x), self.W.data.shape[1]))
        self.W.add_product(x.T, dy)
        self.b.add_grad(dy.sum(axis=0))
        return dy @ self.W.data.T


class Embedding(Layer):
    """y_n = W[x_n]: a word's vector is a row of W.

    Parameters
    ----------
    W : (V, D) array or Parameter
    """

    W = Weight()

    def __init__(self, W: Array | Parameter) -> None:
        self.W = W
        two_axes("W", self.W)

    def forward(self, x: Array) -> Array:
        """Map word ids x, (N,) or any shape (...), to vectors y, (..., D).

        Raises
        ------
        TypeError, IndexError
            If the ids are not integers, or not all in [0, V).
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
    """y = softmax(x), each row for itself."""

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
        Probability that an element is dropped.
    rng : numpy.random.Generator, optional
        Source of the masks; on a GPU, of their seeds. None: NumPy's global generator, as in the textbook, which
        ``np.random.seed`` seeds.

    References
    ----------
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.
    """

    def __init__(self, p: float = 0.5, rng: numpy.random.Generator | None = None) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"dropout probability must be in [0, 1), got {p}")
        if not (rng is None or hasattr(rng, "random")):
            raise TypeError(f"rng must be a numpy.random.Generator or None, got {rng!r}")
        self.p = p
        self.rng = rng

    def forward(self, x: Array, train_flg: bool | None = None) -> Array:
        """Map x, of any shape, to y, of the same shape. ``train_flg`` goes before ``training``, if it is given."""
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
    """Mean cross entropy: L = -(1 / n) Σ log softmax(x_i)[t_i] over the n rows that have a label.

    Parameters
    ----------
    ignore_label : int
        Rows with this label count neither in the loss nor in n. When all rows are ignored, the loss
        and its gradient are 0.
    """

    def __init__(self, ignore_label: int = -1) -> None:
        check_whole("ignore_label", ignore_label)
        self.ignore_label = ignore_label

    def forward(self, x: Array, t: Array) -> float:
        """Return the loss, in nats, of logits x, (N, V), with labels t, (N,), or one-hot labels, (N, V).

        Raises
        ------
        TypeError, IndexError, ValueError
            If the labels are not integers, not in [0, V), or not as many as rows.
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
    """Mean cross entropy of yes or no: L = -(1 / n) Σ [t_i log σ(x_i) + (1 - t_i) log(1 - σ(x_i))].

    It is computed as max(x, 0) - x t + log(1 + exp(-|x|)), which is finite for every x.
    """

    def forward(self, x: Array, t: Array) -> float:
        """Return the loss, in nats, of scores x with labels t, 0 or 1, of the same shape.

        Raises
        ------
        ValueError
            If the shapes differ, or a label is neither 0 nor 1.
        """
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
    """Mean squared error: L = (1 / n) Σ (x_i - t_i)² over all n numbers, for outputs that are numbers themselves."""

    def forward(self, x: Array, t: Array) -> float:
        """Return the loss of outputs x with targets t, both (N, D).

        Raises
        ------
        ValueError
            If the shapes differ.
        """
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


class RNN(Layer):
    """One step of a simple recurrent network: h = tanh(x Wx + h_prev Wh + b).

        a = x Wx + h_prev Wh + b         h = tanh(a)
        da = dh ⊙ (1 - h²)

        dWx = xᵀ da    dWh = h_prevᵀ da    db = Σ da    dx = da Wxᵀ    dh_prev = da Whᵀ

    Parameters
    ----------
    Wx : (D, H) array or Parameter
    Wh : (H, H) array or Parameter
    b : (H,) array or Parameter

    References
    ----------
    Elman, "Finding structure in time", 1990; *Deep Learning from Scratch 2*, chapter 5.
    """

    Wx, Wh, b = Weight(), Weight(), Weight()

    def __init__(self, Wx: Array | Parameter, Wh: Array | Parameter, b: Array | Parameter) -> None:
        self.Wx, self.Wh, self.b = Wx, Wh, b
        check_recurrent_weights(self, gates=1)

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
        da = dh * (1 - h**2)  # tanh'(a) = 1 - tanh(a)²
        self.Wx.add_grad(x.T @ da)
        self.Wh.add_grad(h_prev.T @ da)
        self.b.add_grad(da.sum(axis=0))
        return da @ self.Wx.data.T, da @ self.Wh.data.T


class Gate(Layer):
    """y = σ(x W + b) ⊙ x: how much of each element passes, from nothing to all, is learnt and depends on x.

    Parameters
    ----------
    W : (D, D) array or Parameter
    b : (D,) array or Parameter

    References
    ----------
    *Deep Learning from Scratch 2*, section 6.2.
    """

    W, b = Weight(), Weight()

    def __init__(self, W: Array | Parameter, b: Array | Parameter) -> None:
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
        da = dy * x * g * (1 - g)  # a = x W + b, and σ'(a) = σ(a) (1 - σ(a))
        self.W.add_grad(x.T @ da)
        self.b.add_grad(da.sum(axis=0))
        return dy * g + da @ self.W.data.T


class OneGateGRU(Layer):
    """One step of a recurrent network with one gate, the shortest way from RNN to GRU.

        z = σ(x Wx_z + h_prev Wh_z + b_z)          how much of the old state is kept
        h̃ = tanh(x Wx_h + h_prev Wh_h + b_h)       the candidate: what would replace it
        h = (1 - z) ⊙ h̃ + z ⊙ h_prev

    Parameters
    ----------
    Wx : (D, 2H) array or Parameter
        Wx_z and Wx_h, side by side in this order.
    Wh : (H, 2H) array or Parameter
        Wh_z and Wh_h.
    b : (2H,) array or Parameter
        b_z and b_h.
    """

    Wx, Wh, b = Weight(), Weight(), Weight()

    def __init__(self, Wx: Array | Parameter, Wh: Array | Parameter, b: Array | Parameter) -> None:
        self.Wx, self.Wh, self.b = Wx, Wh, b
        check_recurrent_weights(self, gates=2)

    def forward(self, x: Array, h_prev: Array) -> Array:
        """Map x, (N, D), and h_prev, (N, H), to h, (N, H)."""
        check_inputs(self, x, h_prev=h_prev)
        xp = get_array_module(x)
        a_z, a_h = split(x @ self.Wx.data + h_prev @ self.Wh.data + self.b.data, 2)
        z = sigmoid(a_z)
        h_tilde = xp.tanh(a_h)
        self.remember(x, h_prev, z, h_tilde)
        return (1 - z) * h_tilde + z * h_prev

    def backward(self, dh: Array) -> tuple[Array, Array]:
        """Map dh, (N, H), to dx, (N, D), and dh_prev, (N, H)."""
        x, h_prev, z, h_tilde = self.recall()
        check_shape("dh", dh, z.shape)
        xp = get_array_module(x)
        da_z = dh * (h_prev - h_tilde) * z * (1 - z)
        da_h = dh * (1 - z) * (1 - h_tilde**2)
        da = xp.concatenate([da_z, da_h], axis=1)
        self.Wx.add_grad(x.T @ da)
        self.Wh.add_grad(h_prev.T @ da)
        self.b.add_grad(da.sum(axis=0))
        return da @ self.Wx.data.T, dh * z + da @ self.Wh.data.T


class GRU(Layer):
    """One step of a gated recurrent unit.

        z = σ(x Wx_z + h_prev Wh_z + b_z)                 update gate: how much of the old state is kept
        r = σ(x Wx_r + h_prev Wh_r + b_r)                 reset gate: how much of it the candidate may see
        h̃ = tanh(x Wx_h + (r ⊙ h_prev) Wh_h + b_h)       candidate
        h = (1 - z) ⊙ h̃ + z ⊙ h_prev

    With ``reset_after``, as in PyTorch and cuDNN, r works on the product and needs a bias of its own there:

        h̃ = tanh(x Wx_h + b_h + r ⊙ (h_prev Wh_h + b_rh))

    Here z says how much is kept, as in PyTorch and Keras. In the textbook it says how much is new,
    h = (1 - z) ⊙ h_prev + z ⊙ h̃: what is z there is 1 - z here, so its weights have the other sign.
    ``common.interop`` converts them.

    Parameters
    ----------
    Wx : (D, 3H) array or Parameter
        Wx_z, Wx_r and Wx_h, side by side in this order.
    Wh : (H, 3H) array or Parameter
        Wh_z, Wh_r and Wh_h.
    b : (3H,) array or Parameter; (4H,) with ``reset_after``
        b_z, b_r and b_h; then b_rh.
    reset_after : bool

    References
    ----------
    Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine
    translation", 2014; *Deep Learning from Scratch 2*, appendix C (with 1 - z in place of z).
    """

    Wx, Wh, b = Weight(), Weight(), Weight()

    def __init__(
        self, Wx: Array | Parameter, Wh: Array | Parameter, b: Array | Parameter, reset_after: bool = False
    ) -> None:
        self.Wx, self.Wh, self.b = Wx, Wh, b
        check_recurrent_weights(self, gates=3, biases=4 if reset_after else 3)
        self.reset_after = reset_after

    def forward(self, x: Array, h_prev: Array) -> Array:
        """Map x, (N, D), and h_prev, (N, H), to h, (N, H)."""
        check_inputs(self, x, h_prev=h_prev)
        xp = get_array_module(x)
        H = h_prev.shape[1]
        Wh, b = self.Wh.data, self.b.data
        a_x = x @ self.Wx.data + b[: 3 * H]
        z, r = split(sigmoid(a_x[:, : 2 * H] + h_prev @ Wh[:, : 2 * H]), 2)
        if self.reset_after:
            a_h = h_prev @ Wh[:, 2 * H :] + b[3 * H :]
            h_tilde = xp.tanh(a_x[:, 2 * H :] + r * a_h)
        else:
            a_h = None
            h_tilde = xp.tanh(a_x[:, 2 * H :] + (r * h_prev) @ Wh[:, 2 * H :])
        self.remember(x, h_prev, z, r, h_tilde, a_h)
        return (1 - z) * h_tilde + z * h_prev

    def backward(self, dh: Array) -> tuple[Array, Array]:
        """Map dh, (N, H), to dx, (N, D), and dh_prev, (N, H)."""
        x, h_prev, z, r, h_tilde, a_h = self.recall()
        check_shape("dh", dh, z.shape)
        xp = get_array_module(x)
        H = h_prev.shape[1]
        Wh_zr, Wh_h = self.Wh.data[:, : 2 * H], self.Wh.data[:, 2 * H :]

        dh_prev = dh * z
        da_z = dh * (h_prev - h_tilde) * z * (1 - z)
        da_h = dh * (1 - z) * (1 - h_tilde**2)
        if self.reset_after:
            da_rh = da_h * r  # of the product h_prev Wh_h + b_rh
            dr = da_h * a_h
            dWh_h = h_prev.T @ da_rh
            dh_prev += da_rh @ Wh_h.T
        else:
            d_rh = da_h @ Wh_h.T  # of r ⊙ h_prev
            dr = d_rh * h_prev
            dWh_h = (r * h_prev).T @ da_h
            dh_prev += d_rh * r
        da_r = dr * r * (1 - r)

        da_zr = xp.concatenate([da_z, da_r], axis=1)
        dh_prev += da_zr @ Wh_zr.T
        da = xp.concatenate([da_zr, da_h], axis=1)
        self.Wx.add_grad(x.T @ da)
        self.Wh.add_grad(xp.concatenate([h_prev.T @ da_zr, dWh_h], axis=1))
        db = da.sum(axis=0)
        self.b.add_grad(xp.concatenate([db, da_rh.sum(axis=0)]) if self.reset_after else db)
        return da @ self.Wx.data.T, dh_prev


class LSTM(Layer):
    """One step of a long short-term memory.

        f = σ(x Wx_f + h_prev Wh_f + b_f)          forget gate: how much of the old cell state is kept
        g = tanh(x Wx_g + h_prev Wh_g + b_g)       candidate
        i = σ(x Wx_i + h_prev Wh_i + b_i)          input gate: how much of the candidate is taken in
        o = σ(x Wx_o + h_prev Wh_o + b_o)          output gate: how much of the cell state is shown
        c = f ⊙ c_prev + i ⊙ g                     cell state
        h = o ⊙ tanh(c)                            hidden state

    And back, where dc is what comes from the next step, and h adds to it:

        da_o = dh ⊙ tanh(c) ⊙ o ⊙ (1 - o)
        dc ← dc + dh ⊙ o ⊙ (1 - tanh²(c))
        da_f = dc ⊙ c_prev ⊙ f ⊙ (1 - f)
        da_g = dc ⊙ i ⊙ (1 - g²)
        da_i = dc ⊙ g ⊙ i ⊙ (1 - i)
        dc_prev = dc ⊙ f

        dWx = xᵀ da    dWh = h_prevᵀ da    db = Σ da    dx = da Wxᵀ    dh_prev = da Whᵀ

    With peephole connections the gates see the cell state too: f and i gain p ⊙ c_prev inside σ, and o gains
    p_o ⊙ c.

    Parameters
    ----------
    Wx : (D, 4H) array or Parameter
        Wx_f, Wx_g, Wx_i and Wx_o, side by side in this order, which is the textbook's.
    Wh : (H, 4H) array or Parameter
        Wh_f, Wh_g, Wh_i and Wh_o.
    b : (4H,) array or Parameter
        b_f, b_g, b_i and b_o.
    p : (3H,) array or Parameter, optional
        p_f, p_i and p_o, for peephole connections.

    References
    ----------
    Hochreiter and Schmidhuber, "Long short-term memory", 1997; Gers, Schraudolph and Schmidhuber, "Learning
    precise timing with LSTM recurrent networks", 2002, for peepholes; *Deep Learning from Scratch 2*, chapter 6.
    """

    Wx, Wh, b, p = Weight(), Weight(), Weight(), Weight()

    def __init__(
        self,
        Wx: Array | Parameter,
        Wh: Array | Parameter,
        b: Array | Parameter,
        p: Array | Parameter | None = None,
    ) -> None:
        self.Wx, self.Wh, self.b, self.p = Wx, Wh, b, p
        check_recurrent_weights(self, gates=4)

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, Array]:
        """Map x, (N, D), h_prev and c_prev, (N, H), to h and c, (N, H)."""
        check_inputs(self, x, h_prev=h_prev, c_prev=c_prev)
        xp = get_array_module(x)
        a_f, a_g, a_i, a_o = split(x @ self.Wx.data + h_prev @ self.Wh.data + self.b.data, 4)
        if self.p is not None:
            p_f, p_i, p_o = split(self.p.data, 3)
            a_f = a_f + p_f * c_prev
            a_i = a_i + p_i * c_prev
        f, g, i = sigmoid(a_f), xp.tanh(a_g), sigmoid(a_i)
        c = f * c_prev + i * g
        o = sigmoid(a_o if self.p is None else a_o + p_o * c)
        h = o * xp.tanh(c)
        self.remember(x, h_prev, c_prev, f, g, i, o, c)
        return h, c

    def backward(self, dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        """Map dh and dc, (N, H), the gradients of h and c, to dx, (N, D), dh_prev and dc_prev, (N, H).

        A gradient that is 0 everywhere may be the number 0.
        """
        x, h_prev, c_prev, f, g, i, o, c = self.recall()
        for name, d in (("dh", dh), ("dc", dc)):
            if hasattr(d, "shape") or d != 0:
                check_shape(name, d, c.shape)
        xp = get_array_module(x)
        tanh_c = xp.tanh(c)
        da_o = dh * tanh_c * o * (1 - o)
        dc = dc + dh * o * (1 - tanh_c**2)  # c is seen by the next step, and by h
        if self.p is not None:
            p_f, p_i, p_o = split(self.p.data, 3)
            dc = dc + da_o * p_o
        da_f = dc * c_prev * f * (1 - f)
        da_g = dc * i * (1 - g**2)
        da_i = dc * g * i * (1 - i)
        dc_prev = dc * f
        if self.p is not None:
            dc_prev = dc_prev + da_f * p_f + da_i * p_i
            self.p.add_grad(xp.concatenate([da_f * c_prev, da_i * c_prev, da_o * c], axis=1).sum(axis=0))
        da = xp.concatenate([da_f, da_g, da_i, da_o], axis=1)
        self.Wx.add_grad(x.T @ da)
        self.Wh.add_grad(h_prev.T @ da)
        self.b.add_grad(da.sum(axis=0))
        return da @ self.Wx.data.T, da @ self.Wh.data.T, dc_prev


def split(a: Array, n: int) -> list[Array]:
    """Cut the last axis of a, (..., n·H), into n views of a, (..., H): a gate's part each."""
    H = a.shape[-1] // n
    return [a[..., k * H : (k + 1) * H] for k in range(n)]


def two_axes(name: str, W: Parameter) -> tuple[int, int]:
    """The shape of a parameter that must be a matrix."""
    if W.data.ndim != 2:
        raise ValueError(f"{name} must have two axes, got shape {W.data.shape}")
    return W.data.shape


def check_recurrent_weights(layer: Layer, gates: int, biases: int | None = None) -> None:
    """Raise a ValueError unless Wx is (D, G·H), Wh (H, G·H), b (G·H,) or (biases·H,), and peepholes p (3H,)."""
    (D, _), (H, _) = two_axes("Wx", layer.Wx), two_axes("Wh", layer.Wh)
    shapes = {"Wx": (D, gates * H), "Wh": (H, gates * H), "b": ((biases or gates) * H,)}
    weights = {"Wx": layer.Wx, "Wh": layer.Wh, "b": layer.b}
    if vars(layer).get("p") is not None:
        shapes["p"], weights["p"] = (3 * H,), layer.p
    check_weights(type(layer).__name__, shapes, **weights)


def check_inputs(cell: Layer, x: Array, **states: Array) -> None:
    """Raise an error unless x is (N, D) and each state, by name, (N, H)."""
    D, H = len(cell.Wx.data), len(cell.Wh.data)
    if getattr(x, "ndim", 2) != 2:
        raise ValueError(f"x must have shape (N, {D}), got {x.shape}")
    check_shape("x", x, (len(x), D))
    for name, state in states.items():
        check_shape(name, state, (len(x), H))


def as_labels(t: Array, shape: tuple[int, ...], V: int, ignore_label: int, dtype: type) -> tuple[Array, Array]:
    """Labels that can index, (n,), and the weight of each row in the mean, (n,), as ``split_labels`` gives them.

    t, of ``shape``, holds labels in [0, V) or ``ignore_label``; or one-hot labels, (*shape, V).
    """
    if isinstance(t, (list, tuple)):
        t = numpy.asarray(t)
    if getattr(t, "shape", None) != shape:
        t = from_one_hot(t) if getattr(t, "shape", None) == (*shape, V) else t
        check_shape("labels", t, shape)
    t = as_ids(t, "labels")
    if all_in_range(t, V) and not 0 <= ignore_label < V:  # the usual case: each row has a label
        weights = numpy.empty(len(t), dtype)
        weights.fill(1 / len(t))
        return t, weights
    labels, weights = split_labels(t, ignore_label, dtype)
    check_range(labels, V, "labels", ignore_label)
    return labels, weights
