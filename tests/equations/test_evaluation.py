"""Perplexity counts every word once."""

import itertools
import math

import numpy as np
import pytest

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.evaluation import evaluate, perplexity
from common.functions import log_softmax

V = 9


@pytest.fixture
def model():
    model = SimpleRnnlm(V, 4, 5, rng=np.random.default_rng(0), dtype=np.float64)
    model.params[0][...] *= 100
    return model


def losses_one_by_one(model, xs, ts):
    """The loss of each word, read one at a time from a state of zeros."""
    with model.evaluating():
        return [-log_softmax(model.predict(np.array([[x]]))[0, 0])[t] for x, t in zip(xs, ts)]


@pytest.mark.parametrize(("n", "time_size"), [(1, 35), (34, 35), (35, 35), (36, 35), (100, 7)])
def test_one_reader_reads_the_whole_text_tail_included(model, n, time_size):
    words = np.random.default_rng(n).integers(0, V, n + 1)
    xs, ts = words[:-1], words[1:]
    assert evaluate(model, xs, ts, 1, time_size) == pytest.approx(np.mean(losses_one_by_one(model, xs, ts)), rel=1e-12)


@pytest.mark.parametrize(("n", "readers"), [(103, 10), (20, 7), (5, 10)])
def test_many_readers_read_a_stretch_each_and_weigh_every_word_once(model, n, readers):
    words = np.random.default_rng(n).integers(0, V, n + 1)
    xs, ts = words[:-1], words[1:]
    bounds = [k * n // min(readers, n) for k in range(min(readers, n) + 1)]
    total = sum(sum(losses_one_by_one(model, xs[a:b], ts[a:b])) for a, b in itertools.pairwise(bounds))
    assert evaluate(model, xs, ts, readers, 8) == pytest.approx(total / n, rel=1e-12)


def test_the_state_of_training_is_untouched(model):
    words = np.arange(21) % V
    model.forward(words[:6].reshape(2, 3), words[1:7].reshape(2, 3))
    state = model.layers[1].h.copy()
    evaluate(model, words[:-1], words[1:])
    assert np.array_equal(model.layers[1].h, state)


def test_nothing_to_predict_is_an_error(model):
    with pytest.raises(ValueError, match="at least two"):
        evaluate(model, np.array([], int), np.array([], int))


def test_perplexity_of_a_uniform_guess_and_of_a_hopeless_one():
    assert perplexity(math.log(418)) == pytest.approx(418)
    assert perplexity(1e5) == math.inf
