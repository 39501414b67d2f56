"""Gradients by finite differences, to check those that were derived by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from common.backend import Array


def numerical_gradient(f: Callable[[], float], x: Array, eps: float = 1e-5) -> Array:
    """Central differences: (f(x + eps) - f(x - eps)) / (2 eps), for each element of x.

    Parameters
    ----------
    f : function without arguments
        Computes a number from ``x``, which it sees change. Everything else must stay the same from
        call to call: reset states and seed random numbers inside it.
    x : float64 array
        Changed in place, and put back.
    eps : float
        In float64, 10⁻⁵ balances the error of the formula, eps², against rounding, 10⁻¹⁶ / eps.
    """
    if x.dtype != np.float64:
        raise TypeError(f"finite differences need float64, got {x.dtype}")
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + eps
        above = float(f())
        x[i] = kept - eps
        below = float(f())
        x[i] = kept
        gradient[i] = (above - below) / (2 * eps)
    return gradient


def gradient_error(computed: Array, numerical: Array) -> float:
    """Largest difference of two gradients, relative to the largest element of either; 0 if both are 0."""
    scale = max(np.abs(computed).max(), np.abs(numerical).max())
    return float(np.abs(computed - numerical).max() / scale) if scale > 0 else 0.0


def check_gradients(
    f: Callable[[], float], params: dict[str, Array], grads: dict[str, Array], eps: float = 1e-5
) -> dict[str, float]:
    """Compare the gradients that ``backward`` gave with finite differences of ``f``; see ``numerical_gradient``.

    Returns ``gradient_error`` by name: below 10⁻⁷ when the derivation is right, and rarely below 10⁻² when it is wrong.
    Multiply a layer's output by fixed random numbers and sum, to get an ``f`` for it: with all ones instead, errors
    that cancel in a sum stay hidden.
    """
    return {name: gradient_error(grads[name], numerical_gradient(f, x, eps)) for name, x in params.items()}
