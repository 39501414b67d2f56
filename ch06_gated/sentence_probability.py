"""How probable a trained language model finds sentences, given in a file or on standard input, one a line.

echo "the president shall be commander in chief" | python ch06_gated/sentence_probability.py runs/rnnlm-sotu
python ch06_gated/sentence_probability.py runs/rnnlm-sotu sentences.txt
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import ch06_gated  # noqa: F401 - it makes sure of the packages
from common.evaluation import perplexity
from common.runs.cli import OneLineParser, run, use_utf8
from common.runs.run_folder import Run, SentenceRun, load_run
from dataset.decoding import decode_utf8


def log_probability(trained: Run | SentenceRun, words: list[str]) -> tuple[float, int]:
    """Return log P(w_1, ..., w_n, <eos>) in nats, for a sentence that follows another's <eos>, or <s>; and n + 1.

    log P(w_1, ..., w_n) = Σ log P(w_t | w_1, ..., w_{t-1}), and the loss is its mean over words, negated.
    """
    ids = np.array([[trained.start_id, *trained.ids(words), trained.eos_id]])
    xs, ts = ids[:, :-1], ids[:, 1:]
    with trained.model.evaluating():
        return -float(trained.model.forward(xs, ts)) * ts.size, ts.size


def read_lines(path: str | None) -> list[str]:
    """The lines of a UTF-8 file, or of standard input, whole but for those that are empty.

    Raises
    ------
    OSError, DatasetError
        If it cannot be read, or is not UTF-8.
    """
    data = sys.stdin.buffer.read() if path is None else Path(path).read_bytes()
    return [line for line in decode_utf8(data, path).split("\n") if line.strip()]


def main(argv: list[str] | None = None) -> float:
    """Print a line a sentence, and return the perplexity of all of them together."""
    use_utf8()
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="of a training: runs/NAME")
    parser.add_argument("file", nargs="?", help="UTF-8 text, a sentence a line (default: standard input)")
    args = parser.parse_args(argv)

    total, words = 0.0, 0
    with parser.reporting_errors():
        trained = load_run(args.folder)
        print(f"log-probability  perplexity  {'words with ' + trained.word(trained.eos_id):>16}  sentence")
        for line in read_lines(args.file):
            log_p, n = log_probability(trained, trained.words(line))
            print(f"{log_p:15.2f}  {perplexity(-log_p / n):10.2f}  {n:16d}  {line}")
            total += log_p
            words += n
        if words == 0:
            raise ValueError("there is no sentence to read")
    print(f"{total:15.2f}  {perplexity(-total / words):10.2f}  {words:16d}  all")
    return perplexity(-total / words)


if __name__ == "__main__":
    run(main)
