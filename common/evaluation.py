"""Perplexity of a text: exp(loss), where the loss is the mean over all words of -log P(word | words before it)."""

from __future__ import annotations

import math

import numpy as np

from common.backend import Array, get_array_module, to_float64, to_floats
from common.batching import SentenceBatches
from common.checks import check_sizes
from common.model import LanguageModel, Model


def perplexity(loss: float) -> float:
    """exp(loss), for a loss in nats per word: a uniform choice among that many words would be as uncertain."""
    return math.exp(loss) if loss < 700 else math.inf


class SingleProcess:
    """A process that trains or measures alone. ``common/runs/distributed.py`` has many that share their batches."""

    rank, size = 0, 1  # the number of this process, and how many there are
    shard = slice(None)  # the sequences of each batch that this process computes

    def __enter__(self) -> SingleProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def replicate(self, model: Model, batches: object) -> Model:
        """Return a model to train in place of this one: its loss and gradients are those of all processes together."""
        return model

    def send_weights(self, model: Model) -> None:
        """Give all processes the weights of rank 0."""

    def sum(self, *values: float) -> tuple[float, ...]:
        """Each value, summed over all processes."""
        return values

    def any(self, *values: bool) -> tuple[bool, ...]:
        """For each value, whether it is true in at least one process. All processes get the same answer."""
        return values

    def gather(self, rows: Array | None, like: Array) -> Array | None:
        """The rows, (n_r, H), of all processes in the order of the batch; ``like``, (H, ...), has their H and dtype."""
        return rows

    def wait(self) -> None:
        """Wait until all processes are here."""


SINGLE_PROCESS = SingleProcess()


def evaluate(
    model: LanguageModel,
    xs: Array,
    ts: Array,
    batch_size: int = 10,
    time_size: int = 35,
    parallel: SingleProcess = SINGLE_PROCESS,
) -> float:
    """Mean loss of a text, without dropout and with a carried state.

    The text is cut into ``batch_size`` parallel streams. Every word counts once, with the same weight, including the
    last few: a stream that is one word shorter ends with a label that is ignored.

    More streams are faster, but each starts from a state of zeros. The state of the model is restored afterwards.

    Parameters
    ----------
    xs, ts : (n,) arrays
        Word ids, and for each the id of the word that follows.

    Returns
    -------
    float
        Nats per word; its ``perplexity`` is the figure that papers report.

    Raises
    ------
    ValueError
        If there is no word, a size is not positive, the lengths differ, or a recurrent layer is not stateful.
    TypeError, IndexError
        If ids or labels are not integers, or not in the vocabulary.
    """
    n = len(xs)
    if n == 0:
        raise ValueError("there is no word to predict: the text needs at least two")
    check_sizes(batch_size=batch_size, time_size=time_size)
    xs, ts = model.check_text(xs, ts)
    xp = get_array_module(xs)
    batch_size = min(batch_size, n)
    longest = -(-n // batch_size)
    starts = ((xp.arange(batch_size) * n) // batch_size)[parallel.shard]
    ends = ((xp.arange(1, batch_size + 1) * n) // batch_size)[parallel.shard]
    total = words = 0.0  # they stay on the GPU, if the model is there, until all is read
    with model.evaluating():
        for first in range(0, longest, time_size) if len(starts) else ():
            index = starts[:, None] + xp.arange(first, min(first + time_size, longest))  # (N, T)
            inside = index < ends[:, None]
            index = xp.minimum(index, n - 1)
            # As numbers with a sign, as -1 would be 255 among unsigned bytes.
            labels = xp.where(inside, ts[index].astype(np.intp), model.loss_layer.ignore_label)
            labelled = (labels != model.loss_layer.ignore_label).sum()
            total += to_float64(model.forward(xs[index], labels)) * labelled
            words += to_float64(labelled)
    total, words = parallel.sum(*to_floats(total, words))
    if words == 0:
        raise ValueError("there is no word to predict: all labels are ignored")
    return total / words


def evaluate_windows(
    model: LanguageModel, batches: SentenceBatches, parallel: SingleProcess = SINGLE_PROCESS
) -> tuple[float, float]:
    """Mean loss of sentences, without dropout, each from a state of zeros.

    One epoch of ``batches`` is read; the state of the model is restored afterwards.

    Returns
    -------
    loss : float
        Nats per word, each word with the same weight.
    window_loss : float
        The mean over windows of the mean loss in a window.
    """
    total = window_total = 0.0
    words = windows = 0
    with model.evaluating():
        for x, t in batches:
            if batches.resets_state:
                model.reset_state()
            loss = 0.0 if x is None else to_float64(model.forward(x, t)) * batches.token_share
            total += loss * batches.words
            window_total += loss
            words += batches.words
            windows += 1
    total, window_total = parallel.sum(*to_floats(total, window_total))
    return total / words, window_total / windows
