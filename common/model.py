"""Model: layers in order, a loss, and everything that a trained model carries with it; and LanguageModel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from common.backend import Array, get_array_module, to_cpu, to_gpu
from common.layers import Layer
from common.npz import NpzReader, write_npz
from common.parameter import Parameter, lay_out, unique_parameters
from common.time_layers import TimeAffine, TimeAffineSoftmaxWithLoss, TimeRecurrent


class Model:
    """A stack of layers, and the loss of what they return.

    Parameters
    ----------
    layers : list of Layer
        What the first takes is what the model takes; what the last returns is what ``predict`` returns.
    loss_layer : Layer
        Maps that and the targets to the loss.

    Attributes
    ----------
    params, grads : lists of arrays
        Each parameter once, in a fixed order: ``optimizer.update(model.params, model.grads)``.
    """

    def __init__(self, layers: list[Layer], loss_layer: Layer) -> None:
        self.layers = layers
        self.hidden_layers = layers  # those that come before the loss layer
        self.loss_layer = loss_layer
        self.parameters: list[Parameter] = unique_parameters([p for layer in layers for p in layer.parameters])
        names = [p.name for p in self.parameters]
        if len(set(names)) != len(names):
            raise ValueError(f"two parameters have the same name: {sorted(names)}")
        lay_out(self.parameters)

    @property
    def params(self) -> list[Array]:
        return [p.data for p in self.parameters]

    @property
    def grads(self) -> list[Array]:
        return [p.grad for p in self.parameters]

    def predict(self, xs: Array) -> Array:
        """Map the input of the first layer to the output of the last."""
        for layer in self.layers:
            xs = layer.forward(xs)
        return xs

    def forward(self, xs: Array, ts: Array) -> float:
        """Return the loss of an input xs with targets ts."""
        for layer in self.hidden_layers:
            xs = layer.forward(xs)
        return self.loss_layer.forward(xs, ts)

    def backward(self, dout: float = 1.0) -> None:
        """Set all gradients, starting from zero, to those of the last loss, times dout."""
        for p in self.parameters:
            p.zero_grad()
        dx = self.loss_layer.backward(dout)
        for layer in reversed(self.hidden_layers):
            dx = layer.backward(dx)

    def asarrays(self, *arrays: np.ndarray) -> tuple[Array, ...]:
        """Copy NumPy arrays to where the model is; on the CPU they are returned as they are."""
        xp = get_array_module(self.parameters[0].data)
        return tuple(xp.asarray(x) for x in arrays)

    # State and modes

    @property
    def recurrent_layers(self) -> list[TimeRecurrent]:
        return [layer for layer in self.layers if isinstance(layer, TimeRecurrent)]

    @property
    def state(self) -> list[tuple[Array | None, ...]]:
        """What each recurrent layer carries from window to window: ``set_state(state)`` changes nothing."""
        return [layer.state for layer in self.recurrent_layers]

    def set_state(self, state: list[tuple[Array | None, ...]]) -> None:
        """Start the next window from this state of each recurrent layer."""
        for layer, arrays in zip(self.recurrent_layers, state, strict=True):
            layer.set_state(*arrays)

    def reset_state(self) -> None:
        """Forget what was read so far: the next window starts from zeros."""
        for layer in self.recurrent_layers:
            layer.reset_state()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """No dropout, no gradients, and a fresh state inside the ``with`` block; afterwards all is as it was."""
        layers = [*self.layers, self.loss_layer]
        training = [layer.training for layer in layers]
        state = self.state
        self.reset_state()
        for layer in layers:
            layer.training = False
        try:
            yield
        finally:
            for layer, was_training in zip(layers, training):
                layer.training = was_training
            self.set_state(state)

    # CPU, GPU and files

    def to_gpu(self) -> None:
        """Move all parameters to the GPU and forget the state. Make optimizers afterwards."""
        for p in self.parameters:
            p.convert(to_gpu)
        lay_out(self.parameters)
        self.reset_state()

    def to_cpu(self) -> None:
        """Move all parameters to NumPy arrays and forget the state."""
        for p in self.parameters:
            p.convert(to_cpu)
        lay_out(self.parameters)
        self.reset_state()

    def save(self, path: str | Path) -> None:
        """Write all parameters, by name, to an ``.npz`` file; a file that was there is replaced in one move."""
        write_npz(path, {p.name: to_cpu(p.data) for p in self.parameters})

    def load(self, path: str | Path) -> None:
        """Read the parameters that ``save`` wrote. They are all checked before the first is changed.

        Besides the model, no more memory is needed than a small multiple of the size of the file; see ``NpzReader``.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not a weight file, is damaged, or belongs to a model of other shapes.
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
            if len(file.headers) > len(self.parameters):
                unknown = sorted(set(file.headers) - {p.name for p in self.parameters})
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
        *hidden_layers, output = layers
        if not isinstance(output, TimeAffine):
            raise TypeError(f"the last layer must be a TimeAffine, got {type(output).__name__}")
        super().__init__(layers, TimeAffineSoftmaxWithLoss(output.W, output.b, ignore_label))
        self.hidden_layers = hidden_layers  # in training, the loss layer does the work of the last layer, too


def check_sizes(**sizes: int) -> None:
    """Raise a ValueError that names all sizes unless they are all positive."""
    if min(sizes.values()) <= 0:
        raise ValueError(f"sizes must be positive, got {', '.join(f'{name} {size}' for name, size in sizes.items())}")
