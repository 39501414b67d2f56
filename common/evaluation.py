"""Perplexity and accuracy: of a text, and of the steps of a training.

perplexity = exp(loss), where the loss is the mean over all words of -log P(word | words before it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.backend import Array, get_array_module, to_float64, to_floats
from common.batching import SentenceBatches
from common.checks import check_sizes
from common.model import LanguageModel, Model

Record = dict[str, "float | None"]


def perplexity(loss: float) -> float:
    """exp(loss), for a loss in nats per word: a uniform choice among that many words would be as uncertain."""
    return math.exp(loss) if loss < 700 else math.inf


class SingleProcess:
    """A process that trains or measures alone. ``common/runs/distributed.py`` has many that share their batches.

    Attributes
    ----------
    rank, size : int
        The number of this process, and how many there are.
    shard : slice
        The sequences of each batch that this process computes.
    """

    rank, size = 0, 1
    shard = slice(None)

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
        """The rows, (n_r, H), of all processes in the order of the batch, or None; ``like``, (H, ...), has H and dtype."""
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

    Parameters
    ----------
    model : LanguageModel
        Its state is restored afterwards.
    xs, ts : (n,) arrays
        Word ids, and for each the id of the word that follows.
    batch_size, time_size : int
        Parallel streams, and words in a window. More streams are faster, but each starts from a state of zeros.
    parallel : SingleProcess or DataParallel
        The processes that share the streams.

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

    Parameters
    ----------
    model : LanguageModel
        Its state is restored afterwards.
    batches : SentenceBatches
        One epoch of them is read.
    parallel : SingleProcess or DataParallel
        The processes that share the sentences of each batch.

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


@dataclass
class Meter:
    """Sums over the steps of a training, from which a metric computes means."""

    loss: float = 0.0  # summed over words, or over texts
    window_loss: float = 0.0  # mean losses, summed over windows
    words: int = 0
    windows: int = 0
    correct: float = 0.0  # texts whose class was found
    seconds: float = 0.0

    def add(self, loss: Array | float, words: int, correct: Array | float, seconds: float) -> None:
        loss = to_float64(loss)  # for a sum of thousands; a loss on the GPU stays there
        self.loss += loss * words
        self.window_loss += loss
        self.words += words
        self.windows += 1
        self.correct += correct
        self.seconds += seconds

    def state_dict(self) -> dict[str, float]:
        """All sums, as numbers that JSON can hold."""
        return {**vars(self), **dict(zip(("loss", "window_loss", "correct"), self._floats()))}

    def means(self) -> tuple[float, float, float]:
        """Mean loss per word, mean loss per window, and share of correct answers."""
        if self.words == 0:
            return math.nan, math.nan, math.nan
        loss, window_loss, correct = self._floats()
        return loss / self.words, window_loss / self.windows, correct / self.words

    def _floats(self) -> tuple[float, ...]:
        if isinstance(self.correct, float):  # on the CPU, or not counted
            return (*to_floats(self.loss, self.window_loss), float(self.correct))
        return tuple(to_floats(self.loss, self.window_loss, self.correct))  # one copy from the GPU


class MeanLoss:
    """What a Trainer records of any model: the mean loss."""

    fields: tuple[str, ...] = ("epoch", "iteration", "train_loss", "lr", "seconds")

    def is_finite(self, loss: Array | float) -> bool:
        return math.isfinite(loss)

    def correct(self, model: Model, t: Array) -> Array | float:
        """How many answers of the last forward pass were correct, for a metric that counts them."""
        return 0.0

    def of_training(self, meter: Meter) -> Record:
        return {"train_loss": meter.means()[0]}

    def of_validation(self, model: Model, valid: object, parallel: SingleProcess) -> tuple[Record, float]:
        """Measure a validation set; return what to record, and a number of which the lowest is best."""
        raise TypeError(f"{type(self).__name__} cannot measure a validation set")

    def short_line(self, record: Record) -> str:
        return f"loss {record['train_loss']:.3f}"

    def line(self, record: Record) -> str:
        """What is printed after an epoch, but for the number of the epoch."""
        return f"loss {record['train_loss']:.3f}  lr {record['lr']:.3g}"


class Perplexity(MeanLoss):
    """Perplexity of a language model.

    A record has two of each split. ``..._perplexity`` gives each word the same weight. ``..._window_perplexity`` is
    exp(mean over windows of the mean loss in a window), which other write-ups print; it depends on how windows are
    cut. Where all windows have equally many words they are the same.
    """

    fields = (
        *("epoch", "iteration", "train_perplexity", "valid_perplexity", "lr", "tokens_per_second", "seconds"),
        *("train_window_perplexity", "valid_window_perplexity"),
    )

    def is_finite(self, loss: Array | float) -> bool:
        return math.isfinite(perplexity(loss))

    def of_training(self, meter: Meter) -> Record:
        loss, window_loss, _ = meter.means()
        return {
            "train_perplexity": perplexity(loss),
            "train_window_perplexity": perplexity(window_loss),
            "tokens_per_second": meter.words / meter.seconds if meter.words else 0.0,
        }

    def of_validation(
        self, model: LanguageModel, valid: SentenceBatches | tuple[Array, Array], parallel: SingleProcess
    ) -> tuple[Record, float]:
        if isinstance(valid, SentenceBatches):
            loss, window_loss = evaluate_windows(model, valid, parallel)
            record = {"valid_perplexity": perplexity(loss), "valid_window_perplexity": perplexity(window_loss)}
        else:
            record = {"valid_perplexity": perplexity(evaluate(model, *valid, parallel=parallel))}
        return record, record["valid_perplexity"]

    def short_line(self, record: Record) -> str:
        found = record["train_perplexity"]
        return f"loss {math.log(found):.3f}, perplexity {found:.1f}, {record['tokens_per_second']:,.0f} tokens/s"

    def line(self, record: Record) -> str:
        parts = []
        unequal = record["valid_window_perplexity"] is not None  # windows: then their mean stands in brackets
        for split in ("train", "valid"):
            if record[f"{split}_perplexity"] is not None:
                windows = f" (mean of windows {record[f'{split}_window_perplexity']:.2f})" if unequal else ""
                parts.append(f"{split} perplexity {record[f'{split}_perplexity']:8.2f}{windows}")
        return "  ".join([*parts, f"lr {record['lr']:.3g}", f"{record['tokens_per_second']:,.0f} tokens/s"])


class Accuracy(MeanLoss):
    """Accuracy of a classifier. That of training is of each text with the weights before its step."""

    fields = ("epoch", "iteration", "train_loss", "train_accuracy", "valid_accuracy", "seconds")

    def correct(self, model: Model, t: Array) -> Array | float:
        return (model.loss_layer.y.argmax(axis=1) == t).sum()

    def of_training(self, meter: Meter) -> Record:
        loss, _, accuracy = meter.means()
        return {"train_loss": loss, "train_accuracy": accuracy}

    def of_validation(
        self, model: Model, valid: tuple[Sequence[np.ndarray], np.ndarray], parallel: SingleProcess
    ) -> tuple[Record, float]:
        texts, labels = valid
        accuracy = float((model.probabilities(texts).argmax(axis=1) == labels).mean())
        return {"valid_accuracy": accuracy}, 1 - accuracy

    def short_line(self, record: Record) -> str:
        return f"loss {record['train_loss']:.3f}, accuracy {record['train_accuracy']:.3f}"

    def line(self, record: Record) -> str:
        line = f"train loss {record['train_loss']:.3f}  accuracy {record['train_accuracy']:.4f}"
        return line + f"  valid accuracy {record['valid_accuracy']:.4f}"
