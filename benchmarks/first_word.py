"""How well a model knows the state from which it writes: the perplexity of the first word of a line.

    python ch05_rnn/train_rnnlm.py
    python benchmarks/first_word.py runs/rnnlm-sotu

After each of these beginnings, the model is asked for the first word of all lines of the validation text:

- cold: a state of zeros, then ``<eos>``; training never showed the model that state
- warm-up: the words that the run keeps in its folder, then ``<eos>``; so all scripts begin
- elsewhere: the same number of words from 50 other places of the training text (the mean of their losses)
"""

from __future__ import annotations

import sys

import numpy as np

import dataset
from ch06_gated.models import load_run
from common.evaluation import perplexity
from common.functions import log_softmax
from common.runs.checkpoint import read_options
from common.runs.folder import Run


def loss_after(run: Run, beginning: list[int], firsts: np.ndarray) -> float:
    """Mean of -log P(w | beginning), over the words w of ``firsts``."""
    with run.model.evaluating():
        logits = run.model.predict(np.array([beginning]))[0, -1]
    return -float(log_softmax(logits[None].astype(np.float64))[0, firsts].mean())


def main(folder: str) -> None:
    run = load_run(folder)
    options = read_options(folder)
    corpus = dataset.load(options["corpus"], options["vocab_size"], options["unit"])
    ends = np.flatnonzero(corpus.valid[:-1] == run.eos_id)
    firsts = corpus.valid[ends + 1]
    n = len(run.start_ids)
    train = corpus.train[: options["max_words"]]
    places = np.flatnonzero(train == run.eos_id)
    places = places[places >= n]
    places = places[np.linspace(0, len(places) - 2, 50).astype(int)]
    elsewhere = np.mean([loss_after(run, train[p - n + 1 : p + 1].tolist(), firsts) for p in places])
    losses = {
        "cold": loss_after(run, [run.eos_id], firsts),
        "warm-up": loss_after(run, run.start_ids, firsts),
        "elsewhere": elsewhere,
    }
    print(f"{folder}: perplexity of the first word of {len(firsts):,} lines")
    for name, loss in losses.items():
        print(f"  {name:10} {perplexity(loss):8.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
