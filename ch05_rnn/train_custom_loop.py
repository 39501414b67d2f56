"""The whole training loop in plain sight: a small RNN language model on the first 1,000 words of a text.

python ch05_rnn/train_custom_loop.py
"""

from __future__ import annotations

import numpy as np

import dataset
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.batching import OffsetBatches
from common.evaluation import perplexity
from common.optimizer import SGD
from common.runs.cli import OneLineParser, non_negative_int, positive_float, positive_int, run, use_utf8


def main(argv: list[str] | None = None) -> float:
    """Train, print the perplexity of each epoch, and return the last."""
    use_utf8()
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default="sotu", help="sotu, ptb, wikitext2, or the path of a UTF-8 text file")
    parser.add_argument("--corpus-size", type=positive_int, default=1000, help="words to train on")
    parser.add_argument("--wordvec-size", type=positive_int, default=100, help="size of a word's vector, D")
    parser.add_argument("--hidden-size", type=positive_int, default=100, help="size of the RNN's state, H")
    parser.add_argument("--batch-size", type=positive_int, default=10, help="sequences side by side, N")
    parser.add_argument("--time-size", type=positive_int, default=5, help="words that gradients reach back, T")
    parser.add_argument("--epochs", type=positive_int, default=100, help="times through the text")
    parser.add_argument("--lr", type=positive_float, default=0.1, help="learning rate of SGD")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="seed of the initial weights")
    parser.add_argument("--quick", action="store_true", help="10 epochs, to see it run")
    args = parser.parse_args(argv)
    epochs = 10 if args.quick else args.epochs

    with parser.reporting_errors():
        words = dataset.load(args.corpus).train[: args.corpus_size]
        # Number the words that occur from 0, so that the model has no outputs for others.
        vocabulary, corpus = np.unique(words, return_inverse=True)
        xs, ts = corpus[:-1], corpus[1:]  # at each word, the label is the next word
        batches = OffsetBatches(xs, ts, args.batch_size, args.time_size)
        vocab_size = len(vocabulary)
        rng = np.random.default_rng(args.seed)
        model = SimpleRnnlm(vocab_size, args.wordvec_size, args.hidden_size, rng=rng)
    print(f"corpus size: {len(corpus)}, vocabulary size: {vocab_size}")
    optimizer = SGD(args.lr)

    for epoch in range(1, epochs + 1):
        loss_sum = 0.0
        # The state is carried from batch to batch, and here from epoch to epoch too.
        for batch_x, batch_t in batches:
            loss = model.forward(batch_x, batch_t)
            model.backward()
            optimizer.update(model.params, model.grads)
            loss_sum += float(loss)
        print(f"epoch {epoch:3d}  perplexity {perplexity(loss_sum / len(batches)):.2f}")
    return perplexity(loss_sum / len(batches))


if __name__ == "__main__":
    run(main)
