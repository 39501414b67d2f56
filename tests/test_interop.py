"""Weights that come from PyTorch and ONNX compute here what they computed there."""

import numpy as np
import pytest
from helpers import normal

from common.interop import (
    affine_from_torch,
    affine_to_torch,
    gru_from_onnx,
    gru_from_torch,
    gru_to_torch,
    lstm_from_onnx,
    lstm_from_torch,
    lstm_to_torch,
    rnn_from_torch,
    rnn_to_torch,
)
from common.time_layers import TimeAffine, TimeEmbedding, TimeGRU, TimeLSTM, TimeRNN

N, T, V, D, H = 3, 6, 9, 4, 5

CELLS = {
    "RNN": (1, rnn_from_torch, rnn_to_torch, TimeRNN),
    "LSTM": (4, lstm_from_torch, lstm_to_torch, TimeLSTM),
    "GRU": (3, gru_from_torch, gru_to_torch, lambda *weights: TimeGRU(*weights, reset_after=True)),
}
EACH_CELL = pytest.mark.parametrize("cell", CELLS)


def torch_arrays(gates, D=D):
    """weight_ih, weight_hh, bias_ih, bias_hh."""
    return normal(gates * H, D), normal(gates * H, H), normal(gates * H), normal(gates * H, seed=1)


def set_weights(module, arrays, names=("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")):
    import torch

    with torch.no_grad():
        for name, array in zip(names, arrays, strict=True):
            getattr(module, name).copy_(torch.from_numpy(array))


@EACH_CELL
def test_the_same_states_as_in_torch(cell):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    gates, from_torch, _, layer = CELLS[cell]
    theirs = getattr(torch.nn, cell)(D, H, batch_first=True).double()
    set_weights(theirs, torch_arrays(gates))
    xs = normal(N, T, D)
    expected, _ = theirs(torch.from_numpy(xs))
    found = layer(*from_torch(*torch_arrays(gates))).forward(xs)
    assert np.allclose(found, expected.detach().numpy(), rtol=0, atol=1e-14)


@EACH_CELL
def test_our_weights_compute_the_same_in_torch(cell):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    gates, _, to_torch, layer = CELLS[cell]
    weights = normal(D, gates * H), normal(H, gates * H), normal((4 if cell == "GRU" else gates) * H)
    theirs = getattr(torch.nn, cell)(D, H, batch_first=True).double()
    set_weights(theirs, to_torch(*weights))
    xs = normal(N, T, D)
    expected, _ = theirs(torch.from_numpy(xs))
    assert np.allclose(layer(*weights).forward(xs), expected.detach().numpy(), rtol=0, atol=1e-14)


def test_embedding_and_linear():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    embedding, linear = torch.nn.Embedding(V, D).double(), torch.nn.Linear(D, H).double()
    words = np.random.default_rng(0).integers(0, V, (N, T))
    expected = linear(embedding(torch.from_numpy(words))).detach().numpy()
    W, b = affine_from_torch(linear.weight.detach().numpy(), linear.bias.detach().numpy())
    found = TimeAffine(W, b).forward(TimeEmbedding(embedding.weight.detach().numpy()).forward(words))
    assert np.allclose(found, expected, rtol=0, atol=1e-14)


@EACH_CELL
def test_to_torch_and_back(cell):
    gates, from_torch, to_torch, _ = CELLS[cell]
    weights = normal(D, gates * H), normal(H, gates * H), normal((4 if cell == "GRU" else gates) * H)
    for there_and_back, array in zip(from_torch(*to_torch(*weights)), weights, strict=True):
        assert np.array_equal(there_and_back, array)
        assert there_and_back.flags.c_contiguous


def test_affine_to_torch_and_back():
    for there_and_back, array in zip(
        affine_from_torch(*affine_to_torch(normal(D, H), normal(H))), (normal(D, H), normal(H))
    ):
        assert np.array_equal(there_and_back, array)


@EACH_CELL
def test_converted_arrays_are_copies(cell):
    gates, from_torch, to_torch, _ = CELLS[cell]
    arrays = torch_arrays(gates)
    for converted in (from_torch(*arrays), to_torch(*from_torch(*arrays))):
        for x in converted:
            assert not any(np.shares_memory(x, array) for array in arrays)


def test_the_two_forms_of_gru_cannot_be_converted():
    with pytest.raises(ValueError, match=r"reset_after=False, .* cannot be converted"):
        gru_from_torch(*torch_arrays(3), reset_after=False)
    with pytest.raises(ValueError, match=r"reset_after=False, .* cannot be converted"):
        gru_to_torch(normal(D, 3 * H), normal(H, 3 * H), normal(3 * H))


@EACH_CELL
@pytest.mark.parametrize("wrong", range(4))
def test_wrong_shapes_are_refused_with_those_expected(cell, wrong):
    gates, from_torch, _, _ = CELLS[cell]
    arrays = list(torch_arrays(gates))
    arrays[wrong] = np.concatenate([arrays[wrong], arrays[wrong][:1]])
    with pytest.raises(ValueError, match=rf"expected weights of nn.{cell} of shapes \(\({gates * H}, {D}\), "):
        from_torch(*arrays)


# ONNX


def onnx_states(operator, inputs, **attributes):
    """The states of all steps, (N, T, H), that ONNX's own evaluator computes."""
    onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
    from onnx.reference import ReferenceEvaluator

    def info(name):
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None)

    node = onnx.helper.make_node(operator, list(inputs), ["Y"], hidden_size=H, **attributes)
    names = [name for name in inputs if name]
    graph = onnx.helper.make_graph([node], "cell", [info(name) for name in names], [info("Y")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)])
    (Y,) = ReferenceEvaluator(model).run(None, {name: inputs[name] for name in names})
    return Y[:, 0].swapaxes(0, 1)  # (T, directions, N, H)


def onnx_arrays(gates):
    return normal(1, gates * H, D), normal(1, gates * H, H), normal(1, 2 * gates * H)


@pytest.mark.parametrize("peepholes", [False, True])
def test_the_same_states_as_onnx_lstm(peepholes):
    W, R, B = onnx_arrays(4)
    P = normal(1, 3 * H) if peepholes else None
    xs = normal(N, T, D)
    inputs = {"X": xs.swapaxes(0, 1), "W": W, "R": R, "B": B}
    if peepholes:
        inputs |= {"L": np.full(N, T, np.int32), "h0": np.zeros((1, N, H)), "c0": np.zeros((1, N, H)), "P": P}
    expected = onnx_states("LSTM", inputs)
    Wx, Wh, b, *p = lstm_from_onnx(W, R, B, P)
    assert np.allclose(TimeLSTM(Wx, Wh, b, p=p[0] if p else None).forward(xs), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("linear_before_reset", [0, 1])
def test_the_same_states_as_onnx_gru(linear_before_reset):
    W, R, B = onnx_arrays(3)
    xs = normal(N, T, D)
    inputs = {"X": xs.swapaxes(0, 1), "W": W, "R": R, "B": B}
    expected = onnx_states("GRU", inputs, linear_before_reset=linear_before_reset)
    weights = gru_from_onnx(W, R, B, linear_before_reset)
    found = TimeGRU(*weights, reset_after=bool(linear_before_reset)).forward(xs)
    assert np.allclose(found, expected, rtol=0, atol=1e-14)


def test_onnx_weights_of_two_directions_are_refused():
    W, R, B = (np.concatenate([x, x]) for x in onnx_arrays(4))
    with pytest.raises(ValueError, match="of one direction, got 2"):
        lstm_from_onnx(W, R, B)
    with pytest.raises(ValueError, match="expected weights of ONNX GRU of shapes"):
        gru_from_onnx(*onnx_arrays(4))
