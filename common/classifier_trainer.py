"""The training of a classifier of texts: as that of a language model, but with accuracies in place of perplexities."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from common.backend import Array, to_floats
from common.classifier import RecurrentClassifier
from common.packing import PackedSequence
from common.trainer import Meter, RnnlmTrainer


class TextBatches:
    """Batches of texts and their classes, for ``fit_batches``; each epoch has an order of its own.

    Parameters
    ----------
    model : RecurrentClassifier
        The batches are made where it is.
    texts : sequence of (T_n,) arrays
        Word ids.
    labels : (n,) array
        Classes.
    batch_size : int
        Texts in a batch, N; the last of an epoch may have fewer.
    rng : numpy.random.Generator
        Draws the order of an epoch, when it begins.
    padded : bool
        Fill batches up instead of packing them.
    """

    state_keys = ("position", "order")
    resets_state = True  # each text, from a state of zeros

    def __init__(
        self,
        model: RecurrentClassifier,
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


class ClassifierTrainer(RnnlmTrainer):
    """Trains a RecurrentClassifier: ``fit_batches`` takes TextBatches, and as ``valid`` texts and their classes.

    Attributes
    ----------
    history : list of dict
        A record each ``eval_interval`` steps and at the end of each epoch, as that of RnnlmTrainer, but with

        - ``train_loss``: in nats a text; ``train_accuracy``: of each text with the weights before its step
        - ``valid_accuracy``: at the end of an epoch, else None
    best : float
        The smallest share of the valid texts that were taken for another class; infinity before the first.
    """

    fields = ("epoch", "iteration", "train_loss", "train_accuracy", "valid_accuracy", "seconds")

    def _new_meter(self, **state: float) -> AccuracyMeter:
        return AccuracyMeter(**state)

    def _step(self, batches: TextBatches, x: PackedSequence, t: Array, *how: float | bool | None) -> None:
        skipped = self.skipped
        super()._step(batches, x, t, *how)
        if self.skipped == skipped:
            right = (self.model.loss_layer.y.argmax(axis=1) == t).sum()
            for meter in self._meters.values():
                meter.right += right

    def _record(self, epoch: float, meter: AccuracyMeter) -> dict[str, float | None]:
        loss, accuracy = meter.read()
        if not math.isfinite(loss):
            raise self._gone_wrong("loss", loss, epoch)
        return dict(zip(self.fields, (epoch, self.iteration, loss, accuracy, None, self.seconds), strict=True))

    def _evaluate(self, record: dict[str, float | None], valid: tuple[Sequence[np.ndarray], np.ndarray]) -> float:
        texts, labels = valid
        record["valid_accuracy"] = float((self.model.probabilities(texts).argmax(axis=1) == labels).mean())
        return 1 - record["valid_accuracy"]

    def _short_line(self, record: dict[str, float | None]) -> str:
        return f"loss {record['train_loss']:.3f}, accuracy {record['train_accuracy']:.3f}"

    def _line(self, record: dict[str, float | None]) -> str:
        line = f"epoch {self.epoch:3d}  train loss {record['train_loss']:.3f}  accuracy {record['train_accuracy']:.4f}"
        return line + f"  valid accuracy {record['valid_accuracy']:.4f}"


@dataclass
class AccuracyMeter(Meter):
    """Mean loss of some batches of texts, and the share whose class was found."""

    right: float = 0.0  # texts

    @property
    def state(self) -> dict[str, float]:
        """All of it, in numbers that JSON can hold."""
        return {**super().state, "right": to_floats(self.right)[0]}

    def read(self) -> tuple[float, float]:
        """Return (mean loss of a text, accuracy)."""
        if self.words == 0:
            return math.nan, math.nan
        loss, right = to_floats(self.loss, self.right)
        return loss / self.words, right / self.words
