"""One-step layers: the equations by hand, and every gradient against central differences."""

import math

import numpy as np
import pytest
from helpers import GRADIENT_ERROR, assert_layer_gradients, normal

from common.gradient_check import check_gradients
from common.layers import (
    GRU,
    LSTM,
    RNN,
    Affine,
    Dropout,
    Embedding,
    Gate,
    MeanSquaredError,
    OneGateGRU,
    SoftmaxWithLoss,
)


def test_affine_by_hand():
    layer = Affine(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 20.0]))
    assert np.array_equal(layer.forward(np.array([[1.0, 1.0]])), [[14, 26]])


def test_affine_gradients():
    x = normal(4, 3)
    layer = Affine(normal(3, 5), normal(5))
    assert_layer_gradients(layer, lambda: layer.forward(x), {"x": x})


def test_embedding_gradients_with_repeated_words():
    words = np.array([2, 0, 2, 2, 4])
    layer = Embedding(normal(5, 3))
    assert_layer_gradients(layer, lambda: layer.forward(words), {})
    assert np.array_equal(layer.W.grad[[1, 3]], np.zeros((2, 3)))


def test_rnn_by_hand():
    layer = RNN(np.array([[2.0]]), np.array([[3.0]]), np.array([0.5]))
    h = layer.forward(np.array([[0.1]]), np.array([[0.2]]))
    assert h[0, 0] == pytest.approx(np.tanh(0.1 * 2 + 0.2 * 3 + 0.5), abs=1e-15)


def test_rnn_gradients():
    x, h_prev = normal(4, 3), normal(4, 5)
    layer = RNN(normal(3, 5), normal(5, 5), normal(5))
    assert_layer_gradients(layer, lambda: layer.forward(x, h_prev), {"x": x, "h_prev": h_prev})


def sigmoid(a):
    return 1 / (1 + math.exp(-a))


def one(*numbers):
    """A matrix of one row, for cells with D = H = 1: a column a gate."""
    return np.array([numbers], dtype=float)


def test_gate_by_hand():
    y = Gate(one(2.0), np.array([0.5])).forward(one(0.3))
    assert y[0, 0] == pytest.approx(sigmoid(0.3 * 2 + 0.5) * 0.3, abs=1e-15)


def test_one_gate_gru_by_hand():
    h = OneGateGRU(one(2, -1), one(0.7, 1.5), np.array([0.1, -0.2])).forward(one(0.3), one(0.4))
    z, h_new = sigmoid(0.3 * 2 + 0.4 * 0.7 + 0.1), math.tanh(0.3 * -1 + 0.4 * 1.5 - 0.2)
    assert h[0, 0] == pytest.approx((1 - z) * h_new + z * 0.4, abs=1e-15)


@pytest.mark.parametrize("reset_after", [False, True])
def test_gru_by_hand(reset_after):
    # Weights in the order z, r, h̃.
    b = [0.1, -0.2, 0.3, 0.6][: 4 if reset_after else 3]
    h = GRU(one(2, -1, 0.8), one(0.7, 1.5, -0.9), np.array(b), reset_after).forward(one(0.3), one(0.4))
    z, r = sigmoid(0.3 * 2 + 0.4 * 0.7 + 0.1), sigmoid(0.3 * -1 + 0.4 * 1.5 - 0.2)
    inner = r * (0.4 * -0.9 + 0.6) if reset_after else r * 0.4 * -0.9
    h_new = math.tanh(0.3 * 0.8 + 0.3 + inner)
    assert h[0, 0] == pytest.approx((1 - z) * h_new + z * 0.4, abs=1e-15)


@pytest.mark.parametrize("p", [None, [0.5, -0.6, 0.7]])
def test_lstm_by_hand(p):
    # Weights in the order f, g, i, o; peepholes in the order f, i, o.
    layer = LSTM(one(0.8, 1.1, -1, 2), one(-0.9, 0.2, 1.5, 0.7), np.array([0.3, -0.4, -0.2, 0.1]), p and np.array(p))
    h, c = layer.forward(one(0.3), one(0.4), one(-0.5))
    p_f, p_i, p_o = p or [0, 0, 0]
    i = sigmoid(0.3 * -1 + 0.4 * 1.5 - 0.2 + p_i * -0.5)
    f = sigmoid(0.3 * 0.8 + 0.4 * -0.9 + 0.3 + p_f * -0.5)
    new_c = f * -0.5 + i * math.tanh(0.3 * 1.1 + 0.4 * 0.2 - 0.4)
    o = sigmoid(0.3 * 2 + 0.4 * 0.7 + 0.1 + p_o * new_c)  # it sees the new memory, i and f the old
    assert c[0, 0] == pytest.approx(new_c, abs=1e-15)
    assert h[0, 0] == pytest.approx(o * math.tanh(new_c), abs=1e-15)


def product(x, W):
    """x W of lists, a number at a time."""
    return [sum(a * row[k] for a, row in zip(x, W)) for k in range(len(W[0]))]


@pytest.mark.parametrize("reset_after", [False, True])
def test_gru_resets_each_element_before_or_after_the_product(reset_after):
    # With H = 1 both are the same but for the bias, so here H = 2; columns are z z r r h̃ h̃.
    Wx, b = [[0.3, -0.7, 1.1, -1.4, 0.6, 0.2]], [0.1, 0.4, -0.3, 0.8, -0.5, 0.9, 0.7, -0.6][: 8 if reset_after else 6]
    Wh = [[0.5, -0.2, 0.9, 1.3, -0.8, 1.6], [-1.2, 0.4, 0.7, -0.1, 1.5, -0.9]]
    x, h_prev = [0.6], [0.4, -0.5]
    h = GRU(np.array(Wx), np.array(Wh), np.array(b), reset_after).forward(np.array([x]), np.array([h_prev]))
    a_x, a_h = product(x, Wx), product(h_prev, Wh)
    r = [sigmoid(a_x[2 + k] + a_h[2 + k] + b[2 + k]) for k in range(2)]
    if reset_after:
        inner = [r[k] * (a_h[4 + k] + b[6 + k]) for k in range(2)]
    else:
        inner = product([r[k] * h_prev[k] for k in range(2)], Wh)[4:]
    for k in range(2):
        z, h_new = sigmoid(a_x[k] + a_h[k] + b[k]), math.tanh(a_x[4 + k] + b[4 + k] + inner[k])
        assert h[0, k] == pytest.approx((1 - z) * h_new + z * h_prev[k], abs=1e-15)


@pytest.mark.parametrize("cell", [OneGateGRU, GRU])
def test_an_open_z_keeps_the_old_state(cell):
    gates = 2 if cell is OneGateGRU else 3
    b = np.array([100.0] * 2 + [0.5] * 2 * (gates - 1))
    h_prev = normal(1, 2)
    assert np.array_equal(cell(np.zeros((1, 2 * gates)), np.zeros((2, 2 * gates)), b).forward(one(0.3), h_prev), h_prev)


@pytest.mark.parametrize(("reset_after", "parts"), [(False, 4), (True, 3)])
def test_a_gru_bias_of_the_other_form_is_refused(reset_after, parts):
    message = rf"GRU needs .* b \({5 * (7 - parts)},\), got .* b \({5 * parts},\)"
    with pytest.raises(ValueError, match=message):
        GRU(normal(3, 15), normal(5, 15), normal(5 * parts), reset_after)


# Of each gated cell: the layer, and what forward takes; D = 3, H = 5, N = 4.
GATED = {
    "gate": (lambda k: Gate(k(3, 3), k(3)), [(4, 3)]),
    "one gate": (lambda k: OneGateGRU(k(3, 10), k(5, 10), k(10)), [(4, 3), (4, 5)]),
    "GRU": (lambda k: GRU(k(3, 15), k(5, 15), k(15)), [(4, 3), (4, 5)]),
    "GRU, reset after": (lambda k: GRU(k(3, 15), k(5, 15), k(20), reset_after=True), [(4, 3), (4, 5)]),
    "LSTM": (lambda k: LSTM(k(3, 20), k(5, 20), k(20)), [(4, 3), (4, 5), (4, 5)]),
    "LSTM, peepholes": (lambda k: LSTM(k(3, 20), k(5, 20), k(20), k(15)), [(4, 3), (4, 5), (4, 5)]),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cell", GATED)
def test_gated_cells_replace_gradients_leave_what_they_are_given_and_keep_its_dtype(cell, dtype):
    make, shapes = GATED[cell]
    layer = make(lambda *shape: normal(*shape, dtype=dtype))
    inputs = [normal(*shape, seed=k, dtype=dtype) for k, shape in enumerate(shapes)]
    outputs = layer.forward(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    upstream = [normal(*y.shape, seed=9 + k, dtype=dtype) for k, y in enumerate(outputs)]
    given = [*inputs, *upstream, *outputs]
    copies = [a.copy() for a in given]
    dinputs = layer.backward(*upstream)
    dinputs = dinputs if isinstance(dinputs, tuple) else (dinputs,)
    first = [g.copy() for g in layer.grads]
    layer.backward(*upstream)
    for a, copy in zip(given, copies):
        assert np.array_equal(a, copy)
    for a, g in zip(first, layer.grads):
        assert np.array_equal(g, a)
    assert {a.dtype for a in (*outputs, *dinputs, *layer.grads)} == {np.dtype(dtype)}


def test_gate_gradients():
    x = normal(4, 3)
    layer = Gate(normal(3, 3), normal(3))
    assert_layer_gradients(layer, lambda: layer.forward(x), {"x": x})


@pytest.mark.parametrize(
    "layer",
    [
        OneGateGRU(normal(3, 10), normal(5, 10), normal(10)),
        GRU(normal(3, 15), normal(5, 15), normal(15)),
        GRU(normal(3, 15), normal(5, 15), normal(20), reset_after=True),
    ],
    ids=["one gate", "GRU", "GRU, reset after"],
)
def test_gru_gradients(layer):
    x, h_prev = normal(4, 3), normal(4, 5)
    assert_layer_gradients(layer, lambda: layer.forward(x, h_prev), {"x": x, "h_prev": h_prev})


@pytest.mark.parametrize("p", [None, normal(15)], ids=["plain", "peepholes"])
def test_lstm_gradients(p):
    x, h_prev, c_prev, dh, dc = normal(4, 3), *(normal(4, 5, seed=k) for k in range(4))
    layer = LSTM(normal(3, 20), normal(5, 20), normal(20), p)

    def loss():
        h, c = layer.forward(x, h_prev, c_prev)
        return float((h * dh).sum() + (c * dc).sum())

    loss()
    inputs = {"x": x, "h_prev": h_prev, "c_prev": c_prev}
    grads = dict(zip(inputs, layer.backward(dh, dc))) | {q.name: q.grad for q in layer.parameters}
    errors = check_gradients(loss, inputs | {q.name: q.data for q in layer.parameters}, grads)
    assert max(errors.values()) <= GRADIENT_ERROR


@pytest.mark.parametrize("labels", [[0, 3, 1], [-1, 3, 1], [2, 2, -1]])
def test_softmax_with_loss_gradients(labels):
    x, t = normal(3, 4), np.array(labels)
    layer = SoftmaxWithLoss()
    assert_layer_gradients(layer, lambda: layer.forward(x, t), {"x": x})


def test_loss_of_equal_logits_is_log_of_their_number():
    assert SoftmaxWithLoss().forward(np.zeros((2, 8)), np.array([0, 5])) == pytest.approx(np.log(8))


def test_ignored_rows_change_nothing():
    x, t = normal(5, 4), np.array([1, 9, 0, 9, 3])
    loss = SoftmaxWithLoss(ignore_label=9)
    kept = SoftmaxWithLoss()
    assert loss.forward(x, t) == pytest.approx(kept.forward(x[[0, 2, 4]], t[[0, 2, 4]]), rel=1e-14)
    dx = loss.backward()
    assert np.allclose(dx[[0, 2, 4]], kept.backward(), rtol=1e-14)
    assert np.array_equal(dx[[1, 3]], np.zeros((2, 4)))


def test_loss_of_nothing_is_zero_with_zero_gradient():
    layer = SoftmaxWithLoss()
    assert layer.forward(normal(3, 4), np.full(3, -1)) == 0
    assert np.array_equal(layer.backward(), np.zeros((3, 4)))


@pytest.mark.filterwarnings("error")
def test_loss_of_huge_logits_is_finite():
    layer = SoftmaxWithLoss()
    assert layer.forward(np.array([[1e4, -1e4], [1e4, -1e4]], np.float32), np.array([0, 1])) == 1e4
    assert np.array_equal(layer.backward(), [[0, 0], [0.5, -0.5]])


def test_identity_with_loss_by_hand():
    layer = MeanSquaredError()
    assert layer.forward(np.array([[1.0, 2.0], [0.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])) == (4 + 9) / 4
    assert layer.backward(2.0).tolist() == [[0, 2], [0, 3]]


def test_identity_with_loss_gradients():
    x, t = normal(3, 2), normal(3, 2, seed=1)
    layer = MeanSquaredError()
    assert_layer_gradients(layer, lambda: layer.forward(x, t), {"x": x})


def test_squared_errors_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"got \(3, 1\) and \(3,\)"):
        MeanSquaredError().forward(np.zeros((3, 1)), np.zeros(3))


def test_dropout_gradients():
    x = normal(4, 3)
    layer = Dropout(0.5, np.random.default_rng())

    def forward():
        layer.rng = np.random.default_rng(5)  # the same mask each time
        return layer.forward(x)

    assert_layer_gradients(layer, forward, {"x": x})


def test_dropout_drops_a_share_p_and_keeps_the_mean():
    layer = Dropout(0.3, np.random.default_rng(0))
    y = layer.forward(np.ones((300, 300)))
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert y.mean() == pytest.approx(1, abs=0.01)


def test_dropout_does_nothing_in_evaluation_and_its_backward_works_there():
    layer = Dropout(0.5, np.random.default_rng(0))
    x = normal(4, 3)
    layer.forward(x)  # leaves a mask, which must not be used below
    layer.training = False
    assert layer.forward(x) is x
    assert layer.backward(x) is x


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan")])
def test_dropout_refuses_what_is_not_a_probability_below_one(p):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        Dropout(p, np.random.default_rng(0))


def test_params_and_grads_are_the_arrays_themselves():
    W, b = normal(3, 5), normal(5)
    layer = Affine(W, b)
    assert layer.params[0] is W
    assert layer.params[1] is b
    assert layer.grads[0] is layer.W.grad
