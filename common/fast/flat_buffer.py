"""All parameters of a model in one array, so that one operation clips, updates or sends all of them."""

from __future__ import annotations

import math
from operator import is_

from common.backend import Array, get_array_module
from common.fast.products import blocked_matmul
from common.parameter import Arrays, Parameter


class FlatBuffer:
    """Two arrays: the data of all parameters, end to end, and their gradients. Each parameter views its part of them.

        W (2, 3)   b (3,)           data   W W W W W W b b b
                                    grad   dW dW dW dW dW dW db db db

    It gives the parameters new arrays, so it is made before anybody has taken those that they had. A copy of a model
    has no buffer, as the arrays of the copy are apart: the same numbers, a little slower.

    Parameters
    ----------
    parameters : list of Parameter
        Of one dtype, on one device.
    """

    def __init__(self, parameters: list[Parameter]) -> None:
        self.parameters = parameters
        concatenate = get_array_module(parameters[0].data).concatenate
        shapes = [p.data.shape for p in parameters]
        self.data = _Whole(concatenate([p.data.reshape(-1) for p in parameters]), shapes)
        self.grad = _Whole(concatenate([p.grad.reshape(-1) for p in parameters]), shapes)
        for p, data, grad in zip(parameters, self.data.parts, self.grad.parts):
            p.move(data, grad)

    def __reduce__(self) -> tuple:
        return _nothing, ()

    @property
    def params(self) -> Parts:
        return self.data.hold([p.data for p in self.parameters])

    @property
    def grads(self) -> Parts:
        return self.grad.hold([p.grad for p in self.parameters])

    def stacked(self, W: Parameter, b: Parameter) -> AffineWithBias | None:
        """[W; b] as one matrix, if W is (H, V) and b lies right behind it."""
        start = 0
        for p, behind in zip(self.parameters, self.parameters[1:]):
            if p is W and behind is b:
                part = slice(start, start + W.data.size + b.data.size)
                return AffineWithBias(W, b, *(x.array[part].reshape(-1, b.data.size) for x in (self.data, self.grad)))
            start += p.data.size
        return None


def _nothing() -> None:
    """What a copy has in place of a FlatBuffer, and of what is made with it."""


class _Whole:
    """An array of one axis, and its parts: views of these shapes, one behind the other."""

    def __init__(self, array: Array, shapes: list[tuple[int, ...]]) -> None:
        self.array, self.shapes, self.parts = array, shapes, []
        end = 0
        for shape in shapes:
            start, end = end, end + math.prod(shape)
            self.parts.append(array[start:end].reshape(shape))

    def hold(self, arrays: list[Array]) -> Parts:
        """A list of these arrays, which is known to be that of the parts if it is."""
        parts = Parts(arrays)
        parts.whole = self
        return parts


class Parts(Arrays):
    """A list of arrays that are, as long as it is not changed, the parts of one array."""

    whole: _Whole

    def complete(self) -> bool:
        """Whether the list still holds all parts, in their order."""
        return len(self) == len(self.whole.parts) and all(map(is_, self, self.whole.parts))

    def zeros_like(self) -> Parts:
        """Zeros, laid out in the same way."""
        array = self.whole.array
        zeros = _Whole(get_array_module(array).zeros_like(array), self.whole.shapes)
        return zeros.hold(zeros.parts)

    def __reduce__(self) -> tuple:
        return list, (list(self),)  # arrays that are copied are apart


def flat_buffers(*lists: list[Array]) -> tuple[list[Array], ...]:
    """One array in each list, if all are the parts of one array in the same way; else the lists as they are."""
    for arrays in lists:
        if type(arrays) is not Parts or not arrays.complete() or arrays.whole.shapes != lists[0].whole.shapes:
            return lists
    return tuple([[arrays.whole.array] for arrays in lists])


class AffineWithBias:
    """[W; b], (H + 1, V): W, (H, V), and under it b, (V,), seen as one matrix, without a copy.

    An affine layer is then one product, as its bias is the weight of an input that is always 1:
    h W + b = [h 1] [W; b].
    """

    def __init__(self, W: Parameter, b: Parameter, data: Array, grad: Array) -> None:
        self.W, self.b, self.data, self.grad = W, b, data, grad
        self._views = W.data, b.data

    @property
    def valid(self) -> bool:
        """Whether W and b still are where they were."""
        return self.W.data is self._views[0] and self.b.data is self._views[1]

    def add_product(self, A: Array, B: Array) -> None:
        """Add A @ B, (H + 1, V), to the gradients of W and b."""
        W, b = self.W, self.b
        if W.is_stale and b.is_stale:
            blocked_matmul(A, B, out=self.grad)
            W.is_stale = b.is_stale = False
        else:
            d = A @ B
            W.add_grad(d[:-1])
            b.add_grad(d[-1])

    def __reduce__(self) -> tuple:
        return _nothing, ()
