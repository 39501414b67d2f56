"""Model: layers in order and a loss, with their state, modes and weight files; and LanguageModel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from common.backend import Array, get_array_module, to_cpu, to_gpu, underflow_is_zero
from common.checks import check_text
from common.collect import check_grads_in_place, collect_parameters, parts
from common.fast.flat_buffer import FlatBuffer
from common.fast.output_layer import FastTimeAffineSoftmaxWithLoss
from common.layers import Embedding, Layer
from common.npz import read_weights, write_npz
from common.parameter import Arrays
from common.time_layers import (
    TimeAffine,
    TimeBidirectional,
    TimeLoop,
    TimeLSTM,
    TimeRecurrent,
    TimeSoftmaxWithLoss,
)

_STATE = {"h", "c", "state", "_order"}  # what a recurrent layer carries from window to window


class Model:
    """A stack of layers, and the loss of what the last one returns.

    The first layer takes what the model takes; ``predict`` returns what the last layer returns; ``loss_layer`` maps
    that and the targets to the loss. A user-defined layer needs ``forward``, ``backward``, and ``params`` and
    ``grads``, lists of arrays that are changed in place.

    A stateful recurrent layer carries its state (h; an LSTM: h and c) from window to window: ``forward`` and
    ``predict`` start from the state in which the last window ended. No gradient flows back into that window: here
    back-propagation through time is truncated. ``reset_state`` sets the state to zeros. ``evaluating`` starts from
    zeros, and puts back the state of the training when it ends.

    Attributes
    ----------
    params, grads : lists of arrays
        Each parameter once, in a fixed order: ``optimizer.update(model.params, model.grads)``. Where two layers hold
        arrays that share memory, such as W and W.T, they share one parameter.

    Raises
    ------
    TypeError, ValueError
        If a layer lacks one of the four, or is listed twice; or two arrays share a part of their memory, but not all.
    """

    def __init__(self, layers: list[Layer], loss_layer: Layer) -> None:
        self.layers = layers
        self.hidden_layers = layers  # those that come before the loss layer
        self.loss_layer = loss_layer
        if len({id(layer) for layer in layers}) < len(layers):
            raise ValueError("a layer is listed twice, but remembers only one pass: make two that share parameters")
        self.parameters, self._user_layers = collect_parameters([*layers, loss_layer])
        self._all_layers = list({id(part): part for layer in (*layers, loss_layer) for part in parts(layer)}.values())
        self._buffer: FlatBuffer | None = None
        self._evaluating = False  # inside a block of ``evaluating``

    @property
    def params(self) -> list[Array]:
        return Arrays(p.data for p in self.parameters) if self._buffer is None else self._buffer.params

    @property
    def grads(self) -> list[Array]:
        return Arrays(p.grad for p in self.parameters) if self._buffer is None else self._buffer.grads

    def flatten_parameters(self) -> None:
        """Move all parameters into one array, which is faster; arrays taken from them before are no longer theirs.

        Nothing is moved if a user-defined layer holds arrays.
        """
        if self._user_layers:
            return
        self._buffer = FlatBuffer(self.parameters)
        if isinstance(self.loss_layer, FastTimeAffineSoftmaxWithLoss):
            self.loss_layer.Wb = self._buffer.stacked(self.loss_layer.W, self.loss_layer.b)

    def predict(self, xs: Array) -> Array:
        """Map the input of the first layer to the output of the last, without dropout.

        Only the carried state changes (of a user-defined layer, its attributes ``h`` and ``c``): a ``backward`` that
        follows is that of the last ``forward``.
        """
        if self._evaluating:
            return self._pass_through(xs)
        with self._restoring_layers():
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
        check_grads_in_place(self._user_layers)

    # State and modes

    @property
    def recurrent_layers(self) -> list[TimeRecurrent]:
        """The layers that carry a state."""
        return [layer for layer in self._all_layers if isinstance(layer, (TimeRecurrent, TimeLoop)) and layer.stateful]

    @property
    def state(self) -> list[tuple[Array | None, ...]]:
        """The state that each recurrent layer carries into the next window."""
        return [layer.state for layer in self.recurrent_layers]

    def set_state(self, state: list[tuple[Array | None, ...]]) -> None:
        """Start the next window from this state of each recurrent layer."""
        if len(state) != len(self.recurrent_layers):
            raise ValueError(f"expected the states of {len(self.recurrent_layers)} layers, got {len(state)}")
        for layer, arrays in zip(self.recurrent_layers, state):
            layer.set_state(*arrays)

    def reset_state(self) -> None:
        """Start the next window from a state of zeros."""
        for layer in self._all_layers:
            if hasattr(layer, "reset_state"):
                layer.reset_state()

    def check_stateful(self, what: str) -> None:
        """Raise a ValueError that names ``what``, which needs the carried state, if a recurrent layer has none."""
        for layer in self._all_layers:
            if isinstance(layer, (TimeRecurrent, TimeLoop)) and not layer.stateful:
                raise ValueError(
                    f"{what} reads a text window by window, but {type(layer).__name__} forgets the window before: "
                    "make it with stateful=True"
                )

    @contextmanager
    def evaluating(self, session: list | None = None) -> Iterator[None]:
        """No dropout, no gradients, and a state of zeros inside the ``with`` block; then everything is restored.

        A ``session`` is a list, empty at first, that keeps what the layers hold at the end of the block, so that
        another block that is given it continues from there. Inside the block, layers can be looked at: ``layer.gates``.
        """
        with self._restoring_layers():
            if session:
                self._restore(session)
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
            vars(layer).pop("logits_workspace", None)  # the workspace holds what backward needs

    @contextmanager
    def _restoring_layers(self) -> Iterator[None]:
        """Restore the layers and the pass in progress at the end of the ``with`` block."""
        before = [dict(vars(layer)) for layer in self._all_layers]
        passes = [(p.is_stale, p.contributors) for p in self.parameters]
        was_evaluating = self._evaluating
        try:
            yield
        finally:
            self._evaluating = was_evaluating
            self._restore(before)
            for p, known in zip(self.parameters, passes):
                p.is_stale, p.contributors = known

    def _restore(self, attributes: list[dict[str, object]]) -> None:
        for layer, values in zip(self._all_layers, attributes):
            vars(layer).clear()
            vars(layer).update(values)

    def __setstate__(self, state: dict[str, object]) -> None:
        """Be a copy; one that was made inside a block of ``evaluating`` is in training all the same."""
        vars(self).update(state, _evaluating=False)
        for layer in self._all_layers if state["_evaluating"] else ():
            layer.training = layer.train_flg = True

    # CPU, GPU and files

    def asarrays(self, *arrays: np.ndarray) -> tuple[Array, ...]:
        """Copy NumPy arrays to the device of the model; on the CPU they are returned without a copy."""
        xp = get_array_module(self.parameters[0].data)
        return tuple(xp.asarray(x) for x in arrays)

    def to_gpu(self) -> None:
        """Move all parameters to the GPU and reset the state. Make optimizers afterwards."""
        self._move(to_gpu)

    def to_cpu(self) -> None:
        """Move all parameters to NumPy arrays and reset the state."""
        self._move(to_cpu)

    def _move(self, function: Callable[[Array], Array]) -> None:
        for layer, _ in self._user_layers:
            raise TypeError(f"{type(layer).__name__} holds arrays of its own: make it on the device of the model")
        for p in self.parameters:
            p.convert(function)
        if self._buffer is not None:
            self.flatten_parameters()
        for layer in self._all_layers:
            vars(layer).pop("_remembered", None)
        self.reset_state()

    @property
    def marks(self) -> dict[str, np.ndarray]:
        """What a weight file says besides names and shapes: the order of an LSTM's gates."""
        lstm = any(isinstance(layer, TimeLSTM) for layer in self._all_layers)
        return {"lstm_gates": np.array("f g i o")} if lstm else {}

    def save(self, path: str | Path) -> None:
        """Write all parameters, by name, to an ``.npz`` file, atomically."""
        write_npz(path, {p.name: to_cpu(p.data) for p in self.parameters} | self.marks)

    def load(self, path: str | Path) -> None:
        """Read the parameters that ``save`` wrote. They are all checked before the first is changed.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not a weight file, is damaged, or belongs to a model of other shapes or another order of gates.
        """
        arrays = read_weights(path, {p.name: p.data for p in self.parameters}, self.marks)
        for p, array in zip(self.parameters, arrays):
            p.data[...] = p.like(array)


class LanguageModel(Model):
    """A stack of time layers that maps words to the logits of the words that follow.

    ``predict`` maps word ids, (N, T), to logits, (N, T, V), and ``forward`` maps word ids and the words that follow
    them, both (N, T), to their mean loss in nats per word, L = -(1 / n) Σ log P(w_{t+1} | w_1, ..., w_t) over the n
    words that are not ``ignore_label``. The last layer is a TimeAffine.
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
        else:  # user-defined
            super().__init__(layers, TimeSoftmaxWithLoss(ignore_label))

    def check_text(self, xs: Array, ts: Array) -> tuple[Array, Array]:
        """Return the words of a text and those that follow them, (n,) each, as arrays where the model is.

        Raises
        ------
        ValueError, TypeError, IndexError
            If their lengths differ, or they are not ids of the vocabulary; or a recurrent layer is not stateful.
        """
        self.check_stateful("a language model")
        first, last = self.layers[0], self.layers[-1]
        xs = check_text(xs, len(first.W.data) if isinstance(first, Embedding) else None, "word ids")
        V = len(last.b.data) if isinstance(last, TimeAffine) else None
        ts = check_text(ts, V, "labels", self.loss_layer.ignore_label)
        if len(xs) != len(ts):
            raise ValueError(f"xs and ts must have the same length, got {len(xs)} and {len(ts)}")
        return self.asarrays(xs, ts)
