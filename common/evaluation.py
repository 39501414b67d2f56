"""Perplexity."""

from __future__ import annotations

import math

import numpy as np

from common.backend import Array, get_array_module, to_float64, to_floats
from common.batching import SentenceBatches
from common.checks import check_sizes
from common.model import LanguageModel
from common.runs.distributed import SINGLE_PROCESS, SingleProcess


def perplexity(loss: float) -> float:
    """exp(loss): of how many equally likely words the model would be as unsure. ``loss`` is in nats a word."""
    return math.exp(loss) if loss < 700 else math.inf


def evaluate(
    model: LanguageModel,
    xs: Array,
    ts: Array,
    batch_size: int = 10,
    time_size: int = 35,
    ranks: SingleProcess = SINGLE_PROCESS,
) -> float:
    """Mean loss of a text, without dropout and with a state carried from its first word to its last.

    The text is read by ``batch_size`` readers, each a stretch of its own. Every word counts once, with the
    same weight, the last few included: stretches that are a word shorter end with a label that is ignored.

    Parameters
    ----------
    model : LanguageModel
        Left as it was found, its state included.
    xs, ts : (n,) arrays
        Word ids, and for each the id of the word that follows.
    batch_size, time_size : int
        Readers, and words in a window. More readers are faster; each starts without knowing what came before.
    ranks : SingleProcess or DataParallel
        The processes that share the readers.

    Returns
    -------
    float
        Nats per token; ``perplexity`` of it is the figure that papers report.

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
    starts = ((xp.arange(batch_size) * n) // batch_size)[ranks.shard]
    ends = ((xp.arange(1, batch_size + 1) * n) // batch_size)[ranks.shard]
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
    total, words = ranks.sum(*to_floats(total, words))
    if words == 0:
        raise ValueError("there is no word to predict: all labels are ignored")
    return total / words


def evaluate_windows(
    model: LanguageModel, batches: SentenceBatches, ranks: SingleProcess = SINGLE_PROCESS
) -> tuple[float, float]:
    """Mean loss of sentences, without dropout, each from a state of zeros.

    Parameters
    ----------
    model : LanguageModel
        Left as it was found, its state included.
    batches : SentenceBatches
        One epoch of them is read.
    ranks : SingleProcess or DataParallel
        The processes that share the sentences of each batch.

    Returns
    -------
    loss : float
        Nats a word, each word with the same weight, in whatever batch and window it is.
    window_loss : float
        The mean over the windows of the mean loss in a window.
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
    total, window_total = ranks.sum(*to_floats(total, window_total))
    return total / words, window_total / windows
