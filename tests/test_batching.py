"""Offset batches: every label is the next word, and every reader goes on where it stopped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.batching import OffsetBatches


def test_the_example_of_the_docstring():
    text = np.array(list("abcdefghijkl"))
    batches = [x for x, _ in OffsetBatches(text, text, 2, 3)]
    assert ["".join(row) for batch in batches for row in batch] == ["abc", "ghi", "def", "jkl"]


@given(st.data())
def test_labels_are_the_next_words_and_windows_follow_each_other(data):
    N, T = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    n = data.draw(st.integers(N * T, 4 * N * T + 7))
    words = np.arange(n + 1)
    xs, ts = words[:-1], words[1:]
    restart = data.draw(st.booleans())
    batches = OffsetBatches(xs, ts, N, T, restart)
    last = None
    for _ in range(3):
        if restart:
            last = None
        for batch_x, batch_t in batches:
            assert batch_x.shape == batch_t.shape == (N, T)
            assert np.array_equal(batch_t, batch_x + 1)
            if last is not None:
                assert np.array_equal(batch_x[:, 0], (last + 1) % n)
            last = batch_x[:, -1]


def test_an_epoch_reads_each_word_once_when_it_comes_out_even():
    xs = np.arange(24)
    seen = np.concatenate([x.ravel() for x, _ in OffsetBatches(xs, xs, 4, 3)])
    assert sorted(seen) == list(range(24))


def test_a_new_epoch_goes_on_or_restarts():
    xs = np.arange(23)
    for restart, equal in ((False, False), (True, True)):
        batches = OffsetBatches(xs, xs, 2, 4, restart)
        first, second = ([x.copy() for x, _ in batches] for _ in range(2))
        assert np.array_equal(first[0], second[0]) == equal


@pytest.mark.parametrize(("N", "T"), [(0, 5), (5, 0), (-1, 5)])
def test_sizes_must_be_positive(N, T):
    with pytest.raises(ValueError, match="must be positive"):
        OffsetBatches(np.arange(9), np.arange(9), N, T)


def test_a_short_text_is_refused_with_the_numbers():
    with pytest.raises(ValueError, match=r"19 words .* 4 x 5 = 20"):
        OffsetBatches(np.arange(19), np.arange(19), 4, 5)


def test_words_and_labels_must_match():
    with pytest.raises(ValueError, match="same length, got 20 and 19"):
        OffsetBatches(np.arange(20), np.arange(19), 4, 5)
