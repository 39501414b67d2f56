"""What a long training shows and writes: progress bar, lines, history, best weights, checkpoints; and Ctrl-C."""

from __future__ import annotations

import csv
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tqdm import tqdm

from common.backend import memory_figures
from common.metrics import Record, Recorder
from common.runs.checkpoint import Checkpoint
from common.trainer import Batches, Trainer

_BAR = "{percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"  # fits into 80 columns


class RunRecorder(Recorder):
    """Writes all that a training leaves to the folder of its checkpoint.

        with RunRecorder(checkpoint) as recorder:
            trainer.fit_batches(batches, recorder=recorder)

    Of many processes, the main one alone writes files. The progress bar is shown only on a terminal. In the ``with``
    block, Ctrl-C ends the training after the current step; a second one ends it at once.
    """

    def __init__(self, checkpoint: Checkpoint, verbose: bool = True) -> None:
        super().__init__(verbose)
        self.checkpoint = checkpoint
        self.history_path = checkpoint.path.parent / "history.csv"
        self.advice = f"; {checkpoint.path} holds the training as it was before"

    def __enter__(self) -> RunRecorder:
        self._stack = ExitStack()
        self.bar = self._stack.enter_context(tqdm(unit="step", disable=None, dynamic_ncols=True, bar_format=_BAR))
        self.pressed = self._stack.enter_context(deferred_interrupt())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)

    def begin(self, trainer: Trainer, batches: Batches, max_epoch: int) -> None:
        self.epochs_left, self.steps_left = max_epoch, max_epoch * len(batches) - batches.position
        self.timed = (trainer.seconds, self.steps_left)
        self.bar.total = max_epoch * len(batches) - batches.position
        if trainer.parallel.is_main:
            with open(self.history_path, "w", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, trainer.metric.fields).writeheader()
                csv.DictWriter(file, trainer.metric.fields).writerows(trainer.history)
        self.checkpoint.save(trainer, batches)

    def after_step(self, trainer: Trainer, batches: Batches) -> bool:
        self.bar.update()
        self.steps_left -= 1
        self.tell_how_long(trainer.seconds)
        end, due = trainer.parallel.any(self.pressed(), self.checkpoint.due)
        if end or due:
            self.checkpoint.save(trainer, batches)
        return end

    def tell_how_long(self, seconds: float) -> None:
        """After three seconds, once, estimate how long the training will take."""
        if self.timed is None or seconds - self.timed[0] < 3:
            return
        began, steps = self.timed
        minutes = self.steps_left * (seconds - began) / (steps - self.steps_left) / 60
        self.timed = None
        if minutes > 0.2:
            how_long = f"{minutes:.0f} min" if minutes >= 1.5 else f"{60 * minutes:.0f} s"
            self.print(f"about {how_long} to go at most; Ctrl-C ends the training and keeps the best weights")

    def add(self, trainer: Trainer, record: Record) -> None:
        if trainer.parallel.is_main:
            with open(self.history_path, "a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, trainer.metric.fields).writerow(record)
        if record["epoch"] % 1:
            figures = memory_figures(trainer.model.params[0], ", ")
            self.bar.set_postfix_str(trainer.metric.short_line(record) + figures, refresh=False)

    def best(self, trainer: Trainer) -> None:
        if trainer.parallel.is_main:
            trainer.model.save(self.checkpoint.best_path)

    def after_epoch(self, trainer: Trainer, batches: Batches, record: Record) -> None:
        super().after_epoch(trainer, batches, record)
        self.epochs_left -= 1
        self.bar.total = self.bar.n + self.epochs_left * len(batches)
        self.checkpoint.save(trainer, batches)

    def end(self, trainer: Trainer) -> None:
        super().end(trainer)
        if trainer.best == math.inf:
            self.best(trainer)  # nothing was measured: the best weights are the last

    def print(self, line: str) -> None:
        self.bar.write(line)


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Defer Ctrl-C: ``with deferred_interrupt() as pressed``, then ``pressed()`` tells whether it was pressed.

    A second Ctrl-C is not deferred. Where Ctrl-C is not handled by Python, as in a thread, nothing is changed.
    """
    count = 0

    def press(*_: object) -> None:
        nonlocal count
        count += 1
        if count > 1:
            raise KeyboardInterrupt
        os.write(2, b"\nto end after this step; press Ctrl-C again to end at once\n")

    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield lambda: count > 0
    finally:
        signal.signal(signal.SIGINT, usual)
