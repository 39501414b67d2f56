"""A parameter: an array, its gradient and its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from common.backend import Array, address, get_array_module
from common.fast.products import blocked_matmul
from common.fast.segment_sum import scatter_add

if TYPE_CHECKING:
    from common.layers import Layer


class _InPlace:
    """An attribute that holds one array for good: to assign another copies its numbers into place."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, parameter: Parameter, value: Array) -> None:
        array = vars(parameter).setdefault(self.name, value)
        if array is not value:
            copy_into(array, value, f"{parameter.name or 'the parameter'}.{self.name}")


class Parameter:
    """An array that training changes, and the gradient of the loss with respect to it.

    Both arrays are made once and changed in place: ``p.data = x`` copies x. A parameter that two layers use is one
    object that both hold; ``W.T`` is the same parameter seen transposed, so ``TimeAffine(embedding.W.T, b)`` ties the
    output layer to the embedding.

    A pass is a ``forward`` of the layers and the ``backward`` that follows. The first gradient of a pass replaces
    that of the last pass; where a parameter is used more than once, the others are added to it:

        dW = Σ_k dW_k        over all uses k of W in one pass

    Attributes
    ----------
    data, grad : arrays of the same shape and dtype
        If no array for the gradient is given, zeros are made.
    name : str
        The key of the array in a saved file, such as ``rnn_Wx``.
    base : Parameter
        The parameter that owns the arrays: itself, or for ``W.T`` the one it views.
    is_stale : bool
        Of ``base``: whether the gradient is that of an earlier pass, so that the next one replaces it.

    Raises
    ------
    TypeError, ValueError
        If ``data`` is not an array of floating-point numbers, or the gradient has another shape.
    """

    data, grad = _InPlace(), _InPlace()

    def __init__(self, data: Array, name: str = "", grad: Array | None = None) -> None:
        if getattr(getattr(data, "dtype", None), "kind", None) != "f" or isinstance(data, np.generic):
            kind = f"an array of {data.dtype}" if hasattr(data, "dtype") else type(data).__name__
            raise TypeError(f"{name or 'a parameter'} must be an array of floating-point numbers, got {kind}")
        if grad is not None and getattr(grad, "shape", None) != data.shape:
            raise ValueError(f"the gradient of {name or 'a parameter'} must have shape {data.shape}, got {grad!r:.50}")
        self.data = data
        self.grad = get_array_module(data).zeros_like(data) if grad is None else grad
        self.name = name
        self.base = self
        self.is_stale = True
        self.contributors: tuple[int, ...] = ()  # ids of the layers that contributed in this pass

    def begin(self, layer: Layer) -> None:
        """Announce that ``layer`` is about to contribute. If it has contributed already, a new pass begins."""
        contributor = id(layer)
        if self.is_stale or contributor in self.contributors:
            self.is_stale, self.contributors = True, (contributor,)
        else:
            self.contributors += (contributor,)

    def add_grad(self, d: Array) -> None:
        """Add d, of the shape of the parameter, to the gradient of this pass."""
        grad = self.grad
        if self.base.is_stale:
            grad[...] = d
            self.base.is_stale = False
        else:
            grad += d

    def add_product(self, A: Array, B: Array) -> None:
        """Add A @ B to the gradient of this pass. The first is written in place, without a copy."""
        if self.is_stale:
            blocked_matmul(A, B, out=self.grad)
            self.is_stale = False
        else:
            self.add_grad(A @ B)

    def add_rows(self, index: Array, d: Array, distinct: bool = False) -> None:
        """Add d[i] to row index[i] of the gradient of this pass, for every i.

        Where it is known that all of ``index`` are ``distinct``, this is faster.
        """
        grad, first = self.grad, self.base.is_stale
        if first:
            grad.fill(0)
            self.base.is_stale = False
        if not distinct:
            scatter_add(grad, index, d)
        elif first:
            grad[index] = d
        else:
            grad[index] += d

    @property
    def T(self) -> Parameter:
        return _Transposed(self)

    def convert(self, function: Callable[[Array], Array]) -> None:
        """Replace both arrays by ``function`` of them: a move between CPU and GPU, or to another dtype."""
        self.base.move(function(self.base.data), function(self.base.grad))

    def move(self, data: Array, grad: Array) -> None:
        """Have these arrays from now on. Whoever took those that were there no longer sees what training changes."""
        vars(self).update(data=data, grad=grad)

    def like(self, x: np.ndarray) -> Array:
        """Convert a NumPy array to the dtype and the device of this parameter."""
        return get_array_module(self.data).asarray(x.astype(self.data.dtype))

    def __copy__(self) -> Parameter:
        """With its own arrays: two that share arrays, but do not know of each other, would go wrong."""
        return Parameter(self.data.copy(), self.name, self.grad.copy())

    def __getstate__(self) -> dict[str, object]:
        """What is copied and pickled: all but the state of the current pass."""
        return {**vars(self), "is_stale": True, "contributors": ()}

    def __repr__(self) -> str:
        return f"Parameter({self.name or 'unnamed'}, shape={self.data.shape}, dtype={self.data.dtype})"


class _Transposed(Parameter):
    """A view that asks its base each time, so that it stays right when the base moves to the GPU."""

    data = property(lambda self: self.base.data.T, lambda self, x: copy_into(self.data, x, f"{self.name}.T.data"))
    grad = property(lambda self: self.base.grad.T, lambda self, x: copy_into(self.grad, x, f"{self.name}.T.grad"))

    def __init__(self, base: Parameter) -> None:
        self.base, self.name = base, base.name

    def add_product(self, A: Array, B: Array) -> None:
        self.base.add_product(B.T, A.T)

    @property
    def T(self) -> Parameter:
        return self.base


class Weight:
    """A class attribute that says: instances have a Parameter of this name.

        class Affine(Layer):
            W, b = Weight(), Weight()

    The first assignment registers the Parameter, or makes one of an array. To assign an array later copies it
    into place.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, layer: Layer, value: Array | Parameter | None) -> None:
        held = vars(layer).get(self.name)
        if held is None:
            if value is not None:
                value = value if isinstance(value, Parameter) else Parameter(value, self.name)
                layer.set_parameters([*layer.parameters, value])
            vars(layer)[self.name] = value
        elif isinstance(value, Parameter) or value is None:
            raise TypeError(
                f"{type(layer).__name__} has its parameter {self.name} already; give another to a new layer, "
                f"or copy the numbers: {self.name}.data = array"
            )
        else:
            held.data = value


class Arrays(list):
    """The arrays of some parameters, in a fixed order. They are changed in place: ``grads[i] *= 0.5``.

    Another array cannot be put in place of one, as the layers would not see it.
    """

    def __setitem__(self, index: int | slice, value: Array) -> None:
        if isinstance(index, slice) or self[index] is not value:
            raise TypeError(
                "the arrays of a layer or model are changed in place: params[i][...] = array, or params[i] -= array"
            )


def copy_into(array: Array, value: Array, name: str) -> None:
    """Copy the numbers of ``value`` into ``array``; raise an error if shape, kind or device do not fit."""
    if isinstance(value, (list, tuple, int, float)):
        value = np.asarray(value)
    dtype = getattr(value, "dtype", None)
    if dtype is None or dtype.kind not in "fiu" or get_array_module(value) is not get_array_module(array):
        kind = f"a {type(value).__module__} array of {dtype}" if dtype is not None else type(value).__name__
        raise TypeError(f"{name} is a {type(array).__module__} array of {array.dtype}, which cannot take {kind}")
    if value.shape != array.shape:
        raise ValueError(f"{name} has shape {array.shape}, which cannot take an array of shape {value.shape}")
    array[...] = value


def unique_parameters(parameters: list[Parameter]) -> list[Parameter]:
    """The parameters that own their arrays, each once, in order of first appearance."""
    return list({id(p.base): p.base for p in parameters}.values())


def shared_memory(x: Array, y: Array) -> str:
    """Which memory two arrays share: "same" if all of it, element by element; "transposed"; "some"; or "" if none."""
    xp = get_array_module(x)
    if x is y:
        return "same"
    if xp is not get_array_module(y) or not xp.shares_memory(x, y):
        return ""
    for how, z in (("same", y), ("transposed", y.T)):
        if (address(x), x.shape, x.strides) == (address(z), z.shape, z.strides):
            return how
    return "some"
