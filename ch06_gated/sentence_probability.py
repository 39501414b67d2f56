"""How probable sentences are to a trained language model, one per line of a file or of standard input.

echo "the president shall be commander in chief" | python ch06_gated/sentence_probability.py runs/rnnlm-sotu
python ch06_gated/sentence_probability.py runs/rnnlm-sotu sentences.txt
"""

from __future__ import annotations

import numpy as np

from ch06_gated.models import load_run
from common.evaluation import perplexity
from common.runs.cli import OneLineParser, run, use_utf8
from common.runs.folder import Run, SentenceRun, read_lines


def log_probability(trained: Run | SentenceRun, words: list[str]) -> tuple[float, int]:
    """Return log P(w_1, ..., w_n, <eos>) in nats, for a sentence that follows the warm-up text, or <s>; and n + 1.

    log P(w_1, ..., w_n) = Σ log P(w_t | w_1, ..., w_{t-1}), and the loss is its mean over words, negated.
    """
    model, sentence = trained.model, [*trained.ids(words), trained.eos_id]
    ids = np.array([[*trained.start_ids, *sentence]])
    xs, ts = ids[:, :-1], ids[:, 1:].copy()
    ts[:, : -len(sentence)] = model.loss_layer.ignore_label
    with model.evaluating():
        return -float(model.forward(xs, ts)) * len(sentence), len(sentence)


def main(argv: list[str] | None = None) -> float:
    """Print a line for each sentence, and return the perplexity of all of them together."""
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("folder", help="of a training: runs/NAME")
    parser.add_argument("file", nargs="?", help="UTF-8 text, one sentence per line (default: standard input)")
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
