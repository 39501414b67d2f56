"""Mini-batches for training with a carried state: of one long text, or of many sentences.

``for x, t in batches`` goes once through the text: through one epoch. While it goes, an object of either class says

    resets_state      whether the window in hand starts from a state of zeros, not from that in which the last one ended
    words       the labels of the window that count: without padding
    share       the part of them that is this process's own: 1, if it does not share the training with others
    layout      of all rows of the window, those of other processes, too
    position    the windows of this epoch that have been handed out; where an epoch that was broken off goes on
    state_keys    the names of all attributes that say how far it has got
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from common.backend import Array, get_array_module
from common.checks import check_sizes
from common.packing import Layout, PackedSequence, packed_index, padded_index, rectangle


class OffsetBatches:
    """Windows of a long text, read by ``batch_size`` readers who start at different places.

    Reader n starts at n / batch_size of the text. Each batch holds the next ``time_size`` words of
    every reader, so the state in which a reader's window ends is the state in which its next begins.

        text        a b c d e f g h i j k l          batch_size 2, time_size 3
        reader 0    a b c | d e f
        reader 1    g h i | j k l                    batch 0: [abc, ghi], batch 1: [def, jkl]

    Parameters
    ----------
    xs, ts : (n,) arrays
        Word ids, and for each the id of the word that follows.
    batch_size : int
        Readers, N.
    time_size : int
        Words in a window, T.
    restart : bool
        False: a new epoch goes on where the last one stopped, around the end of the text, so that windows
        fall differently each time. True: each epoch starts at the same places; reset the state then.
    shard : slice
        The readers of each batch that are this process's; see ``common/runs/distributed.py``.
    ignore_label : int, optional
        Labels that do not count, if there are any: then the words of each window are counted.

    Raises
    ------
    ValueError
        If a size is not positive, the text is shorter than one batch, or no reader is left for this process.
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
        if batch_size <= 0 or time_size <= 0:
            raise ValueError(f"batch_size and time_size must be positive, got {batch_size} and {time_size}")
        if len(xs) != len(ts):
            raise ValueError(f"xs and ts must have the same length, got {len(xs)} and {len(ts)}")
        if len(xs) < batch_size * time_size:
            raise ValueError(
                f"the text has {len(xs)} words with a successor, but one batch needs "
                f"batch_size x time_size = {batch_size} x {time_size} = {batch_size * time_size}"
            )
        if not range(batch_size)[shard]:
            raise ValueError(f"a batch of {batch_size} readers cannot be shared by {shard.step} processes")
        self.xs, self.ts = xs, ts
        self.batch_size, self.time_size = batch_size, time_size
        self.restart = restart
        self.shard = shard
        self.time = 0  # how far each reader has read
        self.position = 0
        self.resets_state = False
        self.words = batch_size * time_size
        self.token_share = len(range(batch_size)[shard]) / batch_size
        self.layout = rectangle(batch_size, time_size)
        self.ignore_label = ignore_label

    def __len__(self) -> int:
        """Windows in an epoch."""
        return len(self.xs) // (self.batch_size * self.time_size)

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """One epoch, or what is left of it: windows of xs and ts, (N, T) each."""
        xp = get_array_module(self.xs)
        n = len(self.xs)
        starts = xp.arange(self.batch_size)[:, None] * (n // self.batch_size)
        steps = xp.arange(self.time_size)
        while self.position < len(self):
            self.resets_state = self.restart and self.position == 0
            if self.resets_state:
                self.time = 0
            index = (starts + self.time + steps) % n  # (N, T)
            if self.ignore_label is not None:
                labelled = self.ts[index] != self.ignore_label
                self.words = int(labelled.sum())
                self.token_share = int(labelled[self.shard].sum()) / max(self.words, 1)
            index = index[self.shard]
            self.time += self.time_size
            self.position += 1
            yield self.xs[index], self.ts[index]
        self.position = 0


class SentenceBatches:
    """Batches of sentences of many lengths, each batch in windows of ``time_size`` words.

    A sentence is read from its first word to its last, with the state carried from window to window. The next batch
    starts from zeros. Packed, a window holds only the sentences that have not ended; padded, all of them:

                        packed                     padded
        a0 a1 a2        a0 a1 a2 | a3 a4           a0 a1 a2 | a3 a4 ·
        b0 b1           b0 b1    |                 b0 b1 ·  | ·  ·  ·        time_size 3, 2 windows
        c0 c1 c2        c0 c1 c2 |                 c0 c1 c2 | ·  ·  ·

    Parameters
    ----------
    sentences : sequence of (n,) arrays
        Word ids, from that of ``<s>`` to that of ``</s>``; each word but the first is the label of the one before.
        They are kept where they are, joined to one array: if that is on a GPU, a batch sends only a few numbers there.
    batch_size : int
        Sentences in a batch, N; the last of an epoch may have fewer.
    time_size : int
        Words in a window, T.
    packed : bool
        Windows are a PackedSequence, or arrays (N, T) filled up with ``pad_id``, in the labels with ``ignore_label``.
    shuffled : bool
        Each epoch has an order of its own, which depends on ``seed`` and the number of the epoch alone.
    bucketed : bool
        Sentences of nearly the same length share a batch. There is less padding and there are fewer windows, and so
        fewer updates in an epoch; those of one batch are less of a mixture.
    seed : int
    pad_id, ignore_label : int
    shard : slice
        The sentences of each batch that are this process's; see ``common/runs/distributed.py``. Those to be packed are
        sorted by length, so that all processes have as much to do.

    Attributes
    ----------
    epoch : int
        Epochs that have ended.

    Raises
    ------
    ValueError
        If a size is not positive, there is no sentence, or one has fewer than two words.
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
        if batch_size <= 0 or time_size <= 0:
            raise ValueError(f"batch_size and time_size must be positive, got {batch_size} and {time_size}")
        if len(sentences) == 0 or min(len(sentence) for sentence in sentences) < 2:
            raise ValueError("there must be at least one sentence, and each needs at least two words: <s> and </s>")
        self.text = get_array_module(sentences[0]).concatenate(sentences)  # one behind the other
        self.lengths = np.array([len(sentence) - 1 for sentence in sentences])  # words with a successor
        self.starts = np.cumsum(self.lengths + 1) - (self.lengths + 1)
        self.batch_size, self.time_size = batch_size, time_size
        self.packed, self.shuffled, self.bucketed, self.seed = packed, shuffled, bucketed, seed
        self.pad_id, self.ignore_label = pad_id, ignore_label
        self.shard = shard
        self.epoch = 0
        self.position = 0
        self.resets_state = True
        self.words = 0
        self.token_share = 1.0

    def __len__(self) -> int:
        """Windows in this epoch."""
        return sum(-(-int(self.lengths[batch].max()) // self.time_size) for batch in self._batches())

    def __iter__(self) -> Iterator[tuple[Array | PackedSequence | None, Array | PackedSequence | None]]:
        """One epoch, or what is left of it: windows of the words, and of the words that follow them.

        None for both where all sentences of this process have ended, and others have not.
        """
        windows = ((batch, start, x, t) for batch in self._batches() for start, x, t in self._windows(batch))
        for batch, start, x, t in islice(windows, self.position, None):
            self.resets_state = start == 0
            self._lengths = (self.lengths[batch] - start).clip(0, self.time_size)  # in this window
            self.words = int(self._lengths.sum())
            self.token_share = int(self._lengths[self._own(batch)].sum()) / self.words
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
        """Which sentences each batch of this epoch has."""
        rng = np.random.default_rng([self.seed, self.epoch]) if self.shuffled else None
        return make_batches(self.lengths, self.batch_size, rng, self.bucketed)

    def _own(self, batch: np.ndarray) -> np.ndarray:
        """Which sentences of a batch are this process's: of those to be packed, sorted by length as ``pack`` does."""
        order = np.argsort(-self.lengths[batch], kind="stable") if self.packed else np.arange(len(batch))
        return np.sort(order[self.shard])

    def _windows(
        self, batch: np.ndarray
    ) -> Iterator[tuple[int, Array | PackedSequence | None, Array | PackedSequence | None]]:
        """The first word of each window of a batch, and what this process has of its xs and ts."""
        text, T, xp = self.text, self.time_size, get_array_module(self.text)
        longest, own = int(self.lengths[batch].max()), batch[self._own(batch)]
        starts = range(0, longest, T)
        windows = iter(())
        if len(own) and self.packed:
            index, layout = packed_index(self.starts[own], self.lengths[own], xp)
            xs, ts = (PackedSequence(text[index + k], layout) for k in (0, 1))
            windows = zip(xs.windows(T), ts.windows(T))
        elif len(own):
            index, inside, _ = padded_index(self.starts[own], self.lengths[own], longest, xp)
            xs = xp.where(inside, text[index], self.pad_id)
            # As numbers with a sign, as -1 would be 255 among unsigned bytes.
            ts = xp.where(inside, text[index + 1].astype(np.intp), self.ignore_label)
            windows = ((xs[:, start : start + T], ts[:, start : start + T]) for start in starts)
        yield from ((start, *next(windows, (None, None))) for start in starts)


def make_batches(
    lengths: np.ndarray, batch_size: int, rng: np.random.Generator | None = None, bucketed: bool = False
) -> list[np.ndarray]:
    """Deal sequences, of which only the lengths matter, (n,), to batches: the numbers of those in each batch.

    With ``rng`` in random order, else in the order given. If ``bucketed``, sequences of nearly the same length share a
    batch; then it is the order of the batches that is random, and of sequences of one length.
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

    Parameters
    ----------
    model : RecurrentClassifier
        Its ``batch`` makes the batches, where the model is.
    texts, labels
    batch_size : int
        Texts in a batch, N; the last of an epoch may have fewer.
    rng : numpy.random.Generator
        Draws the order of an epoch when it begins.
    padded : bool
        Pad batches instead of packing them.
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
