"""Optimizers: ``optimizer.update(params, grads)`` changes each array of ``params`` in place.

An update is a handful of simple operations on arrays as large as the model, so the time goes into
moving numbers between memory and processor. Each optimizer therefore makes all its operations on
one block of a parameter, while the block is in the cache, before it takes the next.
"""

from __future__ import annotations

import math

import numpy as np

from common.backend import Array, address, get_array_module, to_float64, underflow_is_zero
from common.checks import check_number
from common.fast.flat_buffer import Parts, flat_buffers
from common.fast.products import split_evenly

_BLOCK = 2**15  # elements of a block: 128 KB in float32


class Optimizer:
    """What all optimizers share: the walk over the parameters, block by block, and their memory of earlier steps.

    A subclass names its ``memories``, arrays of the shape of each parameter that start from zeros,
    and updates one block in ``_update(w, g, *memories)``. The learning rate, ``lr``, may be changed between updates.
    """

    memories: tuple[str, ...] = ()

    def __init__(self, lr: float) -> None:
        check_number("the learning rate", lr, 0)
        self.lr = lr
        self.t = 0  # updates made so far
        for name in self.memories:
            setattr(self, name, None)

    @underflow_is_zero
    def update(self, params: list[Array], grads: list[Array]) -> None:
        """Take one step downhill: change ``params``, at every call the same arrays, in place.

        ``grads`` are those of a model, or any of the same shapes, such as sums over several batches.

        Raises
        ------
        ValueError, TypeError
            If the lists do not match, or ``params`` are not those of the first call; nothing has been changed then.
        """
        if self.memories and self.t == 0:
            self.begin(params)
        lists = flat_buffers(params, grads, *(getattr(self, name) for name in self.memories))
        if lists[0] is params:  # arrays that stand alone
            _check_arrays(params, *lists[1:])
            lists = _each_once(lists)
        if type(self.lr) is not float or not 0 <= self.lr < math.inf:
            check_number("the learning rate", self.lr, 0, closed=True)
            self.lr = float(self.lr)  # a NumPy number would make float64 of float32
        self.t += 1
        for arrays in zip(*lists):
            for block in _blocks(arrays[0]):
                self._update(*[x[block] for x in arrays])

    def begin(self, params: list[Array]) -> None:
        """Make the memories of these parameters: zeros."""
        for name in self.memories:
            flat = isinstance(params, Parts) and params.complete()
            zeros = params.zeros_like() if flat else [get_array_module(w).zeros_like(w) for w in params]
            setattr(self, name, zeros)


def _check_arrays(params: list[Array], *others: list[Array]) -> None:
    """Raise an error unless all lists hold floating-point arrays of the same shapes, on one device."""
    for name, arrays in zip(("gradients", "remembered arrays", "remembered arrays"), others):
        if len(arrays) != len(params):
            raise ValueError(f"{len(params)} parameters need as many {name}, got {len(arrays)}")
        for k, (w, g) in enumerate(zip(params, arrays)):
            if getattr(getattr(w, "dtype", None), "kind", None) != "f":
                raise TypeError(f"parameter {k} must be an array of floating-point numbers, got {type(w).__name__}")
            if not hasattr(g, "shape") or get_array_module(g) is not get_array_module(w):
                raise TypeError(f"parameter {k} is a {type(w).__module__} array, but of its {name} one is {type(g)}")
            if g.shape != w.shape:
                raise ValueError(f"parameter {k} has shape {w.shape}, but of its {name} one has {g.shape}")


def _each_once(lists: tuple[list[Array], ...]) -> list[list[Array]]:
    """Leave out pairs of parameter and gradient that are there already, as they are or transposed.

    Layers that share a Parameter both list it, and its gradient is the sum of both already.
    """
    pairs = {(_place(arrays[0]), _place(arrays[1])): arrays for arrays in reversed(list(zip(*lists)))}
    return list(zip(*reversed(pairs.values())))


def _place(x: Array) -> tuple:
    """Where an array lies in memory: the same for x and x.T."""
    return address(x), tuple(sorted(zip(x.strides, x.shape)))


def _blocks(w: Array) -> tuple:
    """Indices of the blocks of w: slices of its rows; on a GPU, or if it is small, all of it."""
    if w.size <= _BLOCK or w.ndim == 0 or get_array_module(w) is not np:
        return (...,)
    return split_evenly(len(w), _BLOCK * len(w) // w.size)


class CosineSchedule:
    """The learning rate at step k of K: it rises in the first steps, the warm-up, and falls as half a cosine.

        lr_k = lr k / warmup                                                 for k ≤ warmup
        lr_k = lr (1 + cos(π (k - warmup) / (K - warmup))) / 2               after it: 0 at step K

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """

    def __init__(self, lr: float, steps: int, warmup: int = 0) -> None:
        self.lr, self.steps, self.warmup = lr, steps, warmup

    def __call__(self, k: int) -> float:
        """Return lr_k, for k = 1, 2, ...; after step K it stays 0."""
        if k <= self.warmup:
            return self.lr * k / self.warmup
        fallen = min(1.0, (k - self.warmup) / max(1, self.steps - self.warmup))
        return self.lr * (1 + math.cos(math.pi * fallen)) / 2


class SGD(Optimizer):
    """Stochastic gradient descent: w ← w - lr g."""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__(lr)

    def _update(self, w: Array, g: Array) -> None:
        w -= self.lr * g


class Momentum(Optimizer):
    """Gradient descent with momentum: v ← momentum v - lr g,  w ← w + v.

    References
    ----------
    Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    """

    memories = ("v",)

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__(lr)
        check_number("momentum", momentum, 0, 1, closed=True)
        self.momentum = momentum

    def _update(self, w: Array, g: Array, v: Array) -> None:
        v *= self.momentum
        v -= self.lr * g
        w += v


class Nesterov(Momentum):
    """Momentum that looks ahead: the gradient is taken where the step will lead.

    v ← momentum v - lr g,  w ← w + momentum v - lr g

    The weights that are kept are those ahead, w + momentum v, so that no other gradient is needed.

    References
    ----------
    Nesterov, "A method for solving the convex programming problem with convergence rate O(1/k²)", 1983; in this form
    Bengio, Boulanger-Lewandowski and Pascanu, "Advances in optimizing recurrent networks", 2013.
    """

    def _update(self, w: Array, g: Array, v: Array) -> None:
        s = self.lr * g
        v *= self.momentum
        v -= s
        w += self.momentum * v
        w -= s


class AdaGrad(Optimizer):
    """Smaller steps where gradients have been large: h ← h + g²,  w ← w - lr g / (√h + ε). ε keeps it finite.

    References
    ----------
    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization", 2011.
    """

    memories = ("h",)

    def __init__(self, lr: float = 0.01, eps: float = 1e-7) -> None:
        super().__init__(lr)
        check_number("eps", eps, 0)
        self.eps = eps

    def _update(self, w: Array, g: Array, h: Array) -> None:
        h += g * g
        w -= self.lr * g / (get_array_module(w).sqrt(h) + self.eps)


class RMSprop(Optimizer):
    """Steps divided by the size of recent gradients: h ← ρ h + (1 - ρ) g²,  w ← w - lr g / (√h + ε).

    ``decay_rate`` is ρ.

    References
    ----------
    Tieleman and Hinton, "Lecture 6.5: rmsprop", Coursera, 2012.
    """

    memories = ("h",)

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99, eps: float = 1e-7) -> None:
        super().__init__(lr)
        check_number("decay_rate", decay_rate, 0, 1, closed=True)
        check_number("eps", eps, 0)
        self.decay_rate, self.eps = decay_rate, eps

    def _update(self, w: Array, g: Array, h: Array) -> None:
        h *= self.decay_rate
        h += (1 - self.decay_rate) * g * g
        w -= self.lr * g / (get_array_module(w).sqrt(h) + self.eps)


class Adam(Optimizer):
    """Steps of about lr, whatever the size of the gradient.

    m ← β₁ m + (1 - β₁) g            mean of the gradients
    v ← β₂ v + (1 - β₂) g²           mean of their squares
    w ← w - lr √c₂ / c₁ · m / (√v + ε)          with c₁ = 1 - β₁ᵗ, c₂ = 1 - β₂ᵗ

    Both means start from zero, and c₁ and c₂ correct for that. The textbook and Keras add ε to √v as it stands here,
    algorithm 1 of the paper and PyTorch to the corrected one, as here with ``corrected``:

    w ← w - lr m̂ / (√v̂ + ε)                    with m̂ = m / c₁, v̂ = v / c₂

    With ``corrected=True, eps=1e-8`` this is PyTorch's Adam.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", 2015, section 2 and algorithm 1.
    """

    memories = ("m", "v")

    def __init__(
        self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-7, corrected: bool = False
    ) -> None:
        super().__init__(lr)
        check_number("beta1", beta1, 0, 1, closed=True)
        check_number("beta2", beta2, 0, 1, closed=True)
        check_number("eps", eps, 0)
        self.beta1, self.beta2, self.eps, self.corrected = beta1, beta2, eps, corrected

    def _update(self, w: Array, g: Array, m: Array, v: Array) -> None:
        xp = get_array_module(w)
        s = (1 - self.beta1) * g
        m *= self.beta1
        m += s
        xp.multiply(g, g, out=s)
        s *= 1 - self.beta2
        v *= self.beta2
        v += s
        # Corrected, too, the divisions by c are of two numbers, not of two arrays:
        # lr m̂ / (√v̂ + ε) = (lr √c₂ / c₁) m / (√v + ε √c₂)
        c1 = 1 - self.beta1**self.t
        sqrt_c2 = math.sqrt(1 - self.beta2**self.t)
        xp.sqrt(v, out=s)
        s += self.eps * sqrt_c2 if self.corrected else self.eps
        xp.divide(m, s, out=s)
        s *= self.lr * sqrt_c2 / c1
        w -= s


class AdamW(Adam):
    """Corrected Adam with weight decay that Adam's scaling does not touch: first w ← w - lr · weight_decay · w.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """

    def __init__(
        self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.01
    ) -> None:
        super().__init__(lr, beta1, beta2, eps, corrected=True)
        check_number("weight_decay", weight_decay, 0, closed=True)
        self.weight_decay = weight_decay

    def _update(self, w: Array, g: Array, m: Array, v: Array) -> None:
        w *= 1 - self.lr * self.weight_decay
        super()._update(w, g, m, v)


@underflow_is_zero
def clip_grads(grads: list[Array], max_norm: float) -> float:
    """Scale all gradients, in place, by one factor, if their joint norm ‖g‖ exceeds ``max_norm``; inf only measures it.

    rate = max_norm / (‖g‖ + 10⁻⁶), where ‖g‖² is the sum of the squares of all elements of all arrays;
    g ← rate g if rate < 1. Return ‖g‖ before it was clipped, a float or, on a GPU, a 0-dimensional array.

    Raises
    ------
    ValueError
        If ``max_norm`` is not positive.

    References
    ----------
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    if max_norm != math.inf:
        check_number("the largest norm", max_norm, 0)
    found, grads = grads, flat_buffers(grads)[0]
    if grads is found:  # arrays that stand alone
        grads = [g for g, _ in zip(*_each_once((grads, grads)))]
    if not grads:
        return 0.0
    xp = get_array_module(grads[0])
    # In double precision, block by block: a float32 sum of millions of squares would lose digits.
    squares = sum(to_float64(xp.vdot(g[block], g[block])) for g in grads for block in _blocks(g))
    if xp is np:
        norm = math.sqrt(squares)
        rate = max_norm / (norm + 1e-6)
        if rate < 1 and norm < math.inf:
            for g in grads:
                g *= rate
    else:  # whether rate < 1 is known on the GPU; asking would make the CPU wait for it
        norm = xp.sqrt(squares)
        rate = xp.minimum(max_norm / (norm + 1e-6), 1)
        for g in grads:
            g *= rate.astype(g.dtype)
    return norm
