"""The parameters that a model starts from."""

from __future__ import annotations

import math

import numpy as np

from common.parameter import Parameter


class InitialWeights:
    """Makes the parameters that a model starts from.

    Parameters
    ----------
    rng : numpy.random.Generator
    dtype : floating-point type
    init_range : float, optional
        Draw all weights uniformly from ±init_range, whatever ``scale`` a layer asks for.
    """

    def __init__(self, rng: np.random.Generator, dtype: type, init_range: float | None = None) -> None:
        self.rng, self.dtype, self.init_range = rng, dtype, init_range

    def normal(self, name: str, *shape: int, scale: float) -> Parameter:
        """Normally distributed around 0, with standard deviation ``scale``."""
        if self.init_range is None:
            data = scale * self.rng.standard_normal(shape)
        else:
            data = self.rng.uniform(-self.init_range, self.init_range, shape)
        return Parameter(data.astype(self.dtype), name)

    def constant(self, name: str, *values: tuple[int, float]) -> Parameter:
        """Pairs (n, value): n times the first value, n times the second, ..."""
        return Parameter(np.concatenate([np.full(n, value, self.dtype) for n, value in values]), name)

    def recurrent(self, name: str, D: int, H: int, gates: int) -> tuple[Parameter, Parameter]:
        """Wx, (D, gates·H), and Wh, (H, gates·H)."""
        Wx = self.normal(f"{name}_Wx", D, gates * H, scale=1 / math.sqrt(D))
        Wh = self.normal(f"{name}_Wh", H, gates * H, scale=1 / math.sqrt(H))
        return Wx, Wh
