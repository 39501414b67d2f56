"""NumPy or CuPy, decided by the array in hand.

There is no global switch: code that makes a new array asks ``get_array_module``
which library the arrays it already holds belong to. CuPy is imported only when
somebody asks for the GPU.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import threading
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType

import numpy as np

Array = np.ndarray  # in type hints: a NumPy array, or a CuPy array with the same methods

_BLOCK = 64  # rows that Unique.sum adds up in one matrix product
# What OpenBLAS counts as a small product, where there is AVX-512: kernel/x86_64/sgemm_small_kernel_permit_skylakex.c
_SMALL = 10**6  # multiplications, at most
_SMALL_TRANSPOSED = 1200  # and numbers that come out, if the second matrix is transposed
_FEW = 5  # so many small products take no longer than a large one
_CACHED = 2**18  # numbers that fit a core's cache: elementwise work on more waits for memory


class GpuUnavailable(RuntimeError):
    """CuPy is not installed, or it finds no CUDA device."""


def get_array_module(x: Array) -> ModuleType:
    """Return ``cupy`` for a CuPy array and ``numpy`` for everything else."""
    cupy = sys.modules.get("cupy")  # while it is not imported, no CuPy array can exist
    if cupy is not None and isinstance(x, cupy.ndarray):
        return cupy
    return np


def address(x: Array) -> int:
    """Where an array begins in memory."""
    return x.__array_interface__["data"][0] if get_array_module(x) is np else x.data.ptr


def require_gpu() -> ModuleType:
    """Import CuPy, make sure that it sees a device, and return it.

    Raises
    ------
    GpuUnavailable
        With a sentence that says what to install.
    """
    install = 'pip install -e ".[cuda12]" (or ".[cuda13]", as your driver supports)'
    try:
        import cupy
    except ImportError as error:
        raise GpuUnavailable(f"the GPU needs CuPy, which cannot be imported ({error}): {install}") from None
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise GpuUnavailable(f"CuPy cannot use a CUDA device ({error}): {install}") from None
    if devices == 0:
        raise GpuUnavailable(f"CuPy finds no CUDA device; the installed extra must match it: {install}")
    return cupy


def to_gpu(x: Array) -> Array:
    """Copy a NumPy array to the GPU; a CuPy array is returned as it is."""
    return require_gpu().asarray(x)


def to_cpu(x: Array) -> np.ndarray:
    """Copy a CuPy array to a NumPy array; a NumPy array is returned as it is."""
    return x if get_array_module(x) is np else x.get()


def to_float64(x: Array | float) -> Array | float:
    """A number in double precision: of a 0-dimensional array on a GPU one that stays there, else a Python float."""
    return float(x) if get_array_module(x) is np else x.astype(np.float64)


def to_floats(*scalars: Array | float) -> list[float]:
    """Python floats of numbers, or of 0-dimensional arrays of a GPU: in one copy, for which the CPU waits."""
    xp = get_array_module(scalars[0])
    if xp is np:
        return [float(x) for x in scalars]
    return to_cpu(xp.concatenate([x.reshape(1) for x in scalars])).tolist()


def uniform(rng: np.random.Generator, shape: tuple[int, ...], xp: ModuleType) -> Array:
    """Random numbers in [0, 1), float32, made where they are needed.

    NumPy takes them from ``rng``. For a GPU, ``rng`` draws a seed, from which the GPU makes numbers of its own: nothing
    is sent, and ``rng`` is all that must be known to draw the same again.
    """
    if xp is np:
        return rng.random(shape, dtype=np.float32)
    seed = int(rng.integers(2**63))
    return xp.random.Generator(xp.random.Philox4x3210(seed)).random(shape, dtype=np.float32)


class _Underflow(threading.local):
    ignored = False  # in this thread, by a method that is running


_underflow = _Underflow()


def underflow_is_zero(method: Callable) -> Callable:
    """Decorate a method: inside, a number too small for its dtype is 0, as it should be, and no error.

    That matters to readers who look for a NaN with ``np.seterr(all="raise")``. Of methods that call each other, only
    the outermost changes NumPy's setting, as that takes a microsecond.
    """

    ignoring = np.errstate(under="ignore")(method)

    @functools.wraps(method)
    def run(*args: object, **options: object) -> object:
        if _underflow.ignored:
            return method(*args, **options)
        _underflow.ignored = True
        try:
            return ignoring(*args, **options)
        finally:
            _underflow.ignored = False

    return run


def memory_figures(x: Array, before: str = "") -> str:
    """Memory of the GPU that x is on: what arrays take, and what CuPy holds for them and more. On the CPU: "".

    ``before`` is put before it, if there is anything.
    """
    xp = get_array_module(x)
    if xp is np:
        return ""
    pool = xp.get_default_memory_pool()
    return f"{before}GPU memory {pool.used_bytes() / 2**20:,.0f} MiB used, {pool.total_bytes() / 2**20:,.0f} MiB held"


def fastest_exp() -> tuple[str, float]:
    """The name of NumPy's fastest exponential function, and the natural logarithm of its base.

    Where NumPy has Intel's short vector mathematical library, on Linux with AVX-512, 2^x takes half
    the time of e^x. It is as good for a GPU, where both are fast.
    """
    try:
        from numpy.lib import introspect  # of NumPy 2.1 and later
    except ImportError:
        return "exp", 1.0
    found = introspect.opt_func_info("^exp2$", "float32").get("exp2", {}).values()
    fast = sys.platform == "linux" and {info["current"] for info in found} & {"AVX512_SKX", "X86_V4"}
    return ("exp2", math.log(2)) if fast else ("exp", 1.0)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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

    OpenBLAS, which multiplies for NumPy, copies matrices to an order that suits it, and shares the work between cores;
    but small matrices it multiplies where they are. A product that is small but for a little is computed some rows
    at a time: it takes less time, and leaves in the cache what the rest of a step needs.
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


class Unique:
    """Equal numbers of an array brought together, so that rows which belong to them can be summed. NumPy only.

    Parameters
    ----------
    ids : (n,) array of integers

    Attributes
    ----------
    distinct : (U,) array
        The numbers that occur, in the order in which they first do.
    index : (n,) array
        Where each id is in ``distinct``: ``distinct[index]`` equals ``ids``.
    """

    def __init__(self, ids: np.ndarray) -> None:
        number: dict[int, int] = {}  # keeps their order
        index = [number.setdefault(i, len(number)) for i in ids.tolist()]
        self.distinct = np.fromiter(number, np.intp, len(number))
        self.index = np.array(index, np.intp)

    def sum(self, rows: np.ndarray) -> np.ndarray:
        """Sum the rows, (n, D), of each group: (U, D).

        ``np.add.at`` would do, in five times the time. Rows that are summed are neighbours in order,
        so a block of them is summed by one product with a small matrix of zeros and ones:

            group 0 0 1          1 1 0   row 0     row 0 + row 1 -> sums[0]
                                 0 0 1 @ row 1  =  row 2         -> sums[1]
                                         row 2
        """
        if len(rows) <= _BLOCK:
            member = np.arange(len(self.distinct))[:, None] == self.index
            return member.astype(rows.dtype) @ rows
        order = self.index.argsort(kind="stable")
        in_order = self.index[order]  # 0 0 0 1 2 2 ...: the groups, one behind the other
        sums = np.zeros((len(self.distinct), rows.shape[1]), dtype=rows.dtype)
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            group = in_order[block]
            low, high = group[0], group[-1] + 1
            member = (np.arange(low, high)[:, None] == group).astype(rows.dtype)
            part = sums[low:high]
            part += member @ rows[order[block]]
        return sums


def scatter_add(target: Array, index: Array, rows: Array) -> None:
    """Add ``rows[i]`` to ``target[index[i]]``, for every i, in place.

    ``target[index] += rows`` would add only one of the rows that share an index.

    Parameters
    ----------
    target : (V, D) array, changed in place
    index : (n,) array of integers in [0, V)
    rows : (n, D) array
    """
    if get_array_module(target) is np:
        groups = Unique(index)
        target[groups.distinct] += groups.sum(rows)
    else:
        import cupyx

        cupyx.scatter_add(target, index, rows)
