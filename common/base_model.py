"""The textbook's ``BaseModel``: a model that saves its parameters as a pickled list of arrays, and loads them.

A pickle is a program: ``pickle.load`` calls whatever functions the file names. Here nothing is called. Calls are only
recorded, and the records of those that make an array are read. A file that names anything else is refused.
"""

from __future__ import annotations

import math
import pickle
import pickletools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.backend import Array, get_array_module, to_cpu
from common.npz import atomic_write

# The names in pickled arrays: those of protocol 2, which keeps bytes as text, and of protocol 5.
_KNOWN = {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype", "_codecs encode"}
_KNOWN |= {"numpy.core.numeric _frombuffer"}
_CONSTANTS = {"NONE": None, "NEWFALSE": False, "NEWTRUE": True, "EMPTY_TUPLE": ()}
_MANY = 100_000  # operations: an array takes some 50
# What senseless operations raise; and text in them, where warnings are errors.
_DAMAGE = (ValueError, IndexError, KeyError, TypeError, AttributeError, DeprecationWarning)


class BaseModel:
    """What the textbook's models inherit. They fill two lists of arrays: ``params``, and of gradients ``grads``."""

    def __init__(self) -> None:
        self.params, self.grads = None, None

    def forward(self, *args: object) -> object:
        raise NotImplementedError

    def backward(self, *args: object) -> object:
        raise NotImplementedError

    def save_params(self, file_name: str | Path | None = None) -> None:
        """Save the parameters, by default in CLASS.pkl: as float32, not as float16; the textbook's code reads both.

        Raises OSError if the file cannot be written; see ``atomic_write``.
        """
        params = [to_cpu(param).astype(np.float32) for param in self.params]
        with atomic_write(self._path(file_name)) as file:
            pickle.dump(params, file)

    def load_params(self, file_name: str | Path | None = None) -> None:
        """Copy arrays that ``save_params`` has saved, here or in the textbook's code, into the parameters.

        The parameters keep their dtype. Nothing in the file is executed.

        Raises OSError if the file cannot be read, and ValueError if it is not a list of arrays of finite floats, of the
        parameters' shapes. No parameter is changed then.
        """
        path = self._path(file_name)
        if not path.exists():
            raise FileNotFoundError(f"there is no file {path}: save_params writes it")
        content, params = path.read_bytes(), list(self.params)
        try:
            records = _unpickle(content)
            if not isinstance(records, list):
                raise _Refused("expected a list of arrays, got something else")
            if len(records) != len(params):
                raise _Refused(f"expected {len(params)} arrays, one for each parameter, got {len(records)}")
            arrays = [_array(k, x, param) for k, (x, param) in enumerate(zip(records, params))]
        except _Refused as error:
            raise ValueError(f"cannot load {path}: {error}") from None
        except _DAMAGE as error:
            raise ValueError(f"cannot load {path}: it is damaged, or no pickle of protocol 2 or later") from error
        for param, array in zip(params, arrays):
            param[...] = get_array_module(param).asarray(array)

    def _path(self, file_name: str | Path | None) -> Path:
        return Path(f"{type(self).__name__}.pkl" if file_name is None else file_name)


class _Refused(ValueError):
    """A file that is understood, but is not what it should be."""


@dataclass(eq=False)
class _Call:
    """The record of a call: the name of the function, its arguments, and the state to give to its result."""

    name: object
    args: object
    state: object = None


def _unpickle(content: bytes) -> object:  # type: ignore[return]  # genops ends at STOP or raises
    """Do on a stack what ``pickle.load`` does, with numbers, text, bytes, tuples, lists and records of calls alone."""
    stack, marks, memo = [], [], {}
    for count, (operation, arg, _) in enumerate(pickletools.genops(content)):
        name = operation.name
        if count == _MANY:
            raise _Refused(f"expected a list of arrays, got more than {_MANY:,} pickle operations")
        match name.removeprefix("SHORT_").removeprefix("LONG_"):
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWFALSE" | "NEWTRUE" | "EMPTY_TUPLE":
                stack.append(_CONSTANTS[name])
            case "BININT" | "BININT1" | "BININT2" | "BINUNICODE" | "BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                stack.append(arg)
            case "EMPTY_LIST":
                stack.append([])
            case "MARK":
                marks.append(len(stack))
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                start = marks.pop() if name == "TUPLE" else len(stack) - int(name[-1])
                stack[start:] = [tuple(stack[start:])]
            case "APPEND" | "APPENDS":
                start = marks.pop() if name == "APPENDS" else len(stack) - 1
                stack[start - 1].extend(stack[start:])
                del stack[start:]
            case "BINPUT" | "MEMOIZE":
                memo[len(memo) if arg is None else arg] = stack[-1]
            case "BINGET":
                stack.append(memo[arg])
            case "GLOBAL":
                stack.append(_known(arg))
            case "STACK_GLOBAL":
                stack[-2:] = [_known(" ".join(stack[-2:]))]
            case "REDUCE":
                stack[-2:] = [_Call(*stack[-2:])]
            case "BUILD":
                state = stack.pop()
                stack[-1].state = state
            case "STOP":
                return stack.pop()
            case _:
                found = "a dict" if name == "EMPTY_DICT" else f"the pickle operation {name}"
                raise _Refused(f"expected a list of arrays, as save_params writes it, got {found}")


def _known(name: str) -> str:
    """The last part of a name of ``_KNOWN``, as NumPy 1 or 2 gives it."""
    if name.replace("numpy._core", "numpy.core", 1) not in _KNOWN:
        shown = ascii(name.replace(" ", ".", 1))[1:-1]
        raise _Refused(f"it names {shown[:80]}, which is no array; nothing in it was executed")
    return name.split()[1]


def _array(k: int, record: object, param: Array) -> np.ndarray:
    """The array of a record, in the dtype of ``param``, if it has its shape and is finite."""
    match record:
        case _Call(name="_reconstruct", state=(1, tuple(shape), dtype, bool(fortran), data)):
            order = "F" if fortran else "C"
        case _Call(name="_frombuffer", args=(data, dtype, tuple(shape), "C" | "F" as order)):
            pass
        case _:
            raise _Refused(f"item {k} of its list is not an array")
    match dtype:
        case _Call(
            name="dtype",
            args=("f2" | "f4" | "f8" as size, _, _),
            state=(3, "<" | ">" as end, None, None, None, -1, -1, 0),
        ):
            dtype = np.dtype(end + size)
        case _:
            raise _Refused(f"expected array {k} to be of float16, float32 or float64, got another type")
    match data:
        case _Call(name="encode", args=(str(text), "latin1")):
            data = text.encode("latin1")
    if len(shape) > 64 or not all(type(n) is int for n in shape) or not isinstance(data, (bytes, bytearray)):
        raise _Refused(f"array {k} is damaged")
    if shape != param.shape:
        raise _Refused(f"expected array {k} of the parameter's shape {param.shape}, got {shape}")
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise _Refused(f"expected {math.prod(shape)} numbers in array {k}, got {len(data)} bytes of {dtype.name}")
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
        array = np.ndarray(shape, dtype, data, order=order).astype(param.dtype)
    if not np.isfinite(array).all():
        raise _Refused(f"array {k} holds numbers that are not finite in {param.dtype}")
    return array
