"""Layers for one time step: the equations, and their derivatives, a line each.

A layer keeps what ``backward`` needs when ``forward`` runs. ``backward`` takes the
gradient of the loss with respect to the layer's output, adds to the gradients of the
layer's parameters, and returns the gradient with respect to the layer's input.
``dX`` is the gradient of the loss with respect to ``X`` throughout.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from common.backend import Array, get_array_module, scatter_add, uniform
from common.functions import log_softmax, sigmoid, split_labels
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
        self.W.add_product(self.x.T, dy)
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
        Source of the masks; on a GPU, of their seeds.

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
        self.m = self.draw_mask(x.shape, get_array_module(x))
        return self._drop(x)

    def backward(self, dy: Array) -> Array:
        """Map dy to dx = dy ⊙ m / (1 - p); dx = dy when nothing was dropped."""
        return dy if self.m is None else self._drop(dy)

    def _drop(self, x: Array) -> Array:
        y = x * self.m  # a mask of booleans takes a quarter of the memory, and no more time
        y *= 1 / (1 - self.p)
        return y

    def draw_mask(self, shape: tuple[int, ...], xp: ModuleType) -> Array:
        """True with probability 1 - p. Drawn in float32 whatever the dtype: one seed, one mask."""
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


class IdentityWithLoss(Layer):
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
        self.d = x - t
        return (self.d * self.d).sum() / self.d.size

    def backward(self, dout: float = 1.0) -> Array:
        """Return dx = 2 (x - t) / n, (N, D), times dout."""
        return self.d * (2 * dout / self.d.size)


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

    def __init__(self, W: Array | Parameter, b: Array | Parameter) -> None:
        self.W = as_parameter(W, "W")
        self.b = as_parameter(b, "b")
        super().__init__(self.W, self.b)

    def forward(self, x: Array) -> Array:
        """Map x, (N, D), to y, (N, D)."""
        g = sigmoid(x @ self.W.data + self.b.data)
        self.cache = x, g
        return g * x

    def backward(self, dy: Array) -> Array:
        """Map dy, (N, D), to dx, (N, D)."""
        x, g = self.cache
        da = dy * x * g * (1 - g)  # a = x W + b, and σ'(a) = σ(a) (1 - σ(a))
        self.W.add_grad(x.T @ da)
        self.b.add_grad(da.sum(axis=0))
        return dy * g + da @ self.W.data.T


class OneGateGRU(Layer):
    """One step of a recurrent network with one gate, the shortest way from RNN to GRU.

        z = σ(x Wx_z + h_prev Wh_z + b_z)          how much of the old state is kept
        h̃ = tanh(x Wx_h + h_prev Wh_h + b_h)       what would replace it
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

    def __init__(self, Wx: Array | Parameter, Wh: Array | Parameter, b: Array | Parameter) -> None:
        self.Wx = as_parameter(Wx, "Wx")
        self.Wh = as_parameter(Wh, "Wh")
        self.b = as_parameter(b, "b")
        super().__init__(self.Wx, self.Wh, self.b)

    def forward(self, x: Array, h_prev: Array) -> Array:
        """Map x, (N, D), and h_prev, (N, H), to h, (N, H)."""
        xp = get_array_module(x)
        a_z, a_h = split(x @ self.Wx.data + h_prev @ self.Wh.data + self.b.data, 2)
        z = sigmoid(a_z)
        h_new = xp.tanh(a_h)
        self.cache = x, h_prev, z, h_new
        return (1 - z) * h_new + z * h_prev

    def backward(self, dh: Array) -> tuple[Array, Array]:
        """Map dh, (N, H), to dx, (N, D), and dh_prev, (N, H)."""
        x, h_prev, z, h_new = self.cache
        xp = get_array_module(x)
        da_z = dh * (h_prev - h_new) * z * (1 - z)
        da_h = dh * (1 - z) * (1 - h_new**2)
        da = xp.concatenate([da_z, da_h], axis=1)
        self.Wx.add_grad(x.T @ da)
        self.Wh.add_grad(h_prev.T @ da)
        self.b.add_grad(da.sum(axis=0))
        return da @ self.Wx.data.T, dh * z + da @ self.Wh.data.T


class GRU(Layer):
    """One step of a gated recurrent unit.

        z = σ(x Wx_z + h_prev Wh_z + b_z)                 how much of the old state is kept
        r = σ(x Wx_r + h_prev Wh_r + b_r)                 how much of it the new one may see
        h̃ = tanh(x Wx_h + (r ⊙ h_prev) Wh_h + b_h)
        h = (1 - z) ⊙ h̃ + z ⊙ h_prev

    With ``reset_after``, as in PyTorch and cuDNN, r works on the product and needs a bias of its own there:

        h̃ = tanh(x Wx_h + b_h + r ⊙ (h_prev Wh_h + b_rh))

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
    translation", 2014 (with 1 - z in place of z); *Deep Learning from Scratch 2*, appendix C.
    """

    def __init__(
        self, Wx: Array | Parameter, Wh: Array | Parameter, b: Array | Parameter, reset_after: bool = False
    ) -> None:
        self.Wx = as_parameter(Wx, "Wx")
        self.Wh = as_parameter(Wh, "Wh")
        self.b = as_parameter(b, "b")
        super().__init__(self.Wx, self.Wh, self.b)
        check_gru_bias(self.Wh, self.b, reset_after)
        self.reset_after = reset_after

    def forward(self, x: Array, h_prev: Array) -> Array:
        """Map x, (N, D), and h_prev, (N, H), to h, (N, H)."""
        xp = get_array_module(x)
        H = h_prev.shape[1]
        Wh, b = self.Wh.data, self.b.data
        a_x = x @ self.Wx.data + b[: 3 * H]
        z, r = split(sigmoid(a_x[:, : 2 * H] + h_prev @ Wh[:, : 2 * H]), 2)
        if self.reset_after:
            a_h = h_prev @ Wh[:, 2 * H :] + b[3 * H :]
            h_new = xp.tanh(a_x[:, 2 * H :] + r * a_h)
        else:
            a_h = None
            h_new = xp.tanh(a_x[:, 2 * H :] + (r * h_prev) @ Wh[:, 2 * H :])
        self.cache = x, h_prev, z, r, h_new, a_h
        return (1 - z) * h_new + z * h_prev

    def backward(self, dh: Array) -> tuple[Array, Array]:
        """Map dh, (N, H), to dx, (N, D), and dh_prev, (N, H)."""
        x, h_prev, z, r, h_new, a_h = self.cache
        xp = get_array_module(x)
        H = h_prev.shape[1]
        Wh_zr, Wh_h = self.Wh.data[:, : 2 * H], self.Wh.data[:, 2 * H :]

        dh_prev = dh * z
        da_z = dh * (h_prev - h_new) * z * (1 - z)
        da_h = dh * (1 - z) * (1 - h_new**2)
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

        o = σ(x Wx_o + h_prev Wh_o + b_o)          output gate: how much of the memory is shown
        i = σ(x Wx_i + h_prev Wh_i + b_i)          input gate: how much of c̃ is taken in
        f = σ(x Wx_f + h_prev Wh_f + b_f)          forget gate: how much of the old memory is kept
        c̃ = tanh(x Wx_c + h_prev Wh_c + b_c)
        c = f ⊙ c_prev + i ⊙ c̃                     memory
        h = o ⊙ tanh(c)

    With peephole connections the gates see the memory too: i and f gain p ⊙ c_prev inside σ, and o gains
    p_o ⊙ c.

    Parameters
    ----------
    Wx : (D, 4H) array or Parameter
        Wx_o, Wx_i, Wx_f and Wx_c, side by side in this order.
    Wh : (H, 4H) array or Parameter
        Wh_o, Wh_i, Wh_f and Wh_c.
    b : (4H,) array or Parameter
        b_o, b_i, b_f and b_c.
    p : (3H,) array or Parameter, optional
        p_o, p_i and p_f, for peephole connections.

    References
    ----------
    Hochreiter and Schmidhuber, "Long short-term memory", 1997; Gers, Schraudolph and Schmidhuber, "Learning
    precise timing with LSTM recurrent networks", 2002, for peepholes; *Deep Learning from Scratch 2*, chapter 6.
    """

    def __init__(
        self,
        Wx: Array | Parameter,
        Wh: Array | Parameter,
        b: Array | Parameter,
        p: Array | Parameter | None = None,
    ) -> None:
        self.Wx = as_parameter(Wx, "Wx")
        self.Wh = as_parameter(Wh, "Wh")
        self.b = as_parameter(b, "b")
        self.p = None if p is None else as_parameter(p, "p")
        super().__init__(self.Wx, self.Wh, self.b, *([] if p is None else [self.p]))

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, Array]:
        """Map x, (N, D), h_prev and c_prev, (N, H), to h and c, (N, H)."""
        xp = get_array_module(x)
        a_o, a_i, a_f, a_c = split(x @ self.Wx.data + h_prev @ self.Wh.data + self.b.data, 4)
        if self.p is not None:
            p_o, p_i, p_f = split(self.p.data, 3)
            a_i = a_i + p_i * c_prev
            a_f = a_f + p_f * c_prev
        i, f = sigmoid(a_i), sigmoid(a_f)
        c_new = xp.tanh(a_c)
        c = f * c_prev + i * c_new
        o = sigmoid(a_o if self.p is None else a_o + p_o * c)
        h = o * xp.tanh(c)
        self.cache = x, h_prev, c_prev, o, i, f, c_new, c
        return h, c

    def backward(self, dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        """Map dh and dc, (N, H), the gradients of h and c, to dx, (N, D), dh_prev and dc_prev, (N, H)."""
        x, h_prev, c_prev, o, i, f, c_new, c = self.cache
        xp = get_array_module(x)
        tanh_c = xp.tanh(c)
        da_o = dh * tanh_c * o * (1 - o)
        dc = dc + dh * o * (1 - tanh_c**2)  # c is seen by the next step, and by h
        if self.p is not None:
            p_o, p_i, p_f = split(self.p.data, 3)
            dc = dc + da_o * p_o
        da_i = dc * c_new * i * (1 - i)
        da_f = dc * c_prev * f * (1 - f)
        da_c = dc * i * (1 - c_new**2)
        dc_prev = dc * f
        if self.p is not None:
            dc_prev = dc_prev + da_i * p_i + da_f * p_f
            self.p.add_grad(xp.concatenate([da_o * c, da_i * c_prev, da_f * c_prev], axis=1).sum(axis=0))
        da = xp.concatenate([da_o, da_i, da_f, da_c], axis=1)
        self.Wx.add_grad(x.T @ da)
        self.Wh.add_grad(h_prev.T @ da)
        self.b.add_grad(da.sum(axis=0))
        return da @ self.Wx.data.T, da @ self.Wh.data.T, dc_prev


def split(a: Array, n: int) -> list[Array]:
    """Cut the last axis of a, (..., n·H), into n views of a, (..., H): a gate's part each."""
    H = a.shape[-1] // n
    return [a[..., k * H : (k + 1) * H] for k in range(n)]


def check_gru_bias(Wh: Parameter, b: Parameter, reset_after: bool) -> None:
    """Raise a ValueError if ``b`` has not as many parts as this form of the GRU needs."""
    H = len(Wh.data)
    parts = 4 if reset_after else 3
    if b.data.shape != (parts * H,):
        raise ValueError(f"a GRU with reset_after={reset_after} needs b of shape ({parts * H},), got {b.data.shape}")
