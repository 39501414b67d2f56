"""The simplest recurrent language model: no batches, no windows, one word after the other.

    python ch05_rnn/sentence_rnn.py                  # learn from a sentence at a time
    python ch05_rnn/sentence_rnn.py --form stream    # read one long text, and learn every 30 words
    python ch05_rnn/sentence_rnn.py --text "the state of the union is strong ."

The probability of a sentence is the product of those of its words, each given all words before it. Its negative
logarithm, a sum over the words, is the loss.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from copy import copy
from itertools import pairwise
from math import sqrt

import numpy as np

import ch05_rnn  # noqa: F401 - it makes sure of the packages
import dataset
from common.backend import Array, get_array_module, require_gpu
from common.evaluation import perplexity
from common.layers import RNN, Affine, Embedding, SoftmaxWithLoss
from common.model import Model
from common.optimizer import SGD, Optimizer, clip_grads
from common.recurrent_lm import InitialWeights
from common.runs.cli import OneLineParser, non_negative_int, positive_float, positive_int, run, use_utf8, utf8_text
from dataset.corpus import EOS, UNK, Corpus

SENTENCE_ENDS = ".!?"


class SentenceRnn(Model):
    """Embedding → RNN → Affine, a step at a time.

        x_t = W[w_t]
        h_t = tanh(x_t Wx + h_{t-1} Wh + b)
        P(w_{t+1} | w_1, ..., w_t) = softmax(h_t Wy + by)

    ``read`` makes one step and remembers it; ``backward`` goes back through all remembered steps, and forgets them.
    The state is carried on, but no gradient flows further back: back-propagation through time is truncated there.

    Parameters
    ----------
    vocab_size, wordvec_size, hidden_size : int
        V, D and H.
    rng : numpy.random.Generator
    dtype : floating-point type

    References
    ----------
    Elman, "Finding structure in time", 1990; Mikolov et al., "Recurrent neural network based language model", 2010.
    """

    def __init__(
        self, vocab_size: int, wordvec_size: int, hidden_size: int, rng: np.random.Generator, dtype: type = np.float32
    ) -> None:
        V, D, H, init = vocab_size, wordvec_size, hidden_size, InitialWeights(dtype)
        embed_W = init.normal("embed_W", (V, D), std=0.01)
        rnn_Wx = init.normal("rnn_Wx", (D, H), std=1 / sqrt(D))
        rnn_Wh = init.normal("rnn_Wh", (H, H), std=1 / sqrt(H))
        rnn_b = init.zeros("rnn_b", H)
        affine_W = init.normal("affine_W", (H, V), std=1 / sqrt(H))
        affine_b = init.zeros("affine_b", V)

        layers = [Embedding(embed_W), RNN(rnn_Wx, rnn_Wh, rnn_b), Affine(affine_W, affine_b)]
        super().__init__(layers, SoftmaxWithLoss())
        init.draw([rnn_Wx, rnn_Wh, affine_W, embed_W], rng)
        self.flatten_parameters()
        self.reset_state()

    def reset_state(self) -> None:
        """Start from a state of zeros, and forget all steps."""
        Wh = self.layers[1].Wh.data
        self.h = get_array_module(Wh).zeros((1, len(Wh)), Wh.dtype)
        self.steps = []

    def read(self, word: int, next_word: int) -> Array:
        """Read a word; return -log P(next_word | all words so far), in nats."""
        # A layer remembers only its last step, so each step has its own copies of the layers, which share parameters.
        embedding, rnn, affine, loss = step = [copy(layer) for layer in (*self.layers, self.loss_layer)]
        self.steps.append(step)
        x, t = self.asarrays(np.array([word]), np.array([next_word]))
        self.h = rnn.forward(embedding.forward(x), self.h)
        return loss.forward(affine.forward(self.h), t)

    def backward(self, dout: float = 1.0) -> None:
        """Set all gradients to those of the summed loss of the remembered steps, times dout, and forget the steps."""
        if not self.steps:
            raise ValueError("there is no step to go back through: read a word first")
        dh = 0
        for embedding, rnn, affine, loss in reversed(self.steps):
            # h_t goes to the output of step t and to step t + 1: its gradient is the sum of both.
            dx, dh = rnn.backward(affine.backward(loss.backward(dout)) + dh)
            embedding.backward(dx)
        self.steps = []


def learn(model: SentenceRnn, optimizer: Optimizer, max_grad: float) -> None:
    """Back-propagate through what was read, clip the gradients, and update the weights."""
    model.backward()
    clip_grads(model.grads, max_grad)
    optimizer.update(model.params, model.grads)


def log_probability(model: SentenceRnn, sentence: Sequence[int]) -> float:
    """log P(w_2, ..., w_n | w_1) = Σ_t log P(w_{t+1} | w_1, ..., w_t) in nats, from a state of zeros."""
    model.reset_state()
    return -float(sum(model.read(word, next_word) for word, next_word in pairwise(sentence)))


def sentences(ids: np.ndarray, corpus: Corpus) -> Iterator[list[int]]:
    """Cut a text after full stops and line ends. Each sentence begins and ends with ``<eos>``."""
    eos = corpus.word_to_id[EOS]
    ends = {corpus.word_to_id.get(mark) for mark in SENTENCE_ENDS}
    sentence = [eos]
    for word in ids.tolist():
        if word != eos:
            sentence.append(word)
        if (word == eos or word in ends) and len(sentence) > 1:
            yield [*sentence, eos]
            sentence = [eos]


def train_sentences(
    model: SentenceRnn, optimizer: Optimizer, train: list[list[int]], corpus: Corpus, args: argparse.Namespace
) -> None:
    """Update after each sentence, which starts from a state of zeros."""
    loss = words = 0
    for k, sentence in enumerate(train, start=1):
        log_p = log_probability(model, sentence)
        learn(model, optimizer, args.max_grad)
        loss, words = loss - log_p, words + len(sentence) - 1
        if k % args.show_every == 0:
            print(f"{k:6d} sentences  perplexity {perplexity(loss / words):8.2f}  ", end="")
            show(log_p, sentence, corpus)
            loss = words = 0


def train_stream(
    model: SentenceRnn, optimizer: Optimizer, train: list[list[int]], corpus: Corpus, args: argparse.Namespace
) -> None:
    """Read all sentences as one text, and update every ``--update-every`` words; the state is always carried on."""
    text = [word for sentence in train for word in sentence[:-1]]  # <eos> w w w <eos> w w ...
    loss = words = 0
    model.reset_state()
    for k, (word, next_word) in enumerate(pairwise(text), start=1):
        loss, words = loss + model.read(word, next_word), words + 1
        if k % args.update_every == 0:
            learn(model, optimizer, args.max_grad)
        if k % (20 * args.show_every) == 0:
            print(f"{k:6d} words  perplexity {perplexity(float(loss) / words):8.2f}")
            loss = words = 0


def show(log_p: float, sentence: Sequence[int], corpus: Corpus) -> None:
    print(f"log P {log_p:8.2f}: {corpus.separator.join(corpus.id_to_word[i] for i in sentence[1:])}")


def main(argv: list[str] | None = None) -> float:
    """Train, print probabilities of sentences, and return the perplexity of those that were not trained on."""
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("--corpus", default="sotu", help="sotu, ptb, wikitext2, or the path of a UTF-8 text file")
    parser.add_argument("--vocab-size", type=positive_int, default=2000, help="words to keep, for sotu and files")
    parser.add_argument("--sentences", type=positive_int, default=3000, help="sentences to train on")
    parser.add_argument(
        "--form", choices=("sentence", "stream"), default="sentence", help="what to learn from at a time"
    )
    parser.add_argument("--update-every", type=positive_int, default=30, help="words between two updates of a stream")
    parser.add_argument("--wordvec-size", type=positive_int, default=64, help="size of a word's vector, D")
    parser.add_argument("--hidden-size", type=positive_int, default=64, help="size of the RNN's state, H")
    parser.add_argument("--epochs", type=positive_int, default=1, help="times through the sentences")
    parser.add_argument("--lr", type=positive_float, default=0.05, help="learning rate of SGD")
    parser.add_argument(
        "--max-grad", type=positive_float, default=10.0, help="maximum gradient norm, of the summed loss"
    )
    parser.add_argument("--show-every", type=positive_int, default=250, help="sentences between two lines of output")
    parser.add_argument("--text", type=utf8_text, action="append", default=[], help="a sentence to weigh in the end")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="seed of the initial weights")
    parser.add_argument("--gpu", action="store_true", help="train on an NVIDIA GPU with CuPy: slow, as steps are tiny")
    parser.add_argument("--quick", action="store_true", help="few sentences, to see it run")
    args = parser.parse_args(argv)
    if args.quick:
        parser.set_defaults(sentences=100, vocab_size=500, show_every=25)
        args = parser.parse_args(argv)

    with parser.reporting_errors():
        if args.gpu:
            require_gpu()
        corpus = dataset.load(args.corpus, args.vocab_size)
        train = list(sentences(corpus.train, corpus))[: args.sentences]
        valid = list(sentences(corpus.valid, corpus))[: max(1, args.sentences // 10)]
        V = len(corpus.id_to_word)
        model = SentenceRnn(V, args.wordvec_size, args.hidden_size, np.random.default_rng(args.seed))
        texts = [text_ids(text, args.corpus, corpus) for text in args.text]
    if args.gpu:
        model.to_gpu()
    print(f"{len(train):,} sentences, {sum(len(s) - 1 for s in train):,} words, vocabulary {V:,}")

    optimizer = SGD(args.lr)
    for _ in range(args.epochs):
        (train_sentences if args.form == "sentence" else train_stream)(model, optimizer, train, corpus, args)
    log_p = [log_probability(model, sentence) for sentence in valid]
    found = perplexity(-sum(log_p) / sum(len(sentence) - 1 for sentence in valid))
    print(f"valid perplexity {found:.2f}")
    for sentence in [*valid[:3], *texts]:
        show(log_probability(model, sentence), sentence, corpus)
    return found


def text_ids(text: str, name: str, corpus: Corpus) -> list[int]:
    """The ids of a sentence that the user has typed, between ``<eos>`` and ``<eos>``."""
    words, eos, unk = dataset.splitter(name)(text), corpus.word_to_id[EOS], corpus.word_to_id.get(UNK)
    ids = [corpus.word_to_id.get(word, unk) for word in words]
    if None in ids:
        raise ValueError(f"not in the vocabulary: {words[ids.index(None)]}")
    return [eos, *ids, eos]


if __name__ == "__main__":
    run(main)
