"""Classifiers of texts: every gradient, the same for a text in any batch, and the logits of PyTorch."""

import numpy as np
import pytest
from helpers import GRADIENT_ERROR, normal

from ch05_rnn.rnn_classifier import RnnClassifier
from ch06_gated.lstm_classifier import LstmClassifier
from common.batching import TextBatches
from common.gradient_check import check_gradients
from common.interop import affine_from_torch, lstm_from_torch, rnn_from_torch
from common.metrics import Accuracy
from common.optimizer import SGD, Adam
from common.trainer import Trainer

V, D, H, C = 11, 5, 4, 3
LENGTHS = [3, 6, 1, 6, 2]

MODELS = {
    "a: RNN, mean": (RnnClassifier, {}),
    "b, c: LSTM, last": (LstmClassifier, {}),
    "d: both directions": (LstmClassifier, {"bidirectional": True}),
    "e: two layers": (LstmClassifier, {"layers": 2}),
    "three layers, both directions": (LstmClassifier, {"layers": 3, "bidirectional": True}),
    "both directions, mean": (LstmClassifier, {"bidirectional": True, "pool": "mean"}),
    "RNN, both directions, last": (RnnClassifier, {"bidirectional": True, "pool": "last"}),
}
EACH_MODEL = pytest.mark.parametrize("name", MODELS)


def make(name, dtype=np.float64, seed=0, **options):
    model_class, form = MODELS[name]
    model = model_class(V, D, H, C, rng=np.random.default_rng(seed), dtype=dtype, **form, **options)
    for p in model.params:  # biases that are zero would hide mistakes
        p += normal(*p.shape, seed=3, dtype=dtype) / 4
    return model


def texts(lengths=LENGTHS, seed=0, high=V):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, high, length) for length in lengths]


LABELS = np.array([2, 0, 1, 0, 2])


@EACH_MODEL
@pytest.mark.parametrize("padded", [False, True])
def test_gradients(name, padded):
    model = make(name)
    xs = model.batch(texts(), padded)
    model.forward(xs, LABELS)
    model.backward()
    named = [(p.name, p.data, p.grad.copy()) for p in model.parameters]
    params, grads = ({row[0]: row[k] for row in named} for k in (1, 2))
    errors = check_gradients(lambda: float(model.forward(xs, LABELS)), params, grads)
    assert max(errors.values()) <= GRADIENT_ERROR, errors


@EACH_MODEL
@pytest.mark.parametrize("padded", [False, True])
def test_the_prediction_for_a_text_does_not_change_with_the_batch_it_is_in(name, padded):
    model = make(name)
    alone = np.concatenate([model.predict(model.batch([text])) for text in texts()])
    for others in (texts([1, 9, 4], seed=1), texts([20], seed=2), []):
        found = model.predict(model.batch([*others, *texts()], padded))
        assert np.allclose(found[len(others) :], alone, rtol=0, atol=1e-14)
        found = model.predict(model.batch([*reversed(texts()), *others], padded))
        assert np.allclose(found[: len(alone)], alone[::-1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_probabilities_are_the_softmax_of_the_scores_in_the_order_given(batch_size):
    model = make("b, c: LSTM, last", dropout=0.5)
    found = model.probabilities(texts(), batch_size)
    with model.evaluating():
        for p, text in zip(found, texts(), strict=True):
            scores = np.exp(model.predict(model.batch([text]))[0])
            assert np.allclose(p, scores / scores.sum(), rtol=0, atol=1e-14)
    assert model.layers[1].training  # dropout is on again


@EACH_MODEL
def test_packed_and_padded_train_alike(name):
    packed, padded = make(name), make(name)
    optimizers = Adam(0.01), Adam(0.01)
    for step in range(5):
        losses = []
        for model, optimizer in zip((packed, padded), optimizers):
            losses.append(float(model.forward(model.batch(texts(seed=step), model is padded), LABELS)))
            model.backward()
            optimizer.update(model.params, model.grads)
        assert losses[0] == pytest.approx(losses[1], rel=1e-10)
    for a, b in zip(packed.params, padded.params, strict=True):
        assert np.allclose(a, b, rtol=0, atol=1e-8)


def torch_classifier(torch, name):
    """The model in PyTorch, and what it computes: logits of padded texts with their lengths."""
    model_class, form = MODELS[name]
    layers, both = form.get("layers", 1), form.get("bidirectional", False)
    pool = form.get("pool", "mean" if model_class is RnnClassifier else "last")
    rnn_class, convert = (
        (torch.nn.RNN, rnn_from_torch) if model_class is RnnClassifier else (torch.nn.LSTM, lstm_from_torch)
    )
    embedding = torch.nn.Embedding(V, D)
    rnn = rnn_class(D, H, layers, batch_first=True, bidirectional=both)
    linear = torch.nn.Linear(2 * H if both else H, C)

    def logits(texts):
        lengths = torch.tensor([len(text) for text in texts])
        padded = torch.nn.utils.rnn.pad_sequence([torch.as_tensor(text) for text in texts], batch_first=True)
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            embedding(padded), lengths, batch_first=True, enforce_sorted=False
        )
        hs, state = rnn(packed)
        h_n = state[0] if isinstance(state, tuple) else state
        if pool == "mean":
            hs, _ = torch.nn.utils.rnn.pad_packed_sequence(hs, batch_first=True)
            pooled = hs.sum(dim=1) / lengths[:, None]
        else:
            pooled = torch.cat([h_n[-2], h_n[-1]], dim=1) if both else h_n[-1]
        return linear(pooled).detach().numpy()

    weights = [embedding.weight.detach().numpy()]
    for k in range(layers):
        for direction in ("", "_reverse") if both else ("",):
            names = [f"{part}_l{k}{direction}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            weights += convert(*(getattr(rnn, n).detach().numpy() for n in names))
    weights += affine_from_torch(linear.weight.detach().numpy(), linear.bias.detach().numpy())
    return weights, logits


@EACH_MODEL
@pytest.mark.parametrize("padded", [False, True])
def test_logits_are_those_of_pytorch_in_float32(name, padded):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    weights, logits = torch_classifier(torch, name)
    model = make(name, dtype=np.float32)
    for mine, theirs in zip(model.params, weights, strict=True):
        mine[...] = theirs
    batch = texts([40, 7, 1, 23, 40, 2])
    found = model.predict(model.batch(batch, padded))
    assert found.dtype == np.float32
    assert np.allclose(found, logits(batch), rtol=0, atol=1e-5)


def test_a_fixed_embedding_stays_as_it_is_and_all_else_learns():
    model = make("b, c: LSTM, last", fixed_embedding=True)
    before = [p.copy() for p in model.params]
    optimizer = Adam(0.1)
    for _ in range(3):
        model.forward(model.batch(texts()), LABELS)
        model.backward()
        optimizer.update(model.params, model.grads)
    same = [np.array_equal(a, b) for a, b in zip(before, model.params, strict=True)]
    assert same == [True, False, False, False, False, False]
    assert model.embedding is model.params[0]


@EACH_MODEL
def test_saved_weights_come_back(tmp_path, name):
    model, other = make(name), make(name, seed=1)
    model.save(tmp_path / "weights.npz")
    other.load(tmp_path / "weights.npz")
    assert np.array_equal(model.probabilities(texts()), other.probabilities(texts()))


@pytest.mark.parametrize(("model", "cell", "gates"), [(RnnClassifier, "rnn", 1), (LstmClassifier, "lstm", 4)])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_parameters_and_the_weights_that_they_start_from(model, cell, gates, both, layers):
    """Weights are drawn in the order of the layers; biases are zeros, but that of a forget gate is 1."""
    rng = np.random.default_rng(5)

    def draw(inputs, outputs):
        return rng.standard_normal((inputs, outputs)) / np.sqrt(inputs)

    width = 2 * H if both else H
    expected = {"embed_W": 0.1 * rng.standard_normal((V, D))}
    for k in range(layers):
        for direction in ("_ahead", "_back") if both else ("",):
            name = f"{cell}{k + 1 if layers > 1 else ''}{direction}"
            expected[f"{name}_Wx"] = draw(width if k else D, gates * H)
            expected[f"{name}_Wh"] = draw(H, gates * H)
            expected[f"{name}_b"] = np.zeros(gates * H)
            expected[f"{name}_b"][:H] = cell == "lstm"
    expected |= {"affine_W": draw(width, C), "affine_b": np.zeros(C)}
    made = model(
        V, D, H, C, layers=layers, bidirectional=both, rng=np.random.default_rng(5), dtype=np.float64
    ).parameters
    assert [p.name for p in made] == list(expected)
    for p, x in zip(made, expected.values()):
        assert np.allclose(p.data, x, rtol=1e-15, atol=0)


@pytest.mark.parametrize("sizes", [(0, D, H, C), (V, 0, H, C), (V, D, -1, C), (V, D, H, 0)])
def test_sizes_must_be_positive(sizes):
    with pytest.raises(ValueError, match="sizes must be positive"):
        RnnClassifier(*sizes)


def test_an_unknown_pool_is_refused():
    with pytest.raises(ValueError, match="pool must be one of last, mean, got 'max'"):
        RnnClassifier(V, D, H, C, pool="max")


def test_an_empty_text_is_refused():
    with pytest.raises(ValueError, match="at least one step"):
        make("a: RNN, mean").probabilities([np.array([], int)])


# Training


def labelled(n):
    return texts([k % 5 + 1 for k in range(n)]), np.random.default_rng(1).integers(0, C, n)


def train(data, epochs=2, lr=0.1, **options):
    rng = np.random.default_rng(0)
    model = RnnClassifier(V, D, H, C, rng=rng)
    trainer = Trainer(model, SGD(lr), metric=Accuracy())
    trainer.fit_batches(TextBatches(model, *data, 4, rng), epochs, verbose=False, valid=data, **options)
    return trainer


def test_the_trainer_equals_the_plain_loop_over_texts():
    words, labels = labelled(10)
    trainer = train((words, labels))
    rng = np.random.default_rng(0)
    model = RnnClassifier(V, D, H, C, rng=rng)
    for record in trainer.history:
        order, loss, right = rng.permutation(10), 0.0, 0
        for batch in (order[:4], order[4:8], order[8:]):
            xs = model.batch([words[n] for n in batch])
            right += (model.predict(xs).argmax(axis=1) == labels[batch]).sum()
            loss += float(model.forward(xs, labels[batch])) * len(batch)
            model.backward()
            for w, g in zip(model.params, model.grads):
                w -= w.dtype.type(0.1) * g
        accuracy = (model.probabilities(words).argmax(axis=1) == labels).mean()
        assert record["train_loss"] == pytest.approx(loss / 10)
        assert (record["train_accuracy"], record["valid_accuracy"]) == (right / 10, accuracy)
    for ours, theirs in zip(trainer.model.params, model.params):
        assert np.array_equal(ours, theirs)
    assert trainer.best == 1 - max(record["valid_accuracy"] for record in trainer.history)


def test_each_text_comes_once_an_epoch_and_each_epoch_has_an_order_of_its_own():
    model = RnnClassifier(V, D, H, 10)
    batches = TextBatches(model, [np.array([n]) for n in range(10)], np.arange(10), 4, np.random.default_rng(0))
    epochs = [[(x.data.tolist(), t.tolist()) for x, t in batches] for _ in range(2)]
    assert len(batches) == len(epochs[0]) == 3
    assert all(sorted(n for _, t in epoch for n in t) == list(range(10)) for epoch in epochs)
    assert all(x == t for epoch in epochs for x, t in epoch)
    assert epochs[0] != epochs[1]


def test_a_bad_step_is_noticed_before_the_weights_are_touched(monkeypatch):
    words, _ = labelled(12)
    labels = RnnClassifier(V, D, H, C, rng=np.random.default_rng(0)).probabilities(words).argmax(axis=1)
    data = words, labels  # all right from the start
    forward, before = RnnClassifier.forward, []  # the weights before each step

    def lost(self, *batch):
        before.append([w.copy() for w in self.params])
        loss = forward(self, *batch)
        return np.float32(np.nan) if len(before) == 2 else loss

    monkeypatch.setattr(RnnClassifier, "forward", lost)
    with pytest.raises(
        FloatingPointError, match=r"the loss is nan after epoch 0\.67, step 2, with learning rate 0\.1:"
    ):
        train(data)
    before.clear()
    trainer = train(data, 1, 1e-4, skip_bad_steps=True)
    assert all(np.array_equal(a, b) for a, b in zip(before[1], before[2]))
    assert not all(np.array_equal(a, b) for a, b in zip(before[0], before[1]))
    assert trainer.skipped == 1
    assert trainer.history[-1]["train_accuracy"] == 1  # of the texts of the other two steps
