"""The textbook's imports, models and training loops run on this project's layers."""

import inspect

import numpy as np
import pytest
from helpers import normal

import common.time_layers
from common import config
from common.gradient_check import check_gradients
from common.layers import RNN, Dropout, Sigmoid, SigmoidWithLoss, Softmax
from common.model import LanguageModel
from common.optimizer import SGD, AdaGrad, Adam, Momentum, Nesterov, RMSprop, clip_grads
from common.parameter import Parameter
from common.time_layers import *  # noqa: F403
from common.time_layers import (
    TimeAffine,
    TimeBiLSTM,
    TimeDropout,
    TimeEmbedding,
    TimeLSTM,
    TimeRNN,
    TimeSigmoidWithLoss,
    TimeSoftmaxWithLoss,
)
from common.trainer import RnnlmTrainer, Trainer, remove_duplicate

V, D, H, N, T = 11, 4, 6, 3, 5
TEXT = np.random.default_rng(0).integers(0, V, 400)

# What ``from common.time_layers import *`` brings in the textbook, and ``from common.layers import *``.
TIME_LAYERS = (
    "np GPU softmax sigmoid cross_entropy_error MatMul Affine Softmax SoftmaxWithLoss Sigmoid SigmoidWithLoss "
)
TIME_LAYERS += "Dropout Embedding RNN TimeRNN LSTM TimeLSTM TimeEmbedding TimeAffine TimeSoftmaxWithLoss TimeDropout "
TIME_LAYERS += "TimeBiLSTM TimeSigmoidWithLoss GRU TimeGRU Simple_TimeSoftmaxWithLoss Simple_TimeAffine"
LAYERS = "np GPU softmax cross_entropy_error MatMul Affine Softmax SoftmaxWithLoss Sigmoid SigmoidWithLoss Dropout "
LAYERS += "Embedding"


@pytest.mark.parametrize(("module", "names"), [("time_layers", TIME_LAYERS), ("layers", LAYERS), ("np", "np GPU")])
def test_a_star_import_brings_what_the_textbooks_brings(module, names):
    found = {}
    exec(f"from common.{module} import *", found)
    assert set(names.split()) <= set(found)
    assert found["np"] is np
    assert found["GPU"] is config.GPU is False


class BareModel:
    """A language model as the textbook writes it: arrays, layers, and lists of all their arrays."""

    def __init__(self, tied=False, dropout=None, cell=TimeLSTM):
        rn = np.random.randn
        width = H if tied else D
        W = rn(V, width).astype("f")
        gates = 4 if cell is TimeLSTM else 1
        self.layers = [
            TimeEmbedding(W),
            cell(*(rn(n, gates * H).astype("f") / 3 for n in (width, H)), np.zeros(gates * H, "f"), stateful=True),
            TimeAffine(W.T if tied else rn(H, V).astype("f") / 3, np.zeros(V, "f")),
        ]
        if dropout is not None:
            self.layers.insert(1, TimeDropout(dropout))
        self.loss_layer = TimeSoftmaxWithLoss()
        self.params, self.grads = [], []
        for layer in self.layers:
            self.params += layer.params
            self.grads += layer.grads

    def predict(self, xs, train_flg=False):
        for layer in self.layers:
            if isinstance(layer, TimeDropout):
                layer.train_flg = train_flg
            xs = layer.forward(xs)
        return xs

    def forward(self, xs, ts, train_flg=True):
        return self.loss_layer.forward(self.predict(xs, train_flg), ts)

    def backward(self, dout=1):
        dout = self.loss_layer.backward(dout)
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return dout

    def reset_state(self):
        for layer in self.layers:
            if hasattr(layer, "reset_state"):
                layer.reset_state()


def bare(**options):
    np.random.seed(0)
    return BareModel(**options)


def close(arrays, others, **tolerances):
    return all(np.allclose(a, b, **tolerances) for a, b in zip(arrays, others, strict=True))


def windows(count=40):
    """Windows of a text, (N, T), of N parallel streams."""
    starts = np.arange(N) * (len(TEXT) // N)
    for k in range(count):
        index = (starts[:, None] + k * T + np.arange(T)) % (len(TEXT) - 1)
        yield TEXT[index], TEXT[index + 1]


def test_a_loop_without_zeroing_anything_learns_as_plain_arrays_do():
    """The same loop, with the gradients of each step copied out and applied by hand."""
    model, other, optimizer = bare(), bare(), SGD(0.5)
    for xs, ts in windows():
        assert model.forward(xs, ts) == other.forward(xs, ts)
        model.backward()
        optimizer.update(model.params, model.grads)
        other.backward()
        for w, g in zip(other.params, [g.copy() for g in other.grads]):
            w -= 0.5 * g
    assert close(model.params, other.params, rtol=1e-5, atol=1e-7)


def test_gradients_are_the_same_arrays_from_beginning_to_end():
    model = BareModel()
    first = [id(g) for layer in model.layers for g in layer.grads]
    for xs, ts in windows(3):
        model.forward(xs, ts)
        model.backward()
        assert [id(g) for layer in model.layers for g in layer.grads] == first == [id(g) for g in model.grads]


@pytest.mark.parametrize("rule", [SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam])
def test_tied_arrays_are_one_parameter_for_the_trainer_as_one_parameter_object_is(rule):
    """Arrays W and W.T, whose gradients the trainer adds up, against a Parameter and its transpose."""
    arrays = bare(tied=True)
    embed, lstm, affine = arrays.layers
    W = Parameter(embed.W.data.copy(), "W")
    layers = [
        TimeEmbedding(W),
        TimeLSTM(*(Parameter(p.copy(), f"lstm{k}") for k, p in enumerate(lstm.params)), stateful=True),
        TimeAffine(W.T, Parameter(affine.b.data.copy(), "b")),
    ]
    ours = LanguageModel(layers)
    assert len(ours.params) == 5
    assert len(arrays.params) == 6
    for model in (arrays, ours):
        trainer = RnnlmTrainer(model, rule(lr={SGD: 0.5, Momentum: 0.1, Nesterov: 0.1}.get(rule, 0.02)))
        trainer.fit(TEXT[:-1], TEXT[1:], 2, N, T, max_grad=1.0, eval_interval=4, verbose=False)
    assert close([*arrays.params[:4], arrays.params[5]], ours.params, rtol=1e-4, atol=1e-5)


def test_raw_arrays_that_share_memory_are_one_parameter_of_a_model():
    arrays = [normal(V, H), normal(H, 4 * H), normal(H, 4 * H), normal(4 * H), normal(V)]

    def model(*embed_and_output):
        W, Wx, Wh, b, affine_b = (a.copy() for a in arrays)
        first, last = (W, W.T) if not embed_and_output else [make(W) for make in embed_and_output]
        return LanguageModel([TimeEmbedding(first), TimeLSTM(Wx, Wh, b, stateful=True), TimeAffine(last, affine_b)])

    tied, apart = model(), model(lambda W: W.copy(), lambda W: W.T.copy())
    assert len(tied.params) == 5
    for xs, ts in windows(2):
        for m in (tied, apart):
            m.forward(xs, ts)
            m.backward()
        assert np.allclose(tied.grads[0], apart.grads[0] + apart.grads[4].T, rtol=1e-12, atol=1e-15)
    with pytest.raises(ValueError, match="share memory, but are not one parameter"):
        model(lambda W: W, lambda W: W.reshape(-1)[: H * V].reshape(H, V))


@pytest.mark.parametrize("how", ["same", "transposed"])
def test_remove_duplicate_adds_up_what_shares_memory(how):
    W = normal(3, 3)
    same = how == "same"
    params, grads = [W, normal(2), W if same else W.T], [normal(3, 3, seed=1), normal(2), normal(3, 3, seed=2)]
    expected = grads[0] + (grads[2] if same else grads[2].T)
    kept, sums = remove_duplicate(params, grads)
    assert kept[0] is W
    assert len(kept) == len(sums) == 2
    assert np.array_equal(sums[0], expected)
    # One Parameter: its gradient is the sum already.
    p = Parameter(normal(3, 3))
    p.grad = normal(3, 3, seed=1)
    q = p if same else p.T
    _, (grad,) = remove_duplicate([p.data, q.data], [p.grad, q.grad])
    assert np.array_equal(grad, normal(3, 3, seed=1))
    # Equal numbers are no shared memory.
    assert len(remove_duplicate([W, W.copy()], [normal(3, 3), normal(3, 3)])[0]) == 2


def test_micro_batches_are_summed_by_the_reader():
    model, whole = bare(), bare()
    xs, ts = next(windows())
    sums = [np.zeros_like(g) for g in model.grads]
    for n in range(N):
        model.reset_state()
        model.forward(xs[n : n + 1], ts[n : n + 1])
        model.backward()
        for total, g in zip(sums, model.grads):
            total += g / N
    whole.forward(xs, ts)
    whole.backward()
    assert close(sums, whole.grads, rtol=1e-4, atol=1e-6)
    SGD(0.1).update(model.params, sums)
    SGD(0.1).update(whole.params, whole.grads)
    assert close(model.params, whole.params, rtol=1e-5, atol=1e-6)


class OwnTimeRNN:
    """A loop over cells as the textbook writes it: raw arrays, a new cell each step, gradients summed by hand."""

    def __init__(self, Wx, Wh, b, stateful=False):
        self.params, self.stateful, self.h = [Wx, Wh, b], stateful, None
        self.grads = [np.zeros_like(w) for w in self.params]

    def forward(self, xs):
        if not self.stateful or self.h is None:
            self.h = np.zeros((len(xs), len(self.params[1])), xs.dtype)
        self.cells, hs = [], []
        for t in range(xs.shape[1]):
            cell = RNN(*self.params)
            self.h = cell.forward(xs[:, t], self.h)
            self.cells.append(cell)
            hs.append(self.h)
        return np.stack(hs, axis=1)

    def backward(self, dhs):
        dxs, dh, sums = np.empty((*dhs.shape[:2], len(self.params[0])), dhs.dtype), 0, [0, 0, 0]
        for t in reversed(range(dhs.shape[1])):
            dxs[:, t], dh = self.cells[t].backward(dhs[:, t] + dh)
            sums = [total + g for total, g in zip(sums, self.cells[t].grads)]
        for g, total in zip(self.grads, sums):
            g[...] = total
        return dxs

    def reset_state(self):
        self.h = None


class Scale:
    """A reader's layer, with a parameter."""

    def __init__(self, size):
        self.params, self.grads = [np.ones(size)], [np.zeros(size)]

    def forward(self, xs):
        self.xs = xs
        return self.params[0] * xs

    def backward(self, dys):
        self.grads[0][...] = (dys * self.xs).sum(axis=(0, 1))
        return self.params[0] * dys


def test_a_readers_layers_work_in_a_model(tmp_path):
    def model(own):
        rnn = [normal(D, H), normal(H, H), normal(H)]
        layers = [TimeEmbedding(normal(V, D)), OwnTimeRNN(*rnn, True) if own else TimeRNN(*rnn, True)]
        return LanguageModel([*layers, Scale(H), TimeAffine(normal(H, V), normal(V))])

    own, ours = model(True), model(False)
    for xs, ts in windows(3):
        assert own.forward(xs, ts) == pytest.approx(ours.forward(xs, ts), rel=1e-12)
        for m in (own, ours):
            m.backward()
            clip_grads(m.grads, 0.5)
            SGD(0.1).update(m.params, m.grads)
    assert close(own.params, ours.params, rtol=1e-10)
    with own.evaluating():
        own.forward(*next(windows()))
    own.save(tmp_path / "own.npz")
    again = model(True)
    again.load(tmp_path / "own.npz")
    assert close(again.params, own.params, rtol=0, atol=0)


def test_what_is_no_layer_is_refused():
    with pytest.raises(TypeError, match=r"needs params, grads, forward and backward, which int"):
        LanguageModel([3, TimeAffine(normal(H, V), normal(V))])


@pytest.mark.parametrize("dropout", [None, 0.5])
def test_the_trainer_trains_any_model_and_draws_as_the_textbook_does(dropout):
    """``ppl_list``: at the first step of an epoch and each ``eval_interval`` steps, of the losses since the last."""
    model = bare(dropout=dropout)
    losses = []
    forward = model.forward
    model.forward = lambda xs, ts: losses.append(forward(xs, ts)) or losses[-1]
    trainer = RnnlmTrainer(model, SGD(0.5))
    trainer.fit(TEXT[:-1], TEXT[1:], 2, N, T, eval_interval=10, verbose=False)
    steps = 399 // (N * T)
    marks = [epoch * steps + i for epoch in range(2) for i in range(0, steps, 10)]
    starts = [0, *(m + 1 for m in marks)]
    expected = [np.exp(np.mean(losses[a : b + 1])) for a, b in zip(starts, marks)]
    assert trainer.ppl_list == pytest.approx(expected, rel=1e-6)
    assert trainer.current_epoch == 2
    trainer.fit(TEXT[:-1], TEXT[1:], 1, N, T, eval_interval=10, verbose=False)
    assert len(trainer.ppl_list) == len(marks) // 2
    assert trainer.current_epoch == 3


def test_dropout_without_a_generator_draws_from_numpys():
    layer, x = TimeDropout(0.3), np.ones((2, 3, 4), np.float32)
    np.random.seed(5)
    y = layer.forward(x)
    np.random.seed(5)
    assert np.array_equal(y > 0, np.random.rand(2, 3, 4) >= 0.3)
    assert np.array_equal(layer.backward(x), y)
    layer.train_flg = False
    assert layer.forward(x) is not None
    assert np.array_equal(layer.forward(x), x)
    assert np.array_equal(Dropout(0.5).forward(x, train_flg=False), x)


class TwoLayers:
    """Any model: Trainer asks for forward, backward, params and grads."""

    def __init__(self):
        self.params = [normal(4, 3)]
        self.grads = [np.zeros((4, 3))]
        self.seen = []

    def forward(self, x, t):
        self.seen += x[:, 0].tolist()
        self.d = x @ self.params[0] - t
        self.x = x
        return (self.d**2).mean()

    def backward(self):
        self.grads[0][...] = 2 * self.x.T @ self.d / self.d.size


def test_trainer_shuffles_leaves_the_rest_out_and_learns(capsys):
    x = np.arange(50)[:, None] * np.ones(4) / 50 + normal(50, 4) / 100
    t = x @ normal(4, 3, seed=1)
    model = TwoLayers()
    trainer = Trainer(model, SGD(0.3))
    np.random.seed(3)
    trainer.fit(x, t, max_epoch=3, batch_size=8, max_grad=5.0, eval_interval=4)
    np.random.seed(3)
    order = np.random.permutation(np.arange(50))
    assert model.seen[:48] == x[order][:48, 0].tolist()
    assert len(model.seen) == 3 * 48
    assert trainer.current_epoch == 3
    assert len(trainer.loss_list) == 3 * 2  # of six steps the first and the fifth
    assert trainer.loss_list[-1] < trainer.loss_list[0] / 2
    assert capsys.readouterr().out.count("\n") == 6


@pytest.mark.parametrize("kind", [Trainer, RnnlmTrainer])
def test_plot_shows_a_line(kind, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gca().lines[0].get_ydata().tolist()))
    trainer = kind(TwoLayers() if kind is Trainer else BareModel(), SGD(0.1))
    if kind is Trainer:
        trainer.fit(normal(70, 4), normal(70, 3), 3)
    else:
        trainer.fit(TEXT[:-1], TEXT[1:], 3, N, T, verbose=False)
    trainer.plot(ylim=(0, 500))
    assert shown == [trainer.loss_list if kind is Trainer else trainer.ppl_list]
    assert len(shown[0]) >= 3
    assert plt.gca().get_ylim() == (0, 500)
    plt.close("all")


# The textbook's other layers


def test_softmax_and_sigmoid_gradients():
    x, dy = normal(3, 4), normal(3, 4, seed=1)
    for layer in (Softmax(), Sigmoid()):
        y = layer.forward(x)
        dx = layer.backward(dy)
        errors = check_gradients(lambda layer=layer: float((layer.forward(x) * dy).sum()), {"x": x}, {"x": dx})
        assert errors["x"] < 1e-7
        assert y.shape == x.shape


@pytest.mark.parametrize(("layer", "shape"), [(SigmoidWithLoss, (5,)), (TimeSigmoidWithLoss, (3, 4))])
def test_sigmoid_with_loss(layer, shape):
    layer, x, t = layer(), normal(*shape), (normal(*shape, seed=1) > 0).astype(int)
    p = 1 / (1 + np.exp(-x))
    assert layer.forward(x, t) == pytest.approx(-np.log(np.where(t == 1, p, 1 - p)).mean(), rel=1e-12)
    dx = layer.backward(0.5)
    errors = check_gradients(lambda: 0.5 * float(layer.forward(x, t)), {"x": x}, {"x": dx})
    assert errors["x"] < 1e-7
    assert layer.forward(np.full(shape, 1e5), np.zeros(shape, int)) == 1e5
    with pytest.raises(ValueError, match="0 or 1"):
        layer.forward(x, t + 1)
    with pytest.raises(ValueError, match="shape"):
        layer.forward(x, t[..., :1])


def test_a_bi_lstm_takes_the_textbooks_arguments():
    arrays = [normal(*shape) for shape in ((D, 4 * H), (H, 4 * H), (4 * H,)) * 2]
    assert list(inspect.signature(TimeBiLSTM).parameters) == ["Wx1", "Wh1", "b1", "Wx2", "Wh2", "b2", "stateful"]
    assert TimeBiLSTM(*arrays, stateful=False).forward(normal(N, T, D)).shape == (N, T, 2 * H)
    with pytest.raises(ValueError, match="cannot carry its state"):
        TimeBiLSTM(*arrays, stateful=True)


# Encoder and decoder


CELLS = {"TimeRNN": 1, "TimeGRU": 3, "TimeLSTM": 4}


@pytest.mark.parametrize("cell", CELLS)
def test_an_encoder_trains_through_the_state_that_it_hands_over(cell):
    make, gates = getattr(common.time_layers, cell), CELLS[cell]
    encoder = make(normal(D, gates * H), normal(H, gates * H), normal(gates * H))
    decoder = make(normal(D, gates * H, seed=1), normal(H, gates * H, seed=1), normal(gates * H, seed=1), True)
    question, answer, dys = normal(N, T, D), normal(N, 4, D), normal(N, 4, H)

    def loss():
        encoder.forward(question)
        decoder.set_state(*encoder.state)
        return float((decoder.forward(answer) * dys).sum())

    loss()
    decoder.backward(dys)
    states = [decoder.dh, decoder.dc] if cell == "TimeLSTM" else [decoder.dh]
    dxs = encoder.backward(None, *states)
    arrays = dict(enumerate([*encoder.params, *decoder.params, question]))
    errors = check_gradients(loss, arrays, dict(enumerate([*encoder.grads, *decoder.grads, dxs])))
    assert max(errors.values()) < 1e-7


@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_of_the_last_state_is_as_one_more_of_the_last_step(cell):
    make, gates = getattr(common.time_layers, cell), CELLS[cell]
    layer = make(normal(D, gates * H), normal(H, gates * H), normal(gates * H))
    dhs, dh = normal(N, T, H), normal(N, H, seed=3)
    layer.forward(normal(N, T, D))
    kept = dh.copy()
    dxs = layer.backward(dhs, dh)
    assert np.array_equal(dh, kept)
    dhs[:, -1] += dh
    assert np.allclose(layer.backward(dhs), dxs, rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match=r"dh must have shape \(3, 6\), got \(2, 6\)"):
        layer.backward(dhs, dh[:2])
