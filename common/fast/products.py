"""Matrix products and elementwise work in pieces that suit the CPU. The plain twins: ``A @ B``, and all at once."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

import numpy as np

from common.backend import Array, get_array_module

# What OpenBLAS counts as a small product, where there is AVX-512: kernel/x86_64/sgemm_small_kernel_permit_skylakex.c
_SMALL = 10**6  # multiplications, at most
_SMALL_TRANSPOSED = 1200  # and numbers that come out, if the second matrix is transposed
_FEW = 5  # so many small products take no longer than a large one
_CACHED = 2**18  # numbers that fit a core's cache: elementwise work on more waits for memory


@lru_cache
def split_evenly(n: int, size: int) -> tuple[slice, ...]:
    """Cut range(n) into as few slices of at most ``size`` as will do, of nearly the same length."""
    count = -(-n // max(size, 1))
    return tuple(slice(n * k // count, n * (k + 1) // count) for k in range(count))


def cache_blocks(xp: ModuleType, n: int, width: int) -> tuple[slice, ...]:
    """Cut n rows of ``width`` numbers into slices that fit the cache; on a GPU, into one."""
    return split_evenly(n, _CACHED // width) if xp is np else (slice(0, n),)


def fits_cache(x: Array) -> bool:
    """Whether an array is small enough to stay in the cache, or on a GPU."""
    return get_array_module(x) is not np or x.size <= _CACHED


def blocked_matmul(A: Array, B: Array, out: Array) -> Array:
    """Set out, (n, V), to A @ B, (n, H) by (H, V), and return it.

    OpenBLAS, which multiplies for NumPy, copies large matrices to an order that suits it, and multiplies small ones
    where they are. A product that is nearly small is computed some rows at a time: this takes less time, and leaves
    in the cache what the rest of a step needs.
    """
    xp = get_array_module(out)
    if xp is not np:
        return xp.matmul(A, B, out=out)
    rows = _SMALL // max(B.size, 1)
    if B.strides[0] < B.strides[1]:  # transposed
        rows = min(rows, _SMALL_TRANSPOSED // B.shape[1])
    for part in split_evenly(len(A), rows if len(A) <= _FEW * rows else len(A)):
        np.matmul(A[part], B, out=out[part])
    return out
