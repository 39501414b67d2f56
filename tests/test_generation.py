"""Sampling follows the model's distribution, and what it is told to leave out."""

import itertools

import numpy as np
import pytest

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.functions import softmax
from common.generation import generate, next_word_distribution

V = 6


@pytest.fixture
def model():
    model = SimpleRnnlm(V, 4, 5, rng=np.random.default_rng(0))
    model.params[0][...] *= 100
    return model


def first_words(model, n=3000, **options):
    rng = np.random.default_rng(1)
    words = [next(generate(model, [2, 4], 1, rng, **options), -1) for _ in range(n)]
    return np.bincount(np.array(words) + 1, minlength=V + 1) / n


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_those_of_the_model_after_the_whole_prompt(model, temperature):
    with model.evaluating():
        logits = model.predict(np.array([[2, 4]]))[0, -1]
    expected = softmax(logits / temperature)
    assert np.allclose(first_words(model, temperature=temperature)[1:], expected, atol=0.03)


def test_each_word_is_fed_back(model):
    words = list(generate(model, [2], 5, np.random.default_rng(3)))
    rng = np.random.default_rng(3)
    so_far = [2]
    for word in words:
        with model.evaluating():
            logits = model.predict(np.array([so_far]))[0, -1].astype(np.float64)
        assert word == rng.choice(V, p=softmax(logits))
        so_far.append(word)


def test_skipped_words_never_come(model):
    assert first_words(model, 500, skip_ids=[0, 3])[[1, 4]].sum() == 0


def test_stop_id_ends_the_text_and_is_not_part_of_it(model):
    texts = [list(generate(model, [2], 50, np.random.default_rng(s), stop_id=1)) for s in range(20)]
    assert all(1 not in text for text in texts)
    assert len({len(text) for text in texts}) > 3


def test_one_seed_one_text_and_at_most_length_words(model):
    a, b = (list(generate(model, [2], 30, np.random.default_rng(7))) for _ in range(2))
    assert a == b
    assert len(a) == 30


def test_the_state_of_training_is_put_back_when_the_text_is_cut_short(model):
    model.forward(np.array([[1, 2]]), np.array([[2, 3]]))
    state = model.layers[1].h
    text = generate(model, [2], 30, np.random.default_rng(0))
    list(itertools.islice(text, 3))
    text.close()
    assert model.layers[1].h is state


@pytest.mark.parametrize(("prompt", "temperature", "message"), [([], 1, "at least one word"), ([1], 0, "positive")])
def test_bad_requests_are_refused(model, prompt, temperature, message):
    with pytest.raises(ValueError, match=message):
        next(generate(model, prompt, 3, np.random.default_rng(0), temperature))


P = np.array([0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, P),
        ({"top_p": 1.0}, P),
        ({"top_k": 9}, P),
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_p": 0.5}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.39}, [1, 0, 0, 0]),
        ({"top_k": 2, "top_p": 0.5}, [1, 0, 0, 0]),  # of the two that are left, the first has 4 / 7
        ({"temperature": 0.5}, P**2 / (P**2).sum()),
    ],
)
def test_next_word_distribution_by_hand(options, expected):
    assert np.allclose(next_word_distribution(np.log(P), **options), expected, rtol=0, atol=1e-12)


def test_of_equally_likely_words_the_first_are_kept():
    assert np.allclose(next_word_distribution(np.zeros(4), top_k=2), [0.5, 0.5, 0, 0])


@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 0}, {"top_p": 0}, {"top_p": 1.1}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}.* must be"):
        next_word_distribution(np.zeros(4), **options)
