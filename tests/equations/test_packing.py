"""Packed sequences: the layout, there and back, and the same results as each sequence alone or as padding."""

import numpy as np
import pytest
from helpers import normal
from hypothesis import given
from hypothesis import strategies as st

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated.gru_lm import GruLm
from ch06_gated.lstm_lm import LstmLm
from common.optimizer import Adam
from common.packing import Layout, PackedSequence, pack, pad, unpack
from common.time_layers import (
    TimeBidirectional,
    TimeDropout,
    TimeGRU,
    TimeLast,
    TimeLSTM,
    TimeMean,
    TimePeepholeLSTM,
    TimeRNN,
)

V, D, H = 9, 3, 4
LENGTHS = pytest.mark.parametrize("lengths", [[5, 3, 1], [1, 4, 2, 4], [3, 3], [1, 1, 1], [6]], ids=str)


def sequences(lengths, *shape):
    return [normal(length, *shape, seed=n) for n, length in enumerate(lengths)]


def test_rows_are_those_of_the_picture():
    a, b, c = np.array(["a0", "a1", "a2"]), np.array(["b0", "b1", "b2", "b3", "b4"]), np.array(["c0"])
    packed = pack([a, b, c])
    assert packed.data.tolist() == ["b0", "a0", "c0", "b1", "a1", "b2", "a2", "b3", "b4"]
    layout = packed.layout
    assert layout.batch_sizes == [3, 2, 2, 1, 1]
    assert layout.sequence.tolist() == [0, 1, 2, 0, 1, 0, 1, 0, 0]
    assert layout.step.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 4]
    assert layout.lengths.tolist() == [5, 3, 1]
    assert packed.data[layout.final].tolist() == ["b4", "a2", "c0"]
    assert packed.data[layout.reversed].tolist() == ["b4", "a2", "c0", "b3", "a1", "b2", "a0", "b1", "b0"]
    assert packed.shape == (3, 5)
    assert packed.size == 9


EACH_WAY = pytest.mark.parametrize("bring_together", [pack, pad])


@EACH_WAY
@given(st.lists(st.integers(1, 12), min_size=1, max_size=8))
def test_unpacked_is_what_was_packed(bring_together, lengths):
    there_and_back = unpack(bring_together(sequences(lengths, 2)))
    for ours, sequence in zip(there_and_back, sequences(lengths, 2), strict=True):
        assert np.array_equal(ours, sequence)


@EACH_WAY
@pytest.mark.parametrize("lengths", [[], [3, 0]])
def test_nothing_to_pack_is_refused(bring_together, lengths):
    with pytest.raises(ValueError, match="at least one"):
        bring_together(sequences(lengths))


def test_padded_rows_are_a_rectangle_that_knows_its_lengths():
    a, b, c = np.array([1, 2, 3]), np.array([4]), np.array([5, 6])
    padded = pad([a, b, c], value=9)
    assert padded.data.tolist() == [1, 4, 5, 2, 9, 6, 3, 9, 9]
    assert padded.data.dtype == a.dtype
    layout = padded.layout
    assert layout.batch_sizes == [3, 3, 3]
    assert layout.lengths.tolist() == [3, 1, 2]
    assert padded.data[layout.final].tolist() == [3, 4, 6]
    assert padded.data[layout.reversed].tolist() == [3, 4, 6, 2, 9, 5, 1, 9, 9]


@pytest.mark.parametrize("time_size", [1, 2, 5, 9])
def test_windows_are_the_whole_in_parts_without_copies(time_size):
    packed = pack(sequences([2, 5, 3], D))
    windows = list(packed.windows(time_size))
    assert np.array_equal(np.concatenate([window.data for window in windows]), packed.data)
    assert all(np.shares_memory(window.data, packed.data) for window in windows)
    assert [n for window in windows for n in window.layout.batch_sizes] == packed.layout.batch_sizes
    for window in windows:
        assert np.array_equal(window.layout.order, packed.layout.order[: window.layout.N])


# Layers


def cell(name):
    gates = {"RNN": 1, "GRU": 3, "GRU after": 3}.get(name, 4)
    bias = normal((4 if name == "GRU after" else gates) * H)
    weights = normal(D, gates * H), normal(H, gates * H, seed=1), bias
    return {
        "RNN": lambda **o: TimeRNN(*weights, **o),
        "GRU": lambda **o: TimeGRU(*weights, **o),
        "GRU after": lambda **o: TimeGRU(*weights, **o, reset_after=True),
        "LSTM": lambda **o: TimeLSTM(*weights, **o),
        "peepholes": lambda **o: TimePeepholeLSTM(*weights, normal(3 * H), **o),
    }[name]


CELLS = pytest.mark.parametrize("name", ["RNN", "GRU", "GRU after", "LSTM", "peepholes", "bidirectional"])


def layer_of(name):
    if name == "bidirectional":
        return TimeBidirectional(cell("LSTM")(), cell("GRU")())
    return cell(name)()


@CELLS
@LENGTHS
@pytest.mark.parametrize("form", ["packed", "padded"])
def test_each_sequence_gets_what_it_gets_alone(name, lengths, form):
    # Padding is noise; no gradient comes from there.
    bring_together, noise = (pack, {}) if form == "packed" else (pad, {"value": 3.0})
    xs, dhs = sequences(lengths, D), sequences(lengths, 2 * H if name == "bidirectional" else H)
    together, alone = layer_of(name), layer_of(name)
    hs = unpack(together.forward(bring_together(xs, **noise)))
    dxs = unpack(together.backward(bring_together(dhs)))
    final = dict(zip(pack(xs).layout.order, zip(*getattr(together, "state", ())))) if form == "packed" else {}
    sums = [np.zeros_like(g) for g in alone.grads]
    for n, (x, dh) in enumerate(zip(xs, dhs)):
        assert np.allclose(hs[n], alone.forward(x[None])[0], rtol=0, atol=1e-14)
        assert np.allclose(dxs[n], alone.backward(dh[None])[0], rtol=0, atol=1e-13)
        for ours, theirs in zip(final.get(n, ()), getattr(alone, "state", ())):
            assert np.allclose(ours, theirs[0], rtol=0, atol=1e-14)
        for total, g in zip(sums, alone.grads):
            total += g
    for ours, theirs in zip(together.grads, sums, strict=True):
        assert np.allclose(ours, theirs, rtol=0, atol=1e-12)


# What each pool makes of one sequence, (T, 2H), and of the gradient of that.
POOLS = {
    "mean": (TimeMean, lambda x: x.mean(axis=0), lambda dy, T: np.tile(dy / T, (T, 1))),
    "last": (TimeLast, lambda x: x[-1], lambda dy, T: np.eye(T)[-1:].T * dy),
    "both ends": (
        lambda: TimeLast(bidirectional=True),
        lambda x: np.concatenate([x[-1, :H], x[0, H:]]),
        lambda dy, T: np.concatenate([np.eye(T)[-1:].T * dy[:H], np.eye(T)[:1].T * dy[H:]], axis=1),
    ),
}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("form", ["packed", "padded", "array"])
@LENGTHS
def test_pools_take_the_real_steps_of_each_sequence_in_the_order_given(pool, form, lengths):
    make, of_one, gradient_of_one = POOLS[pool]
    if form == "array":
        lengths = [4] * len(lengths)
    xs, dy = sequences(lengths, 2 * H), normal(len(lengths), 2 * H, seed=8)
    layer = make()
    xs_in_form = {"packed": pack, "padded": lambda x: pad(x, value=7.0), "array": np.array}[form]
    y32 = layer.forward(xs_in_form([x.astype(np.float32) for x in xs]))
    dxs32 = layer.backward(y32)
    assert y32.dtype == (dxs32 if form == "array" else dxs32.data).dtype == np.float32
    y = layer.forward(xs_in_form(xs))
    assert np.allclose(y, [of_one(x) for x in xs], rtol=0, atol=1e-15)
    dxs = layer.backward(dy)
    for n, dx in enumerate(dxs if form == "array" else unpack(dxs)):
        assert np.allclose(dx, gradient_of_one(dy[n], lengths[n]), rtol=0, atol=1e-15)
    if form == "padded":
        assert np.allclose(dxs.data.sum(), sum(dx.sum() for dx in unpack(dxs)), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["RNN", "GRU", "GRU after", "LSTM", "peepholes"])
@pytest.mark.parametrize("time_size", [1, 2, 4])
def test_windows_with_a_carried_state_equal_the_whole(name, time_size):
    packed = pack(sequences([2, 7, 3, 7], D))
    whole = cell(name)().forward(packed)
    layer = cell(name)(stateful=True)
    parts = [layer.forward(window).data for window in packed.windows(time_size)]
    assert np.allclose(np.concatenate(parts), whole.data, rtol=0, atol=1e-14)


def test_more_sequences_than_the_state_has_are_refused():
    layer = cell("RNN")(stateful=True)
    layer.forward(pack(sequences([2, 3], D)))
    with pytest.raises(ValueError, match="batch of 2 sequences, but this batch has 3"):
        layer.forward(pack(sequences([2, 3, 1], D)))


def test_a_locked_mask_is_that_of_the_sequence():
    layer = TimeDropout(0.5, np.random.default_rng(0), locked=True)
    for sequence in unpack(layer.forward(pack([np.ones((length, 50)) for length in (2, 4, 3)]))):
        assert (sequence == sequence[0]).all()


# Models


def models(**options):
    for model_class, extra in (
        (SimpleRnnlm, {}),
        (LstmLm, {"layers": 2, "peepholes": True}),
        (GruLm, {"reset_after": True}),
        (GruLm, {"tie_weights": True}),
    ):
        size = D if "tie_weights" in extra else H
        yield model_class(V, D, size, rng=np.random.default_rng(0), dtype=np.float64, **extra, **options)


@LENGTHS
@pytest.mark.parametrize("k", range(4))
def test_packed_and_padded_train_alike(k, lengths):
    rng = np.random.default_rng(1)
    packed, padded = list(models())[k], list(models())[k]
    ours, theirs = Adam(0.01), Adam(0.01)
    for _ in range(10):
        words = [rng.integers(0, V, length + 1) for length in lengths]
        xs = np.zeros((len(lengths), max(lengths)), int)
        ts = np.full_like(xs, -1)
        for n, w in enumerate(words):
            xs[n, : len(w) - 1], ts[n, : len(w) - 1] = w[:-1], w[1:]
        for model in (packed, padded):
            model.reset_state()
        loss = packed.forward(pack([w[:-1] for w in words]), pack([w[1:] for w in words]))
        assert float(loss) == pytest.approx(float(padded.forward(xs, ts)), rel=1e-10)
        for model, optimizer in ((packed, ours), (padded, theirs)):
            model.backward()
            optimizer.update(model.params, model.grads)
        for a, b in zip(packed.grads, padded.grads, strict=True):
            assert np.allclose(a, b, rtol=0, atol=1e-10)
    for a, b in zip(packed.params, padded.params, strict=True):
        assert np.allclose(a, b, rtol=0, atol=1e-8)


def test_logits_of_packed_words_are_packed():
    model = next(models())
    logits = model.predict(pack([np.array([1, 2]), np.array([3])]))
    assert isinstance(logits, PackedSequence)
    assert logits.data.shape == (3, V)
    assert isinstance(logits.layout, Layout)
