"""Train an LSTM to tell classes of texts apart: what it remembers at the end of a text says what it was about.

    python ch06_gated/train_classifier.py                                        # by era; no download
    python ch06_gated/train_classifier.py --corpus ag_news                       # news, by topic
    python ch06_gated/train_classifier.py --corpus ag_news --bidirectional --layers 2 --dropout 0.5 --epochs 5
    python ch06_gated/train_classifier.py --padded                               # what packing saves
    python ch06_gated/train_classifier.py --train-file my_table.csv --text "what is this?"   # your own
    python ch06_gated/train_classifier.py --train-file 表.tsv --encoding shift_jis --tokenizer subword

Ctrl-C ends the training early; the best weights so far are kept and measured all the same.
"""

from __future__ import annotations

from ch06_gated.lstm_classifier import LstmClassifier
from common.runs.cli import run
from common.runs.course import train
from common.runs.tasks import ClassificationTask


def main(argv: list[str] | None = None) -> float:
    """Train, and return the test accuracy."""
    return train(ClassificationTask, LstmClassifier, argv, __doc__, "lstm-classifier")


if __name__ == "__main__":
    run(main)
