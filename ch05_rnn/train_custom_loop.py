"""The whole training loop in plain sight: a small RNN language model on the first 1,000 words of a text.

python ch05_rnn/train_custom_loop.py
"""

from __future__ import annotations

import numpy as np

import dataset
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.optimizer import SGD
from common.runs.cli import OneLineParser, non_negative_int, run, use_utf8

CORPUS_SIZE = 1000  # words to train on
D = 100  # size of a word's vector
H = 100  # size of the hidden state
N = 10  # parallel streams: sequences in a batch
T = 5  # words that gradients reach back
EPOCHS = 100
LEARNING_RATE = 0.1


def train(words: np.ndarray, epochs: int, seed: int) -> list[float]:
    """Train a model on word ids, (n,), print the perplexity of each epoch, and return all of them."""
    vocabulary, corpus = np.unique(words, return_inverse=True)  # ids from 0, without those of words that do not occur
    xs, ts = corpus[:-1], corpus[1:]  # the label of each word is the next word
    model = SimpleRnnlm(len(vocabulary), D, H, rng=np.random.default_rng(seed))
    optimizer = SGD(LEARNING_RATE)
    print(f"corpus size: {len(corpus)}, vocabulary size: {len(vocabulary)}")

    windows = len(xs) // (N * T)  # in an epoch
    offsets = np.arange(N)[:, None] * (len(xs) // N)  # (N, 1): where each stream starts
    time = 0
    perplexities = []
    for epoch in range(1, epochs + 1):
        total_loss = 0.0
        for _ in range(windows):
            index = (offsets + np.arange(time, time + T)) % len(xs)  # (N, T)
            time += T
            # The hidden state is carried from window to window, and from epoch to epoch.
            loss = model.forward(xs[index], ts[index])
            model.backward()
            optimizer.update(model.params, model.grads)
            total_loss += float(loss)
        perplexities.append(float(np.exp(total_loss / windows)))
        print(f"epoch {epoch:3d}  perplexity {perplexities[-1]:.2f}")
    return perplexities


def main(argv: list[str] | None = None) -> float:
    """Train as the command line says, and return the last perplexity."""
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("--corpus", default="sotu", help="sotu, ptb, wikitext2, or the path of a UTF-8 text file")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="seed of the initial weights")
    parser.add_argument("--quick", action="store_true", help="10 epochs, to see it run")
    parser.add_argument("--plot", action="store_true", help="show the perplexities in a window")
    args = parser.parse_args(argv)
    with parser.reporting_errors():
        words = dataset.load(args.corpus).train[:CORPUS_SIZE]
        if len(words) <= N * T:
            raise ValueError(f"a window takes more than {N * T} words, got {len(words)}")
    perplexities = train(words, 10 if args.quick else EPOCHS, args.seed)
    if args.plot:
        import matplotlib.pyplot as plt

        plt.plot(range(1, len(perplexities) + 1), perplexities)
        plt.xlabel("epoch")
        plt.ylabel("perplexity")
        plt.show()
    return perplexities[-1]


if __name__ == "__main__":
    run(main)
