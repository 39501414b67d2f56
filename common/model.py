"""Model: layers in order, a loss, and everything that a trained model carries with it; and LanguageModel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import is_
from pathlib import Path

import numpy as np

from common.backend import Array, get_array_module, to_cpu, to_gpu, underflow_is_zero
from common.checks import check_text
from common.fast.flat_buffer import FlatBuffer
from common.fast.output_layer import FastTimeAffineSoftmaxWithLoss
from common.layers import Embedding, Layer
from common.npz import NpzReader, write_npz
from common.parameter import Arrays, Parameter, shared_memory
from common.time_layers import (
    TimeAffine,
    TimeBidirectional,
    TimeLoop,
    TimeLSTM,
    TimeRecurrent,
    TimeSoftmaxWithLoss,
)


class Model:
    """A stack of layers, and the loss of what they return.

    Layers of your own will do, if they have ``params`` and ``grads``, lists of arrays that are changed in place, and
    ``forward`` and ``backward``.

    Parameters
    ----------
    layers : list of Layer
        What the first takes is what the model takes; what the last returns is what ``predict`` returns.
    loss_layer : Layer
        Maps that and the targets to the loss.

    Attributes
    ----------
    params, grads : lists of arrays
        Each parameter once, in a fixed order: ``optimizer.update(model.params, model.grads)``. Where two layers were
        given arrays that share memory, such as W and W.T, they share one parameter.

    Raises
    ------
    ValueError
        If two arrays share a part of their memory, and not all of it.
    """

    def __init__(self, layers: list[Layer], loss_layer: Layer) -> None:
        self.layers = layers
        self.hidden_layers = layers  # those that come before the loss layer
        self.loss_layer = loss_layer
        if len({id(layer) for layer in layers}) < len(layers):
            raise ValueError("a layer stands in the list twice, but remembers one pass: make two that share parameters")
        self.parameters, self._own_layers = _collect([*layers, loss_layer])
        self._all_layers = list({id(part): part for layer in (*layers, loss_layer) for part in _parts(layer)}.values())
        self._buffer: FlatBuffer | None = None
        self._evaluating = False  # inside a block of ``evaluating``

    @property
    def params(self) -> list[Array]:
        return Arrays(p.data for p in self.parameters) if self._buffer is None else self._buffer.params

    @property
    def grads(self) -> list[Array]:
        return Arrays(p.grad for p in self.parameters) if self._buffer is None else self._buffer.grads

    def flatten_parameters(self) -> None:
        """Move all parameters into one array: faster, but arrays that were taken from them are no longer theirs.

        Nothing is moved if a layer of the reader's own holds arrays.
        """
        if self._own_layers:
            return
        self._buffer = FlatBuffer(self.parameters)
        if isinstance(self.loss_layer, FastTimeAffineSoftmaxWithLoss):
            self.loss_layer.Wb = self._buffer.stacked(self.loss_layer.W, self.loss_layer.b)

    def predict(self, xs: Array) -> Array:
        """Map the input of the first layer to the output of the last, without dropout.

        Stateful layers read on from where they are; the state of a layer of your own is its attributes ``h`` and
        ``c``. Otherwise the layers stay as they were: a ``backward`` that follows is that of the last ``forward``.
        """
        if self._evaluating:
            return self._pass_through(xs)
        with self._put_back():
            self._stop_training()
            xs = self._pass_through(xs)
            state = [{name: vars(layer)[name] for name in _STATE & vars(layer).keys()} for layer in self._all_layers]
        for layer, attributes in zip(self._all_layers, state):
            vars(layer).update(attributes)
        return xs

    @underflow_is_zero
    def _pass_through(self, xs: Array) -> Array:
        for layer in self.layers:
            xs = layer.forward(xs)
        return xs

    @underflow_is_zero
    def forward(self, xs: Array, ts: Array) -> float:
        """Return the loss of an input xs with targets ts."""
        for layer in self.hidden_layers:
            xs = layer.forward(xs)
        return self.loss_layer.forward(xs, ts)

    @underflow_is_zero
    def backward(self, dout: float = 1.0) -> None:
        """Set all gradients to those of the last loss, times dout."""
        dx = self.loss_layer.backward(dout)
        for layer in reversed(self.hidden_layers):
            dx = layer.backward(dx)
        for layer, parameters in self._own_layers:
            if not all(map(is_, layer.grads, [p.grad for p in parameters])):
                raise ValueError(
                    f"{type(layer).__name__} has made new arrays of its gradients, which the model does not see: "
                    "write grads[i][...] = dW"
                )

    def asarrays(self, *arrays: np.ndarray) -> tuple[Array, ...]:
        """Copy NumPy arrays to where the model is; on the CPU they are returned as they are."""
        xp = get_array_module(self.parameters[0].data)
        return tuple(xp.asarray(x) for x in arrays)

    # State and modes

    @property
    def recurrent_layers(self) -> list[TimeRecurrent]:
        """The layers that carry a state."""
        return [layer for layer in self._all_layers if isinstance(layer, (TimeRecurrent, TimeLoop)) and layer.stateful]

    @property
    def state(self) -> list[tuple[Array | None, ...]]:
        """What each recurrent layer carries from window to window: ``set_state(state)`` changes nothing."""
        return [layer.state for layer in self.recurrent_layers]

    def set_state(self, state: list[tuple[Array | None, ...]]) -> None:
        """Start the next window from this state of each recurrent layer."""
        if len(state) != len(self.recurrent_layers):
            raise ValueError(f"expected the states of {len(self.recurrent_layers)} layers, got {len(state)}")
        for layer, arrays in zip(self.recurrent_layers, state):
            layer.set_state(*arrays)

    def reset_state(self) -> None:
        """Forget what was read so far: the next window starts from zeros."""
        for layer in self._all_layers:
            if hasattr(layer, "reset_state"):
                layer.reset_state()

    def check_stateful(self, what: str) -> None:
        """Raise a ValueError if a recurrent layer forgets at the end of each window, which ``what`` cannot bear."""
        for layer in self._all_layers:
            if isinstance(layer, (TimeRecurrent, TimeLoop)) and not layer.stateful:
                raise ValueError(
                    f"{what} reads a text window by window, but {type(layer).__name__} forgets the window before: "
                    "make it with stateful=True"
                )

    @contextmanager
    def evaluating(self, session: list | None = None) -> Iterator[None]:
        """No dropout, no gradients, and a fresh state inside the ``with`` block; afterwards all is as it was.

        Inside the block, layers hold what they have computed last, such as ``layer.gates``, to be looked at.

        Parameters
        ----------
        session : list, optional
            An empty list is filled with what the layers remember at the end of the block; a block that is given it
            goes on from there.
        """
        with self._put_back():
            if session:
                for layer, attributes in zip(self._all_layers, session):
                    _restore(layer, attributes)
            else:
                self.reset_state()
                self._stop_training()
            self._evaluating = True
            try:
                yield
            finally:
                if session is not None:
                    session[:] = [dict(vars(layer)) for layer in self._all_layers]

    def _stop_training(self) -> None:
        for layer in self._all_layers:
            layer.training = layer.train_flg = False
            vars(layer).pop("logits_workspace", None)  # it holds what backward needs

    @contextmanager
    def _put_back(self) -> Iterator[None]:
        """Whatever happens to the layers inside the ``with`` block, afterwards all is as it was."""
        found = [dict(vars(layer)) for layer in self._all_layers]
        passes = [(p.is_stale, p.givers) for p in self.parameters]
        was_evaluating = self._evaluating
        try:
            yield
        finally:
            self._evaluating = was_evaluating
            for layer, attributes in zip(self._all_layers, found):
                _restore(layer, attributes)
            for p, known in zip(self.parameters, passes):
                p.is_stale, p.givers = known

    def __getstate__(self) -> dict[str, object]:
        """What is copied and pickled: a copy that is made inside a block of ``evaluating`` is not inside it."""
        return {**vars(self), "_evaluating": False, "_leave": self._evaluating}

    def __setstate__(self, state: dict[str, object]) -> None:
        leave = state.pop("_leave")
        vars(self).update(state)
        for layer in self._all_layers if leave else ():
            layer.training = layer.train_flg = True

    # CPU, GPU and files

    def to_gpu(self) -> None:
        """Move all parameters to the GPU and forget the state. Make optimizers afterwards."""
        self._move(to_gpu)

    def to_cpu(self) -> None:
        """Move all parameters to NumPy arrays and forget the state."""
        self._move(to_cpu)

    def _move(self, function: Callable[[Array], Array]) -> None:
        for layer, _ in self._own_layers:
            raise TypeError(f"{type(layer).__name__} holds arrays of its own: make it where the model shall be")
        for p in self.parameters:
            p.convert(function)
        if self._buffer is not None:
            self.flatten_parameters()
        for layer in self._all_layers:
            vars(layer).pop("_remembered", None)
        self.reset_state()

    def save(self, path: str | Path) -> None:
        """Write all parameters, by name, to an ``.npz`` file; a file that was there is replaced in one move."""
        write_npz(path, {p.name: to_cpu(p.data) for p in self.parameters} | self.marks)

    @property
    def marks(self) -> dict[str, np.ndarray]:
        """What a file says of its weights besides their names and shapes: the order of an LSTM's gates."""
        lstm = any(isinstance(layer, TimeLSTM) for layer in self._all_layers)
        return {"lstm_gates": np.array("f g i o")} if lstm else {}

    def load(self, path: str | Path) -> None:
        """Read the parameters that ``save`` wrote. They are all checked before the first is changed.

        Besides the model, no more memory is needed than a small multiple of the size of the file; see ``NpzReader``.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not a weight file, is damaged, or belongs to a model of other shapes or another order of gates.
        """
        arrays = []
        with NpzReader(path, "a weight file") as file:
            for p in self.parameters:
                if p.name not in file.headers:
                    raise ValueError(f"{path} has no {p.name}; it has {', '.join(sorted(file.headers)) or 'nothing'}")
                shape = file.headers[p.name].shape
                if shape != p.data.shape:
                    raise ValueError(f"{path}: {p.name} has shape {shape}, but this model's has {p.data.shape}")
                array = file.read(p.name)
                with np.errstate(over="ignore"):  # a number too large for this model's dtype becomes infinite
                    finite = array.dtype.kind == "f" and np.isfinite(array.astype(p.data.dtype)).all()
                if not finite:
                    raise ValueError(f"{path}: {p.name} holds values that are not finite numbers")
                arrays.append(array)
            if self.marks.keys() - file.headers:
                raise ValueError(
                    f"{path} does not say the order of its LSTM's gates, so it is of an earlier version, which had "
                    "another order than f, g, i, o: train again"
                )
            unknown = sorted(file.headers.keys() - {p.name for p in self.parameters} - self.marks.keys())
            if unknown:
                raise ValueError(f"{path} has parameters that this model has not: {', '.join(unknown)}")
        for p, array in zip(self.parameters, arrays):
            p.data[...] = p.like(array)


class LanguageModel(Model):
    """A stack of time layers that maps words to the logits of the words that follow.

    ``predict`` maps word ids, (N, T), to logits, (N, T, V); ``forward`` maps word ids and the words that follow
    them, both (N, T), to the mean loss, in nats a word.

    Parameters
    ----------
    layers : list of Layer
        The first takes word ids, (N, T); the last is a TimeAffine that returns logits, (N, T, V).
    ignore_label : int
        Steps with this label do not count in the loss.
    """

    def __init__(self, layers: list[Layer], ignore_label: int = -1) -> None:
        if len(layers) == 0:
            raise ValueError("a language model needs layers, got none")
        *hidden_layers, output = layers
        if not isinstance(output, TimeAffine) and isinstance(output, Layer):
            raise TypeError(f"the last layer must be a TimeAffine, got {type(output).__name__}")
        if any(isinstance(layer, TimeBidirectional) for layer in layers):
            raise ValueError("a language model must not read backward: it would see the words that it shall predict")
        if isinstance(output, TimeAffine):
            super().__init__(layers, FastTimeAffineSoftmaxWithLoss(output.W, output.b, ignore_label))
            self.hidden_layers = hidden_layers  # in training, the loss layer does the work of the last layer, too
        else:  # a layer of the reader's own
            super().__init__(layers, TimeSoftmaxWithLoss(ignore_label))

    def check_text(self, xs: Array, ts: Array) -> tuple[Array, Array]:
        """Return the words of a text and those that follow them, (n,) each, as arrays where the model is.

        Raises
        ------
        ValueError, TypeError, IndexError
            If they are not as many, not integers, or not in the vocabulary; or a recurrent layer is not stateful.
        """
        self.check_stateful("a language model")
        first, last = self.layers[0], self.layers[-1]
        xs = check_text(xs, len(first.W.data) if isinstance(first, Embedding) else None, "word ids")
        V = len(last.b.data) if isinstance(last, TimeAffine) else None
        ts = check_text(ts, V, "labels", self.loss_layer.ignore_label)
        if len(xs) != len(ts):
            raise ValueError(f"xs and ts must have the same length, got {len(xs)} and {len(ts)}")
        return self.asarrays(xs, ts)


_STATE = {"h", "c", "_order"}  # what a recurrent layer carries on


def _parts(layer: Layer, seen: tuple[int, ...] = ()) -> Iterator[Layer]:
    """A layer, and the layers in it."""
    yield layer
    for value in list(getattr(layer, "__dict__", {}).values()):
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if hasattr(part, "forward") and hasattr(part, "backward") and id(part) not in (id(layer), *seen):
                yield from _parts(part, (*seen, id(layer)))


def _restore(layer: Layer, attributes: dict[str, object]) -> None:
    vars(layer).clear()
    vars(layer).update(attributes)


def _collect(layers: list[Layer]) -> tuple[list[Parameter], list[tuple[object, list[Parameter]]]]:
    """The parameters of all layers, each once; and the layers of the reader's own that hold arrays, with theirs.

    Those that share memory become one, and equal names get the number of the layer.
    """
    parameters: list[Parameter] = []
    own: list[tuple[object, list[Parameter]]] = []
    for k, layer in enumerate(layers):
        for part in sorted(_parts(layer), key=lambda part: not isinstance(part, Layer)):
            found = _parameters_of(part, part is layer)
            if found and not isinstance(part, Layer):
                own.append((part, found))
            for p in found:
                if any(q is p.base for q in parameters) or _is_one_of(parameters, p, part):
                    continue
                name, number = p.name, k
                while any(name == q.name for q in parameters):
                    name, number = f"{p.name}_{number}", number + 1
                p.base.name = name
                parameters.append(p.base)
    return parameters, own


def _is_one_of(parameters: list[Parameter], p: Parameter, layer: Layer) -> bool:
    """Whether p shares the memory of a parameter; if it does, the layer uses that one from now on.

    Raises
    ------
    ValueError
        If it shares a part of it, or cannot be made one with it.
    """
    for q in parameters:
        how = shared_memory(q.data, p.base.data)
        if how in ("same", "transposed") and isinstance(layer, Layer) and p is p.base:
            layer.tie(p, q if how == "same" else q.T)
            return True
        if how and shared_memory(q.grad, p.base.grad) == how:
            return True  # a layer of the reader's own lists a parameter of a layer in it
        if how:
            raise ValueError(
                f"{q.name} and {p.name} share memory, but are not one parameter: give both layers one Parameter"
            )
    return False


def _parameters_of(layer: Layer, must_be_layer: bool) -> list[Parameter]:
    """The parameters of a layer, of the reader's own, too."""
    if isinstance(layer, Layer):
        return layer.parameters
    if isinstance(layer, Model):
        raise TypeError(f"a {type(layer).__name__} is a whole model, and no layer of another: use its layers")
    if not all(hasattr(layer, name) for name in ("params", "grads", "forward", "backward")):
        if not must_be_layer:
            return []
        raise TypeError(
            f"a layer needs params, grads, forward and backward, which {type(layer).__name__} does not all have"
        )
    name = type(layer).__name__
    return [Parameter(w, f"{name}_{n}", g) for n, (w, g) in enumerate(zip(layer.params, layer.grads, strict=True))]
