"""The whole model: gradients with carried state, modes, and files."""

import gc
import io
import math
import tracemalloc
import zipfile

import numpy as np
import pytest
from helpers import GRADIENT_ERROR, normal

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated.better_lstm_lm import BetterLstmLm
from ch06_gated.gru_lm import GruLm
from ch06_gated.lstm_lm import LstmLm
from common.fast import output_layer
from common.gradient_check import check_gradients
from common.layers import GRU, LSTM, RNN, Layer, PeepholeLSTM
from common.model import LanguageModel
from common.optimizer import SGD
from common.time_layers import (
    Dropout,
    TimeAffine,
    TimeDropout,
    TimeEmbedding,
    TimeEmbeddingDropout,
    TimeGRU,
    TimeLoop,
    TimeLSTM,
    TimePeepholeLSTM,
    TimeRecurrent,
    TimeRNN,
    WeightDrop,
)

V, D, H, N, T = 7, 4, 5, 3, 4

MODELS = {
    "RNN": {},
    "RNN, dropout": {"dropout": 0.3},
    "RNN, tied": {"tie_weights": True},
    "RNN, two layers, locked dropout": {"layers": 2, "dropout": 0.3, "locked_dropout": True},
    "LSTM": {"model": LstmLm, "forget_bias": 1.0},
    "LSTM, three layers": {"model": LstmLm, "layers": 3},
    "LSTM, peepholes, two layers, dropout": {"model": LstmLm, "peepholes": True, "layers": 2, "dropout": 0.3},
    "GRU": {"model": GruLm},
    "GRU, two layers, tied": {"model": GruLm, "layers": 2, "tie_weights": True},
    "GRU, reset after, two layers, dropout": {"model": GruLm, "reset_after": True, "layers": 2, "dropout": 0.3},
    "GRU, weight drop": {"model": GruLm, "weight_drop": 0.3},
    "LSTM, all that can be dropped": {
        **{"model": LstmLm, "layers": 2, "tie_weights": True},
        **{"dropout": 0.3, "locked_dropout": True, "weight_drop": 0.3, "word_dropout": 0.3},
    },
    "better LSTM": {"model": BetterLstmLm},
    "better LSTM, peepholes, locked": {"model": BetterLstmLm, "peepholes": True, "locked_dropout": True},
    "better LSTM, not tied": {"model": BetterLstmLm, "tie_weights": False},
}
EACH_MODEL = pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)


def new(model=SimpleRnnlm, seed=0, dtype=np.float64, **options):
    """A model as it is made; with tied weights, of H = D."""
    tied = options.get("tie_weights", model is BetterLstmLm)
    return model(V, D, D if tied else H, rng=np.random.default_rng(seed), dtype=dtype, **options)


def build(**options):
    """A model with larger parameters: no term is multiplied by zero, and gradients are far above rounding."""
    model = new(**options)
    for p in model.parameters:
        if p.data.ndim == 1:
            p.data[...] += normal(len(p.data), dtype=p.data.dtype)
        elif p.name == "embed_W":
            p.data /= p.data.std()
        elif not p.name.endswith("_Wh"):
            p.data *= 2  # or little reaches the first of three layers
    return model


def tied(model):
    return model.layers[-1].W.base is model.layers[0].W


def of_type(model, layer_type):
    return [layer for layer in model._all_layers if isinstance(layer, layer_type)]


def states(model):
    """All arrays that the model carries, h and for an LSTM c of each layer."""
    return [part for layer in of_type(model, TimeRecurrent) for part in layer.state]


def batch(n=N, t=T, seed=0):
    words = np.random.default_rng(seed).integers(0, V, (n, t + 1))
    return words[:, :-1].copy(), words[:, 1:].copy()


def named(model):
    return {p.name: p.data for p in model.parameters}, {p.name: p.grad for p in model.parameters}


def reseed_dropout(model, seed=5):
    rng = np.random.default_rng(seed)
    for layer in of_type(model, Dropout):
        layer.rng = rng


@EACH_MODEL
def test_gradients_of_the_whole_model_with_a_carried_state(options):
    model = build(**options)
    xs, ts = batch()
    ts[0, 1] = -1
    model.forward(*batch(seed=1))  # an earlier window leaves its state
    recurrent = of_type(model, TimeRecurrent)
    carried = [layer.state for layer in recurrent]

    def loss():
        for layer, state in zip(recurrent, carried):
            layer.set_state(*state)
        reseed_dropout(model)
        return float(model.forward(xs, ts))

    loss()
    model.backward()
    params, grads = named(model)
    grads = {name: g.copy() for name, g in grads.items()}
    for k, (layer, state) in enumerate(zip(recurrent, carried)):
        params |= {f"{name} of layer {k}": x for name, x in zip("hc", state)}
        grads |= {f"{name} of layer {k}": getattr(layer, f"d{name}").copy() for name, _ in zip("hc", state)}
    errors = check_gradients(loss, params, grads)
    assert max(errors.values()) <= GRADIENT_ERROR, errors


@EACH_MODEL
def test_two_windows_equal_one_of_twice_the_length(options):
    xs, ts = batch(t=10)
    model = build(**options)
    with model.evaluating():
        once = model.forward(xs, ts)
        model.reset_state()
        twice = (model.forward(xs[:, :5], ts[:, :5]) + model.forward(xs[:, 5:], ts[:, 5:])) / 2
    assert twice == pytest.approx(once, rel=1e-14)


CELLS = {TimeRNN: RNN, TimeGRU: GRU, TimeLSTM: LSTM, TimePeepholeLSTM: PeepholeLSTM}


def definition(layer):
    """The plain loop with the parameters of a recurrent layer, an embedding of all words; another layer as it is."""
    if isinstance(layer, WeightDrop):
        return definition(layer.layer)
    if isinstance(layer, TimeEmbedding):
        return TimeEmbedding(layer.W)
    if not isinstance(layer, TimeRecurrent):
        return layer
    options = {"reset_after": layer.reset_after} if isinstance(layer, TimeGRU) else {}
    return TimeLoop(CELLS[type(layer)](*layer.params, **options))


@EACH_MODEL
def test_predictions_are_those_of_the_definitions_one_on_the_other(options):
    model = build(**options)
    xs, _ = batch()
    with model.evaluating():
        logits = model.predict(xs)
        for layer in model.layers:
            xs = definition(layer).forward(xs)
    assert np.allclose(logits, xs, rtol=0, atol=1e-13)


@EACH_MODEL
def test_predict_gives_the_logits_of_the_loss(options):
    model = build(**options)
    xs, ts = batch()
    with model.evaluating():
        loss = model.forward(xs, ts)
        model.reset_state()
        logits = model.predict(xs)
    assert logits.shape == (N, T, V)
    y = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    picked = np.take_along_axis(y, ts[:, :, None], axis=2)
    assert -np.log(picked).mean() == pytest.approx(loss, rel=1e-13)


@EACH_MODEL
def test_backward_can_be_repeated_and_is_linear_in_the_gradient_of_the_loss(options):
    model = build(**options)
    model.forward(*batch())
    found = []
    for dout in (1.0, 1.0, 3.0):
        model.backward(dout)
        found.append([g.copy() for g in model.grads])
    for first, again, tripled in zip(*found):
        assert np.array_equal(first, again)
        assert np.allclose(tripled, 3 * first, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize(
    ("options", "cells"),
    [
        ({"tie_weights": True}, ["rnn_Wx", "rnn_Wh", "rnn_b"]),
        ({"model": BetterLstmLm, "layers": 1}, ["lstm_Wx", "lstm_Wh", "lstm_b"]),
    ],
    ids=["RNN", "better LSTM"],
)
def test_tied_weights_are_one_parameter(options, cells):
    model = build(**options)
    assert [p.name for p in model.parameters] == ["embed_W", *cells, "affine_b"]
    model.forward(*batch())
    model.backward()
    SGD(0.1).update(model.params, model.grads)
    assert np.shares_memory(model.layers[-1].W.data, model.params[0])
    assert np.array_equal(model.layers[-1].W.data, model.params[0].T)


def test_parameters_with_equal_values_are_not_tied():
    layers = [TimeEmbedding(np.zeros((V, D))), TimeRNN(np.zeros((D, H)), np.zeros((H, H)), np.zeros(H))]
    layers.append(TimeAffine(np.zeros((H, V)), np.zeros(V)))
    assert [p.name for p in LanguageModel(layers).parameters] == ["W", "Wx", "Wh", "b", "W_2", "b_2"]


# Modes


@EACH_MODEL
def test_evaluating_uses_its_own_state_and_no_dropout_and_puts_both_back_after_an_error_too(options):
    model = build(**options)
    xs, ts = batch()
    model.forward(xs, ts)
    before, kept = states(model), [x.copy() for x in states(model)]

    def evaluate():
        with model.evaluating():
            assert all(x is None for x in states(model))
            first = model.forward(xs[:2], ts[:2])  # another batch size: the state is a new one
            assert model.forward(xs[:2], ts[:2]) != first  # the carried state of the evaluation itself
            model.reset_state()
            assert model.forward(xs[:2], ts[:2]) == first  # no dropout: the same again
            assert not any(layer.training for layer in [*model.layers, model.loss_layer])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        evaluate()
    assert all(layer.training for layer in [*model.layers, model.loss_layer])
    for ours, array, numbers in zip(states(model), before, kept, strict=True):
        assert ours is array
        assert np.array_equal(ours, numbers)


# Construction


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((0, 4, 5), {}, "sizes must be positive, got vocab_size 0, wordvec_size 4, hidden_size 5, layers"),
        ((7, -1, 5), {}, "sizes must be positive, got vocab_size 7, wordvec_size -1, hidden_size 5, layers"),
        ((7, 4, 0), {}, "sizes must be positive, got vocab_size 7, wordvec_size 4, hidden_size 0, layers"),
        ((7, 4, 5), {"layers": 0}, "sizes must be positive, got .* layers 0$"),
        ((7, 4, 5), {"tie_weights": True}, "wordvec_size = hidden_size, got 4 and 5"),
        ((7, 4, 4), {"dropout": 1.0}, r"\[0, 1\), got 1"),
        ((7, 4, 4), {"weight_drop": -0.1}, r"\[0, 1\), got -0.1"),
        ((7, 4, 4), {"word_dropout": 1}, r"\[0, 1\), got 1"),
        ((7, 4, 4), {"init_range": 0.0}, "init_range must be more than 0 and at most 100, got 0.0"),
        ((7, 4, 4), {"init_range": 101}, "init_range must be more than 0 and at most 100, got 101"),
        ((7, 4, 4), {"init_range": math.nan}, "init_range must be more than 0 and at most 100, got nan"),
    ],
)
@pytest.mark.parametrize("model", [SimpleRnnlm, LstmLm, GruLm, BetterLstmLm])
def test_sizes_and_options_out_of_range_are_refused(model, sizes, options, message):
    with pytest.raises(ValueError, match=message):
        model(*sizes, **options)


# Of each form of the cells: the prefix of the names, gates, and elements of b and of p for each of H.
FORMS = [
    ({"model": SimpleRnnlm}, "rnn", 1, 1, 0),
    ({"model": LstmLm}, "lstm", 4, 4, 0),
    ({"model": LstmLm, "peepholes": True}, "lstm", 4, 4, 3),
    ({"model": GruLm}, "gru", 3, 3, 0),
    ({"model": GruLm, "reset_after": True}, "gru", 3, 4, 0),
    ({"model": BetterLstmLm}, "lstm", 4, 4, 0),
]


@pytest.mark.parametrize("init_range", [None, 0.2])
@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("options", "cell", "gates", "biases", "peepholes"), FORMS)
def test_parameters_and_the_weights_that_they_start_from(
    options, cell, gates, biases, peepholes, layers, tie, init_range
):
    """Names and shapes; weights are drawn in the order of the layers, and biases and peepholes are zeros."""
    rng = np.random.default_rng(5)

    def draw(std, *shape):
        return std * rng.standard_normal(shape) if init_range is None else rng.uniform(-0.2, 0.2, shape)

    H = D if tie else 5
    expected = {"embed_W": draw(1 / math.sqrt(D) if tie else 0.1 if cell == "rnn" else 0.01, V, D)}
    for k in range(layers):
        name, inputs = f"{cell}{k + 1}" if layers > 1 else cell, H if k else D
        expected[f"{name}_Wx"] = draw(1 / math.sqrt(inputs), inputs, gates * H)
        expected[f"{name}_Wh"] = draw((0.5 if cell == "rnn" else 1) / math.sqrt(H), H, gates * H)
        expected[f"{name}_b"] = np.zeros(biases * H)
        if peepholes:
            expected[f"{name}_p"] = np.zeros(peepholes * H)
    if not tie:
        expected["affine_W"] = draw(1 / math.sqrt(H), H, V)
    expected["affine_b"] = np.zeros(V)
    options = {"layers": layers, "tie_weights": tie, "init_range": init_range, **options}
    for dtype in (np.float64, np.float32):
        model = new(**options, seed=5, dtype=dtype)
        assert [p.name for p in model.parameters] == list(expected)
        for p, array, x in zip(model.parameters, model.params, expected.values()):
            assert array is p.data
            assert p.data.dtype == p.grad.dtype == dtype
            assert p.grad.shape == p.data.shape
            assert np.array_equal(p.data, x.astype(dtype))


@EACH_MODEL
def test_layers_are_what_the_options_say(options):
    model, better = new(**options), options.get("model") is BetterLstmLm
    recurrent, dropouts = of_type(model, TimeRecurrent), of_type(model, TimeDropout)
    p = options.get("dropout", 0.5 if better else 0)
    assert len(recurrent) == options.get("layers", 2 if better else 1)
    for layer in recurrent:
        assert layer.stateful
        assert getattr(layer, "reset_after", False) == options.get("reset_after", False)
        assert (getattr(layer, "p", None) is not None) == options.get("peepholes", False)
    assert len(of_type(model, WeightDrop)) == (len(recurrent) if "weight_drop" in options else 0)
    assert (type(model.layers[0]) is TimeEmbeddingDropout) == ("word_dropout" in options)
    expected = [kind for layer in model.layers[:-1] if layer not in dropouts for kind in [type(layer), TimeDropout]]
    assert [type(layer) for layer in model.layers] == [*expected[:: 1 if p else 2], TimeAffine]
    assert all((layer.p, layer.locked) == (p, options.get("locked_dropout", False)) for layer in dropouts)
    assert len({id(layer.rng) for layer in dropouts}) <= 1  # the masks come from one source
    assert model.layers[0].distinct == (p == 0)  # a recurrent layer takes distinct rows, dropout does not


def test_the_better_model_has_650_units_by_default():
    model = BetterLstmLm(V)
    assert [layer.Wh.data.shape for layer in of_type(model, TimeLSTM)] == [(650, 2600)] * 2
    assert model.layers[0].W.data.shape == (V, 650)
    assert tied(model)


@pytest.mark.parametrize("options", [{"layers": 2}, {"layers": 2, "peepholes": True}, {"model": BetterLstmLm}], ids=str)
def test_the_forget_bias_is_that_of_the_forget_gates_alone(options):
    model = new(**{"model": LstmLm} | options, forget_bias=1.5)
    H = len(model.layers[-1].W.data)
    for p in model.parameters:
        if p.name in ("lstm1_b", "lstm2_b"):
            assert p.data.tolist() == [1.5] * H + [0] * 3 * H
        else:
            assert p.data.ndim == 2 or not p.data.any()


def test_the_last_layer_must_be_an_output_layer():
    with pytest.raises(TypeError, match="TimeAffine, got Layer"):
        LanguageModel([TimeEmbedding(np.zeros((2, 2))), Layer()])


@EACH_MODEL
def test_a_model_in_float32_computes_in_float32(options):
    model = build(**options, dtype=np.float32)
    loss = model.forward(*batch())
    model.backward()
    assert {x.dtype for x in [loss, *model.grads, *states(model), model.predict(batch()[0])]} == {np.dtype(np.float32)}


# Files


@EACH_MODEL
def test_saved_weights_come_back(tmp_path, options):
    model, other = build(**options), new(seed=1, **options)
    model.save(tmp_path / "w.npz")
    with np.load(tmp_path / "w.npz") as file:
        assert file.files == [*(p.name for p in model.parameters), *model.marks]
    arrays = other.params
    other.load(tmp_path / "w.npz")
    for a, b, array in zip(model.params, other.params, arrays, strict=True):
        assert np.array_equal(a, b)
        assert b is array  # changed in place
    assert [path.name for path in tmp_path.iterdir()] == ["w.npz"]
    with model.evaluating(), other.evaluating():
        assert model.forward(*batch()) == other.forward(*batch())


def assert_refused(model, path, message):
    kept = [x.copy() for x in model.params]
    with pytest.raises(ValueError, match=message):
        model.load(path)
    for a, b in zip(kept, model.params):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("saved_options", "options", "message"),
    [
        ({"reset_after": True}, {}, r"gru_b has shape \(20,\), but this model's has \(15,\)"),
        ({"layers": 2}, {}, "has no gru_Wx; it has affine_W, affine_b, embed_W, gru1_Wh"),
        ({"model": LstmLm}, {}, "has no gru_Wx; it has .* lstm_Wx"),
        ({"model": LstmLm, "peepholes": True}, {"model": LstmLm}, "parameters that this model has not: lstm_p"),
        ({"model": LstmLm}, {"model": LstmLm, "peepholes": True}, "has no lstm_p"),
        ({"model": BetterLstmLm, "tie_weights": False}, {"model": LstmLm, "layers": 3}, "has no lstm3_Wx"),
    ],
    ids=str,
)
def test_weights_of_another_form_of_the_model_are_refused(tmp_path, saved_options, options, message):
    build(**{"model": GruLm} | saved_options).save(tmp_path / "w.npz")
    assert_refused(build(**{"model": GruLm} | options), tmp_path / "w.npz", message)


def saved(tmp_path, change):
    """The path of a weight file whose dict of arrays ``change`` has changed."""
    build().save(tmp_path / "w.npz")
    with np.load(tmp_path / "w.npz") as file:
        arrays = dict(file)
    change(arrays)
    np.savez(tmp_path / "w.npz", **arrays)
    return tmp_path / "w.npz"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update(rnn_Wh=np.zeros((H, H + 1))), r"rnn_Wh has shape \(5, 6\), but this model's has \(5, 5\)"),
        (lambda a: a.pop("rnn_b"), "has no rnn_b"),
        (lambda a: a.update(extra=np.zeros(2)), "parameters that this model has not: extra"),
        (lambda a: a["rnn_b"].fill(np.nan), "rnn_b holds values that are not finite"),
        (lambda a: a.update(rnn_b=np.zeros(H, complex)), "rnn_b holds values that are not finite numbers"),
        (lambda a: a.update(rnn_b=np.array([None] * H)), "not a weight file"),
    ],
    ids=["shape", "missing", "extra", "nan", "complex", "pickled"],
)
def test_wrong_weight_files_are_refused_and_change_nothing(tmp_path, change, message):
    assert_refused(build(seed=1), saved(tmp_path, change), message)


def zip_without_arrays():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("readme.txt", "hello")
    return buffer.getvalue()


def single_array():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        *[lambda data, share=share: data[: int(share * len(data))] for share in (0, 0.01, 0.5, 0.99)],
        lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],  # inside the first array
        lambda _: b"not a weight file",
        lambda _: b"PK\x03\x04 nor this",
        lambda _: zip_without_arrays(),
        lambda _: single_array(),
    ],
)
def test_damaged_and_other_files_are_refused(tmp_path, damage):
    path = saved(tmp_path, lambda arrays: None)
    path.write_bytes(damage(path.read_bytes()))
    assert_refused(build(seed=1), path, "not a weight file, or is damaged")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="missing"):
        build().load(tmp_path / "missing.npz")


def test_memory_of_a_step_grows_with_the_state_not_with_the_vocabulary(monkeypatch):
    N, H = 8, 128
    monkeypatch.setattr(output_layer, "MAX_LOGITS", 10_000)

    def peak(V, T):
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        model = SimpleRnnlm(V, H, H, rng=np.random.default_rng(0))
        xs = np.random.default_rng(1).integers(0, 50, (N, T + 1))
        for _ in range(2):
            tracemalloc.reset_peak()
            model.forward(xs[:, :-1], xs[:, 1:])
            model.backward()
        return tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    try:
        # h, its gradient from the loss, that of a, and the words in a few forms; the logits would be V numbers more.
        for V in (100, 1000):
            bytes_a_word = (peak(V, 800) - peak(V, 400)) / (N * 400)
            assert 3 * 4 * H < bytes_a_word < 4 * 4 * H
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("model", [LstmLm, BetterLstmLm])
def test_weights_of_an_lstm_whose_order_of_gates_is_not_known_are_refused(tmp_path, model):
    path, model = tmp_path / "weights.npz", new(model=model)
    np.savez(path, **{p.name: p.data for p in model.parameters})
    assert_refused(model, path, "another order than f, g, i, o: train again")
    model.save(path)
    model.load(path)
