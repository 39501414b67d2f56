"""Every layer, optimizer and model, computed by NumPy and on the GPU: how far the results lie apart.

A layer or model makes two or three steps on each side, with the same numbers and dropout masks. Sums are rounded in
another order on a GPU, so results differ a little: in float64 by some 10⁻¹⁵ of the largest element, in float32 by
10⁻⁷. A mistake in a kernel is rarely below 10⁻².
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import backend, layers, time_layers
from common.backend import Array, get_array_module, to_cpu, to_gpu
from common.classifier import RecurrentClassifier
from common.fast import output_layer, recurrent
from common.gradient_check import gradient_error
from common.layers import Layer
from common.model import Model
from common.optimizer import SGD, Optimizer, clip_grads
from common.packing import PackedSequence, pack
from common.recurrent_lm import RecurrentLm

TOLERANCE = {"float32": 1e-4, "float64": 1e-10}  # relative to the largest element
N, T, V, D, H = 3, 4, 7, 5, 5
LENGTHS = [2, 4, 1]  # of N sequences, when they are packed
ROOT = Path(layers.__file__).parents[1]

Normal = Callable[..., Array]  # from a shape to random numbers
Results = tuple[list, list]  # of forward, and of backward


def normal(*shape: int, seed: int = 0, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def ids(*shape: int, seed: int = 0, high: int = V) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).integers(0, high, shape, dtype=np.int32)


def labels(*shape: int) -> np.ndarray:
    t = ids(*shape, seed=1)
    t.reshape(-1)[1] = -1  # one is ignored
    return t


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def weights(w: Normal, gates: int, biases: int | None = None) -> tuple[Array, Array, Array]:
    """Wx, Wh and b of a cell, which has as many parts of b as gates, or ``biases``."""
    return w(D, gates * H), w(H, gates * H), w((biases or gates) * H)


# How to build each layer, its inputs, and the shapes of its outputs (none: a loss). The name is that of the class and,
# behind a comma, of one of its forms.
_l, _t, _f = layers, time_layers, output_layer
_Table = dict[str, tuple[Callable[[Normal], Layer], Callable[[Normal], list], list[tuple[int, ...]]]]


def _rows(builders: dict[str, Callable[[Normal], Layer]], inputs: Callable, *shapes: tuple[int, ...]) -> _Table:
    """Lines of the table that have the same inputs and outputs."""
    return {name: (build, inputs, list(shapes)) for name, build in builders.items()}


def _matrix(x: Normal) -> list:
    return [x(N, D)]


def _steps(x: Normal) -> list:
    return [x(N, T, D)]


DROPOUTS = {
    "TimeDropout": lambda w: _t.TimeDropout(0.4, rng()),
    "TimeDropout, locked": lambda w: _t.TimeDropout(0.4, rng(), locked=True),
}
TIME_RECURRENT = {
    "TimeRNN": lambda w: _t.TimeRNN(*weights(w, 1), stateful=True),
    "TimeGRU": lambda w: _t.TimeGRU(*weights(w, 3), stateful=True),
    "TimeGRU, reset after": lambda w: _t.TimeGRU(*weights(w, 3, biases=4), stateful=True, reset_after=True),
    "TimeLSTM": lambda w: _t.TimeLSTM(*weights(w, 4), stateful=True),
    "TimePeepholeLSTM": lambda w: _t.TimePeepholeLSTM(*weights(w, 4), w(3 * H), stateful=True),
}
BIDIRECTIONAL = {
    "TimeBidirectional": lambda w: _t.TimeBidirectional(_t.TimeGRU(*weights(w, 3)), _t.TimeRNN(*weights(w, 1))),
    "TimeBiLSTM": lambda w: _t.TimeBiLSTM(*weights(w, 4), *weights(w, 4)),
}
LAYERS: _Table = {
    "MatMul": (lambda w: _l.MatMul(w(D, H)), _matrix, [(N, H)]),
    "Affine": (lambda w: _l.Affine(w(D, H), w(H)), _matrix, [(N, H)]),
    "Embedding": (lambda w: _l.Embedding(w(V, D)), lambda x: [ids(20)], [(20, D)]),
    "Sigmoid": (lambda w: _l.Sigmoid(), _matrix, [(N, D)]),
    "Softmax": (lambda w: _l.Softmax(), _matrix, [(N, D)]),
    "Gate": (lambda w: _l.Gate(w(D, D), w(D)), _matrix, [(N, D)]),
    "Dropout": (lambda w: _l.Dropout(0.4, rng()), _matrix, [(N, D)]),
    "SoftmaxWithLoss": (lambda w: _l.SoftmaxWithLoss(), lambda x: [x(N, V), labels(N)], []),
    "SigmoidWithLoss": (lambda w: _l.SigmoidWithLoss(), lambda x: [x(N), ids(N) % 2], []),
    "MeanSquaredError": (lambda w: _l.MeanSquaredError(), lambda x: [x(N, D), 2 * x(N, D)], []),
    **_rows(
        {
            "RNN": lambda w: _l.RNN(*weights(w, 1)),
            "OneGateGRU": lambda w: _l.OneGateGRU(*weights(w, 2)),
            "GRU": lambda w: _l.GRU(*weights(w, 3)),
            "GRU, reset after": lambda w: _l.GRU(*weights(w, 3, biases=4), reset_after=True),
        },
        lambda x: [x(N, D), x(N, H)],
        (N, H),
    ),
    **_rows(
        {
            "LSTM": lambda w: _l.LSTM(*weights(w, 4)),
            "PeepholeLSTM": lambda w: _l.PeepholeLSTM(*weights(w, 4), w(3 * H)),
        },
        lambda x: [x(N, D), x(N, H), 2 * x(N, H)],
        (N, H),
        (N, H),
    ),
    "TimeEmbedding": (lambda w: _t.TimeEmbedding(w(V, D)), lambda x: [ids(N, T)], [(N, T, D)]),
    "TimeEmbeddingDropout": (
        *(lambda w: _t.TimeEmbeddingDropout(w(V, D), 0.4, rng()), lambda x: [ids(N, T)], [(N, T, D)]),
    ),
    "TimeAffine": (lambda w: _t.TimeAffine(w(D, H), w(H)), _steps, [(N, T, H)]),
    "TimeMean": (lambda w: _t.TimeMean(), _steps, [(N, D)]),
    "TimeLast": (lambda w: _t.TimeLast(), _steps, [(N, D)]),
    "TimeLast, bidirectional": (lambda w: _t.TimeLast(bidirectional=True), _steps, [(N, D)]),
    "TimeSoftmaxWithLoss": (lambda w: _t.TimeSoftmaxWithLoss(), lambda x: [x(N, T, V), labels(N, T)], []),
    "TimeSigmoidWithLoss": (lambda w: _t.TimeSigmoidWithLoss(), lambda x: [x(N, T), ids(N, T) % 2], []),
    "TimeMeanSquaredError": (lambda w: _t.TimeMeanSquaredError(), lambda x: [x(N, T, D), 2 * x(N, T, D)], []),
    **_rows(
        {
            "TimeAffineSoftmaxWithLoss": lambda w: _t.TimeAffineSoftmaxWithLoss(w(H, V), w(V)),
            "FastTimeAffineSoftmaxWithLoss": lambda w: _f.FastTimeAffineSoftmaxWithLoss(w(H, V), w(V)),
        },
        lambda x: [x(N, T, H), labels(N, T)],
    ),
    **_rows(DROPOUTS, _steps, (N, T, D)),
    **_rows({"WeightDrop": lambda w: _t.WeightDrop(_t.TimeLSTM(*weights(w, 4)), 0.4, rng())}, _steps, (N, T, H)),
    **_rows({"TimeLoop": lambda w: _t.TimeLoop(_l.LSTM(*weights(w, 4)), stateful=True)}, _steps, (N, T, H)),
    **_rows(TIME_RECURRENT, _steps, (N, T, H)),
    **_rows(BIDIRECTIONAL, _steps, (N, T, 2 * H)),
}
# Those that take packed sequences, too.
TIME_LAYERS = [name for name in LAYERS if name.startswith("Time") and name not in ("TimeLoop", "TimeSigmoidWithLoss")]
_BASES = {"Layer", "Cell", "TimeRecurrent"}  # they have no forward of their own, or one that needs a subclass


def layers_without_a_row() -> set[str]:
    """The classes of layers that LAYERS does not build."""
    found = {
        value.__name__
        for module in (layers, output_layer, recurrent, time_layers)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Layer)
    }
    return found - _BASES - {name.partition(",")[0] for name in LAYERS}


# Running one thing on one side


def as_it_is(x: Array) -> Array:
    return x


def ragged(x: Array) -> PackedSequence:
    """Pack the first steps of each sequence of x, (N, T, ...)."""
    return pack([sequence[:length] for sequence, length in zip(x, LENGTHS)])


def build_layer(name: str, device: Callable, dtype: type) -> Layer:
    layer = LAYERS[name][0](lambda *shape: normal(*shape, dtype=dtype))
    for p in layer.parameters:
        p.convert(device)
    return layer


def layer_inputs(name: str, device: Callable, dtype: type, seed: int = 0) -> list[Array]:
    return [device(x) for x in LAYERS[name][1](lambda *shape: normal(*shape, seed=seed, dtype=dtype))]


def run_layer(name: str, device: Callable, dtype: type, form: Callable = as_it_is) -> Results:
    """What a layer computes in two steps of training and one of evaluation, of arrays or, packed, of ``form``."""
    layer, shapes = build_layer(name, device, dtype), LAYERS[name][2]
    upstream = [device(normal(*shape, seed=k + 7, dtype=dtype)) for k, shape in enumerate(shapes)]
    upstream = [form(dy) if dy.ndim > 2 else dy for dy in upstream]
    outputs, gradients = [], []
    for step in range(2):  # the second replaces the gradients of the first, and continues its state
        outputs.append(layer.forward(*map(form, layer_inputs(name, device, dtype, seed=step))))
        gradients.append(layer.backward(*upstream))
        outputs.append(getattr(layer, "state", None))
        gradients += [getattr(layer, "dh", None), getattr(layer, "dc", None)]
    gradients.append(layer.grads)
    layer.training = False
    outputs.append(layer.forward(*map(form, layer_inputs(name, device, dtype, seed=2))))
    return outputs, gradients


def run_optimizer(rule: type[Optimizer], device: Callable, dtype: type) -> Results:
    """Weights, and what the optimizer remembers, after three updates with clipped gradients; and these gradients."""
    made = rule(lr=0.1)
    w, b = device(normal(V, D, dtype=dtype)), device(normal(D, dtype=dtype))
    norms = []
    for step in range(3):
        grads = [device(normal(V, D, seed=step, dtype=dtype)).T, device(normal(D, seed=step, dtype=dtype))]
        norms.append(clip_grads(grads, 2.0))
        made.update([w.T, b], grads)
    return [w, b, *(getattr(made, memory) for memory in made.memories)], [*norms, *grads]


@dataclass(frozen=True)
class ModelCase:
    """A model, and the options with which it is made."""

    model: type[RecurrentLm] | type[RecurrentClassifier]
    options: dict[str, object]

    def __str__(self) -> str:
        options = [key if value is True else f"{key} {value}" for key, value in self.options.items()]
        return ", ".join([self.model.__name__, *options]).replace("_", " ")

    def make(self, device: Callable, dtype: type) -> Model:
        classes = [3] if issubclass(self.model, RecurrentClassifier) else []
        model = self.model(V, D, H, *classes, rng=rng(), dtype=dtype, **self.options)
        if device is to_gpu:
            model.to_gpu()
        return model

    def batches(self, model: Model, n: int = 3) -> list[tuple]:
        """Windows of words and the words that follow; for a classifier, packed texts and their classes."""
        if isinstance(model, RecurrentClassifier):
            return [
                (model.batch([ids(k, seed=s) for k in LENGTHS]), *model.asarrays(ids(N, seed=s, high=3)))
                for s in range(n)
            ]
        return [model.asarrays(ids(N, T, seed=s), ids(N, T, seed=s + 1)) for s in range(n)]

    def run(self, device: Callable, dtype: type) -> Results:
        """Losses, predictions and weights of three steps of training; and the gradients of the last."""
        model = self.make(device, dtype)
        outputs, batches = [], self.batches(model)
        for xs, ts in batches:
            outputs.append(train_step(model, xs, ts))
        return [*outputs, model.predict(batches[0][0]), *model.params], model.grads


def train_step(model: Model, xs: Array, ts: Array) -> Array:
    loss = model.forward(xs, ts)
    model.backward()
    clip_grads(model.grads, 0.25)
    SGD(1.0).update(model.params, model.grads)
    return loss


def chapters() -> list[Path]:
    """The files of the chapters, which lie beside this package."""
    return sorted(ROOT.glob("ch[0-9]*_*/*.py"))


def module_of(path: Path) -> object:
    return importlib.import_module(f"{path.parent.name}.{path.stem}")


def model_cases() -> list[ModelCase]:
    """Each model of the chapters: plain, with all its switches, and with two layers and all its kinds of dropout."""
    modules = {module_of(path).__name__ for path in chapters()}
    models = [m for m in (*subclasses(RecurrentLm), *subclasses(RecurrentClassifier)) if m.__module__ in modules]
    return [ModelCase(model, options) for model in models for options in _forms(model)]


def subclasses(base: type) -> list[type]:
    """Those of a class, and theirs."""
    return [found for child in base.__subclasses__() for found in (child, *subclasses(child))]


def _forms(model: type[Model]) -> list[dict[str, object]]:
    defaults = {
        name: parameter.default
        for parent in reversed(model.__mro__)
        if "__init__" in vars(parent)
        for name, parameter in inspect.signature(parent).parameters.items()
    }
    dropout = {name: 0.3 for name, default in defaults.items() if "drop" in name and type(default) is float}
    switches = {name: True for name, default in defaults.items() if default is False}
    locked = {name: switches.pop(name) for name in list(switches) if "drop" in name}
    return [{}, switches, {"layers": 2, **dropout, **locked}]


# The comparison


@contextmanager
def masks_of_the_gpu() -> Iterator[None]:
    """Let NumPy drop what the GPU drops: both take the random numbers that the GPU makes from a seed."""
    own = layers.uniform

    def uniform(rng: np.random.Generator, shape: tuple[int, ...], xp: object) -> Array:
        numbers = backend.uniform(rng, shape, sys.modules["cupy"])
        return to_cpu(numbers) if xp is np else numbers

    layers.uniform = uniform
    try:
        yield
    finally:
        layers.uniform = own


def flat(results: object) -> list[Array]:
    """Put arrays that may stand in tuples, be packed, or be None, into one list."""
    if isinstance(results, PackedSequence):
        return [results.data]
    if isinstance(results, (tuple, list)):
        return [x for part in results for x in flat(part)]
    return [] if results is None else [results]


def difference(on_gpu: list, expected: list) -> float:
    """The largest, relative to the largest element of an array."""
    errors = []
    for x, y in zip(flat(on_gpu), flat(expected), strict=True):
        if get_array_module(x) is np or x.shape != np.shape(y):
            raise TypeError(f"expected an array of the GPU, {np.shape(y)}, got {type(x).__name__} {np.shape(x)}")
        errors.append(gradient_error(to_cpu(x), np.asarray(y)))
    return max(errors, default=0.0)


Runs = dict[str, Callable[[Callable, type], Results]]  # by the name of what is run: on which side, in which dtype


def runs() -> Runs:
    """All that is compared."""
    found: Runs = {name: lambda device, dtype, name=name: run_layer(name, device, dtype) for name in LAYERS}
    for name in TIME_LAYERS:
        found[f"{name}, packed"] = lambda device, dtype, name=name: run_layer(name, device, dtype, ragged)
    for rule in subclasses(Optimizer):
        found[rule.__name__] = lambda device, dtype, rule=rule: run_optimizer(rule, device, dtype)
    return found | {str(case): case.run for case in model_cases()}


def compare() -> Iterator[dict[str, object]]:
    """For each, in float32 and float64, the largest differences of what forward and backward computed.

    A row has what went wrong, too, in ``error``: a sentence, or None.
    """
    for name in sorted(layers_without_a_row()):
        yield {"name": name, "error": "is a layer that is not compared"}
    for name, run in runs().items():
        row: dict[str, object] = {"name": name, "error": None}
        for dtype in (np.float32, np.float64):
            key = dtype.__name__
            try:
                with masks_of_the_gpu():
                    results = [difference(*pair) for pair in zip(run(to_gpu, dtype), run(as_it_is, dtype))]
            except Exception as error:  # of any kind: the others are compared all the same
                row["error"] = f"{type(error).__name__}: {error}"
                break
            row[key] = dict(zip(("forward", "backward"), results))
            if row["error"] is None and not max(results) <= TOLERANCE[key]:  # NaN is no agreement either
                row["error"] = f"differs by {max(results):.1e} in {key}, more than {TOLERANCE[key]:g}"
        yield row
