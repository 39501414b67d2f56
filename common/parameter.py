"""A parameter: an array, its gradient and its name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from common.backend import Array, get_array_module, product


class Parameter:
    """An array that training changes, and the gradient of the loss with respect to it.

    Both arrays keep their shape and are changed in place. A parameter that two layers
    use is one object that both hold; ``W.T`` is the same parameter seen transposed, so
    ``TimeAffine(embedding.W.T, b)`` ties the output layer to the embedding.

    Attributes
    ----------
    data, grad : arrays of the same shape and dtype
    name : str
        The key of the array in a saved file, such as ``rnn_Wx``.
    base : Parameter
        The parameter that owns the arrays: itself, or for ``W.T`` the one it views.
    """

    def __init__(self, data: Array, name: str = "") -> None:
        self.data = data
        self.name = name
        self.base = self
        self._place: tuple[Array, Array, int] | None = None  # the arrays that ``lay_out`` put it into, and where
        self._grad = get_array_module(data).zeros_like(data)
        self._grad_is_old = False

    @property
    def grad(self) -> Array:
        if self._grad_is_old:
            self._grad.fill(0)
            self._grad_is_old = False
        return self._grad

    def zero_grad(self) -> None:
        """Start from a gradient of zero. The array is not touched before it is needed, which saves a pass over it."""
        self._grad_is_old = True

    def add_grad(self, d: Array) -> None:
        """Add ``d``, of the shape of the parameter, to the gradient in place."""
        if self._grad_is_old:
            self._grad[...] = d
            self._grad_is_old = False
        else:
            self._grad += d

    def add_rows(self, index: Array, d: Array) -> None:
        """Add d[i] to row index[i] of the gradient, for every i; all of ``index`` must be different."""
        if self._grad_is_old:
            self.grad[index] = d  # asked for, it fills itself with zeros
        else:
            self._grad[index] += d

    def add_product(self, A: Array, B: Array) -> None:
        """Add A @ B to the gradient, or write it there if the gradient is zero, which saves a copy."""
        if self._grad_is_old:
            product(A, B, out=self._grad)
            self._grad_is_old = False
        else:
            self._grad += A @ B

    @property
    def T(self) -> Parameter:
        return _Transposed(self)

    def convert(self, function: Callable[[Array], Array]) -> None:
        """Replace both arrays by ``function`` of them: a move between CPU and GPU, or to another dtype."""
        self.data = function(self.data)
        self._grad = function(self._grad)
        self._place = None

    def like(self, x: np.ndarray) -> Array:
        """Convert a NumPy array to the dtype and the device of this parameter."""
        return get_array_module(self.data).asarray(x.astype(self.data.dtype))

    def __repr__(self) -> str:
        return f"Parameter({self.name or 'unnamed'}, shape={self.data.shape}, dtype={self.data.dtype})"


class _Transposed(Parameter):
    """A view that asks its base each time, so that it stays right when the base moves to the GPU."""

    def __init__(self, base: Parameter) -> None:
        self.base = base
        self.name = base.name

    @property
    def data(self) -> Array:
        return self.base.data.T

    @property
    def grad(self) -> Array:
        return self.base.grad.T

    def add_grad(self, d: Array) -> None:
        self.base.add_grad(d.T)

    def add_rows(self, index: Array, d: Array) -> None:
        self.grad[index] += d

    def add_product(self, A: Array, B: Array) -> None:
        self.base.add_product(B.T, A.T)

    @property
    def T(self) -> Parameter:
        return self.base


def as_parameter(x: Array | Parameter, name: str) -> Parameter:
    """Return ``x`` if it is a Parameter already, else a new Parameter that holds it."""
    return x if isinstance(x, Parameter) else Parameter(x, name)


def unique_parameters(parameters: list[Parameter]) -> list[Parameter]:
    """The parameters that own their arrays, each once, in order of first appearance."""
    return list({id(p.base): p.base for p in parameters}.values())


def lay_out(parameters: list[Parameter]) -> None:
    """Move parameters into one array, end to end, and their gradients into another; each becomes a view of its part.

        W (2, 3)   b (3,)           one array:   W W W W W W b b b

    One operation then clips, updates or sends all of them: see ``joined``. Arrays that were taken from a
    parameter before are no longer the parameter's.
    """
    xp = get_array_module(parameters[0].data)
    ends = np.cumsum([p.data.size for p in parameters]).tolist()
    data = xp.concatenate([p.data.reshape(-1) for p in parameters])
    grad = xp.concatenate([p.grad.reshape(-1) for p in parameters])
    for p, end in zip(parameters, ends):
        part = slice(end - p.data.size, end)
        p.data, p._grad = data[part].reshape(p.data.shape), grad[part].reshape(p.data.shape)
        p._place = data, grad, part.start


def joined(arrays: list[Array]) -> list[Array]:
    """The one array that ``arrays`` are the parts of, in a list, if ``lay_out`` made them; else ``arrays``."""
    whole = arrays[0].base if arrays else None
    if whole is None:
        return arrays
    size = 0
    for x in arrays:
        if x.base is not whole:
            return arrays
        size += x.size
    return [whole] if size == whole.size else arrays


class Stacked:
    """[W; b], (H + 1, V): W, (H, V), and under it b, (V,), seen as one matrix, without a copy.

    An affine layer is then one product, as its bias is the weight of an input that is always 1:
    h W + b = [h 1] [W; b].
    """

    def __init__(self, W: Parameter, b: Parameter) -> None:
        self.W, self.b = W, b

    def _view(self, array: Array) -> Array:
        start, V = self.W._place[2], self.b.data.size
        return array[start : start + self.W.data.size + V].reshape(-1, V)

    @property
    def data(self) -> Array:
        return self._view(self.W._place[0])

    def add_product(self, A: Array, B: Array) -> None:
        """Add A @ B, (H + 1, V), to the gradients of W and b, or write it there if both are zero."""
        W, b = self.W, self.b
        if W._grad_is_old and b._grad_is_old:
            product(A, B, out=self._view(W._place[1]))
            W._grad_is_old = b._grad_is_old = False
        else:
            self.add_grad(A @ B)

    def add_grad(self, d: Array) -> None:
        """Add d, (H + 1, V), to the gradients of W and b."""
        self.W.add_grad(d[:-1])
        self.b.add_grad(d[-1])


def stacked(W: Parameter, b: Parameter) -> Stacked | None:
    """[W; b] as one matrix if ``lay_out`` has put b right behind W, else None."""
    if W.base is not W or W._place is None or b._place is None:
        return None
    (data, _, start), (other, _, b_start) = W._place, b._place
    return Stacked(W, b) if data is other and b_start == start + W.data.size else None
