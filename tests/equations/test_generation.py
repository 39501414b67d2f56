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
    for w in model.params:
        w *= 3  # so that the words before the last one count
    words = list(generate(model, [2], 20, np.random.default_rng(3)))
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


def test_only_the_likeliest_words_are_drawn(model):
    with model.evaluating():
        p = softmax(model.predict(np.array([[2, 4]]))[0, -1])
    first, second, third = np.argsort(-p)[:3]
    found = first_words(model, 500, top_k=2)[1:]
    assert set(np.flatnonzero(found)) == {first, second}
    assert found[first] == pytest.approx(p[first] / (p[first] + p[second]), abs=0.08)
    assert set(np.flatnonzero(first_words(model, 50, top_p=0.9 * p[first])[1:])) == {first}
    # Words that are skipped take no place among those.
    found = first_words(model, 500, top_k=2, skip_ids=[int(first)])[1:]
    assert set(np.flatnonzero(found)) == {second, third}
    assert set(np.flatnonzero(first_words(model, 50, top_p=0.1, skip_ids=[int(first)])[1:])) == {second}


P = [0.1, 0.4, 0.2, 0.3]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, P),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_k": 3}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"top_k": 4}, P),
        ({"top_k": 1000}, P),
        ({"top_p": 1e-9}, [0, 1, 0, 0]),
        ({"top_p": 0.39}, [0, 1, 0, 0]),
        ({"top_p": 0.41}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.69}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.71}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"top_p": 0.89}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"top_p": 0.91}, P),
        ({"top_p": 1}, P),
        # Of the two words that are left, the first has 4/7 = 0.57, though of all words it has only 0.4.
        ({"top_k": 2, "top_p": 0.5}, [0, 1, 0, 0]),
        ({"top_k": 2, "top_p": 0.6}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_k": 3, "top_p": 0.5}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_k": 3, "top_p": 1}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"top_k": 1, "top_p": 0.99}, [0, 1, 0, 0]),
        # p ∝ P²: 1, 16, 4, 9. Of these the first has 16/30 = 0.53.
        ({"temperature": 0.5}, [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        ({"temperature": 0.5, "top_p": 0.5}, [0, 1, 0, 0]),
        ({"temperature": 0.5, "top_k": 2}, [0, 16 / 25, 0, 9 / 25]),
        ({"temperature": 1e9}, [0.25] * 4),
        ({"temperature": 1e-9}, [0, 1, 0, 0]),
    ],
)
def test_the_distribution_of_the_next_word_by_hand(options, expected):
    logits = np.log(P) + 7  # a constant that changes nothing
    before = logits.copy()
    found = next_word_distribution(logits, **options)
    assert found == pytest.approx(expected, abs=1e-8)
    assert np.array_equal(found == 0, np.array(expected) == 0) or options.get("temperature") == 1e-9
    assert found.sum() == pytest.approx(1)
    assert np.array_equal(logits, before)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 3}, [1 / 3, 1 / 3, 1 / 3, 0]),
        ({"top_p": 0.25}, [1, 0, 0, 0]),  # as few as have at least this probability
        ({"top_p": 0.26}, [1 / 2, 1 / 2, 0, 0]),
        ({"top_p": 0.5}, [1 / 2, 1 / 2, 0, 0]),
        ({"top_p": 0.75}, [1 / 3, 1 / 3, 1 / 3, 0]),
        ({"top_p": 1}, [1 / 4] * 4),
        ({"top_k": 2, "top_p": 0.5}, [1, 0, 0, 0]),
    ],
)
def test_of_equally_likely_words_the_first_are_kept(options, expected):
    assert next_word_distribution(np.zeros(4), **options).tolist() == pytest.approx(expected)


def test_of_equally_likely_words_behind_a_likelier_one_the_first_are_kept():
    logits = np.log([0.125, 0.125, 0.5, 0.125, 0.125])
    assert next_word_distribution(logits, top_k=3).tolist() == pytest.approx([1 / 6, 1 / 6, 4 / 6, 0, 0])


def test_all_of_many_words_stay_with_top_p_1():
    logits = 5 * np.random.default_rng(0).standard_normal(10_000)
    assert np.allclose(next_word_distribution(logits, top_p=1), softmax(logits), rtol=1e-9, atol=0)


@pytest.mark.parametrize("options", [{}, {"top_k": 4}, {"top_p": 1}, {"top_k": 4, "top_p": 1}])
def test_a_word_that_is_ruled_out_stays_so(options):
    logits = np.log(np.array([0.25, 1, 0.75, 1]))
    logits[[1, 3]] = -np.inf
    assert next_word_distribution(logits, **options).tolist() == pytest.approx([0.25, 0, 0.75, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "the temperature must be positive, got 0"),
        ({"temperature": -1}, "the temperature must be positive, got -1"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_k": -3}, "top_k must be at least 1, got -3"),
        ({"top_p": 0}, r"top_p must be in \(0, 1\], got 0"),
        ({"top_p": -0.5}, r"top_p must be in \(0, 1\], got -0.5"),
        ({"top_p": 1.5}, r"top_p must be in \(0, 1\], got 1.5"),
        ({"top_p": float("nan")}, r"top_p must be in \(0, 1\], got nan"),
    ],
)
def test_bad_ways_to_draw_a_word_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        next_word_distribution(np.log(P), **options)
    with pytest.raises(ValueError, match=message):
        next(generate(model, [1], 3, np.random.default_rng(0), **options))
