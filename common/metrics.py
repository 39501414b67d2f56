"""What a training records, prints and measures: mean loss, perplexity, accuracy; and what it reports to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from common.backend import Array, to_float64, to_floats
from common.batching import SentenceBatches
from common.evaluation import SingleProcess, evaluate, evaluate_windows, perplexity
from common.model import LanguageModel, Model

if TYPE_CHECKING:
    from common.trainer import Batches, Trainer

Record = dict[str, "float | None"]


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
    ties_improve = False  # whether of two epochs with the same figure the second is the better one

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

    def score_line(self, score: float) -> str:
        """A figure of the validation set, as ``of_validation`` returns it, in words."""
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

    def score_line(self, score: float) -> str:
        return f"valid perplexity {score:.2f}"

    def short_line(self, record: Record) -> str:
        found = record["train_perplexity"]
        return f"perplexity {found:.1f}, {record['tokens_per_second']:,.0f} tokens/s"

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
    ties_improve = True  # the answers are the same, but surer

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

    def score_line(self, score: float) -> str:
        return f"valid accuracy {1 - score:.4f}"

    def short_line(self, record: Record) -> str:
        return f"loss {record['train_loss']:.3f}, accuracy {record['train_accuracy']:.3f}"

    def line(self, record: Record) -> str:
        line = f"train loss {record['train_loss']:.3f}  accuracy {record['train_accuracy']:.4f}"
        return line + f"  valid accuracy {record['valid_accuracy']:.4f}"


class Recorder:
    """What a Trainer reports to. This one prints one line per epoch; that of ``common/runs/`` writes files, too."""

    advice = ""  # added to the message of a training that has gone wrong

    def __init__(self, verbose: bool = True) -> None:
        self.verbose = verbose

    def begin(self, trainer: Trainer, batches: Batches, max_epoch: int) -> None:
        """Before the first step."""

    def after_step(self, trainer: Trainer, batches: Batches) -> bool:
        """Return True to end the training at once."""
        return False

    def add(self, trainer: Trainer, record: Record) -> None:
        """A record was added to the history."""

    def best(self, trainer: Trainer) -> None:
        """The weights have just been measured, and are the best so far."""

    def after_epoch(self, trainer: Trainer, batches: Batches, record: Record) -> None:
        if self.verbose:
            self.print(trainer.epoch_line(record))

    def end(self, trainer: Trainer) -> None:
        if trainer.interrupted:
            self.print("interrupted: training ends here")

    def print(self, line: str) -> None:
        print(line)


class LossPrinter(Recorder):
    """Prints each entry of ``loss_list``."""

    def after_step(self, trainer: Trainer, batches: Batches) -> bool:
        i, interval = batches.position, trainer.eval_interval
        if interval and (i - 1) % interval == 0:
            [loss] = to_floats(trainer._means[-1])
            print(f"epoch {trainer.epoch + 1}  step {i} / {len(batches)}  loss {loss:.2f}  {trainer.seconds:.0f} s")
        return False
