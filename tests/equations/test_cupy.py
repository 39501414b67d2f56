"""The code for the GPU, on a strict stand-in for CuPy: it gives the results of NumPy, and never mixes the two.

Results are compared bit for bit. For that NumPy is made to take the GPU's path in the places where its own is
another, as good but not the same: see ``same_path`` in conftest.py. Scripts are in test_cupy_scripts.py.
"""

from __future__ import annotations

import ast
import csv
import inspect
import math
import operator
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import normal, recording
from oracles import strict_cupy
from oracles.compiled_kernel import COMPILER, ElementwiseKernel

from ch05_rnn.rnn_classifier import RnnClassifier
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated.better_lstm_lm import BetterLstmLm
from ch06_gated.gru_lm import GruLm
from ch06_gated.lstm_classifier import LstmClassifier
from ch06_gated.lstm_lm import LstmLm
from common import backend, functions, layers, optimizer
from common.backend import GpuUnavailable, get_array_module, require_gpu, to_cpu, to_floats, to_gpu
from common.batching import OffsetBatches, SentenceBatches, make_batches
from common.evaluation import evaluate, evaluate_windows
from common.fast import fused, output_layer
from common.fast.segment_sum import scatter_add
from common.generation import generate
from common.layers import Affine
from common.optimizer import SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSprop, clip_grads
from common.packing import pack, pad, unpack
from common.runs.gpu_doctor import waiting
from common.runs.gpu_parity import (
    BIDIRECTIONAL,
    DROPOUTS,
    LAYERS,
    LENGTHS,
    TIME_LAYERS,
    TIME_RECURRENT,
    D,
    H,
    N,
    T,
    V,
    build_layer,
    flat,
    ids,
    labels,
    layer_inputs,
    layers_without_a_row,
    ragged,
    run_layer,
)
from common.time_layers import TimeEmbedding, TimeRecurrent
from common.trainer import RnnlmTrainer

COMMON = Path(layers.__file__).parent


def on_cpu(x):
    return x


def assert_on_gpu(results):
    assert all(isinstance(x, sys.modules["cupy"].ndarray) for x in flat(results)), [type(x) for x in flat(results)]


def assert_crossed(to_device, to_host):
    """Copies between host and device since the last reset of the counts, which only the stand-in keeps."""
    if on_stand_in():
        assert strict_cupy.counts == {"to_device": to_device, "to_host": to_host}


def on_stand_in():
    return sys.modules.get("cupy") in (strict_cupy.cupy, None)


def assert_same_bits(ours, theirs):
    ours, theirs = [to_cpu(x) for x in flat(ours)], [to_cpu(x) for x in flat(theirs)]
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs):
        assert np.shape(a) == np.shape(b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
        if on_stand_in() or np.asarray(a).dtype.kind != "f":
            assert np.array_equal(a, b)
        else:  # a GPU sums in another order
            tolerance = 1e-11 if np.asarray(a).dtype == np.float64 and np.ndim(a) else 1e-4  # 0-dimensional: a norm
            assert np.allclose(a, b, rtol=tolerance, atol=tolerance), np.abs(a - b).max()


def assert_equal_figures(ours, theirs):
    """Numbers, or histories: equal on the stand-in; on a GPU, which sums in another order, nearly."""
    if on_stand_in():
        assert ours == theirs
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            numbers = [{k: float(v) for k, v in record.items() if v not in (None, "")} for record in (a, b)]
            assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)
    else:
        assert ours == pytest.approx(theirs, rel=1e-4)


# The stand-in itself

MIXTURES = {
    "add": lambda x, y: x + y,
    "subtract in place": lambda x, y: operator.isub(x, y),
    "matmul": lambda x, y: x @ y.T,
    "compare": lambda x, y: x == y,
    "index": lambda x, y: x[y.astype(int)],
    "assign": lambda x, y: operator.setitem(x, slice(None), y),
    "set all": lambda x, y: operator.setitem(x, Ellipsis, y),
    "look up": lambda x, y: x.take(y.astype(int)),
    "fill": lambda x, y: x.fill(y),
    "multiply": lambda x, y: strict_cupy.cupy.multiply(x, y),
    "out": lambda x, y: strict_cupy.cupy.exp(x, out=y),
    "maximum": lambda x, y: strict_cupy.cupy.maximum(y, x),
    "concatenate": lambda x, y: strict_cupy.cupy.concatenate([x, y]),
    "vdot": lambda x, y: strict_cupy.cupy.vdot(x, y),
    "where": lambda x, y: strict_cupy.cupy.where(x == x, x, y),
    "like": lambda x, y: strict_cupy.cupy.zeros_like(y),
    "search": lambda x, y: strict_cupy.cupy.searchsorted(x.reshape(6), y),
    "scatter": lambda x, y: strict_cupy.cupy.add.at(x, strict_cupy.cupy.arange(len(x)), y),
}


@pytest.mark.parametrize("shape", [(2, 3), ()], ids=["matrix", "0-dimensional"])
@pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES)
def test_stand_in_and_numpy_arrays_do_not_mix(mixture, shape):
    with pytest.raises(TypeError):
        mixture(strict_cupy.cupy.zeros((2, 3)), np.zeros(shape))


NUMPY_FIRST = {
    "add": lambda x, y: y + x,
    "add in place": lambda x, y: operator.iadd(y, x),
    "matmul": lambda x, y: y @ x.T,
    "compare": lambda x, y: y == x,
    "assign": lambda x, y: operator.setitem(y, slice(None), x),
    "index": lambda x, y: y[x.astype(int)],
    "ufunc of both": lambda x, y: np.add(y, x),
    "ufunc": lambda x, y: np.exp(x),
    "out": lambda x, y: np.exp(y, out=x),
    "asarray": lambda x, y: np.asarray(x),
    "array of a list": lambda x, y: np.array([x, x]),
    "concatenate": lambda x, y: np.concatenate([y, x]),
    "like": lambda x, y: np.zeros_like(x),
    "isfinite": lambda x, y: np.isfinite(x),
}


@pytest.mark.parametrize("mixture", NUMPY_FIRST.values(), ids=NUMPY_FIRST)
def test_numpy_does_not_take_arrays_of_the_stand_in(mixture):
    with pytest.raises(TypeError):
        mixture(strict_cupy.cupy.zeros((2, 3)), np.zeros((2, 3)))


def test_stand_in_takes_numbers_of_python_and_numpy_on_either_side(stand_in):
    x = stand_in.asarray(np.float32([1, 2]))
    three = np.float32(3)
    assert_same_bits([three * x, x * three, 3 * x, x * 3.0, 3 - x], [np.float32(y) for y in [[3, 6]] * 4 + [[2, 1]]])
    assert_same_bits([three > x, x < 3, three - x], [np.array([True, True])] * 2 + [np.float32([2, 1])])


def test_stand_in_is_no_numpy_array_and_shares_no_memory_with_one(stand_in):
    theirs = np.zeros(3)
    x = stand_in.asarray(theirs)
    assert not isinstance(x, np.ndarray)
    x += 1
    x.get()[0] = 7
    assert_same_bits([x, theirs], [np.ones(3), np.zeros(3)])
    assert stand_in.asarray(x) is x


def test_views_of_the_stand_in_share_memory_and_are_changed_in_place():
    x = strict_cupy.cupy.zeros((3, 2))
    x[1:] += strict_cupy.cupy.asarray([[1.0, 2.0], [3.0, 4.0]])
    row = x[2]
    row *= 2
    element = x[0, 0]
    element -= 1
    x.T[1, 0] = 5
    x.reshape(6)[1] += 1
    assert np.array_equal(x.get(), [[-1, 6], [1, 2], [6, 8]])
    repeated = strict_cupy.cupy.asarray([0, 0])
    x[repeated] += 1  # as in NumPy, once
    assert np.array_equal(x.get(), [[0, 7], [1, 2], [6, 8]])


def test_functions_of_the_stand_in_write_to_out_and_return_it():
    cupy = strict_cupy.cupy
    x, out = cupy.asarray([1.0, 4.0]), cupy.zeros((2, 2))
    row = out[1]
    assert cupy.sqrt(x, out=row) is row
    assert cupy.matmul(cupy.asarray([[1.0, 1.0], [0.0, 2.0]]), x, out=out[0]).shape == (2,)
    assert np.array_equal(out.get(), [[5, 8], [1, 2]])


def test_reductions_and_elements_of_the_stand_in_stay_on_the_device(stand_in):
    x = strict_cupy.cupy.asarray([1.0, 2.0])
    strict_cupy.reset_counts()
    results = [x.sum(), x.max(), x.min(), x[0], strict_cupy.cupy.vdot(x, x), 0 + x.sum(), x.sum() / 2, -x.max()]
    assert_on_gpu(results)
    assert [r.shape for r in results] == [()] * len(results)
    assert strict_cupy.counts == {"to_device": 0, "to_host": 0}


def test_stand_in_counts_what_crosses_the_bus():
    strict_cupy.reset_counts()
    x = strict_cupy.cupy.asarray(np.zeros((1, 1)))
    assert (float(x), int(x), bool(x), x.item(), x.get()) == (0.0, 0, False, 0.0, np.zeros((1, 1)))
    assert strict_cupy.counts == {"to_device": 1, "to_host": 5}


def test_random_numbers_of_the_stand_in_are_made_on_the_device_from_a_seed(stand_in):
    def draw(seed, *shape):
        random = strict_cupy.cupy.random
        return random.Generator(random.Philox4x3210(seed)).random(shape, dtype=np.float32)

    strict_cupy.reset_counts()
    numbers = draw(3, 4, 5)
    assert strict_cupy.counts == {"to_device": 0, "to_host": 0}
    assert_on_gpu([numbers])
    assert np.array_equal(numbers.get(), draw(3, 4, 5).get())
    assert not np.array_equal(numbers.get(), draw(4, 4, 5).get())
    assert (numbers.dtype, numbers.shape) == (np.float32, (4, 5))
    for seed in (np.int64(3), strict_cupy.cupy.arange(1)):
        with pytest.raises(TypeError, match="seed"):
            draw(seed, 1)


def test_stand_in_has_nothing_that_nobody_needed():
    for thing, name in [(strict_cupy.cupy, "einsum"), (strict_cupy.cupy.zeros(1), "std")]:
        with pytest.raises(AttributeError):
            getattr(thing, name)


def test_new_memory_of_the_stand_in_holds_no_zeros_by_chance():
    assert np.isnan(strict_cupy.cupy.empty((2, 2), np.float32).get()).all()


def test_a_layer_on_the_gpu_refuses_a_numpy_array(gpu):
    layer = Affine(to_gpu(normal(D, H)), to_gpu(normal(H)))
    layer.forward(to_gpu(normal(N, D)))
    with pytest.raises(TypeError):
        layer.forward(normal(N, D))
    with pytest.raises(TypeError):
        layer.backward(normal(N, H))


# Which attributes of CuPy the code uses


def dotted_name(node):
    """``cupy.cuda.runtime`` for the syntax tree of it; None for all that is not names and dots."""
    if isinstance(node, ast.Name):
        return node.id
    owner = dotted_name(node.value) if isinstance(node, ast.Attribute) else None
    return owner and f"{owner}.{node.attr}"


def owner_of(node):
    """The owner in an expression ``owner.name``; ``xp`` if it is a call that returns NumPy or CuPy."""
    if isinstance(node, ast.Call):
        return "xp" if dotted_name(node.func) in ("get_array_module", "require_gpu") else None
    return dotted_name(node)


def used_attributes(source):
    """The names after ``xp.``, ``self.xp.`` and ``cupy.`` in a source text."""
    used = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and (owner := owner_of(node.value)):
            root, _, rest = owner.removeprefix("self.").partition(".")
            if root in ("xp", "cupy"):
                used.add(f"{rest}.{node.attr}".removeprefix("."))
    return used


def used_in_common():
    return set().union(*(used_attributes(path.read_text(encoding="utf-8")) for path in COMMON.rglob("*.py")))


def missing(used, module):
    """Those of the used names that the module has not."""

    def exists(name):
        try:
            operator.attrgetter(name)(module)
        except AttributeError:
            return False
        return True

    return [name for name in sorted(used) if not exists(name)]


def test_used_attributes_are_found_in_a_source_text():
    source = "xp.a(xp.b); self.xp.c = cupy.d.e(x.f); get_array_module(x[0]).h(y); np.i; require_gpu().j"
    assert used_attributes(source) == {"a", "b", "c", "d", "d.e", "h", "j"}


def test_used_attributes_of_cupy_are_in_the_stand_in():
    # Where there is no ElementwiseKernel, the plain path computes; the others make the doctor's real GPU busy.
    used = used_in_common() - {"ElementwiseKernel", "RawKernel", "cuda.get_current_stream"}
    assert {"ndarray", "asarray", "matmul", "add.at", "cuda.runtime.getDeviceCount", "random.Generator"} <= used
    assert missing(used, strict_cupy.cupy) == []


def test_used_attributes_and_those_of_the_stand_in_are_in_the_real_cupy():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    assert missing(used_in_common(), cupy) == []
    names = {name for name in vars(strict_cupy.cupy) if not name.startswith("_")}
    assert missing(names | methods_of_the_stand_in(), cupy) == []


CLASSES = ("ndarray", "random.Generator", "random.Philox4x3210", "cuda.MemoryPool")


def methods_of_the_stand_in():
    """Names of the methods of its classes, seen from the module."""
    return {
        f"{name}.{method}"
        for name in CLASSES
        for method in vars(operator.attrgetter(name)(strict_cupy.cupy))
        if not method.startswith("_")
    }


def named_parameters(function):
    """The names of a function's parameters but those with stars; None where Python cannot know them."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    stars = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {parameter.name for parameter in parameters if parameter.kind not in stars}


def test_parameters_of_the_stand_in_are_those_of_the_real_cupy():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    functions = {name for name, value in vars(strict_cupy.cupy).items() if inspect.isfunction(value)}
    compared = set()
    for name in functions | methods_of_the_stand_in() | set(CLASSES[1:]):
        ours, theirs = (operator.attrgetter(name)(module) for module in (strict_cupy.cupy, cupy))
        if callable(ours) and (known := named_parameters(theirs)):
            assert named_parameters(ours) <= known, name
            compared.add(name)
    expected = {"asarray", "concatenate", "searchsorted", "argsort", "where", "full", "random.Generator.random"}
    assert expected <= compared


def test_the_memory_pool_of_the_real_cupy_is_one_of_its_class():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    assert isinstance(cupy.get_default_memory_pool(), cupy.cuda.MemoryPool)


# Functions


def test_arrays_move_to_the_gpu_and_back(gpu):
    x = normal(2, 3)
    moved = to_gpu(x)
    assert_on_gpu([moved])
    assert get_array_module(moved) is gpu
    assert to_gpu(moved) is moved
    assert_same_bits([moved], [x])


@pytest.mark.parametrize("n", [1, 5, 200])
def test_scatter_add_with_repeated_rows(gpu, n):
    target, index, rows = normal(V, D), ids(n), normal(n, D)
    on_gpu = to_gpu(target)
    scatter_add(on_gpu, to_gpu(index), to_gpu(rows))
    scatter_add(target, index, rows)
    assert_same_bits([on_gpu], [target])


def test_numbers_come_from_the_gpu_in_one_copy(gpu):
    scalars = [to_gpu(np.float64(0.1)), to_gpu(np.int64(3)), to_gpu(np.float32(0.5))]
    strict_cupy.reset_counts()
    found = to_floats(*scalars)
    assert_crossed(0, 1)
    assert found == to_floats(0.1, 3, np.float32(0.5)) == [0.1, 3.0, 0.5]
    assert {type(x) for x in found} == {float}


def test_random_numbers_for_the_gpu_are_made_there_from_a_seed_that_the_generator_draws(gpu):
    rng = np.random.default_rng(0)
    first, second = (backend.uniform(rng, (100, 100), gpu) for _ in range(2))
    assert_crossed(0, 0)
    assert_on_gpu([first, second])
    assert not np.array_equal(first.get(), second.get())
    assert_same_bits([backend.uniform(np.random.default_rng(0), (100, 100), gpu)], [first])
    assert first.dtype == np.float32
    assert np.allclose(np.quantile(first.get(), [0, 0.25, 0.5, 0.75, 1]), [0, 0.25, 0.5, 0.75, 1], rtol=0, atol=0.02)
    assert rng.random() == after_two_seeds()


def after_two_seeds():
    rng = np.random.default_rng(0)
    rng.integers(2**63, size=2)
    return rng.random()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sigmoid", "softmax", "log_softmax"])
def test_functions_give_the_same_on_the_gpu(gpu, name, dtype):
    function, x = getattr(functions, name), normal(2, N, V, dtype=dtype)
    y = function(to_gpu(x))
    assert_on_gpu([y])
    assert_same_bits([y], [function(x)])


@pytest.mark.parametrize("ignore_label", [-1, 2])
def test_split_labels_gives_the_same_on_the_gpu(gpu, ignore_label):
    results = functions.split_labels(to_gpu(ids(20)), ignore_label, np.float32)
    assert_on_gpu(results)
    assert_same_bits(results, functions.split_labels(ids(20), ignore_label, np.float32))


# Layers


def test_every_layer_is_tested():
    assert layers_without_a_row() == set()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_the_same_on_the_gpu(gpu, same_path, name, dtype):
    on_gpu = run_layer(name, to_gpu, dtype)
    assert_on_gpu(on_gpu)
    assert_same_bits(on_gpu, run_layer(name, on_cpu, dtype))


@pytest.mark.parametrize("name", TIME_LAYERS)
def test_layers_give_the_same_of_packed_sequences_on_the_gpu(gpu, same_path, name):
    on_gpu = run_layer(name, to_gpu, np.float32, ragged)
    assert_on_gpu(on_gpu)
    assert_same_bits(on_gpu, run_layer(name, on_cpu, np.float32, ragged))


@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("form", [on_cpu, ragged])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*TIME_RECURRENT, *BIDIRECTIONAL])
def test_fused_kernels_compute_what_the_plain_path_does(stand_in, monkeypatch, name, dtype, form):
    expected = run_layer(name, on_cpu, dtype, form)
    monkeypatch.setattr(stand_in, "ElementwiseKernel", ElementwiseKernel, raising=False)
    fused._kernel.cache_clear()
    found = run_layer(name, to_gpu, dtype, form)
    assert_on_gpu(found)
    tolerance = 1e-5 if dtype is np.float32 else 1e-13
    for a, b in zip(flat(found), flat(expected), strict=True):
        assert np.allclose(to_cpu(a), b, rtol=tolerance, atol=tolerance)
    used = fused._kernel.cache_info().currsize
    fused._kernel.cache_clear()
    assert used == (0 if name == "TimePeepholeLSTM" else {"TimeGRU": 4, "TimeBidirectional": 6}.get(name, 2))


@pytest.mark.parametrize("device", [on_cpu, to_gpu])
def test_sequences_are_packed_and_unpacked_where_they_are(gpu, device):
    sequences = [device(normal(length, D)) for length in LENGTHS]
    packed = pack(sequences)
    windows = [sequence for window in packed.windows(2) for sequence in unpack(window)]
    assert {type(x) for x in flat([packed, windows])} == {type(sequences[0])}
    assert_same_bits(unpack(packed), sequences)
    assert_same_bits(windows, [sequences[0], sequences[1][:2], sequences[2], sequences[1][2:]])


@pytest.mark.parametrize("bring_together", [pack, pad])
def test_numpy_arrays_are_brought_together_on_the_gpu_in_two_copies(gpu, bring_together):
    sequences = [normal(length, D) for length in LENGTHS]
    there = bring_together(sequences, xp=gpu)
    assert_crossed(2, 0)
    layout = there.layout
    indices = ("starts", "lengths", "order", "step", "sequence", "previous", "final", "reversed", "inverse_order")
    assert_on_gpu([there, *(getattr(layout, name) for name in indices)])
    assert_crossed(2, 0)
    here = bring_together(sequences)
    assert_same_bits(there, here)
    for name in indices:
        assert_same_bits(getattr(layout, name), getattr(here.layout, name))
    assert_same_bits(unpack(there), sequences)


def test_the_loss_in_many_slices_is_the_same_on_the_gpu(gpu, same_path, monkeypatch):
    monkeypatch.setattr(output_layer, "MAX_LOGITS", 5 * V)  # 5 rows at a time
    on_gpu = run_layer("FastTimeAffineSoftmaxWithLoss", to_gpu, np.float32)
    assert_on_gpu(on_gpu)
    assert_same_bits(on_gpu, run_layer("FastTimeAffineSoftmaxWithLoss", on_cpu, np.float32))


@pytest.mark.parametrize("size", [1, 1000], ids=["small logits", "huge logits"])
def test_the_loss_without_subtracted_maximum_is_nearly_that_of_the_gpu(gpu, size):
    h, t = size * normal(N, T, H), labels(N, T)
    ours, theirs = (build_layer("FastTimeAffineSoftmaxWithLoss", device, np.float64) for device in (to_gpu, on_cpu))
    assert float(ours.forward(to_gpu(h), to_gpu(t))) == pytest.approx(theirs.forward(h, t), rel=1e-13)
    assert np.allclose(to_cpu(ours.backward()), theirs.backward(), rtol=1e-12, atol=1e-15)


def test_distinct_words_are_a_matter_of_numpy_alone(gpu):
    embedding = TimeEmbedding(to_gpu(normal(V, D)), distinct=True)
    vectors = embedding.forward(to_gpu(ids(N, T)))
    assert_on_gpu([vectors])
    assert_same_bits([vectors], [normal(V, D)[ids(N, T)]])


@pytest.mark.parametrize("name", ["FastTimeAffineSoftmaxWithLoss", *DROPOUTS, *TIME_RECURRENT, *BIDIRECTIONAL])
def test_a_layer_that_has_worked_on_one_side_works_on_the_other(gpu, same_path, name):
    expected = run_layer(name, on_cpu, np.float32)
    for here, there in [(on_cpu, to_gpu), (to_gpu, to_cpu)]:
        layer = build_layer(name, here, np.float32)
        layer.forward(*layer_inputs(name, here, np.float32))
        for p in layer.parameters:
            p.convert(there)
        if hasattr(layer, "reset_state"):
            layer.reset_state()
        for dropout in (layer, getattr(layer, "dropout", None)):
            if hasattr(dropout, "rng"):
                dropout.rng = np.random.default_rng(3)
        assert_same_bits([layer.forward(*layer_inputs(name, there, np.float32))], expected[0][:1])


# Optimizers

OPTIMIZERS = {rule.__name__: rule for rule in (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam, AdamW)}


def test_every_optimizer_is_tested():
    subclasses = {
        c.__name__ for c in vars(optimizer).values() if isinstance(c, type) and issubclass(c, optimizer.Optimizer)
    }
    assert subclasses - {"Optimizer"} == set(OPTIMIZERS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_give_the_same_on_the_gpu(gpu, name, dtype):
    def train(device):
        rule = OPTIMIZERS[name](lr=0.1)
        w, b = device(normal(V, D, dtype=dtype)), device(normal(D, dtype=dtype))
        for step in range(3):
            grads = [device(normal(V, D, seed=step, dtype=dtype)).T, device(normal(D, seed=step, dtype=dtype))]
            rule.update([w.T, b], grads)
        return [w, b, *(getattr(rule, memory) for memory in rule.memories)]

    results = train(to_gpu)
    assert_on_gpu(results)
    assert_crossed(strict_cupy.counts["to_device"], 0)
    assert_same_bits(results, train(on_cpu))


@pytest.mark.parametrize("max_norm", [0.1, 1000.0], ids=["too long", "short enough"])
def test_clip_grads_gives_the_same_on_the_gpu_and_does_not_wait_for_it(gpu, max_norm):
    def clip(device):
        grads = [device(normal(V, D, dtype=np.float32)), device(normal(D, dtype=np.float32))]
        return [clip_grads(grads, max_norm), *grads]

    results = clip(to_gpu)
    assert_on_gpu(results)
    assert_crossed(strict_cupy.counts["to_device"], 0)
    assert_same_bits(results, clip(on_cpu))


def test_clip_grads_of_zeros_on_the_gpu(gpu):
    g = to_gpu(np.zeros(3))
    assert float(clip_grads([g], 1.0)) == 0
    assert_same_bits([g], [np.zeros(3)])


# The model

MODELS = {
    "plain": {},
    "dropout": {"dropout": 0.3},
    "tied": {"tie_weights": True},
    "tied, dropout": {"tie_weights": True, "dropout": 0.3},
    "two layers, locked dropout": {"layers": 2, "dropout": 0.3, "locked_dropout": True},
    "LSTM": {"model": LstmLm},
    "LSTM, peepholes, two layers": {"model": LstmLm, "peepholes": True, "layers": 2},
    "GRU": {"model": GruLm},
    "GRU, reset after, two layers, tied": {"model": GruLm, "reset_after": True, "layers": 2, "tie_weights": True},
    "better LSTM": {"model": BetterLstmLm},
    "better LSTM, peepholes, locked": {"model": BetterLstmLm, "peepholes": True, "locked_dropout": True},
}
every_model = pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)


def make_model(model=SimpleRnnlm, rng=None, **options):
    return model(V, D, H, rng=rng or np.random.default_rng(0), **options)


def build_model(device=on_cpu, **options):
    model = make_model(**options)
    if device is to_gpu:
        model.to_gpu()
    return model


def windows(device, count=3):
    """Windows of words and the words that follow, on the device."""
    for k in range(count):
        yield device(ids(N, T, seed=k)), device(ids(N, T, seed=k + 1))


def train_steps(model, batches, max_grad=0.25):
    """Make a step for each batch; return the losses, the norms of the gradients, and the last gradients."""
    rule = SGD(1.0)
    results = []
    for x, t in batches:
        results.append(model.forward(x, t))
        model.backward()
        results.append(clip_grads(model.grads, max_grad))
        rule.update(model.params, model.grads)
    return [results, model.grads]


@every_model
def test_training_gives_the_same_on_the_gpu(gpu, same_path, options):
    ours, theirs = build_model(to_gpu, **options), build_model(**options)
    results = train_steps(ours, windows(to_gpu))
    assert_on_gpu([results, ours.params])
    assert_same_bits([results, ours.params], [train_steps(theirs, windows(on_cpu)), theirs.params])


@every_model
def test_a_step_neither_waits_for_the_gpu_nor_sends_anything(gpu, options):
    model, batches = build_model(to_gpu, **options), list(windows(to_gpu))
    strict_cupy.reset_counts()
    train_steps(model, batches)
    assert_crossed(0, 0)


@pytest.mark.gpu
def test_a_step_on_a_real_gpu_does_not_wait_for_it(real_gpu):
    assert not [row for row in waiting(real_gpu) if row["error"]]


@every_model
def test_training_on_packed_sequences_gives_the_same_on_the_gpu(gpu, same_path, options):
    def train(device):
        model = build_model(device, **options)
        wholes = [(ragged(x), ragged(t)) for x, t in windows(device, 2)]
        parts = [pair for x, t in wholes for pair in zip(x.windows(2), t.windows(2))]
        results = train_steps(model, wholes)
        model.reset_state()
        results += train_steps(model, parts[:2])  # a batch that shrinks, and carries its state
        return [results, model.params]

    results = train(to_gpu)
    assert_on_gpu(results)
    assert_same_bits(results, train(on_cpu))


@every_model
def test_predictions_are_the_same_on_the_gpu(gpu, same_path, options):
    ours, theirs = build_model(to_gpu, **options), build_model(**options)
    results = [ours.predict(x) for x, _ in windows(to_gpu)]
    assert_on_gpu(results)
    assert_same_bits(results, [theirs.predict(x) for x, _ in windows(on_cpu)])


@every_model
def test_a_model_with_numpys_shortcuts_trains_nearly_as_on_the_gpu(gpu, same_masks, options):
    ours, theirs = (make_model(dtype=float, **options) for _ in range(2))
    ours.to_gpu()
    train_steps(ours, windows(to_gpu))
    train_steps(theirs, windows(on_cpu))
    for a, b in zip(ours.params, theirs.params):
        assert np.allclose(to_cpu(a), b, rtol=1e-12, atol=1e-14)


@every_model
def test_a_model_that_has_trained_moves_to_the_gpu_and_back(gpu, same_path, options):
    moving, staying = build_model(**options), build_model(**options)
    for move, device in [(moving.to_gpu, to_gpu), (moving.to_cpu, on_cpu)]:
        here = on_cpu if device is to_gpu else to_gpu
        train_steps(moving, windows(here))
        train_steps(staying, windows(on_cpu))
        move()
        staying.reset_state()
        assert all((get_array_module(x) is gpu) == (device is to_gpu) for x in moving.params + moving.grads)
        assert_same_bits([moving.params, moving.grads], [staying.params, staying.grads])
    assert_same_bits(train_steps(moving, windows(on_cpu)), train_steps(staying, windows(on_cpu)))


def test_tied_weights_are_still_tied_on_the_gpu(gpu):
    model = build_model(to_gpu, tie_weights=True)
    embedding, output = model.layers[0].W, model.layers[-1].W
    embedding.data[...] = 3
    assert np.array_equal(to_cpu(output.data), np.full((H, V), 3))


@every_model
def test_weights_saved_on_either_side_load_on_the_other(gpu, tmp_path, options):
    ours, theirs = build_model(to_gpu, **options), build_model(**options)
    ours.save(tmp_path / "ours.npz")
    theirs.save(tmp_path / "theirs.npz")
    with np.load(tmp_path / "ours.npz") as a, np.load(tmp_path / "theirs.npz") as b:
        assert a.files == b.files
        assert_same_bits([a[name] for name in a.files], [b[name] for name in b.files])
    expected = [x.copy() for x in theirs.params]
    for model, file in [(ours, "theirs.npz"), (theirs, "ours.npz")]:
        arrays = model.params
        for x in arrays:
            x[...] = 0
        model.load(tmp_path / file)
        assert_same_bits(arrays, expected)
    assert_on_gpu(ours.params)


def test_loading_onto_the_gpu_converts_the_dtype_and_checks_the_shape(gpu, tmp_path):
    build_model().save(tmp_path / "weights.npz")
    double = SimpleRnnlm(V, D, H, dtype=np.float64)
    double.to_gpu()
    double.load(tmp_path / "weights.npz")
    assert_same_bits(double.params, [x.astype(np.float64) for x in build_model().params])
    larger = SimpleRnnlm(V, D, H + 1)
    larger.to_gpu()
    with pytest.raises(ValueError, match="shape"):
        larger.load(tmp_path / "weights.npz")


@every_model
def test_evaluating_keeps_state_and_modes_on_the_gpu(gpu, same_path, options):
    def run(device):
        model = build_model(device, **options)
        (x, t), (x2, t2), _ = windows(device)
        results = [model.forward(x, t)]
        with model.evaluating():
            results += [model.forward(x2, t2), model.predict(x)]
        results += [model.forward(x2, t2), [layer.state for layer in model.layers if isinstance(layer, TimeRecurrent)]]
        model.backward()
        return [*results, model.grads]

    results = run(to_gpu)
    assert_on_gpu(results)
    assert_same_bits(results, run(on_cpu))


# Batches, measuring, writing, training


@pytest.mark.parametrize("restart", [False, True])
def test_batches_are_the_same_on_the_gpu(gpu, restart):
    def batches(device):
        xs = device(ids(47))
        offset = OffsetBatches(xs[:-1], xs[1:], 3, 4, restart)
        return [pair for _ in range(5) for pair in offset]

    results = batches(to_gpu)
    assert_on_gpu(results)
    assert_crossed(1, 0)
    assert_same_bits(results, batches(on_cpu))


@every_model
@pytest.mark.parametrize("n", [1, 5, 38, 100])
def test_evaluation_gives_the_same_on_the_gpu(gpu, same_path, n, options):
    words = ids(n + 1)
    ours, theirs = (evaluate(build_model(d, **options), words[:-1], words[1:], 3, 7) for d in (to_gpu, on_cpu))
    assert type(ours) is float
    assert_equal_figures(ours, theirs)


@every_model
def test_generation_gives_the_same_on_the_gpu(gpu, same_path, options):
    def words(device):
        model = build_model(device, **options)
        train_steps(model, windows(device))
        rng = np.random.default_rng(4)
        return list(generate(model, [1, 2, 3], 30, rng, temperature=0.7, skip_ids=[0], stop_id=V))

    ours = words(to_gpu)
    assert len(ours) == 30
    assert all(type(word) is int for word in ours)
    assert ours == words(on_cpu)


def records(history):
    """A history without the times, which differ from run to run."""
    return [{k: v for k, v in record.items() if k not in ("tokens_per_second", "seconds")} for record in history]


@pytest.mark.parametrize("restart", [False, True])
@every_model
def test_the_trainer_with_all_options_gives_the_same_on_the_gpu(gpu, same_path, tmp_path, options, restart):
    def fit(device):
        model = build_model(device, **options)
        trainer = RnnlmTrainer(model, AdamW(lr=0.1))
        words = np.arange(300) % V
        valid = words[80::-1]  # the more is learnt from one direction, the worse it fits the other
        folder = tmp_path / device.__name__
        folder.mkdir()
        how = {"valid": (valid[:-1], valid[1:]), "lr_decay": 2.0, "restart": restart}
        with recording(folder) as recorder:
            history = trainer.fit(words[:-1], words[1:], 4, 5, 6, 0.25, 3, **how, recorder=recorder)
        with np.load(folder / "best_weights.npz") as file:
            best = [file[name] for name in file.files]
        with open(folder / "history.csv", encoding="utf-8", newline="") as file:
            return records(history), records(csv.DictReader(file)), best, model.params, trainer.optimizer.lr

    ours, theirs = fit(to_gpu), fit(on_cpu)
    assert_equal_figures(ours[0], theirs[0])
    assert_equal_figures(ours[1], theirs[1])
    assert_on_gpu(ours[3])
    assert_same_bits(ours[2:4], theirs[2:4])
    assert ours[4] == theirs[4] < 0.1
    assert {type(v) for record in ours[0] for v in record.values()} == {float, int, type(None)}


@pytest.mark.parametrize("packed", [True, False])
def test_sentences_train_and_are_measured_alike_on_the_gpu(gpu, same_path, packed):
    sentences = [ids(n) for n in (5, 2, 9, 4, 4, 7)]

    def fit(device):
        model = build_model(device)
        options = {"packed": packed, "pad_id": 3}
        train = SentenceBatches(model.asarrays(*sentences), 4, 3, **options, bucketed=True)
        valid = SentenceBatches(model.asarrays(*sentences[:3]), 2, 3, **options, shuffled=False)
        history = RnnlmTrainer(model, Adam(0.01)).fit_batches(train, 3, 0.25, 2, valid=valid)
        return records(history), model.params

    ours, theirs = fit(to_gpu), fit(on_cpu)
    assert_equal_figures(ours[0], theirs[0])
    assert_on_gpu(ours[1])
    assert_same_bits(ours[1], theirs[1])


@pytest.mark.parametrize("options", [{}, MODELS["dropout"], MODELS["two layers, locked dropout"]])
@pytest.mark.parametrize("skip_bad_steps", [False, True])
def test_a_training_on_the_gpu_is_resumed(gpu, same_path, tmp_path, skip_bad_steps, options):
    words = ids(301)

    def fit(device, folder, *ends):
        folder.mkdir()
        for epochs in ends:
            rng = np.random.default_rng(0)
            model = build_model(device, rng=rng, **options)
            trainer = RnnlmTrainer(model, Adam(0.01))
            batches = OffsetBatches(*model.asarrays(words[:-1], words[1:]), 5, 6)
            how = {"valid": (words[:50], words[1:51]), "skip_bad_steps": skip_bad_steps}
            with recording(folder, rng, seconds=0) as recorder:
                if recorder.checkpoint.path.exists():
                    recorder.checkpoint.restore(trainer, batches)
                trainer.fit_batches(batches, epochs - trainer.epoch, 0.25, 4, **how, recorder=recorder)
        return records(trainer.history), model.params, trainer.optimizer.m, model.state

    ours = fit(to_gpu, tmp_path / "gpu", 1, 2)
    theirs = fit(on_cpu, tmp_path / "cpu", 2)
    assert_equal_figures(ours[0], theirs[0])
    assert_on_gpu(ours[1])
    assert_same_bits(ours[1:3], theirs[1:3])
    assert_same_bits(*([x for state in states for x in state if x is not None] for states in (ours[3], theirs[3])))


# What crosses the bus in a training, and when


@every_model
def test_a_training_sends_the_text_and_waits_once_a_record(gpu, options):
    model, words = build_model(to_gpu, **options), ids(301)
    strict_cupy.reset_counts()
    history = RnnlmTrainer(model, Adam(0.01)).fit(words[:-1], words[1:], 2, 5, 6, 0.25, 4)
    assert len(history) == 6
    assert_crossed(2, len(history))  # to the device: words, and labels


@every_model
@pytest.mark.parametrize("packed", [True, False])
def test_a_batch_of_sentences_sends_one_small_array_and_its_windows_nothing(gpu, options, packed):
    model = build_model(to_gpu, **options)
    lengths = [9, 2, 5, 4, 4, 7, 3]
    batches = SentenceBatches(model.asarrays(*(ids(n) for n in lengths)), 3, 2, packed=packed)
    sizes, asarray = [], gpu.asarray

    def spy(a):
        sizes.append(len(a))
        return asarray(a)

    gpu.asarray = spy
    try:
        strict_cupy.reset_counts()
        history = RnnlmTrainer(model, Adam(0.01)).fit_batches(batches, 2, 0.25, 3)
    finally:
        gpu.asarray = asarray
    windows = history[-1]["iteration"]
    assert windows > 2 * len(sizes)
    assert_crossed(len(sizes), len(history))
    expected = [2 * len(batch) for epoch in (0, 1) for batch in batches_of_epoch(batches, epoch)]
    if packed:  # N starts, lengths and places, and the first row of each of T steps
        longest = [max(batches.lengths[batch]) for epoch in (0, 1) for batch in batches_of_epoch(batches, epoch)]
        expected = [3 * size // 2 + T for size, T in zip(expected, longest)]
    assert sizes == expected


def batches_of_epoch(batches, epoch):
    return make_batches(batches.lengths, batches.batch_size, np.random.default_rng([batches.seed, epoch]))


def test_measuring_waits_once(gpu):
    model, words = build_model(to_gpu), ids(301)
    sentences = SentenceBatches(model.asarrays(*(ids(n) for n in (9, 2, 5, 4))), 2, 2)
    (words,) = model.asarrays(words)
    for measure in (
        lambda: evaluate(model, words[:-1], words[1:], 3, 7),
        lambda: evaluate_windows(model, sentences),
    ):
        strict_cupy.reset_counts()
        measure()
        assert_crossed(strict_cupy.counts["to_device"], 1)


def test_a_record_says_how_much_memory_of_the_gpu_is_taken(gpu, capsys):
    words = ids(301)
    for device in (to_gpu, on_cpu):
        RnnlmTrainer(build_model(device), SGD(1.0)).fit(words[:-1], words[1:], 1, 5, 6)
        line = capsys.readouterr().out
        figures = "3 MiB used, 4 MiB held" if on_stand_in() else "MiB held"
        assert (figures in line) == (device is to_gpu)
        assert ("GPU" in line) == (device is to_gpu)


# Classifiers


every_classifier = pytest.mark.parametrize(
    ("model", "options"),
    [
        (RnnClassifier, {}),
        (RnnClassifier, {"pool": "mean", "bidirectional": True}),
        (LstmClassifier, {"dropout": 0.3, "layers": 2}),
        (LstmClassifier, {"bidirectional": True, "fixed_embedding": True}),
    ],
)


@pytest.mark.parametrize("padded", [False, True])
@every_classifier
def test_classifiers_give_the_same_on_the_gpu(gpu, same_path, model, options, padded):
    def train(device):
        classifier = model(V, D, H, 3, rng=np.random.default_rng(0), **options)
        if device is to_gpu:
            classifier.to_gpu()
        texts, rule, losses = [ids(length) for length in LENGTHS], Adam(0.1), []
        for _ in range(2):
            (ts,) = classifier.asarrays(np.array([2, 0, 1]))
            losses.append(classifier.forward(classifier.batch(texts, padded), ts))
            classifier.backward()
            rule.update(classifier.params, classifier.grads)
        return [losses, classifier.params, classifier.grads], classifier.probabilities(texts)

    results, probabilities = train(to_gpu)
    assert_on_gpu(results)
    expected, expected_probabilities = train(on_cpu)
    assert_same_bits(results, expected)
    assert_same_bits(np.float32(probabilities), np.float32(expected_probabilities))


@pytest.mark.parametrize("padded", [False, True])
@every_classifier
def test_a_step_of_a_classifier_sends_nothing_and_its_batch_three_arrays(gpu, model, options, padded):
    classifier = model(V, D, H, 3, rng=np.random.default_rng(0), **options)
    classifier.to_gpu()
    strict_cupy.reset_counts()
    xs = classifier.batch([ids(length) for length in LENGTHS], padded)
    (ts,) = classifier.asarrays(np.array([2, 0, 1]))
    assert_crossed(3, 0)  # words, where they go, and classes
    assert_on_gpu(train_steps(classifier, [(xs, ts), (xs, ts)]))
    assert_crossed(3, 0)


# Without a GPU


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_nothing_moves():
    model = build_model()
    for attempt in (require_gpu, model.to_gpu, lambda: to_gpu(np.zeros(3))):
        with pytest.raises(GpuUnavailable, match="cuda12"):
            attempt()
    assert all(type(x) is np.ndarray for x in model.params)
    assert math.isfinite(model.forward(*next(windows(on_cpu))))
