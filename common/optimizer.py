"""Optimizers: ``optimizer.update(params, grads)`` changes each array of ``params`` in place.

An update is a handful of simple operations on arrays as large as the model, so the time goes into
moving numbers between memory and processor. Each optimizer therefore makes all its operations on
one block of a parameter, while the block is in the cache, before it takes the next.
"""

from __future__ import annotations

import math

import numpy as np

from common.backend import Array, cut, get_array_module
from common.parameter import joined

_BLOCK = 2**15  # elements of a block: 128 KB in float32


class Optimizer:
    """What all optimizers share: the walk over the parameters, block by block, and their memory of earlier steps.

    A subclass names its ``memories``, arrays of the shape of each parameter that start from zeros,
    and updates one block in ``_update(w, g, *memories)``.

    Parameters
    ----------
    lr : float
        Learning rate; may be changed between updates.
    """

    memories: tuple[str, ...] = ()

    def __init__(self, lr: float) -> None:
        if not lr > 0:
            raise ValueError(f"the learning rate must be positive, got {lr}")
        self.lr = lr
        self.t = 0  # updates made so far

    def update(self, params: list[Array], grads: list[Array]) -> None:
        """Take one step downhill.

        Parameters
        ----------
        params, grads : lists of arrays
            The same arrays, in the same order, at every call. ``params`` are changed in place.
        """
        self.t += 1
        params, grads = joined(params), joined(grads)
        if self.t == 1:
            for name in self.memories:
                setattr(self, name, [get_array_module(w).zeros_like(w) for w in params])
        for arrays in zip(params, grads, *(getattr(self, name) for name in self.memories), strict=True):
            for block in _blocks(arrays[0]):
                self._update(*[x[block] for x in arrays])


def _blocks(w: Array) -> tuple:
    """Indices of the blocks of w: slices of its rows; on a GPU, or if it is small, all of it."""
    if w.size <= _BLOCK or get_array_module(w) is not np:
        return (...,)
    return cut(len(w), _BLOCK * len(w) // w.size)


class SGD(Optimizer):
    """Stochastic gradient descent: w ← w - lr g.

    Parameters
    ----------
    lr : float
        Learning rate.
    """

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__(lr)

    def _update(self, w: Array, g: Array) -> None:
        w -= self.lr * g


class Momentum(Optimizer):
    """Gradient descent with momentum: v ← momentum v - lr g,  w ← w + v.

    Parameters
    ----------
    lr : float
        Learning rate.
    momentum : float
        How much of the last step is kept.

    References
    ----------
    Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    """

    memories = ("v",)

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__(lr)
        self.momentum = momentum

    def _update(self, w: Array, g: Array, v: Array) -> None:
        v *= self.momentum
        v -= self.lr * g
        w += v


class Adam(Optimizer):
    """Steps of about lr, whatever the size of the gradient.

    m ← β₁ m + (1 - β₁) g            mean of the gradients
    v ← β₂ v + (1 - β₂) g²           mean of their squares
    w ← w - lr m̂ / (√v̂ + ε)         with m̂ = m / (1 - β₁ᵗ), v̂ = v / (1 - β₂ᵗ)

    Parameters
    ----------
    lr : float
        Learning rate.
    beta1, beta2 : float
        Decay rates of the two means.
    eps : float
        Keeps the division finite.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.
    """

    memories = ("m", "v")

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        super().__init__(lr)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps

    def _update(self, w: Array, g: Array, m: Array, v: Array) -> None:
        xp = get_array_module(w)
        s = (1 - self.beta1) * g
        m *= self.beta1
        m += s
        xp.multiply(g, g, out=s)
        s *= 1 - self.beta2
        v *= self.beta2
        v += s
        # lr m̂ / (√v̂ + ε) = (lr √c₂ / c₁) m / (√v + ε √c₂), with c = 1 - βᵗ: the divisions by c
        # are of two numbers, not of two arrays.
        c1 = 1 - self.beta1**self.t
        sqrt_c2 = math.sqrt(1 - self.beta2**self.t)
        xp.sqrt(v, out=s)
        s += self.eps * sqrt_c2
        xp.divide(m, s, out=s)
        s *= self.lr * sqrt_c2 / c1
        w -= s


class AdamW(Adam):
    """Adam with weight decay that Adam's scaling does not touch: first w ← w - lr · weight_decay · w.

    Parameters
    ----------
    lr, beta1, beta2, eps : float
        As in Adam.
    weight_decay : float
        Share of each weight, times lr, that is taken away at each step.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """

    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(lr, beta1, beta2, eps)
        self.weight_decay = weight_decay

    def _update(self, w: Array, g: Array, m: Array, v: Array) -> None:
        w *= 1 - self.lr * self.weight_decay
        super()._update(w, g, m, v)


def clip_grads(grads: list[Array], max_norm: float) -> float:
    """Scale all gradients, in place, by one factor, if together they are longer than ``max_norm``.

    rate = max_norm / (‖g‖ + 10⁻⁶), where ‖g‖² is the sum of the squares of all elements of all arrays;
    g ← rate g if rate < 1.

    Parameters
    ----------
    grads : list of arrays
    max_norm : float
        Largest length of the gradient of the whole model.

    Returns
    -------
    float or 0-dimensional array
        ‖g‖ before it was clipped.

    References
    ----------
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    grads = joined(grads)
    xp = get_array_module(grads[0])
    norm = xp.sqrt(sum(xp.vdot(g, g) for g in grads))
    rate = max_norm / (norm + 1e-6)
    if xp is not np:  # whether rate < 1 is known on the GPU; asking would make the CPU wait for it
        rate = xp.minimum(rate, 1)
    elif rate >= 1:
        return norm
    for g in grads:
        g *= rate
    return norm
