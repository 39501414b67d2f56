"""Layers over time: equal to T single steps, right in every gradient, and careful with the carried state."""

import math

import numpy as np
import pytest
from helpers import GRADIENT_ERROR, assert_layer_gradients, normal

import common.fast.products as products
from common.gradient_check import check_gradients
from common.layers import GRU, LSTM, RNN
from common.packing import from_rows, to_rows
from common.time_layers import (
    TimeAffine,
    TimeAffineSoftmaxWithLoss,
    TimeBidirectional,
    TimeBiLSTM,
    TimeDropout,
    TimeEmbedding,
    TimeGRU,
    TimeLast,
    TimeLSTM,
    TimeMean,
    TimeMeanSquaredError,
    TimeRNN,
    TimeSoftmaxWithLoss,
)

SHAPES = [(1, 1, 1, 1), (1, 7, 2, 3), (4, 1, 3, 2), (3, 5, 2, 4), (70, 3, 4, 5)]  # N, T, D, H


# Of each cell: gates, parts of the bias, the layer over time, and the layer of one step.
CELLS = {
    "RNN": (1, 1, TimeRNN, RNN),
    "GRU": (3, 3, TimeGRU, GRU),
    "GRU, reset after": (
        3,
        4,
        lambda *weights, **options: TimeGRU(*weights, **options, reset_after=True),
        lambda *weights: GRU(*weights, reset_after=True),
    ),
    "LSTM": (4, 4, TimeLSTM, LSTM),
    "LSTM, peepholes": (
        4,
        4,
        lambda Wx, Wh, b, **options: TimeLSTM(Wx, Wh, b, **options, p=peepholes(Wh)),
        lambda Wx, Wh, b: LSTM(Wx, Wh, b, peepholes(Wh)),
    ),
}
EACH_CELL = pytest.mark.parametrize("cell", CELLS)


def weights(D, H, dtype=np.float64, cell="RNN"):
    gates, parts, _, _ = CELLS[cell]
    Wh = (normal(H, gates * H, seed=1) / math.sqrt(H)).astype(dtype)
    return normal(D, gates * H, dtype=dtype), Wh, normal(parts * H, dtype=dtype)


def peepholes(Wh):
    return normal(3 * len(Wh), seed=5, dtype=Wh.dtype)


def time_layer(cell, D, H, dtype=np.float64, **options):
    return CELLS[cell][2](*weights(D, H, dtype, cell), **options)


def states(layer, N, H):
    """A state to start from: h, and for an LSTM c."""
    return [normal(N, H, seed=k) for k in range(len(layer.state))]


def dstates(layer):
    return [layer.dh, layer.dc] if isinstance(layer, TimeLSTM) else [layer.dh]


def words(N, T, V, seed=0):
    return np.random.default_rng(seed).integers(0, V, (N, T))


def test_rows_are_in_the_order_of_time_and_are_views_of_time_major_memory():
    x = np.arange(6).reshape(3, 2).T  # (N, T) = (2, 3), time-major in memory
    assert np.array_equal(x, [[0, 2, 4], [1, 3, 5]])
    rows, layout = to_rows(x, axes="NT")
    assert np.array_equal(rows, np.arange(6))
    assert np.shares_memory(rows, x)
    assert np.array_equal(from_rows(rows, layout), x)


# TimeX equals T times X


@pytest.mark.parametrize(("N", "T", "D", "H"), SHAPES)
@pytest.mark.parametrize("carried", [False, True])
@EACH_CELL
def test_a_sequence_equals_its_steps(cell, N, T, D, H, carried):
    xs, dhs = normal(N, T, D), normal(N, T, H, seed=3)
    layer = time_layer(cell, D, H, stateful=carried)
    state = states(layer, N, H)
    if carried:
        layer.set_state(*state)
    else:
        state = [np.zeros((N, H)) for _ in state]
    hs = layer.forward(xs)
    dxs = layer.backward(dhs)

    steps = [CELLS[cell][3](*weights(D, H, cell=cell)) for _ in range(T)]
    for t, step in enumerate(steps):
        state = step.forward(xs[:, t], *state)
        state = state if isinstance(state, tuple) else (state,)
        assert np.allclose(hs[:, t], state[0], rtol=0, atol=1e-14)
    for ours, theirs in zip(layer.state, state, strict=True):
        assert np.allclose(ours, theirs, rtol=0, atol=1e-14)
    dstate = [np.zeros((N, H)) for _ in state]
    for t in reversed(range(T)):
        dx, *dstate = steps[t].backward(dhs[:, t] + dstate[0], *dstate[1:])
        assert np.allclose(dxs[:, t], dx, rtol=0, atol=1e-13)
    for ours, theirs in zip(dstates(layer), dstate, strict=True):
        assert np.allclose(ours, theirs, rtol=0, atol=1e-13)
    for ours, theirs in zip(layer.grads, zip(*(step.grads for step in steps)), strict=True):
        assert np.allclose(ours, sum(theirs), rtol=1e-12, atol=1e-12)


@EACH_CELL
@pytest.mark.parametrize("cached", [1, 60])
def test_blocks_of_steps_and_a_large_Wh_change_nothing(monkeypatch, cell, cached):
    def run():
        layer = time_layer(cell, 2, 4, stateful=True)
        layer.set_state(*states(layer, 3, 4))
        hs, dxs = layer.forward(normal(3, 7, 2)), layer.backward(normal(3, 7, 4))
        return [hs, dxs, *layer.state, *dstates(layer), *layer.grads]

    expected = run()
    monkeypatch.setattr(products, "_CACHED", cached)
    for ours, theirs in zip(run(), expected, strict=True):
        assert np.allclose(ours, theirs, rtol=0, atol=1e-13)


def laid_out(x, axes):
    """x, (N, T, D), with its axes in memory in this order, the last one densest."""
    return np.ascontiguousarray(x.transpose(axes)).transpose(np.argsort(axes))


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 1, 0), (2, 0, 1)], ids=str)
@EACH_CELL
def test_the_layout_of_what_comes_in_does_not_matter(cell, axes):
    xs, dhs = normal(3, 5, 2), normal(3, 5, 4, seed=1)
    results = []
    for x, dh in ((xs, dhs), (laid_out(xs, axes), laid_out(dhs, axes))):
        layer = time_layer(cell, 2, 4)
        results.append([layer.forward(x), layer.backward(dh), *dstates(layer), *layer.grads])
        assert np.array_equal(x, xs)  # and it is left as it was
        assert np.array_equal(dh, dhs)
    for plain, other in zip(*results, strict=True):
        assert np.allclose(plain, other, rtol=0, atol=1e-13)


# Gradients


@pytest.mark.parametrize("stateful", [False, True])
@EACH_CELL
def test_recurrent_gradients(cell, stateful):
    xs = normal(3, 4, 2)
    layer = time_layer(cell, 2, 5, stateful=stateful)
    state = states(layer, 3, 5)

    def forward():
        if stateful:
            layer.set_state(*state)
        return layer.forward(xs)

    assert_layer_gradients(layer, forward, {"xs": xs})


@EACH_CELL
def test_gradient_of_the_initial_state(cell):
    xs, dhs = normal(3, 4, 2), normal(3, 4, 5)
    layer = time_layer(cell, 2, 5, stateful=True)
    state = states(layer, 3, 5)

    def loss():
        layer.set_state(*state)
        return float((layer.forward(xs) * dhs).sum())

    loss()
    layer.backward(dhs)
    errors = check_gradients(loss, dict(enumerate(state)), dict(enumerate(dstates(layer))))
    assert max(errors.values()) <= GRADIENT_ERROR


@pytest.mark.parametrize("cells", [("RNN", "GRU"), ("LSTM", "LSTM"), ("LSTM, peepholes", "GRU, reset after")], ids=str)
def test_bidirectional_gradients(cells):
    xs = normal(3, 4, 2)
    layer = TimeBidirectional(*(time_layer(cell, 2, 5) for cell in cells))
    for k, p in enumerate(layer.parameters):
        p.name = str(k)
    assert_layer_gradients(layer, lambda: layer.forward(xs), {"xs": xs})


def other(layer):
    """The same layer with other weights, so that it cannot be taken for the first."""
    for p in layer.parameters:
        p.data *= -0.7
    return layer


@pytest.mark.parametrize("cells", [("RNN", "GRU"), ("LSTM", "LSTM"), ("LSTM, peepholes", "GRU, reset after")], ids=str)
def test_bidirectional_is_a_layer_that_reads_ahead_and_one_that_reads_back(cells):
    xs, dhs = normal(3, 4, 2), normal(3, 4, 10)
    layer = TimeBidirectional(time_layer(cells[0], 2, 5), other(time_layer(cells[1], 2, 5)))
    hs, dxs = layer.forward(xs), layer.backward(dhs)
    ahead, back = time_layer(cells[0], 2, 5), other(time_layer(cells[1], 2, 5))
    assert np.allclose(hs[..., :5], ahead.forward(xs), rtol=0, atol=1e-15)
    assert np.allclose(hs[:, ::-1, 5:], back.forward(xs[:, ::-1]), rtol=0, atol=1e-15)
    expected = ahead.backward(dhs[..., :5]) + back.backward(dhs[:, ::-1, 5:])[:, ::-1]
    assert np.allclose(dxs, expected, rtol=0, atol=1e-14)
    for ours, theirs in zip(layer.grads, ahead.grads + back.grads, strict=True):
        assert np.allclose(ours, theirs, rtol=0, atol=1e-13)


def test_bi_lstm_is_bidirectional():
    ahead, back = time_layer("LSTM", 2, 5), other(time_layer("LSTM", 2, 5))
    layer = TimeBiLSTM(*ahead.params, *back.params)
    expected = TimeBidirectional(ahead, back).forward(normal(3, 4, 2))
    assert np.array_equal(layer.forward(normal(3, 4, 2)), expected)
    for ours, theirs in zip(layer.params, ahead.params + back.params, strict=True):
        assert ours is theirs


@pytest.mark.parametrize("stateful", [(True, False), (False, True)])
def test_a_bidirectional_layer_cannot_be_stateful(stateful):
    with pytest.raises(ValueError, match="cannot carry its state"):
        TimeBidirectional(*(time_layer("RNN", 2, 5, stateful=one) for one in stateful))


@pytest.mark.parametrize(("reset_after", "parts"), [(False, 4), (True, 3)])
def test_a_gru_bias_of_the_other_form_is_refused(reset_after, parts):
    Wx, Wh, _ = weights(2, 5, cell="GRU")
    with pytest.raises(ValueError, match=rf"b \({5 * (7 - parts)},\), got .* b \({5 * parts},\)"):
        TimeGRU(Wx, Wh, normal(5 * parts), reset_after=reset_after)


def test_time_affine_gradients():
    xs = normal(3, 4, 2)
    layer = TimeAffine(normal(2, 5), normal(5))
    assert_layer_gradients(layer, lambda: layer.forward(xs), {"xs": xs})


def test_time_embedding_gradients():
    xs = words(3, 50, 6)  # 150 words: more than one block of the sum over equal words
    layer = TimeEmbedding(normal(6, 2))
    assert_layer_gradients(layer, lambda: layer.forward(xs), {})


@pytest.mark.parametrize("locked", [False, True])
def test_time_dropout_gradients(locked):
    xs = normal(3, 4, 2)
    layer = TimeDropout(0.5, np.random.default_rng(), locked)

    def forward():
        layer.rng = np.random.default_rng(5)
        return layer.forward(xs)

    assert_layer_gradients(layer, forward, {"xs": xs})


@pytest.mark.parametrize("ignored", [[], [(0, 0), (2, 3)]])
def test_time_softmax_with_loss_gradients(ignored):
    xs, ts = normal(3, 4, 5), words(3, 4, 5)
    for place in ignored:
        ts[place] = -1
    layer = TimeSoftmaxWithLoss()
    assert_layer_gradients(layer, lambda: layer.forward(xs, ts), {"xs": xs})


def test_time_identity_with_loss_is_the_mean_over_all_steps():
    xs, ts = normal(2, 3, 1), normal(2, 3, 1, seed=1)
    layer = TimeMeanSquaredError()
    assert layer.forward(xs, ts) == pytest.approx(((xs - ts) ** 2).mean(), rel=1e-14)
    assert np.allclose(layer.backward(3.0), 3 * 2 * (xs - ts) / 6, rtol=0, atol=1e-15)
    assert_layer_gradients(layer, lambda: layer.forward(xs, ts), {"xs": xs})


@pytest.mark.parametrize("layer", [TimeMean(), TimeLast(), TimeLast(bidirectional=True)])
def test_pool_gradients(layer):
    xs = normal(3, 4, 2)
    assert_layer_gradients(layer, lambda: layer.forward(xs), {"xs": xs})


# Distinct words


@EACH_CELL
def test_distinct_rows_give_what_all_rows_give(cell):
    xs, dhs = words(4, 40, 12), normal(4, 40, 5)
    results = []
    for distinct in (False, True):
        embedding = TimeEmbedding(normal(12, 3), distinct=distinct)
        rnn = time_layer(cell, 3, 5, stateful=True)
        rnn.set_state(*states(rnn, 4, 5))
        hs = rnn.forward(embedding.forward(xs))
        embedding.backward(rnn.backward(dhs))
        results.append([hs, *rnn.state, *dstates(rnn), *rnn.grads, *embedding.grads])
    for plain, distinct in zip(*results):
        assert np.allclose(plain, distinct, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_the_gradient_of_the_input_has_the_dtype_of_the_weights(dtype):
    rnn = time_layer("RNN", 3, 5)
    rnn.forward(np.ones((4, 2, 3), dtype))
    assert rnn.backward(normal(4, 2, 5)).dtype == np.float64


def test_distinct_rows_hold_each_word_once():
    rows = TimeEmbedding(normal(12, 3), distinct=True).forward(np.array([[7, 2, 7], [2, 2, 9]]))
    assert (rows.layout.N, rows.layout.T) == (2, 3)
    assert np.array_equal(rows.rows, normal(12, 3)[[7, 2, 9]])


@EACH_CELL
def test_a_second_backward_gives_the_same_gradients(cell):
    rnn, dhs = time_layer(cell, 5, 6), normal(3, 4, 6)
    rnn.forward(normal(3, 4, 5))
    first = [rnn.backward(dhs).copy(), *(g.copy() for g in rnn.grads)]
    for a, b in zip(first, [rnn.backward(dhs), *rnn.grads]):
        assert np.array_equal(a, b)


# The carried state


@EACH_CELL
def test_two_windows_with_a_carried_state_equal_one(cell):
    xs = normal(3, 10, 2)
    whole = time_layer(cell, 2, 4)
    once = whole.forward(xs)
    layer = time_layer(cell, 2, 4, stateful=True)
    twice = np.concatenate([layer.forward(xs[:, :4]), layer.forward(xs[:, 4:])], axis=1)
    assert np.allclose(once, twice, rtol=0, atol=1e-15)
    for ours, theirs in zip(layer.state, whole.state, strict=True):
        assert np.allclose(ours, theirs, rtol=0, atol=1e-15)


@EACH_CELL
def test_without_stateful_each_sequence_starts_from_zeros(cell):
    layer = time_layer(cell, 2, 4)
    xs = normal(3, 5, 2)
    first = layer.forward(xs)
    assert np.array_equal(layer.forward(xs), first)
    with pytest.raises(ValueError, match=r"starts each sequence from zeros; .* make it with stateful=True"):
        layer.set_state(*states(layer, 3, 4))
    layer.reset_state()
    layer = time_layer(cell, 2, 4, stateful=True)
    layer.set_state(*(np.zeros((3, 4)) for _ in layer.state))
    assert np.array_equal(layer.forward(xs), first)


@EACH_CELL
def test_state_can_be_taken_set_and_reset(cell):
    layer = time_layer(cell, 2, 4, stateful=True)
    xs = normal(3, 5, 2)
    fresh = layer.forward(xs)
    state = layer.state
    continued = layer.forward(xs)
    layer.set_state(*state)
    assert np.array_equal(layer.forward(xs), continued)
    layer.reset_state()
    assert all(part is None for part in layer.state)
    assert np.array_equal(layer.forward(xs), fresh)


def test_an_lstm_has_two_states_and_a_memory_that_is_not_given_is_zeros():
    layer = time_layer("LSTM", 2, 4, stateful=True)
    h, _ = states(layer, 3, 4)
    layer.set_state(h, np.zeros((3, 4)))
    expected = layer.forward(normal(3, 5, 2))
    layer.set_state(h)
    assert np.array_equal(layer.forward(normal(3, 5, 2)), expected)


@EACH_CELL
def test_outputs_of_one_window_outlive_the_next(cell):
    layer = time_layer(cell, 2, 4, stateful=True)
    first = [layer.forward(normal(3, 5, 2)), layer.backward(normal(3, 5, 4)), *layer.state, *dstates(layer)]
    kept = [a.copy() for a in first]
    layer.forward(normal(3, 5, 2, seed=1))
    layer.backward(normal(3, 5, 4, seed=1))
    for a, copy in zip(first, kept):
        assert np.array_equal(a, copy)


@EACH_CELL
def test_outputs_that_backward_needs_cannot_be_changed(cell):
    hs = time_layer(cell, 2, 4).forward(normal(3, 5, 2))
    with pytest.raises(ValueError, match="read-only"):
        hs *= 0.5


@pytest.mark.parametrize(("carried", "N"), [(3, 2), (2, 3), (1, 3)])
@EACH_CELL
def test_a_batch_of_another_size_is_refused_by_name_of_both(cell, carried, N):
    layer = time_layer(cell, 2, 4, stateful=True)
    layer.forward(normal(carried, 5, 2))
    message = rf"{type(layer).__name__} .* batch of {carried} sequences, but this batch has {N}; call reset_state"
    with pytest.raises(ValueError, match=message):
        layer.forward(normal(N, 5, 2))
    layer.reset_state()
    assert layer.forward(normal(N, 5, 2)).shape == (N, 5, 4)


def test_a_memory_of_another_batch_size_is_refused_too():
    layer = time_layer("LSTM", 2, 4, stateful=True)
    with pytest.raises(ValueError, match=r"c must have shape \(3, 4\), got \(1, 4\)"):
        layer.set_state(np.zeros((3, 4)), np.zeros((1, 4)))


# Numbers


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@EACH_CELL
def test_dtype_follows_the_parameters(cell, dtype):
    embedding = TimeEmbedding(normal(7, 2, dtype=dtype), distinct=True)
    rnn = time_layer(cell, 2, 4, dtype)
    dropout = TimeDropout(0.5, np.random.default_rng(0))
    loss = TimeAffineSoftmaxWithLoss(normal(4, 7, dtype=dtype), normal(7, dtype=dtype))
    xs = words(3, 5, 7)
    hs = dropout.forward(rnn.forward(embedding.forward(xs)))
    value = loss.forward(hs, xs)
    dhs = dropout.backward(loss.backward(2.0))
    embedding.backward(rnn.backward(dhs))
    arrays = [hs, dhs, value, *dstates(rnn), *rnn.state, *loss.grads, *rnn.grads, *embedding.grads]
    assert {a.dtype for a in arrays} == {np.dtype(dtype)}


def test_dropout_masks_differ_from_step_to_step():
    ys = TimeDropout(0.5, np.random.default_rng(0)).forward(np.ones((2, 3, 50)))
    assert not np.array_equal(ys[:, 0], ys[:, 1])


def test_a_locked_mask_is_the_same_at_all_steps_and_another_in_the_next_window():
    layer = TimeDropout(0.5, np.random.default_rng(0), locked=True)
    ys = layer.forward(np.ones((2, 3, 50)))
    assert np.array_equal(ys[:, 0], ys[:, 1])
    assert not np.array_equal(ys[0], ys[1])
    assert not np.array_equal(layer.forward(np.ones((2, 3, 50))), ys)


def test_a_locked_dropout_does_nothing_in_evaluation():
    layer = TimeDropout(0.5, np.random.default_rng(0), locked=True)
    xs = normal(2, 3, 50)
    layer.forward(xs)  # leaves a mask, which must not be used below
    layer.training = False
    assert np.array_equal(layer.forward(xs), xs)
    assert np.array_equal(layer.backward(xs), xs)


def test_a_locked_mask_drops_a_share_p_and_keeps_the_mean():
    ys = TimeDropout(0.3, np.random.default_rng(0), locked=True).forward(np.ones((300, 2, 300)))
    assert (ys == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert ys.mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("locked", [False, True])
def test_masks_of_one_seed_are_always_the_same(locked):
    layer, rng = TimeDropout(0.5, np.random.default_rng(7), locked), np.random.default_rng(7)
    for _ in range(2):
        ys = layer.forward(np.ones((2, 3, 4)))
        drawn = rng.random((2, 1, 4) if locked else (3, 2, 4), dtype=np.float32) >= 0.5  # steps first, unless locked
        assert np.array_equal(ys, np.broadcast_to(2.0 * (drawn if locked else drawn.swapaxes(0, 1)), ys.shape))
