"""One-step layers: the equations by hand, and every gradient against central differences."""

import math

import numpy as np
import pytest
from helpers import as_tuple, assert_layer_gradients, normal

from common.layers import (
    GRU,
    LSTM,
    RNN,
    Affine,
    Dropout,
    Embedding,
    Gate,
    MatMul,
    MeanSquaredError,
    OneGateGRU,
    PeepholeLSTM,
    Sigmoid,
    SigmoidWithLoss,
    Softmax,
    SoftmaxWithLoss,
)

# Numbers by hand


def σ(a):
    return 1 / (1 + math.exp(-a))


def one_gate_by_hand(x, h_prev):
    z, h_tilde = σ(x * 2 + h_prev * 0.7 + 0.1), math.tanh(x * -1 + h_prev * 1.5 - 0.2)
    return (1 - z) * h_tilde + z * h_prev


def lstm_by_hand(x, h_prev, c_prev, p_f=0.0, p_i=0.0, p_o=0.0):
    f = σ(x * 0.8 + h_prev * -0.9 + 0.3 + p_f * c_prev)
    i = σ(x * -1 + h_prev * 1.5 - 0.2 + p_i * c_prev)
    c = f * c_prev + i * math.tanh(x * 1.1 + h_prev * 0.2 - 0.4)
    o = σ(x * 2 + h_prev * 0.7 + 0.1 + p_o * c)  # it sees the next cell state, f and i the previous one
    return o * math.tanh(c), c


# With D = H = 1, each column is a gate: f, g, i, o of an LSTM, z, h̃ of OneGateGRU. Peepholes are f, i, o.
LSTM_WEIGHTS = [[0.8, 1.1, -1, 2]], [[-0.9, 0.2, 1.5, 0.7]], [0.3, -0.4, -0.2, 0.1]
BY_HAND = {
    "Affine": (Affine, [[[2.0]], [0.5]], [0.3], 0.3 * 2 + 0.5),
    "RNN": (RNN, [[[2.0]], [[3.0]], [0.5]], [0.1, 0.2], math.tanh(0.1 * 2 + 0.2 * 3 + 0.5)),
    "Gate": (Gate, [[[2.0]], [0.5]], [0.3], σ(0.3 * 2 + 0.5) * 0.3),
    "one gate": (OneGateGRU, [[[2, -1]], [[0.7, 1.5]], [0.1, -0.2]], [0.3, 0.4], one_gate_by_hand(0.3, 0.4)),
    "LSTM": (LSTM, LSTM_WEIGHTS, [0.3, 0.4, -0.5], lstm_by_hand(0.3, 0.4, -0.5)),
    "peepholes": (
        PeepholeLSTM,
        [*LSTM_WEIGHTS, [0.5, -0.6, 0.7]],
        [0.3, 0.4, -0.5],
        lstm_by_hand(0.3, 0.4, -0.5, 0.5, -0.6, 0.7),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_one_unit_by_hand(name):
    layer_class, weights, inputs, expected = BY_HAND[name]
    layer = layer_class(*(np.array(w, float) for w in weights))
    outputs = as_tuple(layer.forward(*(np.array([[x]]) for x in inputs)))
    for y, number in zip(outputs, as_tuple(expected), strict=True):
        assert y[0, 0] == pytest.approx(number, abs=1e-15)


def product(x, W):
    """x W of lists, a number at a time."""
    return [sum(a * row[k] for a, row in zip(x, W)) for k in range(len(W[0]))]


@pytest.mark.parametrize("reset_after", [False, True])
def test_gru_by_hand(reset_after):
    # With H = 1 both forms are the same but for the bias, so here H = 2; columns are z z r r h̃ h̃.
    Wx, b = [[0.3, -0.7, 1.1, -1.4, 0.6, 0.2]], [0.1, 0.4, -0.3, 0.8, -0.5, 0.9, 0.7, -0.6][: 8 if reset_after else 6]
    Wh = [[0.5, -0.2, 0.9, 1.3, -0.8, 1.6], [-1.2, 0.4, 0.7, -0.1, 1.5, -0.9]]
    x, h_prev = [0.6], [0.4, -0.5]
    h = GRU(np.array(Wx), np.array(Wh), np.array(b), reset_after).forward(np.array([x]), np.array([h_prev]))
    a_x, a_h = product(x, Wx), product(h_prev, Wh)
    r = [σ(a_x[2 + k] + a_h[2 + k] + b[2 + k]) for k in range(2)]
    if reset_after:
        s = [r[k] * (a_h[4 + k] + b[6 + k]) for k in range(2)]
    else:
        s = product([r[k] * h_prev[k] for k in range(2)], Wh)[4:]
    for k in range(2):
        z, h_tilde = σ(a_x[k] + a_h[k] + b[k]), math.tanh(a_x[4 + k] + b[4 + k] + s[k])
        assert h[0, k] == pytest.approx((1 - z) * h_tilde + z * h_prev[k], abs=1e-15)


def test_loss_of_equal_logits_is_log_of_their_number():
    assert SoftmaxWithLoss().forward(np.zeros((2, 8)), np.array([0, 5])) == pytest.approx(np.log(8))


def test_mean_squared_error_by_hand():
    layer = MeanSquaredError()
    assert layer.forward(np.array([[1.0, 2.0], [0.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])) == (4 + 9) / 4
    assert layer.backward(2.0).tolist() == [[0, 2], [0, 3]]
    assert layer.backward().tolist() == [[0, 1], [0, 1.5]]


# Gradients. Of each layer: how it is made, with k(*shape) for an array, and what it is given; D = 3, H = 5, N = 4.

X, STATE = (4, 3), (4, 5)
LAYERS = {
    "MatMul": (lambda k: MatMul(k(3, 5)), [X]),
    "Affine": (lambda k: Affine(k(3, 5), k(5)), [X]),
    "Softmax": (lambda k: Softmax(), [X]),
    "Sigmoid": (lambda k: Sigmoid(), [X]),
    "Gate": (lambda k: Gate(k(3, 3), k(3)), [X]),
    "RNN": (lambda k: RNN(k(3, 5), k(5, 5), k(5)), [X, STATE]),
    "one gate": (lambda k: OneGateGRU(k(3, 10), k(5, 10), k(10)), [X, STATE]),
    "GRU": (lambda k: GRU(k(3, 15), k(5, 15), k(15)), [X, STATE]),
    "GRU, reset after": (lambda k: GRU(k(3, 15), k(5, 15), k(20), reset_after=True), [X, STATE]),
    "LSTM": (lambda k: LSTM(k(3, 20), k(5, 20), k(20)), [X, STATE, STATE]),
    "peepholes": (lambda k: PeepholeLSTM(k(3, 20), k(5, 20), k(20), k(15)), [X, STATE, STATE]),
}


def layer_and_inputs(name, dtype=np.float64):
    make, shapes = LAYERS[name]
    return make(lambda *shape: normal(*shape, dtype=dtype)), [
        normal(*shape, seed=k, dtype=dtype) for k, shape in enumerate(shapes)
    ]


@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name):
    layer, inputs = layer_and_inputs(name)
    named = {f"input {k}": x for k, x in enumerate(inputs)}
    assert_layer_gradients(layer, lambda: layer.forward(*inputs), named)


LOSSES = {
    "softmax": (SoftmaxWithLoss(), [0, 3, 1]),
    "softmax, one row ignored": (SoftmaxWithLoss(), [-1, 3, 1]),
    "softmax, another label ignored": (SoftmaxWithLoss(ignore_label=2), [2, 2, 0]),
    "sigmoid": (SigmoidWithLoss(), [[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0]]),
    "squares": (MeanSquaredError(), normal(3, 4, seed=1)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_losses(name):
    (layer, t), x = LOSSES[name], normal(3, 4)
    assert_layer_gradients(layer, lambda: layer.forward(x, np.array(t)), {"x": x})


def test_gradients_of_embedding_and_dropout():
    words = np.array([2, 0, 2, 2, 4])  # one of them three times, two never
    embedding = Embedding(normal(5, 3))
    assert_layer_gradients(embedding, lambda: embedding.forward(words), {})
    assert np.array_equal(embedding.W.grad[[1, 3]], np.zeros((2, 3)))
    x, dropout = normal(4, 3), Dropout(0.5)

    def forward():
        dropout.rng = np.random.default_rng(5)  # the same mask each time
        return dropout.forward(x)

    assert_layer_gradients(dropout, forward, {"x": x})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_replace_gradients_leave_what_they_are_given_and_keep_its_dtype(name, dtype):
    layer, inputs = layer_and_inputs(name, dtype)
    outputs = as_tuple(layer.forward(*inputs))
    upstream = [normal(*y.shape, seed=9 + k, dtype=dtype) for k, y in enumerate(outputs)]
    given = [*inputs, *upstream, *outputs]
    copies = [a.copy() for a in given]
    dinputs = as_tuple(layer.backward(*upstream))
    first = [g.copy() for g in layer.grads]
    layer.backward(*upstream)
    for a, copy in zip([*given, *layer.grads], [*copies, *first], strict=True):
        assert np.array_equal(a, copy)
    assert {a.dtype for a in (*outputs, *dinputs, *layer.grads)} == {np.dtype(dtype)}


# Special cases


def test_ignored_rows_change_nothing():
    x, t = normal(5, 4), np.array([1, 9, 0, 9, 3])
    loss, kept = SoftmaxWithLoss(ignore_label=9), SoftmaxWithLoss()
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


def test_squared_errors_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"got \(3, 1\) and \(3,\)"):
        MeanSquaredError().forward(np.zeros((3, 1)), np.zeros(3))


def test_dropout_drops_a_share_p_and_keeps_the_mean():
    y = Dropout(0.3, np.random.default_rng(0)).forward(np.ones((300, 300)))
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert y.mean() == pytest.approx(1, abs=0.01)


def test_dropout_does_nothing_in_evaluation_and_its_backward_works_there():
    layer, x = Dropout(0.5, np.random.default_rng(0)), normal(4, 3)
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


REFUSED = {
    "x of another D": (
        lambda c: c.forward(normal(4, 2), *[normal(4, 5)] * 2),
        r"x must have shape \(4, 3\), got",
    ),
    "x of one axis": (lambda c: c.forward(normal(3), *[normal(3, 5)] * 2), r"x must have shape \(N, 3\), got"),
    "a list": (
        lambda c: c.forward([[1.0, 2, 3]], *[normal(1, 5)] * 2),
        "x must be an array of shape .*, got list",
    ),
    "dh": (lambda c: c.backward(normal(1, 5), 0), r"dh must have shape \(4, 5\), got \(1, 5\)"),
    "dc": (lambda c: c.backward(0, normal(5)), r"dc must have shape \(4, 5\), got \(5,\)"),
    "a number": (lambda c: c.backward(1.0, 0), r"dh must be an array of shape \(4, 5\), got float"),
}


@pytest.mark.parametrize("name", ["LSTM", "peepholes"])
@pytest.mark.parametrize("case", REFUSED)
def test_cells_refuse_other_shapes(case, name):
    cell, inputs = layer_and_inputs(name)
    cell.forward(*inputs)
    call, message = REFUSED[case]
    with pytest.raises((ValueError, TypeError), match=message):
        call(cell)
