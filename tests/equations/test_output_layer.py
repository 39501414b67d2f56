"""The output layer with its loss: the plain one equals two layers, and the fast one the plain one."""

import math
import sys

import numpy as np
import pytest
from helpers import assert_layer_gradients, normal

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common import time_layers
from common.fast import output_layer, products
from common.fast.flat_buffer import FlatBuffer
from common.fast.output_layer import FastTimeAffineSoftmaxWithLoss, fastest_exp
from common.packing import pack, unpack
from common.parameter import Parameter
from common.time_layers import TimeAffine, TimeAffineSoftmaxWithLoss, TimeSoftmaxWithLoss

H, V = 5, 6
EACH_LAYER = pytest.mark.parametrize("layer_class", [TimeAffineSoftmaxWithLoss, FastTimeAffineSoftmaxWithLoss])


def labels(*shape):
    return np.random.default_rng([*shape, V]).integers(0, V, shape)


def side_by_side(W, b, *options):
    """The fast layer as in a model, where W and b are one matrix."""
    layer = FastTimeAffineSoftmaxWithLoss(W, b, *options)
    layer.Wb = FlatBuffer(layer.parameters).stacked(layer.W, layer.b)
    assert layer.Wb is not None
    return layer


def tied(W, b, *options):
    return FastTimeAffineSoftmaxWithLoss(Parameter(W.T.copy()).T, b, *options)


FAST = pytest.mark.parametrize("make", [FastTimeAffineSoftmaxWithLoss, side_by_side, tied])


@pytest.fixture(params=[1000, 7, 2])
def in_slices(request, monkeypatch):
    """Let the layers take so many rows at a time, and the exponential function half as many."""
    for module in (time_layers, output_layer):
        monkeypatch.setattr(module, "MAX_LOGITS", request.param * V)
    monkeypatch.setattr(products, "_CACHED", request.param * V // 2)


@pytest.fixture(params=[("exp", 1.0), ("exp2", math.log(2))], ids=["e", "2"])
def each_exp(request, monkeypatch):
    """Let the loss be computed from powers of e, and of 2, whichever this machine would choose."""
    monkeypatch.setattr(output_layer, "_EXP", request.param[0])
    monkeypatch.setattr(output_layer, "_LN_BASE", request.param[1])


@pytest.mark.usefixtures("in_slices")
@pytest.mark.parametrize("ignore_label", [-1, 3, 99])
def test_the_plain_layer_equals_two_layers(ignore_label):
    hs, ts = normal(3, 10, H), labels(3, 10)
    ts[:2, 4] = ignore_label
    one = TimeAffineSoftmaxWithLoss(normal(H, V), normal(V), ignore_label)
    affine, loss = TimeAffine(normal(H, V), normal(V)), TimeSoftmaxWithLoss(ignore_label)
    assert one.forward(hs, ts) == pytest.approx(loss.forward(affine.forward(hs), ts), rel=1e-13)
    assert np.allclose(one.backward(0.7), affine.backward(loss.backward(0.7)), rtol=0, atol=1e-15)
    for ours, theirs in zip(one.grads, affine.grads, strict=True):
        assert np.allclose(ours, theirs, rtol=0, atol=1e-14)


@FAST
@pytest.mark.usefixtures("in_slices", "each_exp")
@pytest.mark.parametrize("form", ["array", "one-hot", "ignored", "3 ignored", "packed"])
def test_the_fast_layer_equals_the_plain_one(make, form):
    hs, ts, ignore_label = normal(3, 10, H), labels(3, 10), 3 if form == "3 ignored" else -1
    if form == "one-hot":
        ts = np.eye(V)[ts]
    elif form == "packed":
        hs, ts = pack([hs[0], hs[1, :4], hs[2, :7]]), pack([ts[0], ts[1, :4], ts[2, :7]])
    elif form == "ignored":
        ts[:2, 4] = -1
    fast, plain = (
        make(normal(H, V), normal(V), ignore_label),
        TimeAffineSoftmaxWithLoss(normal(H, V), normal(V), ignore_label),
    )
    for dout in (1.0, 0.7):
        assert fast.forward(hs, ts) == pytest.approx(plain.forward(hs, ts), rel=1e-13)
        ours, theirs = fast.backward(dout), plain.backward(dout)
        for a, b in zip(*(map(unpack, (ours, theirs)) if form == "packed" else (ours, theirs)), strict=True):
            assert np.allclose(a, b, rtol=0, atol=1e-15)
        for a, b in zip(fast.grads, plain.grads, strict=True):
            assert np.allclose(a, b, rtol=0, atol=1e-14)
    fast.training = plain.training = False
    assert fast.forward(hs, ts) == pytest.approx(plain.forward(hs, ts), rel=1e-13)
    for layer in (fast, plain):
        with pytest.raises(ValueError, match="without a forward"):
            layer.backward()


@pytest.mark.parametrize("make", [TimeAffineSoftmaxWithLoss, FastTimeAffineSoftmaxWithLoss, side_by_side])
@pytest.mark.usefixtures("in_slices")
def test_gradients(make):
    hs, ts = normal(3, 4, H), labels(3, 4)
    ts[1, 2] = -1
    layer = make(normal(H, V), normal(V))
    assert_layer_gradients(layer, lambda: layer.forward(hs, ts), {"hs": hs})


@EACH_LAYER
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [40, 60, 100, 1e3, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.usefixtures("each_exp")
def test_huge_logits_neither_overflow_nor_vanish(layer_class, size, dtype):
    # Rows whose logits are all large, all small, and mixed; the bias makes them, or the product does.
    hs, ts = np.array([[[1], [-1], [0]]], dtype), np.array([[0, 1, 0]])
    cases = ([size, size], [0, 0]), ([0, 0], [size, size]), ([0, 0], [-size, -size]), ([size, -size], [0, 0])
    for W, b in ((np.array([W], dtype), np.array(b, dtype)) for W, b in cases):
        layer = layer_class(W, b)
        affine, loss = TimeAffine(W, b), TimeSoftmaxWithLoss()
        assert layer.forward(hs, ts) == pytest.approx(loss.forward(affine.forward(hs), ts), rel=1e-5)
        assert np.allclose(layer.backward(), affine.backward(loss.backward()), rtol=1e-5, atol=1e-6)


@EACH_LAYER
@pytest.mark.usefixtures("in_slices")
def test_a_second_backward_gives_the_same_gradients(layer_class):
    layer = layer_class(normal(H, V), normal(V))
    layer.forward(normal(3, 4, H), labels(3, 4))
    first = [layer.backward(0.5).copy(), *(g.copy() for g in layer.grads)]
    for a, b in zip(first, [layer.backward(0.5), *layer.grads]):
        assert np.array_equal(a, b)
    dhs = layer.backward()
    if layer_class is FastTimeAffineSoftmaxWithLoss:
        assert not dhs.flags.writeable  # it is what the next backward returns
    assert np.array_equal(dhs, layer.backward())


@EACH_LAYER
def test_with_nothing_labelled_loss_and_gradients_are_0(layer_class):
    layer = layer_class(normal(H, V), normal(V))
    assert layer.forward(normal(2, 3, H), np.full((2, 3), -1)) == 0
    assert not layer.backward().any()
    assert not any(g.any() for g in layer.grads)


@EACH_LAYER
def test_float32_stays_float32(layer_class):
    layer = layer_class(*(x.astype(np.float32) for x in (normal(H, V), normal(V))))
    loss = layer.forward(normal(2, 3, H, dtype=np.float32), labels(2, 3))
    assert {x.dtype for x in (loss, layer.backward(2.0), *layer.grads)} == {np.dtype(np.float32)}


def test_the_workspace_is_made_once_and_holds_no_more_logits_than_allowed(monkeypatch):
    monkeypatch.setattr(output_layer, "MAX_LOGITS", 7 * V)
    layer = FastTimeAffineSoftmaxWithLoss(normal(H, V), normal(V))
    layer.forward(normal(1, 2, H), labels(1, 2))
    workspace = layer.logits_workspace
    layer.forward(normal(3, 10, H), labels(3, 10))
    assert layer.logits_workspace is workspace
    assert workspace.shape == (7, V)
    assert layer.forward(normal(1, 2, H, dtype=np.float32), labels(1, 2)).dtype == np.float32
    assert layer.logits_workspace.dtype == np.float32


def test_a_model_computes_its_logits_from_w_and_b_as_one_matrix(monkeypatch):
    seen = []
    monkeypatch.setattr(output_layer, "blocked_matmul", lambda A, B, out: seen.append(B) or np.matmul(A, B, out=out))
    model = SimpleRnnlm(V, H, H)
    model.forward(labels(2, 3), labels(2, 3))
    assert seen[0] is model.loss_layer.Wb.data
    W, b = model.loss_layer.W, model.loss_layer.b
    assert np.array_equal(seen[0], np.vstack([W.data, b.data]))
    b.move(b.data + 1, b.grad.copy())  # no longer behind W
    before = model.loss_layer.forward(normal(2, 3, H), labels(2, 3))
    assert model.loss_layer.Wb is None
    plain = TimeAffineSoftmaxWithLoss(W.data.copy(), b.data.copy())
    assert before == pytest.approx(plain.forward(normal(2, 3, H), labels(2, 3)), rel=1e-6)


@pytest.mark.parametrize(
    ("platform", "target", "expected"),
    [
        ("linux", "X86_V4", "exp2"),
        ("linux", "AVX512_SKX", "exp2"),
        ("linux", "baseline(X86_V2)", "exp"),
        ("win32", "X86_V4", "exp"),
        ("linux", None, "exp"),
    ],
)
def test_powers_of_2_are_chosen_where_they_are_fast(monkeypatch, platform, target, expected):
    introspect = pytest.importorskip("numpy.lib.introspect", reason="it came with NumPy 2.1")
    monkeypatch.setattr(sys, "platform", platform)
    found = {} if target is None else {"exp2": {"ff": {"current": target}}}
    monkeypatch.setattr(introspect, "opt_func_info", lambda *_: found)
    name, ln_base = fastest_exp()
    assert name == expected
    assert getattr(np, name)(3 / ln_base) == pytest.approx(np.exp(3))


def test_an_old_numpy_computes_powers_of_e(monkeypatch):
    monkeypatch.delattr(np.lib, "introspect", raising=False)
    monkeypatch.setitem(sys.modules, "numpy.lib.introspect", None)
    assert fastest_exp() == ("exp", 1.0)
