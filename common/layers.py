"""Layers for one time step: the equations, and their derivatives, a line each.

A layer keeps what ``backward`` needs when ``forward`` runs. ``backward`` takes the
gradient of the loss with respect to the layer's output, adds to the gradients of the
layer's parameters, and returns the gradient with respect to the layer's input.
``dX`` is the gradient of the loss with respect to ``X`` throughout.
"""

from __future__ import annotations

import numpy as np

from common.backend import Array, get_array_module, scatter_add
from common.functions import log_softmax, split_labels
from common.parameter import Parameter, as_parameter


class Layer:
    """What all layers share: a list of parameters, and whether the layer is training."""

    training = True

    def __init__(self, *parameters: Parameter) -> None:
        self.parameters = list(parameters)

    @property
    def params(self) -> list[Array]:
        """The parameters' arrays, in a fixed order."""
        return [p.data for p in self.parameters]

    @property
    def grads(self) -> list[Array]:
        """The gradients' arrays, in the order of ``params``."""
        return [p.grad for p in self.parameters]


class Affine(Layer):
    """y = x W + b.

    Parameters
    ----------
    W : (D, H) array or Parameter
    b : (H,) array or Parameter
    """

    def __init__(self, W: Array | Parameter, b: Array | Parameter) -> None:
        self.W = as_parameter(W, "W")
        self.b = as_parameter(b, "b")
        super().__init__(self.W, self.b)

    def forward(self, x: Array) -> Array:
        """Map x, (N, D), to y, (N, H)."""
        self.x = x
        y = x @ self.W.data
        y += self.b.data
        return y

    def backward(self, dy: Array) -> Array:
        """Map dy, (N, H), to dx, (N, D)."""
        self.W.add_grad(self.x.T @ dy)
        self.b.add_grad(dy.sum(axis=0))
        return dy @ self.W.data.T


class Embedding(Layer):
    """y_n = W[x_n]: a word's vector is a row of W.

    Parameters
    ----------
    W : (V, D) array or Parameter
    """

    def __init__(self, W: Array | Parameter) -> None:
        self.W = as_parameter(W, "W")
        super().__init__(self.W)

    def forward(self, x: Array) -> Array:
        """Map word ids x, (N,) or any shape (...), to vectors y, (..., D)."""
        self.x = x
        return self.W.data.take(x, axis=0)

    def backward(self, dy: Array) -> None:
        """Add each row of dy, (..., D), to the gradient of the row it came from. Ids have no gradient."""
        D = self.W.data.shape[1]
        scatter_add(self.W.grad, self.x.reshape(-1), dy.reshape(-1, D))


class Dropout(Layer):
    """Training: y = x ⊙ m / (1 - p), where each element of m is 0 with probability p, else 1. Otherwise y = x.

    Division by 1 - p keeps the expected value of y at x, so that evaluation needs no change.

    Parameters
    ----------
    p : float in [0, 1)
        Probability that an element is dropped.
    rng : numpy.random.Generator
        Source of the masks.

    References
    ----------
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.
    """

    def __init__(self, p: float, rng: np.random.Generator) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"dropout probability must be in [0, 1), got {p}")
        super().__init__()
        self.p = p
        self.rng = rng
        self.m = None

    def forward(self, x: Array) -> Array:
        """Map x, of any shape, to y, of the same shape."""
        if not self.training or self.p == 0:
            self.m = None
            return x
        xp = get_array_module(x)
        # Drawn by NumPy in float32 whatever the backend and dtype: one seed, one mask.
        keep = self.rng.random(x.shape, dtype=np.float32) >= self.p
        self.m = xp.asarray(keep.astype(x.dtype))
        self.m *= 1 / (1 - self.p)
        return x * self.m

    def backward(self, dy: Array) -> Array:
        """Map dy to dx = dy ⊙ m / (1 - p); dx = dy when nothing was dropped."""
        return dy if self.m is None else dy * self.m


class SoftmaxWithLoss(Layer):
    """Mean cross entropy: L = -(1 / n) Σ log softmax(x_i)[t_i] over the n rows that have a label.

    Parameters
    ----------
    ignore_label : int
        Rows with this label count neither in the loss nor in n. When all rows are ignored, the loss
        and its gradient are 0.
    """

    def __init__(self, ignore_label: int = -1) -> None:
        super().__init__()
        self.ignore_label = ignore_label

    def forward(self, x: Array, t: Array) -> float:
        """Return the loss, in nats, of logits x, (N, V), with labels t, (N,)."""
        xp = get_array_module(x)
        self.log_y = log_softmax(x)
        self.t, self.weights = split_labels(t, self.ignore_label, x.dtype)
        return -(self.weights * self.log_y[xp.arange(len(t)), self.t]).sum()

    def backward(self, dout: float = 1.0) -> Array:
        """Return dx = (softmax(x) - onehot(t)) / n, (N, V), times dout."""
        xp = get_array_module(self.log_y)
        dx = xp.exp(self.log_y)
        dx[xp.arange(len(dx)), self.t] -= 1
        dx *= (dout * self.weights)[:, None]
        return dx


class RNN(Layer):
    """One step of a simple recurrent network: h = tanh(x Wx + h_prev Wh + b).

    Parameters
    ----------
    Wx : (D, H) array or Parameter
    Wh : (H, H) array or Parameter
    b : (H,) array or Parameter

    References
    ----------
    Elman, "Finding structure in time", 1990; *Deep Learning from Scratch 2*, chapter 5.
    """

    def __init__(self, Wx: Array | Parameter, Wh: Array | Parameter, b: Array | Parameter) -> None:
        self.Wx = as_parameter(Wx, "Wx")
        self.Wh = as_parameter(Wh, "Wh")
        self.b = as_parameter(b, "b")
        super().__init__(self.Wx, self.Wh, self.b)

    def forward(self, x: Array, h_prev: Array) -> Array:
        """Map x, (N, D), and h_prev, (N, H), to h, (N, H)."""
        xp = get_array_module(x)
        h = xp.tanh(x @ self.Wx.data + h_prev @ self.Wh.data + self.b.data)
        self.cache = x, h_prev, h
        return h

    def backward(self, dh: Array) -> tuple[Array, Array]:
        """Map dh, (N, H), to dx, (N, D), and dh_prev, (N, H)."""
        x, h_prev, h = self.cache
        da = dh * (1 - h**2)  # a = x Wx + h_prev Wh + b, and tanh'(a) = 1 - tanh(a)²
        self.Wx.add_grad(x.T @ da)
        self.Wh.add_grad(h_prev.T @ da)
        self.b.add_grad(da.sum(axis=0))
        return da @ self.Wx.data.T, da @ self.Wh.data.T
