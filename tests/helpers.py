"""What several tests need: random arrays, and the gradient check of a layer."""

from __future__ import annotations

import numpy as np

from common.gradient_check import check_gradients
from common.layers import Layer

GRADIENT_ERROR = 1e-7  # of central differences in float64, relative to the largest element


def normal(*shape: int, seed: int = 0, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def zero_grads(layer: Layer) -> None:
    for p in layer.parameters:
        p.zero_grad()


def assert_layer_gradients(layer: Layer, forward, inputs: dict[str, np.ndarray]) -> None:
    """Check all gradients of ``layer``, with random numbers as the gradient of its output.

    ``forward()`` runs the layer on ``inputs`` and returns its output; ``backward`` must return the gradients
    of the inputs, in order.
    """
    upstream = normal(*np.shape(forward()), seed=99)
    zero_grads(layer)
    forward()
    dinputs = layer.backward(upstream if upstream.shape else float(upstream))
    if not isinstance(dinputs, tuple):
        dinputs = (dinputs,)
    params = {p.name: p.data for p in layer.parameters} | inputs
    grads = {p.name: p.grad for p in layer.parameters} | dict(zip(inputs, dinputs))
    errors = check_gradients(lambda: float((forward() * upstream).sum()), params, grads)
    assert max(errors.values()) <= GRADIENT_ERROR, errors
