"""Mini-batches for training with a carried state: of one long text, or of many sentences.

``for x, t in batches`` goes once through the text: through one epoch. Meanwhile, OffsetBatches and SentenceBatches say

    resets_state    whether this window starts from a state of zeros, not from that in which the last one ended
    words           labels of this window that count: without padding
    token_share     the share of them that this process computes: 1 if it trains alone
    layout          of all rows of this window, those of other processes included
    position        windows of this epoch so far; an epoch that was interrupted continues there
    state_keys      the names of the attributes from which a training continues
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from common.backend import Array, get_array_module
from common.checks import check_sizes
from common.packing import Layout, PackedSequence, packed_index, padded_index, rectangle

Window = Array | PackedSequence | None


class OffsetBatches:
    """Windows of a long text, which is cut into ``batch_size`` parallel streams.

    Of a text of L words, stream n starts at word n ⌊L / N⌋. Window k of stream n holds the T words

        xs[(n ⌊L / N⌋ + k T + j) mod L],   j = 0, ..., T - 1

    so the state in which a window ends is the state in which the next window of that stream begins.

        text        a b c d e f g h i j k l          batch_size N = 2, time_size T = 3
        stream 0    a b c | d e f
        stream 1    g h i | j k l                    window 0: [abc, ghi], window 1: [def, jkl]

    Parameters
    ----------
    xs, ts : (L,) arrays
        Word ids, and for each the id of the word that follows.
    restart : bool
        False: k is counted from the start of the training, so that the windows of each epoch fall differently. True: k
        is counted from the start of the epoch, which begins from a state of zeros.
    shard : slice
        The streams that this process computes; see ``common/runs/distributed.py``.
    ignore_label : int, optional
        Words with this label are not counted.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive whole number, the text is shorter than one batch, or this process has no stream.
    """

    state_keys = ("position", "time")

    def __init__(
        self,
        xs: Array,
        ts: Array,
        batch_size: int,
        time_size: int,
        restart: bool = False,
        *,
        shard: slice = slice(None),
        ignore_label: int | None = None,
    ) -> None:
        check_sizes(batch_size=batch_size, time_size=time_size)
        if len(xs) != len(ts):
            raise ValueError(f"xs and ts must have the same length, got {len(xs)} and {len(ts)}")
        if len(xs) < batch_size * time_size:
            raise ValueError(
                f"the text has {len(xs)} words with a successor, but one batch needs "
                f"batch_size x time_size = {batch_size} x {time_size} = {batch_size * time_size}"
            )
        if not range(batch_size)[shard]:
            raise ValueError(f"a batch of {batch_size} streams cannot be shared by {shard.step} processes")
        self.xs, self.ts = xs, ts
        self.batch_size, self.time_size, self.restart = batch_size, time_size, restart
        self.shard, self.ignore_label = shard, ignore_label
        self.time = 0  # k T: words that each stream has read
        self.position = 0
        self.resets_state = False
        self.words = batch_size * time_size
        self.token_share = len(range(batch_size)[shard]) / batch_size
        self.layout = rectangle(batch_size, time_size)

    def __len__(self) -> int:
        """Windows in an epoch."""
        return len(self.xs) // (self.batch_size * self.time_size)

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """One epoch, or what is left of it: windows of xs and ts, (N, T) each."""
        xp, L, N, T = get_array_module(self.xs), len(self.xs), self.batch_size, self.time_size
        offsets = xp.arange(N)[:, None] * (L // N)  # (N, 1)
        while self.position < len(self):
            self.resets_state = self.restart and self.position == 0
            if self.resets_state:
                self.time = 0
            index = (offsets + self.time + xp.arange(T)) % L  # (N, T)
            if self.ignore_label is not None:
                labelled = self.ts[index] != self.ignore_label
                self.words = int(labelled.sum())
                self.token_share = int(labelled[self.shard].sum()) / max(self.words, 1)
            index = index[self.shard]
            self.time += T
            self.position += 1
            yield self.xs[index], self.ts[index]
        self.position = 0


class SentenceBatches:
    """Batches of sentences of many lengths, each batch in windows of ``time_size`` words.

    A batch starts from a state of zeros, which is carried from window to window. Window k of a sentence of T_n words
    holds its words k T, ..., min(k T + T, T_n) - 1. If packed, a window holds only the sentences that have not ended:

                        packed                     padded
        a0 a1 a2        a0 a1 a2 | a3 a4           a0 a1 a2 | a3 a4 ·
        b0 b1           b0 b1    |                 b0 b1 ·  | ·  ·  ·        time_size 3, 2 windows
        c0 c1 c2        c0 c1 c2 |                 c0 c1 c2 | ·  ·  ·

    Parameters
    ----------
    sentences : sequence of (n,) arrays
        Word ids, from that of ``<s>`` to that of ``</s>``; each word but the first is the label of the one before.
        They are joined to one array on their device: if that is a GPU, a batch sends only a few numbers there.
    batch_size, time_size : int
        Sentences in a batch, N (the last batch of an epoch may have fewer), and words in a window, T.
    packed : bool
        Windows are PackedSequences, or arrays (N, T) padded with ``pad_id``, and ``ignore_label`` in the labels.
    shuffled, seed : bool and int
        Each epoch is in another order, which depends only on ``seed`` and ``epoch``, the number of epochs before it.
    bucketed : bool
        Sentences of nearly the same length share a batch: less padding and fewer windows, so fewer updates per epoch.
    shard : slice
        The sentences of each batch that this process computes; see ``common/runs/distributed.py``. Those to be packed
        are sorted by length first, so that all processes have equally much to do.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive whole number, there is no sentence, or one has fewer than two words.
    """

    state_keys = ("position", "epoch")

    def __init__(
        self,
        sentences: Sequence[Array],
        batch_size: int,
        time_size: int,
        *,
        packed: bool = True,
        shuffled: bool = True,
        bucketed: bool = False,
        seed: int = 0,
        pad_id: int = 0,
        ignore_label: int = -1,
        shard: slice = slice(None),
    ) -> None:
        check_sizes(batch_size=batch_size, time_size=time_size)
        if len(sentences) == 0 or min(len(sentence) for sentence in sentences) < 2:
            raise ValueError("there must be at least one sentence, and each needs at least two words: <s> and </s>")
        self.text = get_array_module(sentences[0]).concatenate(sentences)
        self.lengths = np.array([len(sentence) - 1 for sentence in sentences])  # words with a successor
        self.starts = np.cumsum(self.lengths + 1) - (self.lengths + 1)
        self.batch_size, self.time_size = batch_size, time_size
        self.packed, self.shuffled, self.bucketed, self.seed = packed, shuffled, bucketed, seed
        self.pad_id, self.ignore_label = pad_id, ignore_label
        self.shard = shard
        self.epoch = self.position = 0
        self.resets_state = True
        self.words = 0
        self.token_share = 1.0

    def __len__(self) -> int:
        """Windows in this epoch."""
        return sum(-(-int(self.lengths[batch].max()) // self.time_size) for batch in self._batches())

    def __iter__(self) -> Iterator[tuple[Window, Window]]:
        """One epoch, or what is left of it: windows of the words, and of the words that follow them.

        Both are None where all sentences of this process have ended, but those of others have not.
        """
        windows = ((batch, start, x, t) for batch in self._batches() for start, x, t in self._windows(batch))
        for batch, start, x, t in islice(windows, self.position, None):
            self.resets_state = start == 0
            self._lengths = (self.lengths[batch] - start).clip(0, self.time_size)  # in this window
            self.words = int(self._lengths.sum())
            self.token_share = int(self._lengths[self._shard_of(batch)].sum()) / self.words
            self.position += 1
            yield x, t
        self.epoch += 1
        self.position = 0

    @property
    def layout(self) -> Layout:
        if self.packed:
            lengths = self._lengths[self._lengths > 0]
            return packed_index(np.zeros_like(lengths), lengths)[1]
        return rectangle(len(self._lengths), int(self._lengths.max()))

    def _batches(self) -> list[np.ndarray]:
        """The numbers of the sentences in each batch of this epoch."""
        rng = np.random.default_rng([self.seed, self.epoch]) if self.shuffled else None
        return make_batches(self.lengths, self.batch_size, rng, self.bucketed)

    def _shard_of(self, batch: np.ndarray) -> np.ndarray:
        """Which sentences of a batch this process computes: if packed, of the order that ``pack`` gives them."""
        order = np.argsort(-self.lengths[batch], kind="stable") if self.packed else np.arange(len(batch))
        return np.sort(order[self.shard])

    def _windows(self, batch: np.ndarray) -> Iterator[tuple[int, Window, Window]]:
        """The first step of each window of a batch, and the xs and ts of this process in it."""
        text, T, xp = self.text, self.time_size, get_array_module(self.text)
        longest, own = int(self.lengths[batch].max()), batch[self._shard_of(batch)]
        starts = range(0, longest, T)
        windows = iter(())
        if len(own) and self.packed:
            index, layout = packed_index(self.starts[own], self.lengths[own], xp)
            xs, ts = (PackedSequence(text[index + k], layout) for k in (0, 1))
            windows = zip(xs.windows(T), ts.windows(T))
        elif len(own):
            index, inside, _ = padded_index(self.starts[own], self.lengths[own], longest, xp)
            xs = xp.where(inside, text[index], self.pad_id)
            # In a signed type: among unsigned bytes, -1 would be 255.
            ts = xp.where(inside, text[index + 1].astype(np.intp), self.ignore_label)
            windows = ((xs[:, start : start + T], ts[:, start : start + T]) for start in starts)
        yield from ((start, *next(windows, (None, None))) for start in starts)


def make_batches(
    lengths: np.ndarray, batch_size: int, rng: np.random.Generator | None = None, bucketed: bool = False
) -> list[np.ndarray]:
    """Put sequences of these lengths, (n,), into batches: the numbers of those in each batch.

    With ``rng`` in random order, else in the order given. If ``bucketed``, sequences of nearly the same length share a
    batch; then the order of the batches is random, and that of sequences of one length.
    """
    n = len(lengths)
    order = np.arange(n) if rng is None else rng.permutation(n)
    if bucketed:
        order = order[np.argsort(lengths[order], kind="stable")]
    batches = [order[first : first + batch_size] for first in range(0, n, batch_size)]
    if bucketed and rng is not None:
        rng.shuffle(batches)
    return batches


class ShuffledBatches:
    """Batches of examples x with their targets t, for ``Trainer``; each epoch is in another order.

    The last examples of an epoch, if they are fewer than ``batch_size``, are left out.
    """

    resets_state = False
    state_keys = ("position",)

    def __init__(self, x: Array, t: Array, batch_size: int, rng: np.random.Generator) -> None:
        x, t = (a if hasattr(a, "shape") else np.asarray(a) for a in (x, t))
        if len(x) != len(t):
            raise ValueError(f"x and t must have the same length, got {len(x)} and {len(t)}")
        check_sizes(batch_size=batch_size)
        if len(x) < batch_size:
            raise ValueError(f"one batch needs {batch_size} examples, got {len(x)}")
        self.x, self.t, self.rng = x, t, rng
        self.words = self.batch_size = batch_size
        self.position = 0

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.x) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        order = self.rng.permutation(np.arange(len(self.x)))
        self.x, self.t = self.x[order], self.t[order]
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            self.position += 1
            yield self.x[start : start + self.batch_size], self.t[start : start + self.batch_size]
        self.position = 0


class TextBatches:
    """Batches of texts, (T_n,) word ids each, and their classes, (n,); each epoch is in another order.

    ``model``, a RecurrentClassifier, packs or pads the batches, where it is. The last of an epoch may have fewer texts.
    """

    state_keys = ("position", "order")
    resets_state = True

    def __init__(
        self,
        model: object,
        texts: Sequence[np.ndarray],
        labels: np.ndarray,
        batch_size: int,
        rng: np.random.Generator,
        padded: bool = False,
    ) -> None:
        self.model, self.texts, self.labels = model, texts, labels
        self.batch_size, self.rng, self.padded = batch_size, rng, padded
        self.order = list(range(len(texts)))
        self.position = 0
        self.words = 0  # what the mean loss of a batch is a mean over: its texts

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.texts) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[PackedSequence, Array]]:
        """One epoch, or what is left of it: word ids, and classes (N,)."""
        if self.position == 0:
            self.order = self.rng.permutation(len(self.texts)).tolist()
        while self.position < len(self):
            batch = self.order[self.position * self.batch_size :][: self.batch_size]
            self.position += 1
            self.words = len(batch)
            xs = self.model.batch([self.texts[n] for n in batch], self.padded)
            (ts,) = self.model.asarrays(self.labels[batch])
            yield xs, ts
        self.position = 0
