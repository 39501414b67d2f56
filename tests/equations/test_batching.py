"""Offset batches: every label is the next word, and every stream goes on where it stopped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.batching import OffsetBatches, SentenceBatches
from common.packing import unpack


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


@pytest.mark.parametrize(
    ("words", "labels", "N", "T", "message"),
    [
        (9, 9, 0, 5, "positive, got batch_size 0, time_size 5"),
        (9, 9, 5, -1, "positive, got batch_size 5, time_size -1"),
        (19, 19, 4, 5, r"19 words .* 4 x 5 = 20"),
        (20, 19, 4, 5, "same length, got 20 and 19"),
    ],
)
def test_what_makes_no_batch_is_refused(words, labels, N, T, message):
    with pytest.raises(ValueError, match=message):
        OffsetBatches(np.arange(words), np.arange(labels), N, T)


def test_processes_share_the_streams():
    text = np.arange(24)
    whole = OffsetBatches(text, text + 1, 5, 2)
    shards = [OffsetBatches(text, text + 1, 5, 2, shard=slice(rank, None, 2)) for rank in (0, 1)]
    for (x, t), *parts in zip(whole, *shards):
        for rank, (x_r, t_r) in enumerate(parts):
            assert np.array_equal(x_r, x[rank::2])
            assert np.array_equal(t_r, t[rank::2])
    assert [shard.token_share for shard in shards] == [3 / 5, 2 / 5]
    assert whole.token_share == 1
    assert all(batches.layout.batch_sizes == [5, 5] for batches in (whole, *shards))
    with pytest.raises(ValueError, match="a batch of 1 streams cannot be shared by 2 processes"):
        OffsetBatches(text, text, 1, 2, shard=slice(1, None, 2))


def test_labels_that_are_ignored_are_not_counted():
    ts = np.array([0, -1, 2, -1, -1, 5, 6, 7])
    batches = OffsetBatches(np.arange(8), ts, 2, 2, ignore_label=-1, shard=slice(1, None, 2))
    assert [(batches.words, batches.token_share) for _ in batches] == [(2, 0.5), (3, 2 / 3)]


# Sentences

SENTENCES = [np.arange(start, start + n) for start, n in ((10, 6), (20, 2), (30, 4), (40, 4), (50, 9))]


def sentences_of(batches):
    """What is read in one epoch: of each batch, the words of each sentence, put together from windows, and labels."""
    read = []
    for x, t in batches:
        if batches.resets_state:
            words, labels, order = {}, {}, None
            read.append((words, labels))
        if batches.packed:
            assert batches.words == x.size == t.size
            rows, row_labels = unpack(x), unpack(t)
            order = x.layout.order if order is None else order
            rows = dict(zip(np.sort(x.layout.order), rows))
            row_labels = dict(zip(np.sort(t.layout.order), row_labels))
        else:
            assert batches.words == (t != -1).sum()
            rows = {n: row[label != -1] for n, (row, label) in enumerate(zip(x, t))}
            row_labels = {n: label[label != -1] for n, label in enumerate(t)}
            assert all((x[t == -1] == 3).tolist())
        for n, row in rows.items():
            words[n] = [*words.get(n, []), *row]
            labels[n] = [*labels.get(n, []), *row_labels[n]]
    return read


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("time_size", [1, 3, 4, 20])
def test_each_sentence_is_read_once_from_its_first_word_to_its_last(packed, time_size):
    batches = SentenceBatches(SENTENCES, 2, time_size, packed=packed, shuffled=False, pad_id=3)
    read = sentences_of(batches)
    found = [words[n] for words, _ in read for n in sorted(words)]
    found_labels = [labels[n] for _, labels in read for n in sorted(labels)]
    assert [len(words) for words, _ in read] == [2, 2, 1]
    assert found == [sentence[:-1].tolist() for sentence in SENTENCES]
    assert found_labels == [sentence[1:].tolist() for sentence in SENTENCES]


def test_windows_are_those_of_the_picture():
    a, b, c = np.array([1, 10, 11, 12, 13, 2]), np.array([1, 20, 2]), np.array([1, 30, 31, 2])
    packed = SentenceBatches([a, b, c], 3, 3, shuffled=False)
    assert [x.layout.batch_sizes for x, _ in packed] == [[3, 3, 2], [1, 1]]
    padded = SentenceBatches([a, b, c], 3, 3, shuffled=False, packed=False, pad_id=9)
    (x, t), (x2, t2) = padded
    assert x.tolist() == [[1, 10, 11], [1, 20, 9], [1, 30, 31]]
    assert t.tolist() == [[10, 11, 12], [20, 2, -1], [30, 31, 2]]
    assert x2.tolist() == [[12, 13], [9, 9], [9, 9]]
    assert t2.tolist() == [[13, 2], [-1, -1], [-1, -1]]


def orders(batches, epochs=2):
    return [[tuple(words[n]) for words, _ in sentences_of(batches) for n in sorted(words)] for _ in range(epochs)]


@pytest.mark.parametrize("bucketed", [False, True])
def test_each_epoch_has_an_order_of_its_own_that_the_seed_repeats(bucketed):
    sentences = [np.arange(n, n + 2 + n % 5) for n in range(40)]
    options = {"bucketed": bucketed}
    first, second = orders(SentenceBatches(sentences, 4, 3, **options))
    everything = sorted(tuple(sentence[:-1]) for sentence in sentences)
    assert sorted(first) == sorted(second) == everything
    assert first != second
    assert orders(SentenceBatches(sentences, 4, 3, **options)) == [first, second]
    assert orders(SentenceBatches(sentences, 4, 3, **options, packed=False, pad_id=3)) == [first, second]
    assert orders(SentenceBatches(sentences, 4, 3, **options, seed=1)) != [first, second]


def test_buckets_hold_sentences_of_like_length():
    rng = np.random.default_rng(0)
    sentences = [np.arange(n) for n in rng.integers(2, 60, 64)]
    bucketed, mixed = (SentenceBatches(sentences, 8, 100, bucketed=bucketed) for bucketed in (True, False))
    found = [x.layout.T for x, _ in bucketed]
    longest_of_each = sorted(len(sentence) - 1 for sentence in sentences)[7::8]
    assert sorted(found) == longest_of_each
    assert found != longest_of_each  # the batches are shuffled
    assert sum(found) < sum(x.layout.T for x, _ in mixed)


@pytest.mark.parametrize("packed", [True, False])
def test_an_epoch_that_was_broken_off_goes_on_where_it_was(packed):
    whole, broken, resumed = (SentenceBatches(SENTENCES, 2, 2, packed=packed, seed=5) for _ in range(3))
    list(whole), list(broken)
    expected = [(x, whole.resets_state, whole.words) for x, _ in whole]
    found = []
    for x, _ in broken:
        found.append((x, broken.resets_state, broken.words))
        if broken.position == 4:
            break
    resumed.epoch, resumed.position = broken.epoch, broken.position
    assert (resumed.epoch, resumed.position) == (1, 4)
    found += [(x, resumed.resets_state, resumed.words) for x, _ in resumed]
    assert (resumed.epoch, resumed.position) == (2, 0)
    assert [other[1:] for other in found] == [other[1:] for other in expected]
    for (x, *_), (y, *_) in zip(found, expected, strict=True):
        assert np.array_equal(x.data if packed else x, y.data if packed else y)


def test_an_epoch_of_a_long_text_that_was_broken_off_goes_on_where_it_was():
    text = np.arange(41)
    for restart in (True, False):
        whole, broken = (OffsetBatches(text[:-1], text[1:], 2, 4, restart) for _ in range(2))
        expected = [x.tolist() for x, _ in whole] + [x.tolist() for x, _ in whole]
        found = [x.tolist() for x, _ in broken]
        for x, _ in broken:
            found.append(x.tolist())
            if broken.position == 3:
                break
        found += [x.tolist() for x, _ in broken]
        assert found == expected


@pytest.mark.parametrize(
    ("sentences", "N", "T", "message"),
    [
        (SENTENCES, 0, 3, "positive, got batch_size 0, time_size 3"),
        (SENTENCES, 2, -1, "positive, got batch_size 2, time_size -1"),
        *[
            (wrong, 2, 3, "at least two words")
            for wrong in ([], [np.array([1])], [np.array([1, 2]), np.array([], int)])
        ],
    ],
)
def test_what_makes_no_batch_of_sentences_is_refused(sentences, N, T, message):
    with pytest.raises(ValueError, match=message):
        SentenceBatches(sentences, N, T)


@pytest.mark.parametrize("packed", [True, False])
def test_the_number_of_windows_and_their_layouts(packed):
    sentences = [np.arange(n + 1) for n in (3, 2, 9, 4)]
    batches = SentenceBatches(sentences, 2, 3, packed=packed, shuffled=False)
    layouts = [batches.layout.batch_sizes for _ in batches]
    assert len(batches) == len(layouts) == 4  # of the longest in each batch: 3 and 9 words
    assert layouts == ([[2, 2, 1], [2, 2, 2], [2, 1, 1], [1, 1, 1]] if packed else [[2] * 3] * 4)


@pytest.mark.parametrize("packed", [True, False])
def test_processes_share_the_sentences_of_a_batch(packed):
    sentences = [np.arange(10 * n, 10 * n + length) for n, length in enumerate((3, 6, 4, 5, 2))]
    whole, *shards = (
        SentenceBatches(sentences, 5, 2, packed=packed, shuffled=False, shard=shard)
        for shard in (slice(None), slice(0, None, 2), slice(1, None, 2))
    )
    ended = []
    for (x, _), *parts in zip(whole, *shards, strict=True):
        words = [np.ravel(part[0].data if packed else part[0]) for part in parts if part[0] is not None]
        assert sorted(np.concatenate(words)) == sorted(np.ravel(x.data if packed else x))
        ended.append([part[0] is None for part in parts])
        assert sum(shard.token_share for shard in shards) == pytest.approx(1)
        assert all(shard.layout.batch_sizes == whole.layout.batch_sizes for shard in shards)
    assert ended[-1] == ([False, True] if packed else [False, False])
