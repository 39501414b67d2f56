"""The model that reads word by word: the same numbers as the one that reads windows, in both forms."""

import re

import numpy as np
import pytest
from helpers import GRADIENT_ERROR, NOT_POSITIVE, assert_one_line, cases, run_script

from ch05_rnn import sentence_rnn
from ch05_rnn.sentence_rnn import SentenceRnn, learn, log_probability, sentences
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.gradient_check import check_gradients
from common.optimizer import SGD
from dataset import text_file

V, D, H = 9, 4, 5
WORDS = [3, 1, 4, 1, 5, 8, 2, 6, 5, 3]


def make(dtype=np.float64):
    model = SentenceRnn(V, D, H, np.random.default_rng(0), dtype)
    for p in model.params:
        p += np.random.default_rng(1).normal(size=p.shape).astype(dtype) / 2
    return model


def windows_model(model):
    """The same model, which reads whole windows; its loss is the mean."""
    other = SimpleRnnlm(V, D, H, dtype=np.float64)
    for mine, theirs in zip(other.params, model.params, strict=True):
        mine[...] = theirs
    return other


def test_gradients():
    model = make()
    log_probability(model, WORDS)
    model.backward()
    named = [(p.name, p.data, p.grad.copy()) for p in model.parameters]
    params, grads = ({row[0]: row[k] for row in named} for k in (1, 2))
    errors = check_gradients(lambda: -log_probability(model, WORDS), params, grads)
    assert max(errors.values()) <= GRADIENT_ERROR, errors


def test_a_sentence_is_one_window_with_the_loss_summed():
    model = make()
    other = windows_model(model)
    log_p = log_probability(model, WORDS)
    model.backward()
    xs, ts = np.array([WORDS[:-1]]), np.array([WORDS[1:]])
    assert -log_p == pytest.approx(float(other.forward(xs, ts)) * ts.size, rel=1e-13)
    other.backward(float(ts.size))
    for mine, theirs in zip(model.grads, other.grads, strict=True):
        assert np.allclose(mine, theirs, rtol=0, atol=1e-12)


def test_a_stream_is_windows_with_a_carried_state():
    model = make()
    other, T = windows_model(model), 3
    for start in range(0, 9, T):  # a cut behind every third word
        loss = 0.0
        for word, next_word in zip(WORDS[start : start + T], WORDS[start + 1 : start + T + 1]):
            loss += float(model.read(word, next_word))
        xs, ts = np.array([WORDS[start : start + T]]), np.array([WORDS[start + 1 : start + T + 1]])
        assert loss == pytest.approx(float(other.forward(xs, ts)) * T, rel=1e-13)
        model.backward()
        other.backward(float(T))
        for mine, theirs in zip(model.grads, other.grads, strict=True):
            assert np.allclose(mine, theirs, rtol=0, atol=1e-12)
        assert model.steps == []


def test_the_joint_probability_is_one_over_all_sentences():
    model = make()
    total = sum(np.exp(log_probability(model, [2, a, b])) for a in range(V) for b in range(V))
    assert total == pytest.approx(1, rel=1e-12)


def test_learning_is_clipped():
    model = make()
    before = [p.copy() for p in model.params]
    log_probability(model, WORDS)
    learn(model, SGD(1.0), max_grad=0.5)
    moved = np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(before, model.params)))
    assert moved == pytest.approx(0.5, rel=1e-6)


def test_a_text_is_cut_into_sentences(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("A b. C! d\n\n. e?\nf\nx\ny\n", encoding="utf-8")
    corpus = text_file.load(path)
    found = [[corpus.id_to_word[i] for i in s] for s in sentences(corpus.train, corpus)]
    eos = "<eos>"
    assert found[:5] == [
        [eos, "a", "b", ".", eos],
        [eos, "c", "!", eos],
        [eos, "d", eos],
        [eos, ".", eos],
        [eos, "e", "?", eos],
    ]


@pytest.fixture
def pairs(tmp_path):
    """Sentences in which the second word follows from the first, of 16."""
    rng = np.random.default_rng(0)
    path = tmp_path / "pairs.txt"
    path.write_text("".join(f"x{i} y{i} .\n" for i in rng.integers(0, 16, 1000)), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", ["sentence", "stream"])
def test_what_follows_is_learnt(run, pairs, form):
    options = ["--corpus", pairs, "--form", form, "--epochs", 4, "--lr", 0.1, "--text", "x3 y3 .", "--text", "y3 x3 ."]
    found, output = run(sentence_rnn.main, *options)
    assert 1.9 < found < 2.4  # 16^(1/4): of four words, the first alone is uncertain
    shown = {text: float(log_p) for log_p, text in re.findall(r"^log P +(\S+): (.*)$", output, re.MULTILINE)}
    assert shown["x3 y3 . <eos>"] == pytest.approx(-np.log(16), abs=1)
    assert shown["y3 x3 . <eos>"] < -8
    assert f"valid perplexity {found:.2f}\n" in output


def test_the_stream_is_updated_every_so_many_words(run, pairs, monkeypatch):
    calls = []
    monkeypatch.setattr(sentence_rnn, "learn", lambda model, *args: calls.append(len(model.steps)) or model.backward())
    run(sentence_rnn.main, "--corpus", pairs, "--form", "stream", "--sentences", 100)
    assert calls == [30] * (399 // 30)
    calls.clear()
    run(sentence_rnn.main, "--corpus", pairs, "--sentences", 100)
    assert calls == [4] * 100


def test_seeds(run, pairs):
    first, other, again = (
        run(sentence_rnn.main, "--corpus", pairs, "--sentences", 50, "--seed", seed) for seed in (0, 1, 0)
    )
    assert first == again
    assert first[0] != other[0]


@pytest.mark.parametrize("form", ["sentence", "stream"])
def test_quick(tmp_path, form):
    ended = run_script("sentence_rnn.py", "--quick", "--form", form, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    found = re.findall(r"^ +\d+ (sentences|words)  perplexity +(\S+)", ended.stdout, re.MULTILINE)
    assert {unit for unit, _ in found} == {"sentences" if form == "sentence" else "words"}
    first, *_, last = (float(perplexity) for _, perplexity in found)
    assert last < first
    assert float(re.findall(r"^valid perplexity (\S+)", ended.stdout, re.MULTILINE)[0]) < 400  # of 502 words
    assert list(tmp_path.iterdir()) == []


BAD_VALUES = {
    "--corpus": ["missing.txt"],
    "--vocab-size": NOT_POSITIVE,
    "--sentences": NOT_POSITIVE,
    "--form": ["batch"],
    "--update-every": NOT_POSITIVE,
    "--wordvec-size": NOT_POSITIVE,
    "--hidden-size": NOT_POSITIVE,
    "--epochs": NOT_POSITIVE,
    "--lr": NOT_POSITIVE,
    "--max-grad": NOT_POSITIVE,
    "--show-every": NOT_POSITIVE,
    "--seed": ["-1"],
}


@cases(BAD_VALUES)
def test_bad_values_are_one_line(error_line, option, value):
    error_line(sentence_rnn.main, [option, value])


def test_bad_input_in_a_process(tmp_path):
    assert_one_line(run_script("sentence_rnn.py", "--corpus", "missing.txt", folder=tmp_path), "sentence_rnn.py")
