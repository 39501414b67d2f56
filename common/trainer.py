"""The training loop: forward, backward, clip, update; and a record of how it goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from common.backend import Array, get_array_module, memory_figures, to_float64, to_floats
from common.batching import OffsetBatches, SentenceBatches, ShuffledBatches, TextBatches
from common.checks import check_sizes
from common.evaluation import SINGLE_PROCESS, SingleProcess, perplexity
from common.fast.flat_buffer import Parts
from common.metrics import LossPrinter, MeanLoss, Meter, Perplexity, Record, Recorder
from common.model import LanguageModel
from common.optimizer import Optimizer, clip_grads
from common.parameter import shared_memory

Batches = OffsetBatches | SentenceBatches | ShuffledBatches | TextBatches

_MOST_BAD = 10  # bad steps in a row after which skipping them makes no sense


class Trainer:
    """Trains any model on examples (x, t), in another order each epoch; or, with ``fit_batches``, on any batches.

    Parameters
    ----------
    model : object
        With ``forward(x, t)``, which returns the loss, ``backward()``, ``params`` and ``grads``; and with
        ``reset_state()`` for batches that start from a state of zeros.
    rng : numpy.random.Generator, optional
        Draws the order of the examples; None: NumPy's global generator, as in the textbook.
    metric : MeanLoss, Perplexity or Accuracy
        What is recorded, printed and measured; see ``common/metrics.py``.
    parallel : SingleProcess or DataParallel
        The processes that train together. Their batches must have ``shard=parallel.shard``.

    Attributes
    ----------
    history : list of dict
        A record every ``eval_interval`` steps and at the end of each epoch: ``metric.fields``, of which

        - ``epoch``: epochs trained, a fraction inside an epoch; ``iteration``: steps made
        - ``train_...``: since the record before; at the end of an epoch, of the whole epoch
        - ``valid_...``: at the end of an epoch, if there is a validation set, else None
        - ``tokens_per_second``: of the steps alone; ``seconds``: of all that ``fit`` did, over all resumptions
    best : float
        The lowest validation perplexity, or share of wrong answers, so far; infinity before the first.
    best_epoch : int
        The epoch after which it was measured; 0 before the first.
    loss_list : list of float
        The mean loss of the steps since the entry before, at the first step of each epoch and every ``eval_interval``
        steps after it; cleared by each ``fit``. ``ppl_list``: its exp. One of them is what ``plot`` shows.
    epoch, iteration, current_epoch : int
        Complete epochs, and steps; ``current_epoch`` is ``epoch``.
    skipped, bad_in_a_row : int
        Steps that were skipped because loss or gradient was not finite; and how many of the last steps were.
    interrupted : bool
        Whether Ctrl-C ended the training.

    References
    ----------
    *Deep Learning from Scratch 2*, section 1.4.4.
    """

    _plotted = "loss_list"

    def __init__(
        self,
        model: object,
        optimizer: Optimizer,
        rng: np.random.Generator | None = None,
        *,
        metric: MeanLoss | None = None,
        parallel: SingleProcess = SINGLE_PROCESS,
    ) -> None:
        self.model, self.optimizer, self.parallel = model, optimizer, parallel
        self.rng = np.random if rng is None else rng
        self.metric = metric or MeanLoss()
        self.history: list[Record] = []
        self.epoch = self.iteration = self.skipped = self.bad_in_a_row = 0
        self.seconds, self.best, self.best_epoch = 0.0, math.inf, 0
        self.interrupted = False
        self.eval_interval: int | None = None
        self._means: list[Array | float] = []  # for loss_list; on a GPU they stay there
        self._losses: list[Array | float] = []  # since the last of them
        self._meters = {"epoch_meter": Meter(), "interval_meter": Meter()}

    def fit(
        self,
        x: Array,
        t: Array,
        max_epoch: int = 10,
        batch_size: int = 32,
        max_grad: float | None = None,
        eval_interval: int | None = 20,
    ) -> None:
        """Train on n examples and their targets, and print the mean loss every ``eval_interval`` steps.

        The last examples of an epoch, if they are fewer than ``batch_size``, are left out. Raises ValueError if the
        lengths differ or there is not one batch, FloatingPointError as ``fit_batches``.
        """
        check_sizes(max_epoch=max_epoch)
        batches = ShuffledBatches(x, t, batch_size, self.rng)
        self.fit_batches(batches, max_epoch, max_grad, eval_interval, recorder=LossPrinter(verbose=False))

    def fit_batches(
        self,
        batches: Batches,
        max_epoch: int = 10,
        max_grad: float | None = None,
        eval_interval: int | None = 20,
        *,
        valid: object = None,
        dout: float = 1.0,
        lr_decay: float = 1.0,
        wait: int = 1,
        decay_after: int | None = None,
        min_lr: float = 0.0,
        schedule: Callable[[int], float] | None = None,
        patience: int | None = None,
        skip_bad_steps: bool = False,
        callback: Callable[[Record], bool | None] | None = None,
        recorder: Recorder | None = None,
        verbose: bool = True,
    ) -> list[Record]:
        """Train, print one line per epoch, and return the history. Ctrl-C ends the training, but not the program.

        Parameters
        ----------
        max_grad : float, optional
            Maximum gradient norm; see ``clip_grads``.
        eval_interval : int, optional
            Steps between two records inside an epoch; None for none.
        valid : optional
            What the metric measures after each epoch: (xs, ts) or SentenceBatches for perplexity, (texts, labels) for
            accuracy.
        dout : float
            Factor of the gradient of the mean loss of a batch.
        lr_decay : float
            Divide the learning rate by this after ``wait`` epochs that have not improved the validation set's figure.
        wait : int
            1 is for epochs of many steps; where an epoch has a dozen, one that is worse says little.
        decay_after : int, optional
            Divide it instead after this epoch and each later one.
        min_lr : float
            Leave the learning rate as it is, rather than make it lower than this.
        schedule : function, optional
            Maps the number of a step, from 1 on, to its learning rate, such as CosineSchedule.
        patience : int, optional
            End after so many epochs in a row that have not improved the validation set's figure.
        skip_bad_steps : bool
            If loss or gradient is not finite, leave the weights unchanged and continue from a state of zeros. Ten in a
            row are an error all the same. On a GPU, the CPU then waits for each step.
        callback : function, optional
            Is given each record; may use the model in evaluation mode. If it returns True, this epoch is the last.

        Raises
        ------
        FloatingPointError
            If the loss or the gradient is not finite. On a GPU, that is noticed at the next record.
        """
        check_sizes(eval_interval=eval_interval or 1, wait=wait)
        self.eval_interval, self._means, self._losses = eval_interval, [], []
        self._skip_bad_steps, self._callback, self._is_enough = skip_bad_steps, callback, False
        self._schedule = schedule
        self._recorder = recorder = recorder or Recorder(verbose)
        model = self.parallel.replicate(self.model, batches)
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # the error that ends the training says more
                recorder.begin(self, batches, max_epoch)
                self._clock = time.perf_counter()
                for _ in range(max_epoch):
                    if self._stagnates(patience):
                        break
                    record = self._train_epoch(model, batches, max_grad, dout)
                    improved = self._validate(record, valid)
                    self._add(record)
                    worse = not improved and (self.epoch - self.best_epoch) % wait == 0
                    decays = worse if decay_after is None else self.epoch >= decay_after
                    if decays and self.optimizer.lr / lr_decay >= min_lr:
                        self.optimizer.lr /= lr_decay
                    recorder.after_epoch(self, batches, record)
                    self._tick()
                    if self._is_enough:
                        break
        except KeyboardInterrupt:
            self.interrupted = True
        recorder.end(self)
        return self.history

    def _train_epoch(self, model: object, batches: Batches, max_grad: float | None, dout: float) -> Record:
        """Make the steps of one epoch, or what is left of it, and return its record."""
        steps = len(batches)
        for x, t in batches:
            if batches.resets_state:
                model.reset_state()
            loss = model.forward(x, t)
            model.backward(dout) if dout != 1 else model.backward()  # a model of your own needs no dout
            params, grads = remove_duplicate(model.params, model.grads)
            norm = clip_grads(grads, math.inf if max_grad is None else max_grad)  # inf: only measured
            if self._is_good(loss, norm, batches.position / steps):
                if self._schedule is not None:
                    self.optimizer.lr = self._schedule(self.iteration)
                self.optimizer.update(params, grads)
                if self.eval_interval:
                    self._losses.append(to_float64(loss))
                correct, seconds = self.metric.correct(self.model, t), self._tick()
                for meter in self._meters.values():
                    meter.add(loss, batches.words, correct, seconds)
            self._record_step(batches.position, steps)
            if self._recorder.after_step(self, batches):
                raise KeyboardInterrupt
        self.epoch += 1
        record = self._make_record(self.epoch, self._meters["epoch_meter"])
        self._meters = {name: Meter() for name in self._meters}
        return record

    def _is_good(self, loss: Array | float, norm: Array | float, fraction: float) -> bool:
        """Count a step, and return whether it may be taken: its loss and gradient norm are finite.

        On a GPU they are only looked at with ``skip_bad_steps``, as the CPU has to wait for them.
        """
        self.iteration += 1
        on_gpu = get_array_module(norm) is not np
        if (on_gpu and not self._skip_bad_steps) or (self.metric.is_finite(loss) and math.isfinite(norm)):
            self.bad_in_a_row = 0
            return True
        self.bad_in_a_row += 1
        if not self._skip_bad_steps or self.bad_in_a_row >= _MOST_BAD:
            name, value = ("gradient", norm) if self.metric.is_finite(loss) else ("loss", loss)
            raise self._error(name, float(value), self.epoch + fraction)
        self.skipped += 1
        if hasattr(self.model, "reset_state"):
            self.model.reset_state()  # the state may be bad, too
        return False

    def _error(self, name: str, value: float, epoch: float) -> FloatingPointError:
        return FloatingPointError(
            f"the {name} is {value} after epoch {epoch:.2f}, step {self.iteration}, with learning rate "
            f"{self.optimizer.lr:g}: try a lower learning rate, or a lower max_grad{self._recorder.advice}"
        )

    def _tick(self) -> float:
        """Count the seconds since the last call, and return them."""
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        self.seconds += seconds
        return seconds

    def _record_step(self, i: int, steps: int) -> None:
        """After step i of an epoch, add to loss_list and history, if it is time."""
        if not self.eval_interval:
            return
        if (i - 1) % self.eval_interval == 0 and self._losses:
            self._means.append(sum(self._losses) / len(self._losses))
            self._losses = []
        meter = self._meters["interval_meter"]
        unlabelled = meter.windows > 0 and meter.words == 0  # there is nothing to record
        if i % self.eval_interval == 0 and i < steps and not unlabelled:
            self._add(self._make_record(self.epoch + i / steps, meter))
            self._meters["interval_meter"] = Meter()

    def _make_record(self, epoch: float, meter: Meter) -> Record:
        known = {"epoch": epoch, "iteration": self.iteration, "lr": self.optimizer.lr, "seconds": self.seconds}
        known |= self.metric.of_training(meter)
        loss = known.get("train_loss", known.get("train_perplexity"))
        if not math.isfinite(loss):
            raise self._error("loss", loss if "train_loss" in known else meter.means()[0], epoch)
        return {name: known.get(name) for name in self.metric.fields}

    def _validate(self, record: Record, valid: object) -> bool:
        """Add what is measured on the validation set to the record; return whether it is the best so far."""
        improved = True
        if valid is not None:
            measured, score = self.metric.of_validation(self.model, valid, self.parallel)
            record.update(measured)
            improved = score <= self.best if self.metric.ties_improve else score < self.best
            if improved:
                self._recorder.best(self)
                self.best, self.best_epoch = score, self.epoch
        self._tick()
        record["seconds"] = self.seconds
        return improved

    def _stagnates(self, patience: int | None) -> bool:
        """Whether so many epochs in a row have been no better than the best."""
        if not patience or not self.best_epoch or self.epoch - self.best_epoch < patience:
            return False
        best = self.metric.score_line(self.best)
        self._recorder.print(f"no better for {patience} epochs: training ends; best {best} at epoch {self.best_epoch}")
        return True

    def _add(self, record: Record) -> None:
        self.history.append(record)
        self._recorder.add(self, record)
        if self._callback is not None:
            self._is_enough |= bool(self._callback(record))
        self._tick()

    def epoch_line(self, record: Record) -> str:
        skipped = f"  steps skipped so far {self.skipped}" if self.skipped else ""
        figures = f"{self.metric.line(record)}{memory_figures(self.model.params[0], '  ')}{skipped}"
        return f"epoch {self.epoch:3d}  {figures}{'  best so far' if self.best_epoch == self.epoch > 1 else ''}"

    @property
    def current_epoch(self) -> int:
        return self.epoch

    @property
    def loss_list(self) -> list[float]:
        return to_floats(*self._means) if self._means else []

    @property
    def ppl_list(self) -> list[float]:
        return [perplexity(loss) for loss in self.loss_list]

    def plot(self, ylim: tuple[float, float] | None = None) -> None:
        """Show the course of the loss, or of the perplexity."""
        import matplotlib.pyplot as plt

        if ylim is not None:
            plt.ylim(*ylim)
        values = getattr(self, self._plotted)
        plt.plot(range(len(values)), values, label="train")
        plt.xlabel(f"steps (x {self.eval_interval})")
        plt.ylabel({"loss_list": "loss", "ppl_list": "perplexity"}[self._plotted])
        plt.show()

    def state_dict(self) -> dict[str, object]:
        """Where the training stands, in numbers that JSON can hold: all but model, optimizer and history."""
        numbers = ("epoch", "iteration", "skipped", "bad_in_a_row", "seconds", "best", "best_epoch")
        meters = {name: meter.state_dict() for name, meter in self._meters.items()}
        return {name: getattr(self, name) for name in numbers} | meters

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue where the trainer stood that returned ``state``."""
        self._meters = {name: Meter(**state[name]) for name in self._meters}
        vars(self).update({name: x for name, x in state.items() if name not in self._meters})


class RnnlmTrainer(Trainer):
    """Trains a language model on one long text by truncated back-propagation through time; its metric is perplexity.

    The model is a LanguageModel or, for ``fit`` without ``valid``, any object with the methods that Trainer needs and
    ``reset_state()``, such as the textbook's models.
    """

    _plotted = "ppl_list"

    def __init__(self, model: object, optimizer: Optimizer, *, parallel: SingleProcess = SINGLE_PROCESS) -> None:
        super().__init__(model, optimizer, metric=Perplexity(), parallel=parallel)

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
        restart: bool = False,
        summed: bool = False,
        **options: Any,
    ) -> list[Record]:
        """Train on one long text: word ids and the ids of the next words, (n,) each.

        It is read in ``batch_size`` parallel streams and windows of ``time_size`` words, over which gradients reach
        back. ``valid``, a text of the same form, is the validation set. ``restart`` starts each epoch at the same place
        with a state of zeros; otherwise it starts where the last one stopped. ``summed`` follows the gradient of the
        loss summed over the words of a window, ``time_size`` times that of the mean. The rest is as in ``fit_batches``.
        """
        ignored = getattr(getattr(self.model, "loss_layer", None), "ignore_label", None)
        if ignored is not None and not bool((ts == ignored).max() if hasattr(ts, "max") else ignored in ts):
            ignored = None  # no label is
        if isinstance(self.model, LanguageModel):
            xs, ts = self.model.check_text(xs, ts)
        elif valid is not None:
            raise TypeError(f"to measure a valid text, the model must be a LanguageModel, got {type(self.model)}")
        batches = OffsetBatches(xs, ts, batch_size, time_size, restart, shard=self.parallel.shard, ignore_label=ignored)
        dout = float(time_size if summed else 1)
        return self.fit_batches(batches, max_epoch, max_grad, eval_interval, valid=valid, dout=dout, **options)


def remove_duplicate(params: list[Array], grads: list[Array]) -> tuple[list[Array], list[Array]]:
    """Of arrays that share memory, W and W or W and W.T, keep one, with the sum of their gradients.

    For models whose tied layers were given arrays and have a gradient each. Gradients that share memory, too, are the
    sum already. The lists are unchanged; the gradient of an array that is kept is changed in place. Raises ValueError
    for lists of different lengths, or two arrays that share only a part of their memory.
    """
    if isinstance(params, Parts):  # of a Model, which has each once
        return params, grads
    kept: list[tuple[Array, Array]] = []
    for w, g in zip(params, grads, strict=True):
        for v, dv in kept:
            how = shared_memory(v, w)
            if how == "some":
                raise ValueError(f"parameters of shapes {v.shape} and {w.shape} share a part of their memory")
            if how:
                g = g if how == "same" else g.T
                if not shared_memory(dv, g):
                    dv += g
                break
        else:
            kept.append((w, g))
    return [w for w, _ in kept], [g for _, g in kept]
