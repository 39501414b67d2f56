"""The whole model: gradients with carried state, modes, and files."""

import io
import zipfile

import numpy as np
import pytest
from helpers import GRADIENT_ERROR

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.gradient_check import check_gradients
from common.layers import Layer
from common.model import LanguageModel
from common.optimizer import SGD
from common.time_layers import TimeAffine, TimeEmbedding, TimeRNN

V, D, H, N, T = 7, 4, 5, 3, 4


def build(seed=0, dtype=np.float64, **options):
    model = SimpleRnnlm(V, D, options.pop("hidden_size", H), rng=np.random.default_rng(seed), dtype=dtype, **options)
    model.params[0][...] *= 1 if options.get("tie_weights") else 100  # from 0.01; larger, all gradients are of one size
    return model


def batch(n=N, t=T, seed=0):
    words = np.random.default_rng(seed).integers(0, V, (n, t + 1))
    return words[:, :-1].copy(), words[:, 1:].copy()


def named(model):
    return {p.name: p.data for p in model.parameters}, {p.name: p.grad for p in model.parameters}


def reseed_dropout(model, seed=5):
    for layer in model.layers:
        if hasattr(layer, "rng"):
            layer.rng = np.random.default_rng(seed)


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3}, {"tie_weights": True, "hidden_size": D}], ids=str)
def test_gradients_of_the_whole_model_with_a_carried_state(options):
    model = build(**options)
    xs, ts = batch()
    ts[0, 1] = -1
    model.forward(*batch(seed=1))  # an earlier window leaves its state
    (recurrent,) = (layer for layer in model.layers if isinstance(layer, TimeRNN))
    state = recurrent.state

    def loss():
        recurrent.set_state(*state)
        reseed_dropout(model)
        return float(model.forward(xs, ts))

    loss()
    model.backward()
    params, grads = named(model)
    errors = check_gradients(loss, params, {name: g.copy() for name, g in grads.items()})
    assert max(errors.values()) <= GRADIENT_ERROR, errors


def test_two_windows_equal_one_of_twice_the_length():
    xs, ts = batch(t=10)
    once = build().forward(xs, ts)
    model = build()
    twice = (model.forward(xs[:, :5], ts[:, :5]) + model.forward(xs[:, 5:], ts[:, 5:])) / 2
    assert twice == pytest.approx(once, rel=1e-14)


def test_predict_gives_the_logits_of_the_loss():
    model = build()
    xs, ts = batch()
    loss = model.forward(xs, ts)
    model.reset_state()
    logits = model.predict(xs)
    assert logits.shape == (N, T, V)
    y = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    picked = np.take_along_axis(y, ts[:, :, None], axis=2)
    assert -np.log(picked).mean() == pytest.approx(loss, rel=1e-13)


def test_backward_starts_from_zero_and_can_be_repeated():
    model = build(tie_weights=True, hidden_size=D)
    model.forward(*batch())
    model.backward()
    first = [g.copy() for g in model.grads]
    model.backward()
    for a, b in zip(first, model.grads):
        assert np.array_equal(a, b)


def test_backward_is_linear_in_the_gradient_of_the_loss():
    model = build()
    model.forward(*batch())
    model.backward(3.0)
    tripled = [g.copy() for g in model.grads]
    model.backward()
    for a, b in zip(tripled, model.grads):
        assert np.allclose(a, 3 * b, rtol=1e-13, atol=1e-16)


def test_tied_weights_are_one_parameter():
    model = build(tie_weights=True, hidden_size=D)
    assert [p.name for p in model.parameters] == ["embed_W", "rnn_Wx", "rnn_Wh", "rnn_b", "affine_b"]
    model.forward(*batch())
    model.backward()
    SGD(0.1).update(model.params, model.grads)
    assert np.shares_memory(model.layers[-1].W.data, model.params[0])


def test_parameters_with_equal_values_are_not_tied():
    layers = [TimeEmbedding(np.zeros((V, D))), TimeRNN(np.zeros((D, H)), np.zeros((H, H)), np.zeros(H))]
    layers.append(TimeAffine(np.zeros((H, V)), np.zeros(V)))
    for i, p in enumerate(p for layer in layers for p in layer.parameters):
        p.name = str(i)
    assert len(LanguageModel(layers).params) == 6


# Modes


def test_evaluating_uses_its_own_state_and_no_dropout_and_puts_both_back():
    model = build(dropout=0.5)
    xs, ts = batch()
    model.forward(xs, ts)
    state = model.layers[2].h.copy()
    with model.evaluating():
        first = model.forward(xs[:2], ts[:2])  # another batch size: the state is a new one
        model.reset_state()
        assert model.forward(xs[:2], ts[:2]) == first  # no dropout: the same again
        assert not any(layer.training for layer in [*model.layers, model.loss_layer])
    assert all(layer.training for layer in [*model.layers, model.loss_layer])
    assert np.array_equal(model.layers[2].h, state)


def test_evaluating_puts_everything_back_after_an_error():
    model = build()
    model.forward(*batch())
    state = model.layers[1].h
    with pytest.raises(RuntimeError), model.evaluating():
        raise RuntimeError
    assert model.layers[1].h is state
    assert all(layer.training for layer in model.layers)


# Construction


@pytest.mark.parametrize("sizes", [(0, 4, 5), (7, -1, 5), (7, 4, 0)])
def test_sizes_must_be_positive(sizes):
    with pytest.raises(ValueError, match="sizes must be positive"):
        SimpleRnnlm(*sizes)


def test_tying_needs_equal_sizes():
    with pytest.raises(ValueError, match="wordvec_size = hidden_size, got 4 and 5"):
        SimpleRnnlm(V, 4, 5, tie_weights=True)


def test_the_last_layer_must_be_an_output_layer():
    with pytest.raises(TypeError, match="TimeAffine, got Layer"):
        LanguageModel([TimeEmbedding(np.zeros((2, 2))), Layer()])


def test_two_parameters_with_one_name_are_refused():
    with pytest.raises(ValueError, match="same name"):
        LanguageModel([TimeAffine(np.zeros((2, 2)), np.zeros(2)), TimeAffine(np.zeros((2, 2)), np.zeros(2))])


def test_one_seed_gives_one_model_in_float32():
    a, b = build(dtype=np.float32), build(dtype=np.float32)
    for x, y in zip(a.params, b.params):
        assert x.dtype == np.float32
        assert np.array_equal(x, y)
    assert not np.array_equal(a.params[0], build(seed=1, dtype=np.float32).params[0])


# Files


@pytest.mark.parametrize("tie", [False, True])
def test_saved_weights_come_back(tmp_path, tie):
    options = {"tie_weights": tie, "hidden_size": D if tie else H}
    model, other = build(**options), build(seed=1, **options)
    model.save(tmp_path / "w.npz")
    arrays = other.params
    other.load(tmp_path / "w.npz")
    for a, b, array in zip(model.params, other.params, arrays):
        assert np.array_equal(a, b)
        assert b is array  # changed in place
    assert [path.name for path in tmp_path.iterdir()] == ["w.npz"]


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
    path = saved(tmp_path, change)
    model = build(seed=1)
    kept = [x.copy() for x in model.params]
    with pytest.raises(ValueError, match=message):
        model.load(path)
    for a, b in zip(kept, model.params):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_truncated_weight_files_are_refused(tmp_path, share):
    path = saved(tmp_path, lambda arrays: None)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="not a weight file, or is damaged"):
        build().load(path)


def test_damaged_bytes_are_noticed(tmp_path):
    path = saved(tmp_path, lambda arrays: None)
    data = bytearray(path.read_bytes())
    data[200] ^= 1  # inside the first array
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        build().load(path)


@pytest.mark.parametrize("content", [b"not a weight file", b"PK\x03\x04 nor this", b"\x93NUMPY\x01\x00"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "w.npz").write_bytes(content)
    with pytest.raises(ValueError, match="not a weight file"):
        build().load(tmp_path / "w.npz")


def test_a_zip_file_without_arrays_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"has no embed_W|not a weight file"):
        build().load(tmp_path / "w.npz")


def test_a_single_array_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    (tmp_path / "w.npz").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="not a weight file"):
        build().load(tmp_path / "w.npz")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="missing"):
        build().load(tmp_path / "missing.npz")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    model = build()
    model.save(tmp_path / "w.npz")
    before = (tmp_path / "w.npz").read_bytes()

    def full_disk(file, **arrays):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space"):
        build(seed=1).save(tmp_path / "w.npz")
    assert (tmp_path / "w.npz").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
