"""The course of a training, the same for all scripts: read the text, make the model and the folder, train, measure.

What differs from one kind of training to another is a ``Task``; see ``common/runs/tasks.py``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from common.backend import require_gpu
from common.classifier import RecurrentClassifier
from common.evaluation import SINGLE_PROCESS, SingleProcess
from common.optimizer import CosineSchedule
from common.recurrent_lm import RecurrentLm
from common.runs.checkpoint import Checkpoint
from common.runs.cli import OneLineParser, use_utf8
from common.runs.distributed import DataParallel, MpiUnavailable, launched
from common.runs.folder import check_resumed, make_run_folder, write_options
from common.runs.options import (
    OPTIMIZERS,
    Groups,
    Options,
    StoppingOptions,
    Values,
    add_options,
    changeable_options,
    parse_options,
)
from common.runs.recorder import RunRecorder
from common.runs.tasks import Task
from common.trainer import Trainer

STEPS_TO_WAIT = 40  # without a better valid figure before the learning rate falls, where an epoch has fewer


def train(
    task_class: type[Task],
    model_class: type[RecurrentLm] | type[RecurrentClassifier],
    argv: list[str] | None,
    description: str,
    name: str,
    model_options: type | None = None,
    defaults: Values | None = None,
    quick: Values | None = None,
) -> float:
    """Train a model as the command line says; return what the task measures at the end.

    The first line of ``description``, the docstring of the script, goes into the help; results go to runs/NAME-CORPUS.
    ``model_options`` declares the options that are arguments of this model, if not those of the task. ``defaults`` and
    ``quick`` are values of options: the script's own, and those that ``--quick`` gives besides the task's.
    """
    use_utf8()
    text, model_group, *others = task_class.groups
    groups = text, model_options or model_group, *others, StoppingOptions
    parser = OneLineParser(description=description)
    add_options(parser, groups, name)
    parser.set_defaults(**{**task_class.defaults, **(defaults or {})})
    with join_processes(parser, groups, argv) as parallel, parser.reporting_errors():
        options = parse_options(parser, groups, argv, {**task_class.quick, **(quick or {})})
        parallel = check_devices(parser, options, parallel)
        training, resumed = options.training, options.stopping.resume is not None
        rng = np.random.default_rng(training.seed)

        task = task_class(options, parallel, rng)
        model = model_class(**task.arguments, rng=rng)
        if not resumed:
            task.load_weights(model)
        if training.gpu:
            model.to_gpu()
        batches, valid = task.make_batches(model)
        if training.epochs is None:
            training.epochs = max(1, round(training.steps / len(batches)))
        trainer = folder = None
        if training.epochs or resumed:
            made = {"model": model_class.__name__, "arguments": task.arguments}
            recorded = {**options.as_dict(), **made, **task.checksums}
            parallel.wait()  # until all processes have read what is replaced now
            folder = find_folder(options, name, task.name, parallel)
            if resumed:
                check_resumed(folder, recorded, options.began_with, changeable_options(groups))
            if parallel.is_main:
                write_options(folder, recorded)
                task.save_vocabulary(folder)
        print(task.summary(model))
        if training.epochs:
            print(f"{count(training.epochs, 'epoch')} of {count(len(batches), 'step')}")

        if folder is not None:
            optimizer = OPTIMIZERS[training.optimizer](lr=training.lr)
            trainer = Trainer(model, optimizer, metric=task.metric, parallel=parallel)
            checkpoint = Checkpoint(folder, rng, recorded, options.stopping.checkpoint_seconds)
            if resumed:
                checkpoint.restore(trainer, batches)
                epochs = trainer.epoch + batches.position / len(batches)
                print(f"going on after {epochs:.2f} epochs, step {trainer.iteration}")
                if training.lr != options.began_with.get("lr"):
                    optimizer.lr = training.lr
            wait = max(1, round(STEPS_TO_WAIT / len(batches)))
            schedule = None
            if training.schedule == "cosine":
                schedule = CosineSchedule(training.lr, training.epochs * len(batches), training.warmup)
            with RunRecorder(checkpoint, task.verbose) as recorder:
                trainer.fit_batches(
                    *(batches, training.epochs - trainer.epoch, training.max_grad, training.eval_interval),
                    valid=valid,
                    dout=task.dout,
                    lr_decay=1.0 if schedule else training.lr_decay,
                    schedule=schedule,
                    decay_after=training.decay_after,
                    min_lr=training.lr / 1024,
                    wait=wait,
                    patience=0 if schedule else training.patience * wait,
                    skip_bad_steps=options.stopping.skip_bad_steps,
                    callback=task.callback(model),
                    recorder=recorder,
                )
            if parallel.is_main:
                model.load(checkpoint.best_path)
            parallel.send_weights(model)

        result = task.report(model, trainer, folder if parallel.is_main else None)
        if folder is not None and parallel.is_main:
            print(f"results in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
            if trainer.interrupted:
                print(f"to go on: python {sys.argv[0]} --resume {folder}")
            elif task.next_command:
                script, _, arguments = task.next_command.partition(" ")
                path = os.path.normpath(os.path.join(os.path.dirname(sys.argv[0]), "..", script))  # from where we are
                print(f"next: python {path if os.path.exists(path) else script} {arguments.format(folder=folder)}")
        return result


def find_folder(options: Options, name: str, text: str, parallel: SingleProcess) -> Path:
    """The folder that is resumed, or a new one; only the main process makes it and writes to it."""
    if options.stopping.resume is not None:
        return Path(options.stopping.resume)
    output, default = options.output, f"{name}-{text}"
    if not parallel.is_main:
        return Path("runs") / (output.name or default)
    if output.quick and output.name is None:  # it has a folder of its own, for the last one
        return make_run_folder(f"{default}-quick", default, overwrite=True)
    folder = make_run_folder(output.name, default, output.overwrite)
    if output.name is None and folder.name != default:
        print(f"runs/{default} holds another training; the results of this one go to {folder}")
    return folder


def count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def join_processes(parser: OneLineParser, groups: Groups, argv: list[str] | None) -> SingleProcess:
    """Join the other processes that mpiexec has started, if there are any.

    This comes first, before the options: a process that has not joined cannot tell the others that it has failed.
    """
    argv = sys.argv if argv is None else argv
    if "mpi" not in changeable_options(groups) or (launched() == 1 and "--mpi" not in argv):
        return SINGLE_PROCESS
    try:
        return DataParallel()
    except MpiUnavailable as error:
        if launched() > 1:
            parser.error(str(error))
        return SINGLE_PROCESS  # ``check_devices`` says so, if no option is wrong


def check_devices(parser: OneLineParser, options: Options, parallel: SingleProcess) -> SingleProcess:
    """Check that there is a GPU, if one is to be used; return the processes that ``--mpi`` asks for."""
    gpu, mpi = options.training.gpu, options.training.mpi
    if gpu and mpi:
        raise ValueError("processes that share their batches train on CPUs: leave out --gpu or --mpi")
    if gpu:
        require_gpu()
    if not mpi:
        return SINGLE_PROCESS
    if parallel is SINGLE_PROCESS:
        # A training of many processes that is resumed in one keeps their way to draw dropout masks.
        parallel = DataParallel()
        if parallel.size > 1:  # started by a launcher that ``launched`` does not know
            with parallel:
                parser.error("say --mpi, in full, on the command line, too")
    return parallel
