"""``--resume runs/NAME``: the options of a training that was stopped, and what of them may change when it goes on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common.runs.checkpoint import read_options
from common.runs.cli import OneLineParser, number
from common.runs.distributed import launched

CHANGEABLE = (
    *("epochs", "lr", "max_grad", "lr_decay", "decay_after", "gpu", "mpi", "checkpoint_seconds", "skip_bad_steps"),
    *("samples", "sample_words", "temperature", "watch", "close", "interval", "text"),
)


def add_resuming_options(parser: OneLineParser) -> None:
    """Add the options on what happens when a training is stopped, or goes wrong. Call it after all others are added."""
    own = {action.dest for action in parser._actions} | {"checkpoint_seconds", "skip_bad_steps"}
    changeable = ["--" + name.replace("_", "-") for name in CHANGEABLE if name in own]
    group = parser.add_argument_group("stopping and going on")
    group.add_argument(
        "--resume",
        metavar="FOLDER",
        help="go on with the training that left its checkpoint in this folder, with its options; only "
        f"{', '.join(changeable)} may be changed",
    )
    group.add_argument(
        "--checkpoint-seconds",
        type=number(float, 0, low_included=True),
        default=300.0,
        metavar="S",
        help="seconds from one checkpoint to the next; there is one after each epoch and at Ctrl-C, too",
    )
    group.add_argument(
        "--skip-bad-steps",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="where loss or gradient is not finite, leave out the step instead of ending with an error; the lines of "
        "the epochs count such steps",
    )


def parse_options(parser: OneLineParser, argv: list[str] | None, quick: dict[str, object]) -> argparse.Namespace:
    """Parse the command line. It is stronger than the values of ``--quick``, and than the options of ``--resume``.

    The latter are in ``args.began_with``; None for a training that begins.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser.set_defaults(began_with=None)
    args = parser.parse_args(argv)
    if args.resume is not None:
        with parser.reporting_errors():
            began_with = read_options(args.resume)
            args = parser.parse_args([*command_line(parser, began_with), *argv])
        args.began_with = began_with
    elif args.quick:
        parser.set_defaults(**quick)
        args = parser.parse_args(argv)
    if launched() > 1 and not vars(args).get("mpi"):
        parser.error(
            f"mpiexec has started {launched()} processes, which would each train by itself and write the same files: "
            + ("let them train together with --mpi, or start one" if "mpi" in args else "start this script without it")
        )
    return args


def command_line(parser: OneLineParser, options: dict[str, object]) -> list[str]:
    """The command line that gives these options, so that what a file says is checked as what a user says."""
    words = []
    for action in parser._actions:
        value = options.get(action.dest)
        if action.dest == "resume" or value is None or value is False:
            continue
        option = action.option_strings[0]
        if isinstance(action.default, list) and isinstance(value, list):  # an option that may be repeated
            words += [f"{option}={each}" for each in value]
        else:
            words.append(option if value is True else f"{option}={value}")
    return words


def check_options(folder: Path, began_with: dict[str, object], options: dict[str, object]) -> None:
    """Raise ValueError if options differ from those that the training in the folder began with, and may not."""
    for key in sorted(began_with, key=lambda key: key != "model"):  # of another model, all is different
        if key not in CHANGEABLE and options.get(key) != began_with[key]:
            raise ValueError(
                f"the training in {folder} began with {key} = {began_with[key]}, "
                f"and cannot go on with {key} = {options.get(key)}"
            )
