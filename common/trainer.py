"""The training loop: batches, steps, and a record of how it goes."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.backend import Array
from common.batching import OffsetBatches
from common.evaluation import evaluate, perplexity
from common.model import LanguageModel
from common.optimizer import Optimizer, clip_grads

FIELDS = ("epoch", "iteration", "train_perplexity", "valid_perplexity", "lr", "tokens_per_second", "seconds")


class RnnlmTrainer:
    """Trains a language model on one long text by truncated back-propagation through time.

    Parameters
    ----------
    model : LanguageModel
    optimizer : Optimizer

    Attributes
    ----------
    history : list of dict
        A record each ``eval_interval`` steps and at the end of each epoch:

        - ``epoch``: epochs trained, with fraction; ``iteration``: steps made
        - ``train_perplexity``: since the record before; at the end of an epoch, of the whole epoch
        - ``valid_perplexity``: at the end of an epoch, where there is a valid text, else None
        - ``lr``: learning rate; ``tokens_per_second``: speed of training, without measuring
        - ``seconds``: since ``fit`` began, measuring included

    best_perplexity : float
        The lowest valid perplexity so far; infinity before the first.
    interrupted : bool
        Whether Ctrl-C ended the training.
    """

    def __init__(self, model: LanguageModel, optimizer: Optimizer) -> None:
        self.model = model
        self.optimizer = optimizer
        self.history: list[dict[str, float | None]] = []
        self.best_perplexity = math.inf
        self.interrupted = False
        self.epoch = 0
        self.iteration = 0

    def fit(
        self,
        xs: Array,
        ts: Array,
        max_epoch: int = 10,
        batch_size: int = 20,
        time_size: int = 35,
        max_grad: float | None = None,
        eval_interval: int | None = 20,
        *,
        valid: tuple[Array, Array] | None = None,
        lr_decay: float = 1.0,
        decay_after: int | None = None,
        restart: bool = False,
        summed: bool = False,
        best_path: str | Path | None = None,
        history_path: str | Path | None = None,
    ) -> list[dict[str, float | None]]:
        """Train, print a line an epoch, and return the history. Ctrl-C ends the training, not the program.

        Parameters
        ----------
        xs, ts : (n,) arrays
            Word ids, and for each the id of the word that follows.
        max_epoch : int
            Times to go through the text.
        batch_size, time_size : int
            Readers, and words in a window: gradients reach back over ``time_size`` words at most.
        max_grad : float, optional
            Longest gradient; see ``clip_grads``.
        eval_interval : int, optional
            Steps from one record to the next inside an epoch; None for none.
        valid : pair of arrays, optional
            A text like (xs, ts), to measure the perplexity on after each epoch.
        lr_decay : float
            Divide the learning rate by this after each epoch in which the valid perplexity has not fallen.
        decay_after : int, optional
            Divide it instead after this epoch and each that follows, whatever the valid perplexity does.
        restart : bool
            True: each epoch starts at the same places with a state of zeros. False: it goes on where the
            last one stopped (see OffsetBatches).
        summed : bool
            Follow the gradient of the loss summed over the words of a window, ``time_size`` times as long as
            that of their mean, which False follows. ``max_grad`` and the learning rate apply to the one or the other.
        best_path : path, optional
            Where to save the weights each time that the valid perplexity is the lowest so far.
        history_path : path, optional
            A CSV file to which each record is written as it is made.

        Raises
        ------
        ValueError
            If the text is shorter than one batch.
        FloatingPointError
            If the loss is no longer a finite number.
        """
        batches = OffsetBatches(*self.model.asarrays(xs, ts), batch_size, time_size, restart)
        self._start = time.perf_counter()
        self._history_path = history_path
        dout = float(time_size if summed else 1)
        # A loss that is lost is reported by _record, with advice.
        silently = np.errstate(over="ignore", invalid="ignore")
        with silently, tqdm(total=max_epoch * len(batches), unit="step", disable=None, dynamic_ncols=True) as bar:
            try:
                for _ in range(max_epoch):
                    record = self._train_epoch(batches, dout, max_grad, eval_interval, bar)
                    fallen = self._measure(record, valid, best_path)
                    if (not fallen) if decay_after is None else (self.epoch >= decay_after):
                        self.optimizer.lr /= lr_decay
                    bar.write(self._line(record))
            except KeyboardInterrupt:
                self.interrupted = True
                bar.write("interrupted: training ends here")
        if best_path is not None and self.best_perplexity == math.inf:
            self.model.save(best_path)  # nothing was measured: the best weights are those there are
        return self.history

    def _train_epoch(
        self, batches: OffsetBatches, dout: float, max_grad: float | None, eval_interval: int | None, bar: tqdm
    ) -> dict[str, float | None]:
        """Make the steps of one epoch; return its last record, to which the valid perplexity is still to be added."""
        model = self.model
        self.epoch += 1
        if batches.restart:
            model.reset_state()
        epoch, interval = _Meter(), _Meter()
        for i, (x, t) in enumerate(batches, start=1):
            loss = model.forward(x, t)
            model.backward(dout)
            if max_grad is not None:
                clip_grads(model.grads, max_grad)
            self.optimizer.update(model.params, model.grads)
            self.iteration += 1
            bar.update()
            epoch.add(loss, x.size)
            interval.add(loss, x.size)
            if eval_interval and i % eval_interval == 0 and i < len(batches):
                record = self._record(self.epoch - 1 + i / len(batches), interval)
                self._add(record)
                bar.set_postfix_str(
                    f"loss {math.log(record['train_perplexity']):.3f}, perplexity {record['train_perplexity']:.1f}, "
                    f"{record['tokens_per_second']:,.0f} tokens/s"
                )
                interval = _Meter()
        return self._record(self.epoch, epoch)

    def _record(self, epoch: float, meter: _Meter) -> dict[str, float | None]:
        loss, words_per_second = meter.read()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} after epoch {epoch:.2f}, step {self.iteration}, with learning rate "
                f"{self.optimizer.lr:g}: try a lower learning rate, or a lower max_grad"
            )
        seconds = time.perf_counter() - self._start
        values = (epoch, self.iteration, perplexity(loss), None, self.optimizer.lr, words_per_second, seconds)
        return dict(zip(FIELDS, values, strict=True))

    def _measure(
        self, record: dict[str, float | None], valid: tuple[Array, Array] | None, best_path: str | Path | None
    ) -> bool:
        """Add the valid perplexity to the record, save the weights if they are the best so far, and say if they are."""
        fallen = True
        if valid is not None:
            record["valid_perplexity"] = perplexity(evaluate(self.model, *valid))
            fallen = record["valid_perplexity"] < self.best_perplexity
            if fallen:
                if best_path is not None:
                    self.model.save(best_path)
                self.best_perplexity = record["valid_perplexity"]
        record["seconds"] = time.perf_counter() - self._start
        self._add(record)
        return fallen

    def _line(self, record: dict[str, float | None]) -> str:
        valid = record["valid_perplexity"]
        return (
            f"epoch {self.epoch:3d}  train perplexity {record['train_perplexity']:8.2f}"
            + (f"  valid perplexity {valid:8.2f}" if valid is not None else "")
            + f"  lr {record['lr']:.3g}  {record['tokens_per_second']:,.0f} tokens/s"
        )

    def _add(self, record: dict[str, float | None]) -> None:
        self.history.append(record)
        if self._history_path is not None:
            first = len(self.history) == 1
            with open(self._history_path, "w" if first else "a", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, FIELDS)
                if first:
                    writer.writeheader()
                writer.writerow(record)


class _Meter:
    """Mean loss of some steps, and their speed."""

    def __init__(self) -> None:
        self.loss, self.steps, self.words, self.began = 0.0, 0, 0, time.perf_counter()

    def add(self, loss: Array | float, words: int) -> None:
        self.loss += loss
        self.steps += 1
        self.words += words

    def read(self) -> tuple[float, float]:
        """Return (mean loss, words a second)."""
        return float(self.loss) / self.steps, self.words / (time.perf_counter() - self.began)
