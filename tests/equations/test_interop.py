"""Weights of others compute here what they computed there, and ours there what they compute here."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from helpers import normal

from common import interop
from common.layers import GRU, LSTM, RNN
from common.time_layers import TimeAffine, TimeEmbedding, TimeGRU, TimeLSTM, TimePeepholeLSTM, TimeRNN

N, T, V, D, H = 3, 6, 9, 4, 5


# One step of each, as the others document it: (x, h, c, their weights) -> h, c


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def textbook_rnn(x, h, c, Wx, Wh, b):
    return np.tanh(h @ Wh + x @ Wx + b), c


def textbook_lstm(x, h, c, Wx, Wh, b):
    f, g, i, o = np.hsplit(x @ Wx + h @ Wh + b, 4)
    c = sigmoid(f) * c + np.tanh(g) * sigmoid(i)
    return sigmoid(o) * np.tanh(c), c


def textbook_gru(x, h, c, Wx, Wh, b):
    (Wxz, Wxr, Wxh), (Whz, Whr, Whh), (bz, br, bh) = np.hsplit(Wx, 3), np.hsplit(Wh, 3), np.split(b, 3)
    z, r = sigmoid(x @ Wxz + h @ Whz + bz), sigmoid(x @ Wxr + h @ Whr + br)
    return (1 - z) * h + z * np.tanh(x @ Wxh + (r * h) @ Whh + bh), c


def keras_lstm(x, h, c, kernel, recurrent_kernel, bias):
    i, f, g, o = np.hsplit(x @ kernel + h @ recurrent_kernel + bias, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def keras_gru(x, h, c, kernel, recurrent_kernel, bias):
    bx, bh = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
    x_z, x_r, x_h = np.hsplit(x @ kernel + bx, 3)
    h_z, h_r, h_h = np.hsplit(h @ recurrent_kernel + bh, 3)
    z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
    inner = r * h_h if bias.ndim == 2 else (r * h) @ recurrent_kernel[:, 2 * H :]
    return z * h + (1 - z) * np.tanh(x_h + inner), c


def chainer_lstm(x, h, c, upward_W, upward_b, lateral_W):
    a = x @ upward_W.T + upward_b + h @ lateral_W.T
    g, i, f, o = (a.reshape(N, H, 4)[:, :, k] for k in range(4))
    c = np.tanh(g) * sigmoid(i) + sigmoid(f) * c
    return sigmoid(o) * np.tanh(c), c


def chainer_gru(x, h, c, W_r, W_z, W, U_r, U_z, U, W_r_b, W_z_b, W_b, U_r_b, U_z_b, U_b):
    r = sigmoid(x @ W_r.T + W_r_b + h @ U_r.T + U_r_b)
    z = sigmoid(x @ W_z.T + W_z_b + h @ U_z.T + U_z_b)
    return (1 - z) * h + z * np.tanh(x @ W.T + W_b + (r * h) @ U.T + U_b), c


def nstep_rnn(x, h, c, w0, w1, b0, b1):
    return np.tanh(x @ w0.T + h @ w1.T + b0 + b1), c


def nstep_lstm(x, h, c, *weights):
    w, b = weights[:8], weights[8:]
    i, f, g, o = (x @ w[k].T + h @ w[k + 4].T + b[k] + b[k + 4] for k in range(4))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def nstep_gru(x, h, c, *weights):
    w, b = weights[:6], weights[6:]
    r, z = (sigmoid(x @ w[k].T + h @ w[k + 3].T + b[k] + b[k + 3]) for k in range(2))
    return (1 - z) * np.tanh(x @ w[2].T + b[2] + r * (h @ w[5].T + b[5])) + z * h, c


def gru_after(*weights):
    return GRU(*weights, reset_after=True)


class Format(NamedTuple):
    convert_from: Callable
    convert_to: Callable
    theirs: list[tuple]  # shapes
    layer: Callable
    ours: list[tuple]
    step: Callable | None = None  # None: compared with the real one below


def columns(n, bias=None):
    """Shapes of our weights for n gates."""
    return [(D, n * H), (H, n * H), (bias or n * H,)]


def rows(n):
    return [(n * H, D), (n * H, H), (n * H,), (n * H,)]


def onnx_rows(n):
    return [(1, n * H, D), (1, n * H, H), (1, 2 * n * H)]


def form(cell, other, theirs, layer, ours, step=None):
    """A format whose converters take and return arrays one by one."""
    convert_from, convert_to = (getattr(interop, f"{cell}_{way}_{other}") for way in ("from", "to"))
    return Format(convert_from, convert_to, theirs, layer, ours, step)


def listed(cell, n, layer, ours, step):
    """The same for converters that take two lists of the same length."""
    found = form(cell, "chainer", [(H, D)] * n + [(H, H)] * n + [(H,)] * (2 * n), layer, ours, step)
    return found._replace(
        convert_from=lambda *arrays: found.convert_from(arrays[: 2 * n], arrays[2 * n :]),
        convert_to=lambda *weights: [x for arrays in found.convert_to(*weights) for x in arrays],
    )


def onnx_gru(linear_before_reset, layer, ours):
    return Format(
        lambda *arrays: interop.gru_from_onnx(*arrays, linear_before_reset=linear_before_reset),
        lambda *weights: interop.gru_to_onnx(*weights)[:3],
        onnx_rows(3),
        layer,
        ours,
    )


RNN_, LSTM_, BEFORE, AFTER = (RNN, columns(1)), (LSTM, columns(4)), (GRU, columns(3)), (gru_after, columns(3, 4 * H))
CHAINER_LSTM = [(4 * H, D), (4 * H,), (4 * H, H)]
FORMATS = {
    "textbook RNN": form("rnn", "textbook", columns(1), *RNN_, textbook_rnn),
    "textbook LSTM": form("lstm", "textbook", columns(4), *LSTM_, textbook_lstm),
    "textbook GRU": form("gru", "textbook", columns(3), *BEFORE, textbook_gru),
    "nn.RNN": form("rnn", "torch", rows(1), *RNN_),
    "nn.LSTM": form("lstm", "torch", rows(4), *LSTM_),
    "nn.GRU": form("gru", "torch", rows(3), *AFTER),
    "Keras SimpleRNN": form("rnn", "keras", columns(1), *RNN_, textbook_rnn),
    "Keras LSTM": form("lstm", "keras", columns(4), *LSTM_, keras_lstm),
    "Keras GRU": form("gru", "keras", [*columns(3)[:2], (2, 3 * H)], *AFTER, keras_gru),
    "Keras GRU, reset before": form("gru", "keras", columns(3), *BEFORE, keras_gru),
    "Chainer LSTM": form("lstm", "chainer", CHAINER_LSTM, *LSTM_, chainer_lstm),
    "Chainer GRU": listed("gru", 3, *BEFORE, chainer_gru),
    "Chainer NStepRNN": listed("nstep_rnn", 1, *RNN_, nstep_rnn),
    "Chainer NStepLSTM": listed("nstep_lstm", 4, *LSTM_, nstep_lstm),
    "Chainer NStepGRU": listed("nstep_gru", 3, *AFTER, nstep_gru),
    "ONNX RNN": form("rnn", "onnx", onnx_rows(1), *RNN_),
    "ONNX LSTM": form("lstm", "onnx", onnx_rows(4), *LSTM_),
    "ONNX LSTM, peepholes": form("lstm", "onnx", [*onnx_rows(4), (1, 3 * H)], LSTM, [*columns(4), (3 * H,)]),
    "ONNX GRU": onnx_gru(1, *AFTER),
    "ONNX GRU, reset before": onnx_gru(0, *BEFORE),
    "nn.Linear": form("affine", "torch", [(H, D), (H,)], None, [(D, H), (H,)]),
    "nn.Linear, one input": form("affine", "torch", [(H, 1), (H,)], None, [(1, H), (H,)]),
}
EACH = pytest.mark.parametrize("name", FORMATS)
EACH_WITH_EQUATIONS = pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].step])


def arrays(shapes, dtype=np.float64):
    return [normal(*shape, seed=k, dtype=dtype) for k, shape in enumerate(shapes)]


def states(step):
    """All h and c of some steps, from a state that is not zero."""
    h, c, found = normal(N, H, seed=1), normal(N, H, seed=2), []
    for t in range(T):
        h, c = step(normal(N, D, seed=3 + t), h, c)
        found += [h, c]
    return np.array(found)


def our_states(layer):
    if isinstance(layer, LSTM):
        return states(layer.forward)
    return states(lambda x, h, c: (layer.forward(x, h), c))


@EACH_WITH_EQUATIONS
def test_their_weights_compute_the_same_here_and_ours_there(name):
    form = FORMATS[name]
    theirs, ours = arrays(form.theirs), arrays(form.ours)
    for weights, converted in (theirs, form.convert_from(*theirs)), (form.convert_to(*ours), ours):
        expected = states(lambda x, h, c, weights=weights: form.step(x, h, c, *weights))
        assert np.allclose(our_states(form.layer(*converted)), expected, rtol=0, atol=1e-14)


@EACH
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_there_and_back(name, dtype):
    form = FORMATS[name]
    weights = arrays(form.ours, dtype)
    theirs = form.convert_to(*weights)
    assert [x.shape for x in theirs] == form.theirs
    back = form.convert_from(*theirs)
    assert [x.dtype for x in (*theirs, *back)] == [dtype] * (len(theirs) + len(back))
    for found, expected in zip(back, weights, strict=True):
        assert np.array_equal(found, expected)


@EACH
def test_results_are_contiguous_copies_and_the_inputs_stay(name):
    form = FORMATS[name]
    for convert, shapes in (form.convert_from, form.theirs), (form.convert_to, form.ours):
        for weights in arrays(shapes), [np.asfortranarray(x) for x in arrays(shapes)]:
            converted = convert(*weights)
            for k, x in enumerate(converted):
                assert x.flags.c_contiguous
                assert not any(np.shares_memory(x, other) for other in (*weights, *converted[:k]))
                x[...] = 0
            assert all(np.array_equal(x, y) for x, y in zip(weights, arrays(shapes)))


def one_longer(x):
    """Along an axis of H, or a multiple of it; any other D would be as good."""
    axis = max(k for k, size in enumerate(x.shape) if size % H == 0)
    return np.concatenate([x, x.take([0], axis)], axis)


@EACH
@pytest.mark.parametrize("change", [one_longer, lambda x: x[None], lambda x: np.array(1.0)])
def test_wrong_shapes_are_refused_with_both(name, change):
    form = FORMATS[name]
    for convert, shapes in (form.convert_from, form.theirs), (form.convert_to, form.ours):
        for k in range(len(shapes)):
            weights = arrays(shapes)
            weights[k] = change(weights[k])
            with pytest.raises(ValueError, match=r"of shapes \(\(.*, got \(") as refusal:
                convert(*weights)
            assert str(weights[k].shape) in str(refusal.value)


@EACH
@pytest.mark.parametrize("wrong", [np.int64, object, np.complex128, list])
def test_what_is_no_array_of_floats_is_refused(name, wrong):
    form = FORMATS[name]
    for convert, shapes in (form.convert_from, form.theirs), (form.convert_to, form.ours):
        for k in range(len(shapes)):
            weights = arrays(shapes)
            weights[k] = weights[k].tolist() if wrong is list else weights[k].astype(wrong)
            with pytest.raises(TypeError, match=f"NumPy arrays of floating point numbers, got .*{wrong.__name__}"):
                convert(*weights)


ONLY_AFTER = [
    lambda: interop.gru_from_torch(*arrays(rows(3)), reset_after=False),
    lambda: interop.gru_to_torch(*arrays(columns(3))),
    lambda: interop.nstep_gru_to_chainer(*arrays(columns(3))),
]
ONLY_BEFORE = [
    lambda: interop.gru_to_textbook(*arrays(columns(3, 4 * H))),
    lambda: interop.gru_to_chainer(*arrays(columns(3, 4 * H))),
]


def test_the_two_forms_of_gru_cannot_be_converted():
    for calls, form in (ONLY_AFTER, "after .* reset_after=False"), (ONLY_BEFORE, "before .* reset_after=True"):
        for call in calls:
            with pytest.raises(ValueError, match=f"{form} cannot be converted"):
                call()


@pytest.mark.parametrize("convert", [interop.gru_from_chainer, interop.nstep_gru_from_chainer])
def test_too_few_arrays_are_refused(convert):
    for n in 0, 5, 7:
        with pytest.raises(ValueError, match="of shapes"):
            convert([normal(H, D)] * n, [normal(H)] * n)


# PyTorch

CELLS = {"RNN": TimeRNN, "LSTM": TimeLSTM, "GRU": lambda *weights: TimeGRU(*weights, reset_after=True)}
TORCH_NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def torch_states(cell, weights, xs):
    """The states of all steps, (N, T, H), that PyTorch computes."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    module = getattr(torch.nn, cell)(D, H, batch_first=True).double()
    with torch.no_grad():
        for name, array in zip(TORCH_NAMES, weights, strict=True):
            getattr(module, name).copy_(torch.from_numpy(array))
        return module(torch.from_numpy(xs))[0].numpy()


@pytest.mark.parametrize("cell", CELLS)
def test_torch_and_ours_compute_the_same(cell):
    form, xs = FORMATS[f"nn.{cell}"], normal(N, T, D)
    theirs, ours = arrays(form.theirs), arrays(form.ours)
    for torch_weights, weights in (theirs, form.convert_from(*theirs)), (form.convert_to(*ours), ours):
        expected = torch_states(cell, torch_weights, xs)
        assert np.allclose(CELLS[cell](*weights).forward(xs), expected, rtol=0, atol=1e-14)


def test_embedding_and_linear():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    embedding, linear = torch.nn.Embedding(V, D).double(), torch.nn.Linear(D, H).double()
    words = np.random.default_rng(0).integers(0, V, (N, T))
    expected = linear(embedding(torch.from_numpy(words))).detach().numpy()
    W, b = interop.affine_from_torch(linear.weight.detach().numpy(), linear.bias.detach().numpy())
    found = TimeAffine(W, b).forward(TimeEmbedding(embedding.weight.detach().numpy()).forward(words))
    assert np.allclose(found, expected, rtol=0, atol=1e-14)


# ONNX


def onnx_states(operator, weights, xs, **attributes):
    """The states of all steps, (N, T, H), that ONNX's own evaluator computes."""
    onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
    from onnx.reference import ReferenceEvaluator

    inputs = dict(zip("XWRB", (xs.swapaxes(0, 1), *weights)))
    if len(weights) == 4:  # peepholes
        state = np.zeros((1, N, H))
        inputs |= {"L": np.full(N, T, np.int32), "h0": state, "c0": state, "P": weights[3]}

    def info(name):
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None)

    node = onnx.helper.make_node(operator, list(inputs), ["Y"], hidden_size=H, **attributes)
    graph = onnx.helper.make_graph([node], "cell", [info(name) for name in inputs], [info("Y")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)])
    (Y,) = ReferenceEvaluator(model).run(None, inputs)
    return Y[:, 0].swapaxes(0, 1)  # (T, directions, N, H)


ONNX_CELLS = {
    "ONNX RNN": (TimeRNN, {}),
    "ONNX LSTM": (TimeLSTM, {}),
    "ONNX LSTM, peepholes": (TimePeepholeLSTM, {}),
    "ONNX GRU": (CELLS["GRU"], {"linear_before_reset": 1}),
    "ONNX GRU, reset before": (TimeGRU, {"linear_before_reset": 0}),
}


@pytest.mark.parametrize("name", ONNX_CELLS)
def test_onnx_and_ours_compute_the_same(name):
    form, xs, (layer, attributes) = FORMATS[name], normal(N, T, D), ONNX_CELLS[name]
    theirs, ours = arrays(form.theirs), arrays(form.ours)
    operator = name.split()[1].rstrip(",")
    for onnx_weights, weights in (theirs, form.convert_from(*theirs)), (form.convert_to(*ours), ours):
        expected = onnx_states(operator, onnx_weights, xs, **attributes)
        assert np.allclose(layer(*weights).forward(xs), expected, rtol=0, atol=1e-14)


def test_the_form_of_a_gru_is_told_to_onnx():
    assert interop.gru_to_onnx(*arrays(columns(3)))[3] == 0
    assert interop.gru_to_onnx(*arrays(columns(3, 4 * H)))[3] == 1


def test_onnx_weights_of_two_directions_are_refused():
    W, R, B = (np.concatenate([x, x]) for x in arrays(onnx_rows(4)))
    with pytest.raises(ValueError, match="of one direction, got 2"):
        interop.lstm_from_onnx(W, R, B)
