"""Which parameters a list of layers has: each once, with a unique name, whatever the layers share."""

from __future__ import annotations

from collections.abc import Iterator
from operator import is_

from common.layers import Layer
from common.parameter import Parameter, shared_memory


def collect_parameters(layers: list[Layer]) -> tuple[list[Parameter], list[tuple[object, list[Parameter]]]]:
    """The parameters of all layers, each once; and the user-defined layers that hold arrays, with theirs.

    Those that share memory become one; of equal names, all but the first get the number of the layer.
    """
    parameters: list[Parameter] = []
    user: list[tuple[object, list[Parameter]]] = []
    for k, layer in enumerate(layers):
        for part in sorted(parts(layer), key=lambda part: not isinstance(part, Layer)):
            found = _parameters_of(part, part is layer)
            if found and not isinstance(part, Layer):
                user.append((part, found))
            for p in found:
                if any(q is p.base for q in parameters) or _is_tied(p, parameters, part):
                    continue
                name, number = p.name, k
                while any(name == q.name for q in parameters):
                    name, number = f"{p.name}_{number}", number + 1
                p.base.name = name
                parameters.append(p.base)
    return parameters, user


def check_grads_in_place(user_layers: list[tuple[object, list[Parameter]]]) -> None:
    """Raise a ValueError if a user-defined layer has replaced the arrays of its gradients."""
    for layer, parameters in user_layers:
        if not all(map(is_, layer.grads, [p.grad for p in parameters])):
            raise ValueError(
                f"{type(layer).__name__} has made new arrays of its gradients, which the model does not see: "
                "write grads[i][...] = dW"
            )


def parts(layer: Layer, seen: tuple[int, ...] = ()) -> Iterator[Layer]:
    """A layer, and the layers in it."""
    yield layer
    for value in list(getattr(layer, "__dict__", {}).values()):
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if hasattr(part, "forward") and hasattr(part, "backward") and id(part) not in (id(layer), *seen):
                yield from parts(part, (*seen, id(layer)))


def _is_tied(p: Parameter, parameters: list[Parameter], layer: Layer) -> bool:
    """Whether p shares the memory of one of the parameters, which the layer then uses in its place."""
    for q in parameters:
        how = shared_memory(q.data, p.base.data)
        if how in ("same", "transposed") and isinstance(layer, Layer) and p is p.base:
            layer.tie(p, q if how == "same" else q.T)
            return True
        if how and shared_memory(q.grad, p.base.grad) == how:
            return True  # a user-defined layer lists a parameter of a layer inside it
        if how:
            raise ValueError(
                f"{q.name} and {p.name} share memory, but are not one parameter: give both layers one Parameter"
            )
    return False


def _parameters_of(layer: Layer, must_be_layer: bool) -> list[Parameter]:
    """The parameters of a layer, user-defined or not; of any other object, none."""
    if isinstance(layer, Layer):
        return layer.parameters
    name = type(layer).__name__
    if hasattr(layer, "loss_layer"):
        raise TypeError(f"a {name} is a whole model, and no layer of another: use its layers")
    if all(hasattr(layer, attribute) for attribute in ("params", "grads", "forward", "backward")):
        pairs = zip(layer.params, layer.grads, strict=True)
        return [Parameter(w, f"{name}_{n}", g) for n, (w, g) in enumerate(pairs)]
    if must_be_layer:
        raise TypeError(f"a layer needs params, grads, forward and backward, which {name} does not all have")
    return []
