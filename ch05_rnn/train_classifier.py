"""Train a simple RNN to tell classes of texts apart: its states, in the mean over all words, say what a text is about.

    python ch05_rnn/train_classifier.py                     # paragraphs of US presidents, by era; no download
    python ch05_rnn/train_classifier.py --corpus ag_news    # news, by topic
    python ch05_rnn/train_classifier.py --train-file my_table.csv --text "what is this?"   # your own
    python ch05_rnn/train_classifier.py --train-file 表.tsv --encoding shift_jis --tokenizer subword

Ctrl-C ends the training early; the best weights so far are kept and measured all the same.
"""

from __future__ import annotations

from ch05_rnn.rnn_classifier import RnnClassifier
from common.runs.cli import run
from common.runs.course import train
from common.runs.tasks import ClassificationTask


def main(argv: list[str] | None = None) -> float:
    """Train, and return the test accuracy."""
    return train(
        ClassificationTask, RnnClassifier, argv, __doc__, "rnn-classifier", defaults={"pool": "mean", "lr": 0.002}
    )


if __name__ == "__main__":
    run(main)
