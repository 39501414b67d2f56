"""The training loop: batches, steps, and a record of how it goes."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from common.backend import Array, get_array_module, memory_figures, to_float64, to_floats
from common.batching import OffsetBatches, SentenceBatches
from common.checks import check_sizes
from common.evaluation import evaluate, evaluate_windows, perplexity
from common.fast.flat_buffer import Parts
from common.model import LanguageModel
from common.optimizer import Optimizer, clip_grads
from common.packing import PackedSequence
from common.parameter import shared_memory
from common.runs.cli import deferred_interrupt
from common.runs.distributed import SINGLE_PROCESS, SingleProcess

if TYPE_CHECKING:
    from common.runs.checkpoint import Checkpoint

FIELDS = (
    *("epoch", "iteration", "train_perplexity", "valid_perplexity", "lr", "tokens_per_second", "seconds"),
    *("train_window_perplexity", "valid_window_perplexity"),
)


class Trainer:
    """Trains any model on examples (x, t), in another order each epoch.

    Parameters
    ----------
    model : object
        With ``forward(x, t)``, which returns the loss, ``backward()``, ``params`` and ``grads``.
    optimizer : Optimizer
    rng : numpy.random.Generator, optional
        Draws the order; None: NumPy's global generator, as in the textbook, which ``np.random.seed`` seeds.

    Attributes
    ----------
    loss_list : list of float
        The mean loss since the entry before, each ``eval_interval`` steps.
    current_epoch : int
        Epochs trained.

    References
    ----------
    *Deep Learning from Scratch 2*, section 1.4.4.
    """

    def __init__(self, model: object, optimizer: Optimizer, rng: np.random.Generator | None = None) -> None:
        self.model, self.optimizer = model, optimizer
        self.rng = np.random if rng is None else rng
        self.loss_list: list[float] = []
        self.eval_interval: int | None = None
        self.current_epoch = 0

    def fit(
        self,
        x: Array,
        t: Array,
        max_epoch: int = 10,
        batch_size: int = 32,
        max_grad: float | None = None,
        eval_interval: int | None = 20,
    ) -> None:
        """Train, and print the mean loss each ``eval_interval`` steps.

        Parameters
        ----------
        x, t : arrays of n examples and their targets
        max_epoch : int
            Times to go through them.
        batch_size : int
            Examples in a step; the last of an epoch, which would have fewer, is left out.
        max_grad : float, optional
            Largest gradient norm; see ``clip_grads``.
        eval_interval : int, optional
            Steps between two entries of ``loss_list``; None for none.

        Raises
        ------
        ValueError
            If there are not as many targets as examples, or fewer than a batch.
        FloatingPointError
            If the loss is no longer a finite number.
        """
        x, t = (a if hasattr(a, "shape") else np.asarray(a) for a in (x, t))
        if len(x) != len(t):
            raise ValueError(f"x and t must have the same length, got {len(x)} and {len(t)}")
        check_sizes(max_epoch=max_epoch, batch_size=batch_size, eval_interval=eval_interval or 1)
        steps = len(x) // batch_size
        if steps == 0:
            raise ValueError(f"one batch needs {batch_size} examples, got {len(x)}")
        self.eval_interval = eval_interval
        start, losses = time.perf_counter(), []
        for _ in range(max_epoch):
            order = self.rng.permutation(np.arange(len(x)))
            x, t = x[order], t[order]
            for i in range(steps):
                batch = slice(i * batch_size, (i + 1) * batch_size)
                loss = self.model.forward(x[batch], t[batch])
                self.model.backward()
                params, grads = remove_duplicate(self.model.params, self.model.grads)
                if max_grad is not None:
                    clip_grads(grads, max_grad)
                self.optimizer.update(params, grads)
                losses.append(loss)
                if eval_interval is not None and i % eval_interval == 0:
                    mean = sum(to_floats(*losses)) / len(losses)
                    if not math.isfinite(mean):
                        raise FloatingPointError(f"the loss is {mean}: try a lower learning rate, or a max_grad")
                    seconds = time.perf_counter() - start
                    print(f"epoch {self.current_epoch + 1}  step {i + 1} / {steps}  loss {mean:.2f}  {seconds:.0f} s")
                    self.loss_list.append(mean)
                    losses = []
            self.current_epoch += 1

    def plot(self, ylim: tuple[float, float] | None = None) -> None:
        """Show the course of the loss."""
        _plot(self.loss_list, "loss", self.eval_interval, ylim)


def remove_duplicate(params: list[Array], grads: list[Array]) -> tuple[list[Array], list[Array]]:
    """Of arrays that share memory, as they are or transposed, keep one, and add up their gradients there.

    For models whose tied layers were given arrays, W and W.T, and have a gradient each; what shares memory is one
    parameter. Gradients that share memory, too, are the sum already.

    Parameters
    ----------
    params, grads : lists of arrays
        Left as they are; the gradient of an array that is kept is changed in place.

    Raises
    ------
    ValueError
        If the lists differ in length, or two arrays share a part of their memory.
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


def _plot(values: list[float], name: str, eval_interval: int | None, ylim: tuple[float, float] | None) -> None:
    import matplotlib.pyplot as plt

    if ylim is not None:
        plt.ylim(*ylim)
    plt.plot(range(len(values)), values, label="train")
    plt.xlabel(f"steps (x {eval_interval})")
    plt.ylabel(name)
    plt.show()


_MOST_BAD = 10  # steps in a row; then it makes no sense to skip them


class RnnlmTrainer:
    """Trains a language model, on one long text or on sentences, by truncated back-propagation through time.

    Parameters
    ----------
    model : LanguageModel
        Or, for ``fit`` without ``valid``, any object with ``forward(xs, ts)``, which returns the loss, ``backward()``,
        ``params``, ``grads`` and ``reset_state()``, such as the textbook's models.
    optimizer : Optimizer
    ranks : SingleProcess or DataParallel
        The processes that train together (common/runs/distributed.py). Their batches must have ``shard=ranks.shard``.

    Attributes
    ----------
    history : list of dict
        A record each ``eval_interval`` steps and at the end of each epoch:

        - ``epoch``: epochs trained, with fraction; ``iteration``: steps made
        - ``train_perplexity``: since the record before; at the end of an epoch, of the whole epoch
        - ``valid_perplexity``: at the end of an epoch, where there is a valid text, else None
        - ``lr``: learning rate; ``tokens_per_second``: speed of training, without measuring
        - ``seconds``: of ``fit``, measuring included; a training that was resumed counts on
        - ``train_window_perplexity``, ``valid_window_perplexity``: exp(mean of the windows' mean losses), which other
          write-ups print. It gives a word more weight in a window with few others, and depends on how windows are cut.
          For windows of equally many words it is the same; of a valid text that is one stream, it is not measured.

    best : float
        The lowest valid perplexity so far; infinity before the first.
    epoch, iteration : int
        Epochs trained to their end, and steps made.
    current_epoch : int
        The same as ``epoch``.
    ppl_list : list of float
        What ``plot`` shows: the perplexity of the steps since the entry before, at the first step of each epoch and
        each ``eval_interval`` steps after it; begun anew by each ``fit``.
    skipped, bad_in_a_row : int
        Steps whose loss or gradient was not finite, and which were not taken; and how many of them came last.
    interrupted : bool
        Whether Ctrl-C ended the training.
    """

    fields = FIELDS

    def __init__(self, model: LanguageModel, optimizer: Optimizer, ranks: SingleProcess = SINGLE_PROCESS) -> None:
        self.model = model
        self.optimizer = optimizer
        self.ranks = ranks
        ranks.begin(model)
        self.history: list[dict[str, float | None]] = []
        self.best = math.inf
        self.interrupted = False
        self.epoch = 0
        self.iteration = 0
        self.skipped = 0
        self.seconds = 0.0
        self.bad_in_a_row = 0
        self.eval_interval: int | None = None
        self._means: list[Array | float] = []  # of the losses, for ppl_list; on a GPU they stay there
        self._losses: list[Array | float] = []  # since then
        self._meters = {name: self._new_meter() for name in ("epoch_meter", "interval_meter")}

    @property
    def current_epoch(self) -> int:
        return self.epoch

    @property
    def ppl_list(self) -> list[float]:
        return [perplexity(loss) for loss in to_floats(*self._means)] if self._means else []

    def plot(self, ylim: tuple[float, float] | None = None) -> None:
        """Show the course of the perplexity."""
        _plot(self.ppl_list, "perplexity", self.eval_interval, ylim)

    @property
    def state(self) -> dict[str, object]:
        """Where the training stands, in numbers that JSON can hold: all but model, optimizer and history."""
        numbers = ("epoch", "iteration", "skipped", "bad_in_a_row", "seconds", "best")
        return {
            **{name: getattr(self, name) for name in numbers},
            **{name: meter.state for name, meter in self._meters.items()},
        }

    def set_state(self, state: dict[str, object]) -> None:
        """Stand where the trainer stood whose ``state`` this was."""
        state = dict(state)
        self._meters = {name: self._new_meter(**state.pop(name)) for name in self._meters}
        vars(self).update(state)

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
    ) -> list[dict[str, float | None]]:
        """Train on one long text: ``fit_batches`` with OffsetBatches.

        Parameters
        ----------
        xs, ts : (n,) arrays
            Word ids, and for each the id of the word that follows.
        max_epoch : int
            Times to go through the text.
        batch_size, time_size : int
            Readers, and words in a window: gradients reach back over ``time_size`` words at most.
        max_grad, eval_interval
            As in ``fit_batches``.
        valid : pair of arrays, optional
            A text like (xs, ts), to measure the perplexity on after each epoch.
        restart : bool
            True: each epoch starts at the same places with a state of zeros. False: it goes on where the
            last one stopped (see OffsetBatches).
        summed : bool
            Follow the gradient of the loss summed over the words of a window, ``time_size`` times as long as
            that of their mean, which False follows. ``max_grad`` and the learning rate apply to the one or the other.
        **options
            Those of ``fit_batches``.

        Raises
        ------
        ValueError
            If the text is shorter than one batch.
        FloatingPointError
            If the loss is no longer a finite number.
        """
        ignored = getattr(getattr(self.model, "loss_layer", None), "ignore_label", None)
        if ignored is not None and not bool((ts == ignored).max() if hasattr(ts, "max") else ignored in ts):
            ignored = None  # no label is
        if isinstance(self.model, LanguageModel):
            xs, ts = self.model.check_text(xs, ts)
        elif valid is not None:
            raise TypeError(f"to measure a valid text, the model must be a LanguageModel, got {type(self.model)}")
        batches = OffsetBatches(xs, ts, batch_size, time_size, restart, shard=self.ranks.shard, ignore_label=ignored)
        dout = float(time_size if summed else 1)
        return self.fit_batches(batches, max_epoch, max_grad, eval_interval, valid=valid, dout=dout, **options)

    def fit_batches(
        self,
        batches: OffsetBatches | SentenceBatches,
        max_epoch: int = 10,
        max_grad: float | None = None,
        eval_interval: int | None = 20,
        *,
        valid: SentenceBatches | tuple[Array, Array] | None = None,
        dout: float = 1.0,
        lr_decay: float = 1.0,
        decay_after: int | None = None,
        best_path: str | Path | None = None,
        history_path: str | Path | None = None,
        callback: Callable[[dict[str, float | None]], bool | None] | None = None,
        checkpoint: Checkpoint | None = None,
        skip_bad_steps: bool = False,
        verbose: bool = True,
    ) -> list[dict[str, float | None]]:
        """Train, print one line per epoch, and return the history.

        Ctrl-C ends the training, after the step in hand, and not the program. A second one does not wait for the step.

        Parameters
        ----------
        batches : OffsetBatches or SentenceBatches
            The windows to train on: one step each.
        max_epoch : int
            Times to go through them.
        max_grad : float, optional
            Longest gradient; see ``clip_grads``.
        eval_interval : int, optional
            Steps from one record to the next inside an epoch; None for none.
        valid : SentenceBatches, or pair of arrays as in ``fit``, optional
            What to measure the perplexity on after each epoch.
        dout : float
            Follow the gradient of the mean loss of a window times this.
        lr_decay : float
            Divide the learning rate by this after each epoch in which the valid perplexity has not fallen.
        decay_after : int, optional
            Divide it instead after this epoch and each that follows, whatever the valid perplexity does.
        best_path : path, optional
            Where to save the weights each time that the valid perplexity is the lowest so far.
        history_path : path, optional
            A CSV file to which each record is written as it is made.
        callback : function, optional
            Gets each record as it is made, and may use the model in evaluation mode: to let it write, say. If it
            returns True, the training ends with this epoch.
        checkpoint : Checkpoint, optional
            Writes a checkpoint when the training begins, each ``checkpoint.seconds``, after each epoch, and at Ctrl-C.
        skip_bad_steps : bool
            Where the loss or the gradient is not finite, leave the weights as they are and go on, from a state of
            zeros, instead of ending with an error; unless it happens 10 times in a row. On a GPU, this makes the CPU
            wait for each step.
        verbose : bool
            Print one line per epoch.

        Raises
        ------
        FloatingPointError
            If the loss, its perplexity or the gradient is not finite. On a GPU, that is noticed at the next record.
        """
        check_sizes(eval_interval=eval_interval or 1)
        self.eval_interval = eval_interval
        self._means, self._losses = [], []
        self._history_path = history_path
        self._on_record = callback
        self._enough = False  # whether callback has said so
        if history_path is not None and self.ranks.is_main:
            with open(history_path, "w", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.fields).writeheader()
                csv.DictWriter(file, self.fields).writerows(self.history)
        self._advice = "try a lower learning rate, or a lower max_grad"
        if checkpoint is not None:
            self._advice += f"; {checkpoint.path} holds the training as it was before"
        # A loss that is lost is reported with advice.
        silently = np.errstate(over="ignore", invalid="ignore")
        with silently, tqdm(unit="step", disable=None, dynamic_ncols=True) as bar, deferred_interrupt() as pressed:

            def between_steps() -> None:
                bar.update()
                end, due = self.ranks.any(pressed(), checkpoint is not None and checkpoint.due)
                if checkpoint is not None and (end or due):
                    checkpoint.save(self, batches)
                    self._tick()
                if end:
                    raise KeyboardInterrupt

            try:
                if checkpoint is not None:
                    checkpoint.save(self, batches)
                self._clock = time.perf_counter()
                for k in range(max_epoch):
                    bar.total = bar.n + (max_epoch - k) * len(batches) - batches.position
                    record = self._train_epoch(
                        batches, dout, max_grad, eval_interval, skip_bad_steps, bar, between_steps
                    )
                    fallen = self._measure(record, valid, best_path)
                    if (not fallen) if decay_after is None else (self.epoch >= decay_after):
                        self.optimizer.lr /= lr_decay
                    if verbose:
                        skipped = f"  steps skipped so far {self.skipped}" if self.skipped else ""
                        bar.write(self._line(record) + memory_figures(self.model.params[0], "  ") + skipped)
                    if checkpoint is not None:
                        checkpoint.save(self, batches)
                    self._tick()
                    if self._enough:
                        break
            except KeyboardInterrupt:
                self.interrupted = True
                bar.write("interrupted: training ends here")
        if best_path is not None and self.best == math.inf and self.ranks.is_main:
            self.model.save(best_path)  # nothing was measured: the best weights are those there are
        return self.history

    def _train_epoch(
        self,
        batches: OffsetBatches | SentenceBatches,
        dout: float,
        max_grad: float | None,
        eval_interval: int | None,
        skip_bad_steps: bool,
        bar: tqdm,
        between_steps: Callable[[], None],
    ) -> dict[str, float | None]:
        """Make the steps of one epoch, or what is left of them.

        Return its last record, to which the valid perplexity is still to be added.
        """
        steps = len(batches)
        for x, t in batches:
            self._step(batches, x, t, dout, max_grad, skip_bad_steps)
            i = batches.position
            if eval_interval and (i - 1) % eval_interval == 0 and self._losses:
                self._means.append(sum(self._losses) / len(self._losses))
                self._losses = []
            meter = self._meters["interval_meter"]
            unlabelled = meter.windows > 0 and meter.words == 0  # nothing to say of them
            if eval_interval and i % eval_interval == 0 and i < steps and not unlabelled:
                record = self._record(self.epoch + i / steps, meter)
                self._add(record)
                bar.set_postfix_str(self._short_line(record) + memory_figures(self.model.params[0], ", "))
                self._meters["interval_meter"] = self._new_meter()
            between_steps()
        self.epoch += 1
        record = self._record(self.epoch, self._meters["epoch_meter"])
        self._meters = {name: self._new_meter() for name in self._meters}
        return record

    def _step(
        self,
        batches: OffsetBatches | SentenceBatches,
        x: Array | PackedSequence,
        t: Array | PackedSequence,
        dout: float,
        max_grad: float | None,
        skip_bad_steps: bool,
    ) -> None:
        model = self.model
        if batches.resets_state:
            model.reset_state()
        loss = self.ranks.loss_and_gradients(model, batches, x, t, dout)
        params, grads = remove_duplicate(model.params, model.grads)
        norm = clip_grads(grads, math.inf if max_grad is None else max_grad)
        self.iteration += 1
        # On a GPU, to look at the numbers of each step would make the CPU wait.
        if (get_array_module(norm) is np or skip_bad_steps) and not (_finite(loss) and math.isfinite(norm)):
            self.bad_in_a_row += 1
            if not skip_bad_steps or self.bad_in_a_row >= _MOST_BAD:
                name, value = ("gradient", norm) if _finite(loss) else ("loss", loss)
                raise self._gone_wrong(name, float(value), self.epoch + batches.position / len(batches))
            self.skipped += 1
            model.reset_state()  # which may be as bad
            return
        self.bad_in_a_row = 0
        self.optimizer.update(params, grads)
        if self.eval_interval:
            self._losses.append(to_float64(loss))
        seconds = self._tick()
        for meter in self._meters.values():
            meter.add(loss, batches.words, seconds)

    def _gone_wrong(self, name: str, value: float, epoch: float) -> FloatingPointError:
        return FloatingPointError(
            f"the {name} is {value} after epoch {epoch:.2f}, step {self.iteration}, with learning rate "
            f"{self.optimizer.lr:g}: {self._advice}"
        )

    def _tick(self) -> float:
        """Count the seconds since the last tick, and return them."""
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        self.seconds += seconds
        return seconds

    def _record(self, epoch: float, meter: Meter) -> dict[str, float | None]:
        loss, window_loss, words_per_second = meter.read()
        if not _finite(loss):
            raise self._gone_wrong("loss", loss, epoch)
        values = (epoch, self.iteration, perplexity(loss), None, self.optimizer.lr, words_per_second, self.seconds)
        values += (perplexity(window_loss), None)
        return dict(zip(FIELDS, values, strict=True))

    def _measure(
        self,
        record: dict[str, float | None],
        valid: SentenceBatches | tuple[Array, Array] | None,
        best_path: str | Path | None,
    ) -> bool:
        """Add the valid perplexity to the record, save the weights if they are the best so far, and say if they are."""
        fallen = True
        if valid is not None:
            found = self._evaluate(record, valid)
            fallen = found < self.best
            if fallen:
                if best_path is not None and self.ranks.is_main:
                    self.model.save(best_path)
                self.best = found
        self._tick()
        record["seconds"] = self.seconds
        self._add(record)
        return fallen

    def _evaluate(self, record: dict[str, float | None], valid: SentenceBatches | tuple[Array, Array]) -> float:
        """Add the valid perplexity to the record, and return it."""
        if isinstance(valid, SentenceBatches):
            loss, window_loss = evaluate_windows(self.model, valid, self.ranks)
            record["valid_window_perplexity"] = perplexity(window_loss)
        else:
            loss = evaluate(self.model, *valid, ranks=self.ranks)
        record["valid_perplexity"] = perplexity(loss)
        return record["valid_perplexity"]

    def _short_line(self, record: dict[str, float | None]) -> str:
        found = record["train_perplexity"]
        return f"loss {math.log(found):.3f}, perplexity {found:.1f}, {record['tokens_per_second']:,.0f} tokens/s"

    def _line(self, record: dict[str, float | None]) -> str:
        line = f"epoch {self.epoch:3d}"
        # Where windows are unequal, in brackets the mean of windows.
        unequal = record["valid_window_perplexity"] is not None
        for text in ("train", "valid"):
            if record[f"{text}_perplexity"] is not None:
                line += f"  {text} perplexity {record[f'{text}_perplexity']:8.2f}"
                line += f" (mean of windows {record[f'{text}_window_perplexity']:.2f})" if unequal else ""
        return line + f"  lr {record['lr']:.3g}  {record['tokens_per_second']:,.0f} tokens/s"

    def _new_meter(self, **state: float) -> Meter:
        return Meter(**state)

    def _add(self, record: dict[str, float | None]) -> None:
        self.history.append(record)
        if self._history_path is not None and self.ranks.is_main:
            with open(self._history_path, "a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.fields).writerow(record)
        if self._on_record is not None:
            self._enough |= bool(self._on_record(record))
            self._tick()


def _finite(loss: Array | float) -> bool:
    """Whether a loss is a number, and no perplexity too large to be one."""
    return math.isfinite(perplexity(loss))


@dataclass
class Meter:
    """Mean loss of some windows, and the speed of their steps."""

    loss: float = 0.0  # summed over words
    window_loss: float = 0.0  # summed over windows
    words: int = 0
    windows: int = 0
    seconds: float = 0.0

    @property
    def state(self) -> dict[str, float]:
        """All of it, in numbers that JSON can hold."""
        loss, window_loss = to_floats(self.loss, self.window_loss)
        return {**vars(self), "loss": loss, "window_loss": window_loss}

    def add(self, loss: Array | float, words: int, seconds: float) -> None:
        loss = to_float64(loss)  # for a sum of thousands; if the loss is on a GPU, it stays there
        self.loss += loss * words
        self.window_loss += loss
        self.words += words
        self.windows += 1
        self.seconds += seconds

    def read(self) -> tuple[float, float, float]:
        """Return (mean loss of a word, mean loss of a window, words a second)."""
        if self.words == 0:
            return math.nan, math.nan, 0.0
        loss, window_loss = to_floats(self.loss, self.window_loss)
        return loss / self.words, window_loss / self.windows, self.words / self.seconds
