"""A strict stand-in for CuPy: the GPU code of this project runs on it on any machine, and mistakes show.

``cupy`` is a module to put into ``sys.modules`` under this name. Its arrays keep a NumPy
array to themselves and compute with it, so results are those of NumPy bit for bit. What they will not do:

- meet a NumPy array: any operator, function or index that gets one raises TypeError, as in CuPy
- turn into a NumPy array unless asked by ``get()``, as in CuPy
- anything that this project has not needed so far: unknown functions and methods raise AttributeError

In three places it is stricter than CuPy, which would copy a NumPy index array to the GPU at each use, takes
lists as indices, and lets NumPy's functions work on its arrays. ``counts`` says how often data went from
one side to the other; on a real GPU each number that goes to the host makes the CPU wait.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from common.fast.segment_sum import scatter_add

counts = {"to_device": 0, "to_host": 0}


def reset_counts() -> None:
    """Begin to count copies between host and device anew."""
    counts.update(to_device=0, to_host=0)


class ndarray:
    """In place of ``cupy.ndarray``.

    Parameters
    ----------
    hidden : numpy.ndarray
        The elements. Views of one array share them, as views on a GPU share memory.
    base : ndarray, optional
        The array that this one is a view of.
    """

    __array_ufunc__ = None  # NumPy refuses its ufuncs, and leaves `numpy_array + x` to __radd__ below
    __hash__ = None

    def __init__(self, hidden: np.ndarray, base: ndarray | None = None) -> None:
        self._hidden = hidden
        self.base = base

    def __array__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_function__(self, function: Callable, *args: Any) -> None:
        raise TypeError(f"numpy.{function.__name__} got an array of the GPU")

    def __repr__(self) -> str:
        return f"strict_cupy.{self._hidden!r}"

    # Copies to the host, and the waiting that they mean

    def get(self) -> np.ndarray:
        """Copy to a NumPy array."""
        counts["to_host"] += 1
        return np.array(self._hidden, order="C")

    def item(self) -> int | float | bool:
        """The only element, as a Python number."""
        counts["to_host"] += 1
        return self._hidden.item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    # Known without asking the device

    @property
    def shape(self) -> tuple[int, ...]:
        return self._hidden.shape

    @property
    def ndim(self) -> int:
        return self._hidden.ndim

    @property
    def size(self) -> int:
        return self._hidden.size

    @property
    def dtype(self) -> np.dtype:
        return self._hidden.dtype

    @property
    def strides(self) -> tuple[int, ...]:
        return self._hidden.strides

    @property
    def data(self) -> SimpleNamespace:
        return SimpleNamespace(ptr=self._hidden.__array_interface__["data"][0])

    def __len__(self) -> int:
        return len(self._hidden)

    # Views, elements and copies

    def _view(self, hidden: np.ndarray) -> ndarray:
        shared = np.may_share_memory(hidden, self._hidden)
        return ndarray(hidden, (self if self.base is None else self.base) if shared else None)

    @property
    def T(self) -> ndarray:
        return self._view(self._hidden.T)

    def reshape(self, *shape: int) -> ndarray:
        return self._view(self._hidden.reshape(*_plain(shape)))

    def swapaxes(self, axis1: int, axis2: int) -> ndarray:
        return self._view(self._hidden.swapaxes(axis1, axis2))

    def __getitem__(self, key: Any) -> ndarray:
        return self._view(self._hidden[_index(key)])

    def __setitem__(self, key: Any, value: ndarray | float) -> None:
        self._hidden[_index(key)] = _unwrap(value)

    def take(self, indices: ndarray, axis: int | None = None) -> ndarray:
        return _wrap(self._hidden.take(_unwrap_array(indices), axis=axis))

    def copy(self) -> ndarray:
        return ndarray(self._hidden.copy())

    def astype(self, dtype: type) -> ndarray:
        return ndarray(self._hidden.astype(dtype))

    def fill(self, value: ndarray | float) -> None:
        self._hidden.fill(_unwrap(value))

    # Reductions: to one element is to a 0-dimensional array, which stays on the device

    def sum(self, axis: int | None = None, keepdims: bool = False) -> ndarray:
        return _wrap(self._hidden.sum(axis=axis, keepdims=keepdims))

    def max(self, axis: int | None = None, keepdims: bool = False) -> ndarray:
        return _wrap(self._hidden.max(axis=axis, keepdims=keepdims))

    def min(self, axis: int | None = None, keepdims: bool = False) -> ndarray:
        return _wrap(self._hidden.min(axis=axis, keepdims=keepdims))

    def argmax(self, axis: int | None = None) -> ndarray:
        return _wrap(self._hidden.argmax(axis=axis))

    def __neg__(self) -> ndarray:
        return _wrap(-self._hidden)


def _binary(function: Callable) -> Callable:
    return lambda self, other: _wrap(function(self._hidden, _unwrap(other)))


def _reflected(function: Callable) -> Callable:
    return lambda self, other: _wrap(function(_unwrap(other), self._hidden))


def _in_place(function: Callable) -> Callable:
    def method(self: ndarray, other: ndarray | float) -> ndarray:
        function(self._hidden, _unwrap(other))
        return self

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(ndarray, f"__{_name}__", _binary(getattr(operator, _name)))
    setattr(ndarray, f"__r{_name}__", _reflected(getattr(operator, _name)))
    setattr(ndarray, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))
for _name in ("lt", "le", "eq", "ne", "gt", "ge", "matmul"):
    setattr(ndarray, f"__{_name}__", _binary(getattr(operator, _name)))
ndarray.__rmatmul__ = _reflected(operator.matmul)


# From stand-in to NumPy and back


def _wrap(result: np.ndarray | np.generic) -> ndarray:
    return ndarray(np.asarray(result))  # NumPy returns scalars where CuPy returns 0-dimensional arrays


def _unwrap_array(x: ndarray) -> np.ndarray:
    if not isinstance(x, ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    return x._hidden


def _unwrap(x: ndarray | float) -> np.ndarray | float:
    return x if isinstance(x, (int, float, np.generic)) else _unwrap_array(x)


def _plain(shape: int | Sequence) -> int | Sequence:
    """Refuse a shape with an array in it: to learn its numbers the CPU would have to wait."""
    for size in shape if isinstance(shape, (tuple, list)) else (shape,):
        if isinstance(size, (tuple, list)):
            _plain(size)
        elif not isinstance(size, (int, np.integer)):
            raise TypeError(f"Unsupported type {type(size)} in a shape")
    return shape


def _index(key: Any) -> tuple:
    keys = tuple(_index_part(k) for k in (key if isinstance(key, tuple) else (key,)))
    if any(k is Ellipsis for k in keys):
        return keys
    return (*keys, Ellipsis)  # so that NumPy returns a 0-dimensional view, not a scalar, for one element


def _index_part(k: Any) -> Any:
    if k is None or k is Ellipsis or isinstance(k, slice):
        return k
    k = _unwrap(k)
    if isinstance(k, np.ndarray) and k.dtype.kind == "b":
        counts["to_host"] += 1  # the size of the result depends on the elements
    return k


# The functions


def asarray(a: Any, dtype: type | None = None) -> ndarray:
    """Copy an array or numbers to the device; what is there already stays as it is."""
    if isinstance(a, ndarray):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    counts["to_device"] += 1
    hidden = np.array(a, dtype=dtype, order="A")
    if hidden.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {hidden.dtype}")
    return ndarray(hidden)


def empty(shape: int | Sequence[int], dtype: type = float) -> ndarray:
    """An array that nobody has written to yet: of NaN, so that it shows when somebody reads it."""
    return _junk(np.empty(_plain(shape), dtype))


def empty_like(prototype: ndarray) -> ndarray:
    return _junk(np.empty_like(_unwrap_array(prototype)))


def _junk(x: np.ndarray) -> ndarray:
    if x.dtype.kind == "f":
        x.fill(np.nan)
    return ndarray(x)


def zeros(shape: int | Sequence[int], dtype: type = float) -> ndarray:
    return ndarray(np.zeros(_plain(shape), dtype))


def zeros_like(a: ndarray) -> ndarray:
    return ndarray(np.zeros_like(_unwrap_array(a)))


def ones(shape: int | Sequence[int], dtype: type = float) -> ndarray:
    return ndarray(np.ones(_plain(shape), dtype))


def full(shape: int | Sequence[int], fill_value: float, dtype: type | None = None) -> ndarray:
    return ndarray(np.full(_plain(shape), fill_value, dtype))


def result_type(*arrays: ndarray) -> np.dtype:
    return np.result_type(*map(_unwrap_array, arrays))


def arange(start: int, stop: int | None = None, step: int = 1, dtype: type | None = None) -> ndarray:
    _plain([x for x in (start, stop, step) if x is not None])
    return ndarray(np.arange(start, stop, step, dtype))


def searchsorted(a: ndarray, v: ndarray, side: str = "left") -> ndarray:
    return _wrap(np.searchsorted(_unwrap_array(a), _unwrap_array(v), side=side))


def argsort(a: ndarray) -> ndarray:
    return _wrap(np.argsort(_unwrap_array(a)))


def ascontiguousarray(a: ndarray) -> ndarray:
    return ndarray(np.ascontiguousarray(_unwrap_array(a)))


def concatenate(tup: Sequence[ndarray], axis: int = 0) -> ndarray:
    return ndarray(np.concatenate([_unwrap_array(a) for a in tup], axis=axis))


def stack(tup: Sequence[ndarray], axis: int = 0) -> ndarray:
    return ndarray(np.stack([_unwrap_array(a) for a in tup], axis=axis))


def where(condition: ndarray, x: ndarray | float, y: ndarray | float) -> ndarray:
    return _wrap(np.where(_unwrap_array(condition), _unwrap(x), _unwrap(y)))


def shares_memory(a: ndarray, b: ndarray) -> bool:
    return np.shares_memory(_unwrap_array(a), _unwrap_array(b))


def vdot(a: ndarray, b: ndarray) -> ndarray:
    return _wrap(np.vdot(_unwrap_array(a), _unwrap_array(b)))


def _elementwise(function: np.ufunc) -> Callable[..., ndarray]:
    def on_device(*xs: ndarray | float, out: ndarray | None = None) -> ndarray:
        if out is None:
            return _wrap(function(*map(_unwrap, xs)))
        function(*map(_unwrap, xs), out=_unwrap_array(out))
        return out

    return on_device


def add_at(target: ndarray, index: ndarray, rows: ndarray) -> None:
    """``cupy.add.at``, with the sums in the order in which the project's NumPy code makes them."""
    scatter_add(_unwrap_array(target), _unwrap_array(index), _unwrap_array(rows))


class Philox4x3210:
    """In place of CuPy's bit generator, which seeds itself through NumPy's SeedSequence, too."""

    def __init__(self, seed: int) -> None:
        if type(seed) is not int:
            raise TypeError(f"a seed of type {type(seed)}")
        self._hidden = np.random.Philox(seed)


class Generator:
    """In place of ``cupy.random.Generator``: its numbers are made on the device."""

    def __init__(self, bit_generator: Philox4x3210) -> None:
        self._hidden = np.random.Generator(bit_generator._hidden)

    def random(self, size: Sequence[int], dtype: type = np.float64) -> ndarray:
        return ndarray(self._hidden.random(_plain(size), dtype))


def rand(*shape: int) -> ndarray:
    """``cupy.random.rand``, with NumPy's numbers."""
    return ndarray(np.random.rand(*_plain(shape)))


class MemoryPool:
    """In place of ``cupy.cuda.MemoryPool``: of a device with 3 of 4 MiB in use."""

    def used_bytes(self) -> int:
        return 3 * 2**20

    def total_bytes(self) -> int:
        return 2**22


class CUDARuntimeError(RuntimeError):
    """What CuPy raises when there is no device or no driver."""


def _module(name: str, **attributes: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(attributes)
    return module


_RUNTIME = SimpleNamespace(
    getDeviceCount=lambda: 1,
    getDeviceProperties=lambda device: {"name": b"stand-in"},
    memGetInfo=lambda: (2**30, 2**31),
    CUDARuntimeError=CUDARuntimeError,
)
_ELEMENTWISE = (
    "add",
    "subtract",
    "multiply",
    "divide",
    "maximum",
    "minimum",
    "exp",
    "exp2",
    "log",
    "sqrt",
    "tanh",
    "matmul",
)
_FUNCTIONS = (
    *(asarray, empty, empty_like, zeros, zeros_like, ones, full, result_type),
    *(arange, searchsorted, argsort, ascontiguousarray, concatenate, stack, where, vdot, shares_memory),
)

cupy = _module(
    "cupy",
    __version__="0",
    ndarray=ndarray,
    cuda=SimpleNamespace(runtime=_RUNTIME, MemoryPool=MemoryPool),
    random=SimpleNamespace(Generator=Generator, Philox4x3210=Philox4x3210, rand=rand),
    get_default_memory_pool=MemoryPool,
    **{name: _elementwise(getattr(np, name)) for name in _ELEMENTWISE},
    **{function.__name__: function for function in _FUNCTIONS},
)
cupy.add.at = add_at
