"""Unusual uses of layers and models: the result is right, or an error says in one sentence what is wrong."""

import copy
import multiprocessing
import pickle
import threading
import warnings

import numpy as np
import pytest
from helpers import normal as f

from ch05_rnn.rnn_classifier import RnnClassifier
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated.better_lstm_lm import BetterLstmLm
from ch06_gated.gru_lm import GruLm
from ch06_gated.lstm_lm import LstmLm
from common.batching import SentenceBatches
from common.evaluation import evaluate, perplexity
from common.generation import generate
from common.layers import (
    GRU,
    LSTM,
    RNN,
    Affine,
    Embedding,
    Gate,
    Layer,
    MatMul,
    MeanSquaredError,
    SigmoidWithLoss,
    SoftmaxWithLoss,
)
from common.model import LanguageModel, Model
from common.optimizer import SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSprop, clip_grads
from common.packing import pack
from common.parameter import Parameter
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
    TimePeepholeLSTM,
    TimeRNN,
    TimeSoftmaxWithLoss,
)
from common.trainer import RnnlmTrainer, Trainer

V, D, H = 20, 8, 8
rng = np.random.default_rng
RNG = rng()
IDS = rng(0).integers(0, V, 501)
X, T = IDS[:20].reshape(2, 10), IDS[1:21].reshape(2, 10)
DROPOUT = {"dropout": 0.5}


def new(model=SimpleRnnlm, **options):
    return model(V, D, H, rng=rng(0), **options)


def same(arrays, others):
    return all(np.array_equal(a, b) for a, b in zip(arrays, others, strict=True))


def train(model, epochs=2):
    RnnlmTrainer(model, Adam(0.01)).fit(IDS[:-1], IDS[1:], epochs, 5, 10, max_grad=1.0, verbose=False)
    return model


# Copies

EACH_MODEL = pytest.mark.parametrize(
    ("model", "options"),
    [
        (SimpleRnnlm, {}),
        (LstmLm, {"peepholes": True}),
        (GruLm, {"layers": 2}),
        (BetterLstmLm, {}),
        (SimpleRnnlm, DROPOUT),
    ],
    ids=["RNN", "LSTM", "GRU", "tied", "dropout"],
)


def figure(model):
    return perplexity(evaluate(model, IDS[:-1], IDS[1:]))


def save_and_load(model, path):
    model.save(path)
    other = copy.deepcopy(model)
    for w in other.params:
        w[...] = 0
    other.load(path)
    return other


@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
@pytest.mark.parametrize("how", ["deepcopy", "pickle", "load into a copy"])
@EACH_MODEL
def test_a_copy_is_as_good_as_the_original(tmp_path, model, options, how, trained):
    original = new(model, **options)
    if trained:
        train(original)
        original.reset_state()
        original.forward(X, T)  # between forward and backward
    ways = {"deepcopy": copy.deepcopy, "pickle": lambda m: pickle.loads(pickle.dumps(m))}
    other = ways[how](original) if how in ways else save_and_load(original, tmp_path / "weights.npz")
    assert not any(np.shares_memory(a, b) for a, b in zip(original.params, other.params))
    before = figure(original)
    assert figure(other) == before
    for m in (original, other):
        m.reset_state()
        train(m)
    assert figure(other) == pytest.approx(figure(original), rel=1e-4)
    assert figure(other) != before


def test_a_shallow_copy_shares_all():
    original = new()
    other = copy.copy(original)
    train(other)
    assert figure(other) == figure(original)


@pytest.mark.parametrize("copy_list_first", [False, True])
def test_a_readers_model_that_holds_ours_is_copied_whole(copy_list_first):
    class Mine:
        def __init__(self):
            if copy_list_first:
                self.params = self.grads = None
            self.model = new()
            self.params, self.grads = self.model.params, self.model.grads

    mine = copy.deepcopy(Mine())
    before = mine.model.params[0].copy()
    mine.model.forward(X, T)
    mine.model.backward()
    SGD(0.5).update(mine.params, mine.grads)
    assert not np.array_equal(mine.model.params[0], before)
    assert mine.params[0] is mine.model.layers[0].W.data


def _figure_after_training(model):
    return figure(train(model))


def test_a_model_trains_in_another_process():
    model = train(new(LstmLm), 1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(_figure_after_training, (model,))
    assert there == pytest.approx(figure(train(model)), rel=1e-4)


def test_arrays_taken_before_are_those_that_train():
    """Arrays with which a reader makes layers stay the arrays of the parameters, and so do lists of them."""
    W, rnn = f(V, D), [f(D, H) / 3, f(H, H) / 3, np.zeros(H)]
    layers = [TimeEmbedding(W), TimeRNN(*rnn, stateful=True), TimeAffine(f(H, V), np.zeros(V))]
    grads = [g for layer in layers for g in layer.grads]
    model = LanguageModel(layers)
    model.forward(X, T)
    model.backward()
    kept = W.copy()
    SGD(0.1).update([W, *rnn, *layers[2].params], grads)
    assert not np.array_equal(W, kept)
    assert model.params[0] is W
    model.layers[0].W.data = kept
    assert np.array_equal(W, kept)


# Optimizers


RULES = [SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam, AdamW]


@pytest.mark.parametrize("rule", RULES)
def test_an_optimizer_takes_any_lists_that_match(rule):
    def steps(params_of, grads_of):
        model = new(dtype=np.float64)
        optimizer = rule(lr=0.01)
        for _ in range(3):
            model.forward(X, T)
            model.backward()
            optimizer.update(params_of(model), grads_of(model))
        return [w.copy() for w in model.params]

    def params(m):
        return m.params

    expected = steps(lambda m: list(m.params), lambda m: [g.copy() for g in m.grads])
    half = V // 2
    others = {
        "a model's": (params, lambda m: m.grads),
        "sums": (params, lambda m: [g + 0 for g in m.grads]),
        "transposed views": (lambda m: [w.T for w in m.params], lambda m: [g.T for g in m.grads]),
        "in another order": (lambda m: m.params[::-1], lambda m: m.grads[::-1]),
        "slices": (
            lambda m: [m.params[0][:half], m.params[0][half:], *m.params[1:]],
            lambda m: [m.grads[0][:half], m.grads[0][half:], *m.grads[1:]],
        ),
        "each twice": (lambda m: [*m.params, *m.params], lambda m: [*m.grads, *m.grads]),
        "each twice, once transposed": (
            lambda m: [*m.params, *(w.T for w in m.params)],
            lambda m: [*m.grads, *(g.T for g in m.grads)],
        ),
    }
    for name, lists in others.items():
        for ours, theirs in zip(steps(*lists), expected):
            assert np.allclose(ours, theirs, rtol=1e-12, atol=1e-15), name


@pytest.mark.parametrize("max_norm", [0.1, 1e9])
def test_gradients_that_are_listed_twice_are_clipped_once(max_norm):
    a, b = f(3, 4), f(5)
    once, twice = [a.copy(), b.copy()], [a.copy(), b.copy()]
    norm = clip_grads(once, max_norm)
    assert clip_grads([twice[0], twice[1], twice[0].T, twice[1]], max_norm) == pytest.approx(norm, rel=1e-14)
    for ours, theirs in zip(twice, once):
        assert np.allclose(ours, theirs, rtol=1e-14)


@pytest.mark.parametrize(
    ("grads", "error"),
    [
        (lambda m: m.grads[::-1], r"parameter 0 has shape \(20, 8\), but of its gradients one has \(20,\)"),
        (lambda m: [g.T for g in m.grads], r"shape \(20, 8\), but .* \(8, 20\)"),
        (lambda m: m.grads[:-1], "6 parameters need as many gradients, got 5"),
        (lambda m: [g.tolist() for g in m.grads], "list"),
    ],
)
@pytest.mark.parametrize("rule", RULES)
def test_gradients_that_do_not_match_change_nothing(rule, grads, error):
    model = new()
    kept = [w.copy() for w in model.params]
    with pytest.raises((ValueError, TypeError), match=error):
        rule(lr=0.1).update(model.params, grads(model))
    assert same(model.params, kept)


def test_an_optimizer_does_not_go_on_with_other_parameters():
    adam = Adam()
    adam.update([f(3)], [f(3)])
    with pytest.raises(ValueError, match=r"shape \(4,\), but of its remembered arrays one has \(3,\)"):
        adam.update([f(4)], [f(4)])


# Words and labels


def with_one(value):
    """Change one id in the first place, and wherever else it stands."""
    return lambda x: np.where(x == x[0, 0], value, x)


WRONG_IDS = {
    "negative": (with_one(-1), IndexError, r"in \[0, 20\).*, got -1"),
    "V": (with_one(V), IndexError, r"in \[0, 20\).*, got 20"),
    "huge": (with_one(2**62), IndexError, str(2**62)),
    "an unsigned -2": (lambda x: with_one(np.uint64(2**64 - 2))(x.astype("u8")), IndexError, "got -2"),
    "floats": (lambda x: x.astype(float), TypeError, "must be integers, got float64"),
    "booleans": (lambda x: x > 5, TypeError, "must be integers, got bool"),
    "objects": (lambda x: x.astype(object), TypeError, "must be integers, got object"),
    "strings": (lambda x: x.astype(str), TypeError, "must be integers, got <U"),
    "text": (lambda x: "the cat", TypeError, "str"),
    "nothing": (lambda x: None, TypeError, "NoneType"),
    "one axis": (lambda x: x[0], ValueError, r"got \(10,\)"),
    "three axes": (lambda x: x[:, :, None], ValueError, r"got \(2, 10, 1\)"),
    "no step": (lambda x: x[:, :0], ValueError, r"none of them 0, got \(2, 0\)"),
    "a list of one axis": (lambda x: x[0].tolist(), ValueError, r"got \(10,\)"),
}
WRONG_LABELS = {
    **{name: case for name, case in WRONG_IDS.items() if name not in ("negative", "three axes")},
    "PyTorch's ignore_index": (with_one(-100), IndexError, "or -1 to be ignored, got -100"),
    "-2": (with_one(-2), IndexError, "or -1 to be ignored, got -2"),
    "255, -1 as an unsigned byte": (lambda t: with_one(255)(t).astype("u1"), IndexError, "got 255"),
    "the other way round": (lambda t: t.T, ValueError, r"shape \(2, 10\), got \(10, 2\)"),
    "too few": (lambda t: t[:1], ValueError, r"shape \(2, 10\), got \(1, 10\)"),
    "a column": (lambda t: t[:, :, None], ValueError, r"shape \(2, 10, 20\), got \(2, 10, 1\)"),
    "one-hot of another V": (lambda t: np.eye(V + 1)[t], ValueError, r"shape \(2, 10, 20\), got \(2, 10, 21\)"),
    "probabilities": (lambda t: np.full((*t.shape, V), 1 / V), ValueError, "must be one-hot"),
    "one-hot but for a row": (lambda t: np.eye(V)[t] * (np.arange(10) > 0)[:, None], ValueError, "must be one-hot"),
}


@EACH_MODEL
@pytest.mark.parametrize("case", WRONG_IDS)
def test_wrong_words_are_refused(model, options, case):
    wrong, error, match = WRONG_IDS[case]
    with pytest.raises(error, match=match):
        new(model, **options).forward(wrong(X), T)


@EACH_MODEL
@pytest.mark.parametrize("case", WRONG_LABELS)
def test_wrong_labels_are_refused(model, options, case):
    wrong, error, match = WRONG_LABELS[case]
    with pytest.raises(error, match=match):
        new(model, **options).forward(X, wrong(T))
    with pytest.raises(error, match=match):
        TimeSoftmaxWithLoss().forward(f(2, 10, V), wrong(T))


RIGHT_FORMS = {
    **{dtype: lambda x, dtype=dtype: x.astype(dtype) for dtype in ("i1", "u1", "<i2", ">i4", "u4", "i8", ">i8", "u8")},
    "a list": lambda x: x.tolist(),
    "in the other order": np.asfortranarray,
    "a view": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "read-only": lambda x: np.broadcast_to(x, x.shape),
}


@pytest.mark.parametrize("options", [{}, DROPOUT], ids=["distinct", "each"])
@pytest.mark.parametrize("form", RIGHT_FORMS)
def test_words_and_labels_may_be_integers_of_any_kind(form, options):
    plain, other = new(**options), new(**options)
    for model, make in ((plain, lambda x: x), (other, RIGHT_FORMS[form])):
        model.loss = model.forward(make(X), make(T))
        model.backward()
    assert other.loss == plain.loss
    assert same(other.grads, plain.grads)
    for layer in (Embedding(f(V, D)), TimeEmbedding(f(V, D))):
        assert np.array_equal(layer.forward(RIGHT_FORMS[form](X)), f(V, D)[X])


@pytest.mark.parametrize("dtype", [int, float, bool, np.float32])
def test_labels_may_be_one_hot(dtype):
    plain, other = new(), new()
    assert other.forward(X, np.eye(V, dtype=dtype)[T]) == plain.forward(X, T)
    x, t = f(5, V), IDS[:5]
    assert SoftmaxWithLoss().forward(x, np.eye(V, dtype=dtype)[t]) == SoftmaxWithLoss().forward(x, t)


@pytest.mark.parametrize("case", ["V", "floats", "objects", "PyTorch's ignore_index", "-2"])
def test_wrong_words_of_a_text_are_refused_before_the_first_step(case):
    text = IDS.copy()
    change = {**WRONG_IDS, **WRONG_LABELS}[case]
    wrong = change[0](text[None])[0]
    model = new()
    fit = RnnlmTrainer(model, SGD(1.0)).fit
    kept = [w.copy() for w in model.params]
    with pytest.raises(change[1], match=change[2]):
        evaluate(model, IDS[:-1], wrong[1:])
    with pytest.raises(change[1], match=change[2]):
        fit(IDS[:-1], wrong[1:], 1, 5, 10, verbose=False)
    with pytest.raises(change[1]):
        fit(wrong[:-1], IDS[1:], 1, 5, 10, verbose=False)
    assert same(model.params, kept)


def test_texts_may_be_lists_and_labels_may_be_ignored():
    assert evaluate(new(), IDS[:-1].tolist(), IDS[1:].tolist()) == evaluate(new(), IDS[:-1], IDS[1:])
    labels = IDS[1:].copy()
    labels[::3] = -1
    assert np.isfinite(evaluate(new(), IDS[:-1], labels))


# Shapes and other arguments


def rnn(**options):
    return TimeRNN(f(3, 4), f(4, 4), f(4), **options)


def after_forward(layer, *inputs):
    layer.forward(*inputs)
    return layer


def with_lr(lr):
    optimizer = SGD()
    optimizer.lr = lr
    return optimizer


REFUSED = [
    (lambda: rnn().forward(f(2, 3)), r"xs must have shape \(N, T, D\).*, got \(2, 3\)"),
    (lambda: rnn().forward(f(2, 5, 4)), r"xs must have shape \(N, T, 3\), got \(2, 5, 4\)"),
    (lambda: rnn().forward(f(2, 0, 3)), r"none of them 0, got \(2, 0, 3\)"),
    (lambda: after_forward(rnn(), f(2, 5, 3)).backward(f(2, 5, 3)), r"\(2, 5, 4\), got \(2, 5, 3\)"),
    (
        lambda: after_forward(rnn(), f(2, 5, 3)).backward(f(2, 4, 4)),
        r"dhs must have shape \(2, 5, 4\), got \(2, 4, 4\)",
    ),
    (lambda: after_forward(rnn(), f(2, 5, 3)).backward(f(5, 2, 4)), r"\(2, 5, 4\), got \(5, 2, 4\)"),
    (lambda: rnn(stateful=True).set_state(f(2, 5)), r"h must have shape \(2, 4\), got"),
    (lambda: rnn().set_state(f(2, 4)), "make it with stateful=True"),
    (lambda: after_forward(rnn(), pack([f(3, 3), f(2, 3)])).backward(pack([f(3, 4), f(1, 4)])), "dhs must have shape"),
    (lambda: TimeRNN(f(3, 4), f(4, 5), f(4)), r"Wh \(4, 4\), .* got .* Wh \(4, 5\)"),
    (lambda: TimeLSTM(f(3, 12), f(4, 12), f(12)), r"Wx \(3, 16\).* got Wx \(3, 12\)"),
    (lambda: TimeLSTM(f(3, 16), f(4, 16), f(4)), r"b \(16,\), got .* b \(4,\)"),
    (lambda: TimePeepholeLSTM(f(3, 16), f(4, 16), f(16), f(16)), r"p \(12,\), got .* p \(16,\)"),
    (lambda: TimeGRU(f(12, 3), f(12, 4), f(12)), r"needs weights of shapes"),
    (lambda: TimeAffine(f(3, 4), f(3)), r"b \(4,\), got .* b \(3,\)"),
    (lambda: TimeAffine(f(3, 4), f(4)).forward(f(2, 5, 4)), r"\(10, 3\), got \(10, 4\)"),
    (lambda: TimeEmbedding(f(3)), r"two axes, got shape \(3,\)"),
    (lambda: TimeEmbedding(np.eye(3, dtype=int)), "floating-point numbers, got an array of int64"),
    (
        lambda: after_forward(TimeEmbedding(f(V, D)), X).backward(f(2, 10, D + 1)),
        r"dy must have shape \(20, 8\), got \(20, 9\)",
    ),
    (lambda: Affine(f(3, 4), f(4)).forward(f(2, 5, 3)), r"\(2, 3\), got \(2, 5, 3\)"),
    (lambda: Affine(f(3, 4), f(4)).forward([[1.0, 2, 3]]), "must be an array of shape .*, got list"),
    (lambda: after_forward(MatMul(f(3, 4)), f(2, 3)).backward(f(2, 3)), r"\(2, 4\), got \(2, 3\)"),
    (lambda: Gate(f(3, 4), f(4)), r"W \(3, 3\), b \(3,\), got W \(3, 4\)"),
    (lambda: RNN(f(3, 4), f(4, 4), f(4)).forward(f(2, 3), f(1, 4)), r"h_prev must have shape \(2, 4\), got \(1, 4\)"),
    (
        lambda: GRU(f(3, 12), f(4, 12), f(12)).forward(f(2, 3), None),
        "h_prev must be an array of shape .*, got NoneType",
    ),
    (
        lambda: LSTM(f(3, 16), f(4, 16), f(16)).forward(f(2, 3), f(2, 4), f(2, 3)),
        r"c_prev must have shape \(2, 4\), got \(2, 3\)",
    ),
    (lambda: SoftmaxWithLoss().forward(f(4), np.array([1])), r"\(N, V\), .*, got \(4,\)"),
    (lambda: after_forward(TimeMean(), f(2, 3, 4)).backward(f(3, 4)), r"\(2, 4\), got \(3, 4\)"),
    (lambda: after_forward(TimeLast(), f(2, 3, 4)).backward(f(2, 5)), r"\(2, 4\), got \(2, 5\)"),
    (lambda: TimeBidirectional(rnn(), TimeRNN(f(3, 5), f(5, 5), f(5))), "same size, got 4 and 5"),
    (lambda: TimeAffineSoftmaxWithLoss(f(4, V), f(V)).forward(f(2, 10, 5), T), r"\(N, T, 4\), got \(2, 10, 5\)"),
    (lambda: TimeDropout(1.0), r"in \[0, 1\), got 1.0"),
    (lambda: TimeDropout(0.5, 3), "rng must be a numpy.random.Generator or None, got 3"),
    (lambda: SimpleRnnlm(V, 3.5, 3), "sizes must be whole numbers, got .*wordvec_size 3.5"),
    (lambda: SimpleRnnlm("20", 3, 3), "whole numbers, got vocab_size '20'"),
    (lambda: SimpleRnnlm(V, 0, 3), "positive, got .*wordvec_size 0"),
    (lambda: Affine([[1.0]], f(4)), "floating-point"),
    (lambda: SimpleRnnlm(V, 3, 3, dtype=int), "floating-point numbers, got an array of int64"),
    (lambda: LanguageModel([]), "needs layers, got none"),
    (lambda: LanguageModel([TimeEmbedding(f(V, 4)), rnn()]), "must be a TimeAffine, got TimeRNN"),
    (lambda: LanguageModel([TimeBidirectional(rnn(), rnn()), TimeAffine(f(8, V), f(V))]), "must not read backward"),
    (lambda: evaluate(new(), IDS[:-1], IDS[1:], batch_size=0), "positive, got batch_size 0"),
    (lambda: evaluate(new(), IDS[:-1], IDS[1:], time_size=-3), "positive, got .*time_size -3"),
    (lambda: evaluate(new(), IDS[:-1], IDS[2:]), "same length, got 500 and 499"),
    (lambda: evaluate(new(), IDS[None], IDS[None]), r"shape \(n,\), got \(1, 501\)"),
    (lambda: generate(new(), 3, 3, RNG), "sequence of word ids, got 3"),
    (lambda: generate(new(), [], 3, RNG), "at least one word"),
    (lambda: generate(new(), [1.5], 3, RNG), "must be integers, got float64"),
    (lambda: list(generate(new(), [V], 3, RNG)), r"in \[0, 20\), got 20"),
    (lambda: generate(new(), [1], -3, RNG), "0 or more, got -3"),
    (lambda: generate(new(), [1], 3, RNG, temperature=np.nan), "positive, got nan"),
    (lambda: list(generate(new(), [1], 3, RNG, skip_ids=[V])), "got 20"),
    (lambda: list(generate(new(), [1], 3, RNG, skip_ids=range(V))), "no word to draw from"),
    (lambda: SGD("0.1"), "must be a number, got '0.1'"),
    (lambda: SGD(np.nan), "must be positive, got nan"),
    (lambda: with_lr(-1).update([f(3)], [f(3)]), "must be in .0, inf., got -1"),
    (lambda: Adam(beta1=1.0), r"beta1 must be in \[0, 1\), got 1.0"),
    (lambda: Momentum(momentum=-0.1), r"momentum must be in \[0, 1\), got -0.1"),
    (lambda: AdamW(weight_decay=-1), "weight_decay must be .*, got -1"),
    (lambda: clip_grads([f(3)], -1), "positive, got -1"),
    (lambda: clip_grads([f(3)], np.nan), "positive, got nan"),
    (lambda: Parameter(f(3), "W", f(4)), r"of W must have shape \(3,\)"),
    (lambda: new().set_state([]), "expected the states of 1 layers, got 0"),
    (lambda: Trainer(None, SGD()).fit(f(3, 2), f(2, 2)), "same length, got 3 and 2"),
    (lambda: Trainer(None, SGD()).fit(f(3, 2), f(3, 2)), "needs 32 examples, got 3"),
    (
        lambda: RnnClassifier(V, D, H, 3).forward(pack([IDS[:3], IDS[:2]]), np.array([0, 3])),
        r"labels must be in \[0, 3\), or -1 to be ignored, got 3",
    ),
]


@pytest.mark.parametrize(("call", "match"), REFUSED, ids=[match for _, match in REFUSED])
def test_refused_in_a_sentence(call, match):
    with pytest.raises((ValueError, TypeError, IndexError), match=match) as refused:
        call()
    assert "\n" not in str(refused.value)


# Calls in an order that makes no sense, or that interleave

LAYERS = {
    "Affine": (lambda: Affine(f(3, 4), f(4)), [(2, 3)], [(2, 4)]),
    "RNN": (lambda: RNN(f(3, 4), f(4, 4), f(4)), [(2, 3), (2, 4)], [(2, 4)]),
    "LSTM": (lambda: LSTM(f(3, 16), f(4, 16), f(16)), [(2, 3), (2, 4), (2, 4)], [(2, 4), (2, 4)]),
    "TimeAffine": (lambda: TimeAffine(f(3, 4), f(4)), [(2, 5, 3)], [(2, 5, 4)]),
    "TimeRNN": (rnn, [(2, 5, 3)], [(2, 5, 4)]),
    "TimeLSTM": (lambda: TimeLSTM(f(3, 16), f(4, 16), f(16)), [(2, 5, 3)], [(2, 5, 4)]),
    "TimeGRU": (lambda: TimeGRU(f(3, 12), f(4, 12), f(12)), [(2, 5, 3)], [(2, 5, 4)]),
    "both directions": (lambda: TimeBidirectional(rnn(), rnn()), [(2, 5, 3)], [(2, 5, 8)]),
    "TimeDropout": (lambda: TimeDropout(0.5, rng(0)), [(2, 5, 3)], [(2, 5, 3)]),
    "TimeMean": (TimeMean, [(2, 5, 3)], [(2, 3)]),
    "TimeLast": (TimeLast, [(2, 5, 3)], [(2, 3)]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_backward_needs_a_forward_and_may_come_twice(name):
    make, shapes, upstream = LAYERS[name]
    layer = make()
    with pytest.raises(ValueError, match=r"backward was called without a forward before it"):
        layer.backward(*(f(*shape) for shape in upstream))
    for seed in (0, 1):  # the gradients of the first pass are gone in the second
        layer.forward(*(f(*shape, seed=seed) for shape in shapes))
        first = layer.backward(*(f(*shape, seed=seed + 2) for shape in upstream))
        grads = [g.copy() for g in layer.grads]
        again = layer.backward(*(f(*shape, seed=seed + 2) for shape in upstream))
        for a, b in zip(first if isinstance(first, tuple) else [first], again if isinstance(again, tuple) else [again]):
            assert np.array_equal(a, b)
        assert same(layer.grads, grads)


MEANWHILE = {
    "evaluate": lambda m: evaluate(m, IDS[:-1], IDS[1:]),
    "generate": lambda m: list(generate(m, [1, 2], 5, rng(0))),
    "generate, broken off": lambda m: next(generate(m, [1, 2], 5, rng(0))),
    "evaluating": lambda m: evaluating(m),
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "grads": lambda m: [g.sum() for g in m.grads],
    "save": lambda m: m.save("weights.npz"),
}


def evaluating(model):
    with model.evaluating():
        model.forward(X[:1], T[:1])
        model.predict(X[:1])


@pytest.mark.parametrize("what", MEANWHILE)
@EACH_MODEL
def test_between_forward_and_backward_anything_may_happen(tmp_path, monkeypatch, model, options, what):
    monkeypatch.chdir(tmp_path)
    plain, other = new(model, **options), new(model, **options)
    for _ in range(2):
        for m in (plain, other):
            loss = m.forward(X, T)
            if m is other:
                MEANWHILE[what](m)
            m.backward()
            if m is other:
                MEANWHILE[what](m)
                m.backward()
            m.loss = loss
        assert other.loss == plain.loss
        assert same(other.grads, plain.grads)
    assert same(np.ravel(other.state), np.ravel(plain.state))


@EACH_MODEL
def test_predict_drops_nothing_and_keeps_what_backward_needs(model, options):
    plain, other = new(model, **options), new(model, **options)
    for m in (plain, other):
        m.forward(X, T)
    assert other.layers[0].training
    first = other.predict(X)
    other.set_state(plain.state)
    assert np.array_equal(other.predict(X), first)
    assert other.layers[0].training
    with plain.evaluating():
        plain.set_state([tuple(a.copy() for a in s) for s in new_state(model, options)])
        assert np.array_equal(plain.predict(X), first)
    for m in (plain, other):
        m.backward()
    assert same(other.grads, plain.grads)


def new_state(model, options):
    m = new(model, **options)
    m.forward(X, T)
    return m.state


@EACH_MODEL
def test_two_texts_are_written_side_by_side(model, options):
    m = new(model, **options)
    alone = [list(generate(m, prompt, 8, rng(k))) for k, prompt in enumerate([[1, 2], [3, 4, 5]])]
    writers = [generate(m, prompt, 8, rng(k)) for k, prompt in enumerate([[1, 2], [3, 4, 5]])]
    together = list(zip(*writers))
    assert [list(words) for words in zip(*together)] == alone


def test_a_text_is_written_while_the_model_trains():
    m = new()
    writer = generate(m, [1, 2], 5, rng(0))
    next(writer)
    train(m, 1)
    state = [a.copy() for a in m.state[0]]
    next(writer)
    assert same(m.state[0], state)
    assert m.layers[1].training


def test_what_fails_inside_an_evaluation_leaves_the_model_as_it_was():
    m = new(**DROPOUT)
    m.forward(X, T)
    state = m.state
    with pytest.raises(IndexError), m.evaluating():
        m.forward(X + V, T)
    assert m.layers[1].training
    assert m.state[0][0] is state[0][0]
    m.backward()


STATELESS = {
    "evaluate": lambda m: evaluate(m, IDS[:-1], IDS[1:]),
    "generate": lambda m: generate(m, [1], 3, rng(0)),
    "fit": lambda m: RnnlmTrainer(m, SGD(1.0)).fit(IDS[:-1], IDS[1:], 1, 5, 10),
}


@pytest.mark.parametrize("cell", [TimeRNN, TimeGRU, TimeLSTM])
@pytest.mark.parametrize("what", STATELESS)
def test_a_language_model_that_forgets_is_refused(what, cell):
    gates = {TimeRNN: 1, TimeGRU: 3, TimeLSTM: 4}[cell]
    layer = cell(f(D, gates * H), f(H, gates * H), f(gates * H))
    model = LanguageModel([TimeEmbedding(f(V, D)), layer, TimeAffine(f(H, V), f(V))])
    with pytest.raises(ValueError, match=f"but {cell.__name__} forgets .*: make it with stateful=True"):
        STATELESS[what](model)


def test_outputs_that_backward_needs_are_read_only():
    layer = rnn()
    hs = layer.forward(f(2, 5, 3))
    for change in (hs.__iadd__, lambda d: hs.fill(d), lambda d: hs.__setitem__(0, d)):
        with pytest.raises(ValueError, match="read-only"):
            change(1.0)


# NumPy's settings


@pytest.mark.parametrize("model", [SimpleRnnlm, GruLm, LstmLm, BetterLstmLm])
def test_numpys_error_settings_change_nothing(model):
    def results():
        m = new(model)
        m.params[-1][0] = 95.0  # exp of the difference vanishes in float32
        m.layers[0].W.data *= 1e-19  # and so do products
        RnnlmTrainer(m, Adam(0.01)).fit(IDS[:-1], IDS[1:], 2, 5, 10, max_grad=1.0, verbose=False)
        return [*m.params, evaluate(m, IDS[:-1], IDS[1:]), list(generate(m, [1], 5, rng(0), top_p=0.9))]

    plain = results()
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        strict = results()
    assert same(plain, strict)


@pytest.mark.parametrize("name", LAYERS)
def test_numpys_error_settings_change_no_layer(name):
    make, shapes, upstream = LAYERS[name]
    with np.errstate(all="raise"):
        layer = make()
        layer.forward(*(1e-160 * f(*shape) for shape in shapes))
        layer.backward(*(1e-160 * f(*shape) for shape in upstream))


def test_threads_may_compute_side_by_side():
    def gradients(model):
        for _ in range(20):
            model.forward(X, T)
            model.backward()
        return [g.copy() for g in model.grads]

    expected, found = gradients(new()), {}
    threads = [threading.Thread(target=lambda k=k: found.update({k: gradients(new())})) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(found[k], expected) for k in range(4))


# Models of the reader's own layers, and other rare uses


def language_model(*layers, **options):
    return LanguageModel([TimeEmbedding(f(V, D)), *layers, TimeAffine(f(H, V), np.zeros(V))], **options)


class Block(Layer):
    """A reader's layer of two layers, which says nothing of their parameters."""

    def __init__(self):
        self.a, self.b = TimeAffine(f(D, H), np.zeros(H)), TimeAffine(f(H, H), np.zeros(H))

    def forward(self, x):
        return self.b.forward(self.a.forward(x))

    def backward(self, dy):
        return self.a.backward(self.b.backward(dy))


def test_all_parameters_of_layers_in_layers_and_of_the_loss_are_those_of_the_model(tmp_path):
    assert len(language_model(Block()).params) == 7
    loss = TimeAffineSoftmaxWithLoss(f(D, V), np.zeros(V))
    model = Model([TimeEmbedding(f(V, D))], loss)
    assert len(model.params) == 3
    model.forward(X, T)
    model.backward()
    kept = loss.W.data.copy()
    SGD(0.1).update(model.params, model.grads)
    assert not np.array_equal(loss.W.data, kept)


@pytest.mark.parametrize("kind", ["two of both directions", "named like a number", "unnamed"])
def test_names_are_never_given_twice(tmp_path, kind):
    def weights(D, seed):
        return [0.3 * f(*shape, seed=seed) for shape in ((D, 4 * H), (H, 4 * H), (4 * H,)) * 2]

    def make(seed):
        if kind == "two of both directions":
            layers = [TimeBiLSTM(*weights(D, seed)), TimeBiLSTM(*weights(2 * H, seed))]
        else:
            names = ["W_2", "W", "W", "W"] if kind == "named like a number" else [""] * 4
            layers = [MatMul(Parameter(f(D, D, seed=seed + k), name)) for k, name in enumerate(names)]
        return Model(layers, TimeMeanSquaredError() if kind == "two of both directions" else MeanSquaredError())

    a, b = make(1), make(9)
    names = [p.name for p in a.parameters]
    assert len(set(names)) == len(names)
    a.save(tmp_path / "weights.npz")
    b.load(tmp_path / "weights.npz")
    assert same(a.params, b.params)


@pytest.mark.parametrize("ignore_label", [-1, 0])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_ignored_labels_have_no_weight_in_perplexities(dtype, ignore_label):
    labels = IDS[1:].copy()
    labels[:200] = ignore_label
    if ignore_label == 0:
        labels = labels.astype(dtype)
    model = language_model(rnn_of(D, H), ignore_label=ignore_label)
    total = words = 0
    with model.evaluating():
        for k in range(0, 500, 10):
            window = labels[k : k + 10]
            n = int((window != ignore_label).sum())
            total, words = total + n * float(model.forward(IDS[None, k : k + 10], window[None])), words + n
    assert evaluate(model, IDS[:-1], labels, batch_size=1, time_size=10) == pytest.approx(total / words, rel=1e-12)
    trainer = RnnlmTrainer(model, SGD(1e-30))
    trainer.fit(IDS[:-1], labels, 1, 1, 10, verbose=False)
    assert trainer.history[-1]["train_perplexity"] == pytest.approx(perplexity(total / words), rel=1e-9)
    with pytest.raises(ValueError, match="all labels are ignored"):
        evaluate(model, IDS[:-1], np.full(500, ignore_label))


def rnn_of(D, H, stateful=True):
    return TimeRNN(f(D, H) / 3, f(H, H) / 3, np.zeros(H), stateful)


def test_bytes_as_words_are_measured_as_any_others():
    text = rng(0).integers(0, 256, 101)
    model = LanguageModel([TimeEmbedding(f(256, D)), rnn_of(D, H), TimeAffine(f(H, 256), np.zeros(256))])
    for n in (11, 100):
        expected = evaluate(model, text[:n], text[1 : n + 1])
        assert evaluate(model, text[:n].astype("u1"), text[1 : n + 1].astype("u1")) == expected
    texts = [[text[:n].astype(dtype) for n in (9, 4)] for dtype in ("u1", "i8")]
    padded = [next(iter(SentenceBatches(t, 2, 9, packed=False, shuffled=False))) for t in texts]
    assert np.array_equal(padded[0][1], padded[1][1])


def test_states_of_packed_sequences_are_not_used_for_others():
    layer = rnn_of(D, H)
    first, other = ([f(n, D, seed=k + n) for n in lengths] for k, lengths in enumerate(([2, 5, 3], [4, 1])))
    layer.forward(pack(first))
    for xs in (pack(other), f(3, 4, D)):
        with pytest.raises(ValueError, match="carries the states of packed sequences"):
            layer.forward(xs)
    layer.reset_state()
    layer.forward(f(3, 4, D))


class OwnAffine:
    """A reader's layer; with ``rebinds`` it replaces its list of gradients, which a model cannot notice."""

    def __init__(self, D, H, rebinds=False):
        self.params, self.grads, self.rebinds = [f(D, H)], [np.zeros((D, H))], rebinds

    def forward(self, x):
        self.x = x
        return x @ self.params[0]

    def backward(self, dy):
        dW = np.einsum("ntd,nth->dh", self.x, dy)
        if self.rebinds:
            self.grads = [dW]
        else:
            self.grads[0][...] = dW
        return dy @ self.params[0].T


class OwnDropout:
    def __init__(self):
        self.params, self.grads, self.train_flg = [], [], True

    def forward(self, x):
        self.mask = np.random.rand(*x.shape) > 0.5 if self.train_flg else 1.0
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask


def test_a_readers_layers_are_not_flattened_and_predict_restores_their_mode():
    model = language_model(OwnAffine(D, H), OwnDropout())
    model.flatten_parameters()
    own = model.layers[1]
    kept = own.params[0].copy()
    np.random.seed(0)
    model.forward(X, T)
    assert np.array_equal(model.predict(X), model.predict(X))
    assert model.layers[2].train_flg
    model.backward()
    grads = [g.copy() for g in model.grads]
    np.random.seed(0)
    model.forward(X, T)
    model.backward()
    assert same(grads, model.grads)
    SGD(0.1).update(model.params, model.grads)
    assert not np.array_equal(own.params[0], kept)


def test_replaced_gradients_and_repeated_layers_are_refused():
    model = language_model(OwnAffine(D, H, rebinds=True))
    model.forward(X, T)
    with pytest.raises(ValueError, match=r"OwnAffine has made new arrays of its gradients"):
        model.backward()
    layer = TimeAffine(f(D, D), np.zeros(D))
    with pytest.raises(ValueError, match="twice"):
        language_model(layer, layer, OwnAffine(D, H))
    with pytest.raises(TypeError, match="a whole model"):
        language_model(new())


@pytest.mark.parametrize("dtype", [int, np.uint8])
def test_scores_and_inputs_may_be_whole_numbers(dtype):
    x, t = np.array([[1, 2, 3], [3, 1, 0]], dtype), np.array([0, 1])
    yes = np.array([[1, 0, 1], [0, 0, 1]])
    cases = [
        (SoftmaxWithLoss(), x, t),
        (TimeSoftmaxWithLoss(), x[None], t[None]),
        (SigmoidWithLoss(), x, yes),
        (MeanSquaredError(), x, x[::-1]),
        (TimeAffineSoftmaxWithLoss(f(3, V), np.zeros(V)), x[None], t[None]),
    ]
    for layer, whole, labels in cases:
        losses, gradients = zip(*((layer.forward(a, labels), layer.backward()) for a in (whole, whole.astype(float))))
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
        assert np.allclose(gradients[0], gradients[1], rtol=1e-12)
    for layer in (TimeMean(), TimeLast()):
        assert np.array_equal(layer.forward(x[None]), layer.forward(x[None].astype(float)))


def test_a_parameter_that_becomes_shared_begins_a_new_pass():
    a = MatMul(f(3, 4))
    a.forward(f(2, 3))
    a.backward(f(2, 4))
    grad = a.grads[0].copy()
    copy.copy(a)
    a.backward(f(2, 4))
    assert np.array_equal(a.grads[0], grad)


@pytest.mark.parametrize("what", [evaluating, lambda m: m.predict(X)], ids=["evaluating", "predict"])
def test_between_the_backwards_of_two_layers_anything_may_happen(what):
    def run(meanwhile):
        model = new(BetterLstmLm, dropout=0.0)
        model.forward(X, T)
        dx = model.loss_layer.backward()
        meanwhile(model)
        for layer in reversed(model.hidden_layers):
            dx = layer.backward(dx)
        return model.grads

    def quiet(model):
        what(model)
        model.reset_state()

    assert same(run(quiet), run(lambda m: None))


def test_a_copy_that_is_made_in_an_evaluation_is_not_in_it():
    model = new(**DROPOUT)
    with model.evaluating():
        other = copy.deepcopy(model)
    other.forward(X, T)
    other.backward()
    assert other.layers[1].training


def test_gradients_may_be_left_out():
    """An embedding that is not trained: the optimizer gets the other arrays alone."""
    model, kept = new(), new().params[0]
    optimizer = Adam(0.01)
    for _ in range(2):
        model.forward(X, T)
        model.backward()
        params, grads = model.params, model.grads
        del params[0], grads[0]
        optimizer.update(params, grads)
    assert np.array_equal(model.params[0], kept)
    assert not np.array_equal(model.params[1], new().params[1])


def test_layers_that_refer_to_each_other_are_no_endless_loop():
    a, b = OwnAffine(D, H), OwnDropout()
    a.next, b.back = b, a
    assert len(language_model(a, b).params) == 4
