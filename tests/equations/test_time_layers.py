"""Layers over time: equal to the plain loop over one-step cells, right in every gradient, careful with their state."""

import copy
import math
from functools import partial

import numpy as np
import pytest
from helpers import GRADIENT_ERROR, assert_layer_gradients, normal

import common.fast.products as products
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.gradient_check import check_gradients
from common.layers import GRU, LSTM, RNN, OneGateGRU, PeepholeLSTM
from common.model import LanguageModel
from common.packing import from_rows, pack, to_rows, unpack
from common.time_layers import (
    TimeAffine,
    TimeAffineSoftmaxWithLoss,
    TimeBidirectional,
    TimeBiLSTM,
    TimeDropout,
    TimeEmbedding,
    TimeGRU,
    TimeLast,
    TimeLoop,
    TimeLSTM,
    TimeMean,
    TimeMeanSquaredError,
    TimePeepholeLSTM,
    TimeRNN,
    TimeSoftmaxWithLoss,
)

SHAPES = [(1, 1, 1, 1), (1, 7, 2, 3), (4, 1, 3, 2), (3, 5, 2, 4), (70, 3, 4, 5)]  # N, T, D, H

# Of each cell: the layer over time, the cell, and how many vectors its bias has.
CELLS = {
    "RNN": (TimeRNN, RNN, 1),
    "GRU": (TimeGRU, GRU, 3),
    "GRU, reset after": (partial(TimeGRU, reset_after=True), partial(GRU, reset_after=True), 4),
    "LSTM": (TimeLSTM, LSTM, 4),
    "peepholes": (TimePeepholeLSTM, PeepholeLSTM, 4),
}
EACH_CELL = pytest.mark.parametrize("cell", CELLS)


def weights(cell, D, H, dtype=np.float64):
    G, parts = (3 if "GRU" in cell else CELLS[cell][2]), CELLS[cell][2]
    Wh = (normal(H, G * H, seed=1) / math.sqrt(H)).astype(dtype)
    p = [normal(3 * H, seed=5, dtype=dtype)] if cell == "peepholes" else []
    return [normal(D, G * H, dtype=dtype), Wh, normal(parts * H, dtype=dtype), *p]


def time_layer(cell, D, H, dtype=np.float64, **options):
    return CELLS[cell][0](*weights(cell, D, H, dtype), **options)


def definition(cell, D, H, **options):
    return TimeLoop(CELLS[cell][1](*weights(cell, D, H)), **options)


def states(layer, N, H, seed=0):
    """A state to start from, or its gradient: h, and for an LSTM c."""
    return [normal(N, H, seed=seed + k) for k in range(len(layer.state))]


def dstates(layer):
    return [layer.dh, layer.dc] if len(layer.state) == 2 else [layer.dh]


def results(layer, xs, dhs, *dstate):
    """All that a forward and a backward compute."""
    hs, dxs = layer.forward(xs), layer.backward(dhs, *dstate)
    return [hs, *layer.state, dxs, *dstates(layer), *layer.grads]


def assert_close(ours, theirs, tolerance=1e-13):
    for a, b in zip(ours, theirs, strict=True):
        assert np.allclose(a, b, rtol=tolerance, atol=tolerance)


def words(N, T, V, seed=0):
    return np.random.default_rng(seed).integers(0, V, (N, T))


def test_rows_are_in_the_order_of_time_and_are_views_of_time_major_memory():
    x = np.arange(6).reshape(3, 2).T  # (N, T) = (2, 3), time-major in memory
    assert np.array_equal(x, [[0, 2, 4], [1, 3, 5]])
    rows, layout = to_rows(x, axes="NT")
    assert np.array_equal(rows, np.arange(6))
    assert np.shares_memory(rows, x)
    assert np.array_equal(from_rows(rows, layout), x)


# The definition: gradients by finite differences, and use in a model


@pytest.mark.parametrize("make", [definition, time_layer])
@EACH_CELL
def test_gradients_of_parameters_inputs_and_initial_state(cell, make):
    layer = make(cell, 2, 5, stateful=True)
    xs, dhs, state, dstate = normal(3, 4, 2), normal(3, 4, 5), states(layer, 3, 5), states(layer, 3, 5, seed=8)

    def loss():
        layer.set_state(*state)
        hs = layer.forward(xs)
        return float((hs * dhs).sum() + sum((s * ds).sum() for s, ds in zip(layer.state, dstate)))

    loss()
    dxs = layer.backward(dhs, *dstate)
    inputs = {"xs": xs, **dict(zip("hc", state))}
    grads = dict(zip(inputs, [dxs, *dstates(layer)])) | {p.name: p.grad for p in layer.parameters}
    errors = check_gradients(loss, inputs | {p.name: p.data for p in layer.parameters}, grads)
    assert max(errors.values()) <= GRADIENT_ERROR, errors


def test_any_cell_can_be_looped():
    xs = normal(3, 4, 2)
    layer = TimeLoop(OneGateGRU(normal(2, 10), normal(5, 10), normal(10)))
    assert_layer_gradients(layer, lambda: layer.forward(xs), {"xs": xs})


@pytest.mark.parametrize("stateful", [False, True])
def test_a_model_trains_with_the_definition_as_with_the_fast_layer(stateful):
    numbers = []
    for make in (time_layer, definition):
        rnn = make("LSTM", 2, 4, stateful=stateful)
        model = copy.deepcopy(LanguageModel([TimeEmbedding(normal(7, 2)), rnn, TimeAffine(normal(4, 7), normal(7))]))
        for window in range(3):
            numbers.append(model.forward(words(3, 5, 7, seed=window), words(3, 5, 7, seed=window + 1)))
            model.backward()
            for p, g in zip(model.params, model.grads):
                p -= 0.1 * g
        if stateful:
            numbers.append(model.state[0][1].sum())
            model.reset_state()
            assert model.state == [(None, None)]
        else:
            with pytest.raises(ValueError, match=r"forgets the window before"):
                model.check_stateful("this")
    half = len(numbers) // 2
    assert_close(numbers[:half], numbers[half:])


def test_arrays_that_a_loop_shares_with_another_layer_are_one_parameter():
    Wx, Wh, b = weights("RNN", 4, 4)
    loop = TimeLoop(RNN(Wx, Wh, b))
    model = LanguageModel([TimeEmbedding(Wx), loop, TimeAffine(normal(4, 4), normal(4))])
    W = loop.cell.Wx
    assert W is model.layers[0].W

    def loss():
        return float(model.forward(words(3, 5, 4), words(3, 5, 4, seed=1)))

    loss()
    model.backward()
    assert check_gradients(loss, {"W": W.data}, {"W": W.grad.copy()})["W"] <= GRADIENT_ERROR


# TimeX equals the definition


@pytest.mark.parametrize(("N", "T", "D", "H"), SHAPES)
@pytest.mark.parametrize("carried", [False, True])
@EACH_CELL
def test_a_sequence_equals_the_definition(cell, N, T, D, H, carried):
    xs, dhs = normal(N, T, D), normal(N, T, H, seed=3)
    found = []
    for make in (time_layer, definition):
        layer = make(cell, D, H, stateful=carried)
        if carried:
            layer.set_state(*states(layer, N, H))
        found.append(results(layer, xs, dhs, *(states(layer, N, H, seed=8) if carried else ())))
        found[-1] += results(layer, xs[:, ::-1], dhs)  # the next window
    assert_close(*found, tolerance=1e-12)


@EACH_CELL
def test_sequences_of_many_lengths_equal_the_definition_of_each(cell):
    xs, dhs = ([normal(T, width, seed=T) for T in (2, 6, 3)] for width in (2, 4))
    layer, alone = time_layer(cell, 2, 4), definition(cell, 2, 4)
    hs, dxs = unpack(layer.forward(pack(xs))), unpack(layer.backward(pack(dhs)))
    order = pack(xs).layout.inverse_order
    sums = [np.zeros_like(g) for g in layer.grads]
    for n in range(3):
        expected = results(alone, xs[n][None], dhs[n][None])
        ours = [hs[n], *(s[order[n]] for s in layer.state), dxs[n], *(d[order[n]] for d in dstates(layer))]
        assert_close([a[None] for a in ours], expected[: len(ours)])
        sums = [total + g for total, g in zip(sums, alone.grads)]
    assert_close(layer.grads, sums)


def laid_out(x, axes):
    """x, (N, T, D), with its axes in memory in this order, the last one densest."""
    return np.ascontiguousarray(x.transpose(axes)).transpose(np.argsort(axes))


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 1, 0), (2, 0, 1)], ids=str)
@pytest.mark.parametrize("cached", [1, 60])
@EACH_CELL
def test_blocks_of_steps_a_large_Wh_and_the_layout_of_what_comes_in_change_nothing(monkeypatch, cell, cached, axes):
    xs, dhs = normal(3, 7, 2), normal(3, 7, 4, seed=1)
    expected = results(definition(cell, 2, 4), xs, dhs)
    monkeypatch.setattr(products, "_CACHED", cached)
    given = laid_out(xs, axes), laid_out(dhs, axes)
    assert_close(results(time_layer(cell, 2, 4), *given), expected)
    assert np.array_equal(given[0], xs)  # and it is left as it was
    assert np.array_equal(given[1], dhs)


@EACH_CELL
def test_distinct_rows_give_what_all_rows_give(cell):
    xs, dhs = words(4, 40, 12), normal(4, 40, 5)
    found = []
    for distinct in (False, True):
        embedding, rnn = TimeEmbedding(normal(12, 3), distinct=distinct), time_layer(cell, 3, 5, stateful=True)
        rnn.set_state(*states(rnn, 4, 5))
        hs = rnn.forward(embedding.forward(xs))
        embedding.backward(rnn.backward(dhs))
        found.append([hs, *rnn.state, *dstates(rnn), *rnn.grads, *embedding.grads])
    assert_close(*found, tolerance=1e-12)


@pytest.mark.parametrize("word", [-1, 12])
def test_a_word_that_is_not_there_is_refused_with_distinct_rows_too(word):
    with pytest.raises(IndexError, match=rf"word ids must be in \[0, 12\), got {word}"):
        TimeEmbedding(normal(12, 3), distinct=True).forward(np.array([[7, word]]))


def test_distinct_rows_hold_each_word_once():
    rows = TimeEmbedding(normal(12, 3), distinct=True).forward(np.array([[7, 2, 7], [2, 2, 9]]))
    assert (rows.layout.N, rows.layout.T) == (2, 3)
    assert np.array_equal(rows.rows, normal(12, 3)[[7, 2, 9]])


def other(layer):
    """The same layer with other weights, so that it cannot be taken for the first."""
    for p in layer.parameters:
        p.data *= -0.7
    return layer


@pytest.mark.parametrize("cells", [("RNN", "GRU"), ("LSTM", "LSTM"), ("peepholes", "GRU, reset after")], ids=str)
def test_bidirectional_is_a_layer_that_reads_forward_and_one_that_reads_backward(cells):
    xs, dhs = normal(3, 4, 2), normal(3, 4, 10)
    layer = TimeBidirectional(time_layer(cells[0], 2, 5), other(time_layer(cells[1], 2, 5)))
    hs, dxs = layer.forward(xs), layer.backward(dhs)
    forward_layer, backward_layer = definition(cells[0], 2, 5), other(definition(cells[1], 2, 5))
    expected = [forward_layer.forward(xs), backward_layer.forward(xs[:, ::-1])[:, ::-1]]
    dx = forward_layer.backward(dhs[..., :5]) + backward_layer.backward(dhs[:, ::-1, 5:])[:, ::-1]
    found = [hs[..., :5], hs[..., 5:], dxs, *layer.grads]
    assert_close(found, [*expected, dx, *forward_layer.grads, *backward_layer.grads])


def test_bi_lstm_is_bidirectional():
    one, two = time_layer("LSTM", 2, 5), other(time_layer("LSTM", 2, 5))
    layer = TimeBiLSTM(*one.params, *two.params)
    assert np.array_equal(layer.forward(normal(3, 4, 2)), TimeBidirectional(one, two).forward(normal(3, 4, 2)))
    for ours, theirs in zip(layer.params, one.params + two.params, strict=True):
        assert ours is theirs


@pytest.mark.parametrize("stateful", [(True, False), (False, True)])
def test_a_bidirectional_layer_cannot_be_stateful(stateful):
    with pytest.raises(ValueError, match="cannot carry its state"):
        TimeBidirectional(*(time_layer("RNN", 2, 5, stateful=one) for one in stateful))


@pytest.mark.parametrize(("reset_after", "parts"), [(False, 4), (True, 3)])
@pytest.mark.parametrize("layer_class", [GRU, TimeGRU])
def test_a_gru_bias_of_the_other_form_is_refused(layer_class, reset_after, parts):
    Wx, Wh, _ = weights("GRU", 2, 5)
    with pytest.raises(ValueError, match=rf"GRU needs .* b \({5 * (7 - parts)},\), got .* b \({5 * parts},\)"):
        layer_class(Wx, Wh, normal(5 * parts), reset_after=reset_after)


# Layers without a state


def masked(layer):
    """A dropout that draws the same mask each time."""
    layer.forward_with_new_mask = layer.forward

    def forward(xs):
        layer.rng = np.random.default_rng(5)
        return layer.forward_with_new_mask(xs)

    layer.forward = forward
    return layer


OTHERS = {
    "affine": TimeAffine(normal(2, 5), normal(5)),
    "dropout": masked(TimeDropout(0.5)),
    "locked dropout": masked(TimeDropout(0.5, locked=True)),
    "mean": TimeMean(),
    "last": TimeLast(),
    "both ends": TimeLast(bidirectional=True),
}


@pytest.mark.parametrize("name", OTHERS)
def test_gradients_of_layers_without_a_state(name):
    layer, xs = OTHERS[name], normal(3, 4, 2)
    assert_layer_gradients(layer, lambda: layer.forward(xs), {"xs": xs})


def test_time_embedding_gradients():
    xs = words(3, 50, 6)  # 150 words: more than one block of the sum over equal words
    layer = TimeEmbedding(normal(6, 2))
    assert_layer_gradients(layer, lambda: layer.forward(xs), {})


def test_one_hot_labels_are_labels():
    xs, ts = normal(3, 4, 5), words(3, 4, 5)
    assert TimeSoftmaxWithLoss().forward(xs, np.eye(5)[ts]) == TimeSoftmaxWithLoss().forward(xs, ts)


@pytest.mark.parametrize("ignored", [[], [(0, 0), (2, 3)]])
def test_time_softmax_with_loss_gradients(ignored):
    xs, ts = normal(3, 4, 5), words(3, 4, 5)
    for place in ignored:
        ts[place] = -1
    layer = TimeSoftmaxWithLoss()
    assert_layer_gradients(layer, lambda: layer.forward(xs, ts), {"xs": xs})


def test_time_mean_squared_error_is_the_mean_over_all_steps():
    xs, ts = normal(2, 3, 1), normal(2, 3, 1, seed=1)
    layer = TimeMeanSquaredError()
    assert layer.forward(xs, ts) == pytest.approx(((xs - ts) ** 2).mean(), rel=1e-14)
    assert np.allclose(layer.backward(3.0), 3 * 2 * (xs - ts) / 6, rtol=0, atol=1e-15)


# The carried state


@pytest.mark.parametrize("make", [definition, time_layer])
@EACH_CELL
def test_two_windows_with_a_carried_state_equal_one(cell, make):
    xs = normal(3, 10, 2)
    whole, layer = make(cell, 2, 4), make(cell, 2, 4, stateful=True)
    once = whole.forward(xs)
    twice = np.concatenate([layer.forward(xs[:, :4]), layer.forward(xs[:, 4:])], axis=1)
    assert_close([twice, *layer.state], [once, *whole.state], tolerance=1e-15)


@pytest.mark.parametrize("make", [definition, time_layer])
@EACH_CELL
def test_state_can_be_taken_set_and_reset(cell, make):
    layer, xs = make(cell, 2, 4, stateful=True), normal(3, 5, 2)
    fresh = layer.forward(xs)
    state = layer.state
    continued = layer.forward(xs)
    layer.set_state(*state)
    assert np.array_equal(layer.forward(xs), continued)
    layer.reset_state()
    assert all(part is None for part in layer.state)
    assert np.array_equal(layer.forward(xs), fresh)
    layer.set_state(*(np.zeros((3, 4)) for _ in state))
    assert np.array_equal(layer.forward(xs), fresh)
    layer = make(cell, 2, 4)
    for _ in range(2):  # without stateful, each window starts from zeros
        assert np.array_equal(layer.forward(xs), fresh)


@pytest.mark.parametrize("make", [definition, time_layer])
@EACH_CELL
def test_without_stateful_no_state_can_be_set(cell, make):
    layer = make(cell, 2, 4)
    with pytest.raises(ValueError, match=r"starts each \w+ from zeros; .* make it with stateful=True"):
        layer.set_state(*states(layer, 3, 4))
    layer.reset_state()


def test_an_lstm_has_two_states_and_a_cell_state_that_is_not_given_is_zeros():
    layer = time_layer("LSTM", 2, 4, stateful=True)
    h, _ = states(layer, 3, 4)
    layer.set_state(h, np.zeros((3, 4)))
    expected = layer.forward(normal(3, 5, 2))
    layer.set_state(h)
    assert np.array_equal(layer.forward(normal(3, 5, 2)), expected)
    with pytest.raises(ValueError, match=r"c must have shape \(3, 4\), got \(1, 4\)"):
        layer.set_state(np.zeros((3, 4)), np.zeros((1, 4)))


@EACH_CELL
def test_outputs_outlive_the_next_window_a_second_backward_is_the_same_and_hs_cannot_be_changed(cell):
    layer = time_layer(cell, 2, 4, stateful=True)
    first = [layer.forward(normal(3, 5, 2)), layer.backward(normal(3, 5, 4)), *layer.state, *dstates(layer)]
    kept, grads = [a.copy() for a in first], [g.copy() for g in layer.grads]
    for a, b in zip([layer.backward(normal(3, 5, 4)), *layer.grads], [kept[1], *grads], strict=True):
        assert np.array_equal(a, b)
    layer.forward(normal(3, 5, 2, seed=1))
    layer.backward(normal(3, 5, 4, seed=1))
    for a, copied in zip(first, kept):
        assert np.array_equal(a, copied)
    with pytest.raises(ValueError, match="read-only"):
        first[0] *= 0.5


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


# Numbers


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_the_gradient_of_the_input_has_the_dtype_of_the_weights(dtype):
    rnn = time_layer("RNN", 3, 5)
    rnn.forward(np.ones((4, 2, 3), dtype))
    assert rnn.backward(normal(4, 2, 5)).dtype == np.float64


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


@pytest.mark.parametrize("locked", [False, True])
def test_masks_are_drawn_for_each_step_or_if_locked_for_each_window(locked):
    layer, rng = TimeDropout(0.3, np.random.default_rng(7), locked), np.random.default_rng(7)
    for _ in range(2):
        ys = layer.forward(np.ones((2, 3, 4)))
        drawn = rng.random((2, 1, 4) if locked else (3, 2, 4), dtype=np.float32) >= 0.3  # steps first, unless locked
        expected = (drawn if locked else drawn.swapaxes(0, 1)) / 0.7
        assert np.allclose(ys, np.broadcast_to(expected, ys.shape), rtol=0, atol=1e-15)
    assert TimeDropout().p == 0.5
    layer.training = False  # the mask that was left must not be used
    assert np.array_equal(layer.forward(normal(2, 3, 4)), normal(2, 3, 4))
    assert np.array_equal(layer.backward(normal(2, 3, 4)), normal(2, 3, 4))


# A cell of one's own in a model


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_language_model_trains_with_the_plain_loop_over_a_cell(dropout):
    class LoopLm(SimpleRnnlm):
        def make_layers(self, V, D, H, init):
            embedding, rnn, affine = super().make_layers(V, D, H, init)
            return [embedding, TimeLoop(RNN(rnn.Wx, rnn.Wh, rnn.b), stateful=True), affine]

    xs = words(3, 5, 7)
    for layers in (1, 2):
        ours, theirs = (
            model(7, 4, 4, layers=layers, dropout=dropout, rng=np.random.default_rng(0), dtype=float)
            for model in (LoopLm, SimpleRnnlm)
        )
        for model in (ours, theirs):
            for _ in range(2):
                model.forward(xs, xs)
                model.backward()
        assert_close(ours.grads, theirs.grads)


def test_the_plain_loop_refuses_packed_sequences():
    with pytest.raises(TypeError, match="sequences of one length"):
        definition("RNN", 2, 4).forward(pack([normal(3, 2), normal(2, 2)]))
