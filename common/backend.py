"""NumPy or CuPy, decided by the array in hand.

There is no global switch: code that makes a new array asks ``get_array_module``
which library the arrays it already holds belong to. CuPy is imported only when
somebody asks for the GPU.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from types import ModuleType

import numpy as np

Array = np.ndarray  # in type hints: a NumPy array, or a CuPy array with the same methods


class Unavailable(RuntimeError):
    """What was asked for is not installed, or not there: a GPU, or MPI."""


class GpuUnavailable(Unavailable):
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

    That matters to users who look for a NaN with ``np.seterr(all="raise")``. Of methods that call each other, only
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


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
