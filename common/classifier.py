"""RecurrentClassifier: words to vectors, layers of a recurrent cell, all steps to one vector, and that to a class."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from common.backend import Array, get_array_module, to_cpu
from common.batching import make_batches
from common.checks import check_sizes
from common.functions import softmax
from common.layers import Affine, SoftmaxWithLoss
from common.model import Model
from common.packing import PackedSequence, pack, pad
from common.recurrent_lm import InitialWeights, add_suffix
from common.time_layers import TimeBidirectional, TimeDropout, TimeEmbedding, TimeLast, TimeMean, TimeRecurrent

POOLS = ("last", "mean")


class RecurrentClassifier(Model):
    """TimeEmbedding → recurrent layers → TimeLast or TimeMean → Affine, with the mean cross entropy of the class.

        words               w_0   w_1   w_2        of texts of many lengths: a PackedSequence, see common.packing
                             |     |     |
        TimeEmbedding       x_0   x_1   x_2        (N, T, D)
                             |     |     |
        recurrent           h_0 → h_1 → h_2        (N, T, H), each text from zeros; stacked
                                         |
        TimeLast                         h_2       (N, H): the last real state; or TimeMean, the mean of the real ones
                                         |
        Affine                           y         (N, C): a score for each class

    ``predict`` maps the words of N texts to scores, (N, C); ``forward`` maps words, and classes (N,), to the loss in
    nats per text: L = -(1 / N) Σ_n log softmax(y_n)[t_n]. Texts stay in the order in which they were packed. A subclass
    makes the recurrent layers.

    Parameters
    ----------
    vocab_size, wordvec_size, hidden_size, classes : int
        V, D, H and C.
    bidirectional : bool
        Let each be two, one of which reads from the last word to the first; the next layer gets 2H numbers per step.
    pool : {"last", "mean"}
        What a text becomes: the last real state of the last layer (with ``bidirectional``, in each direction the
        state in which it has read the whole text), or the mean of the states at all real steps.
    dropout : float
        Probability that an element is dropped in training, of x and of the output of each recurrent layer.
    fixed_embedding : bool
        Do not train the word vectors; ``model.embedding`` has them, (V, D), to put others there.
    rng : numpy.random.Generator, optional
        Source of the initial weights and of the dropout masks.
    dtype : floating-point type
        float32 to train, float64 to check gradients.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive whole number, or the pool is unknown.
    """

    def __init__(
        self,
        vocab_size: int,
        wordvec_size: int,
        hidden_size: int,
        classes: int,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        pool: str = "last",
        dropout: float = 0.0,
        fixed_embedding: bool = False,
        rng: np.random.Generator | None = None,
        dtype: type = np.float32,
    ) -> None:
        V, D, H, C = vocab_size, wordvec_size, hidden_size, classes
        check_sizes(vocab_size=V, wordvec_size=D, hidden_size=H, classes=C, layers=layers)
        if pool not in POOLS:
            raise ValueError(f"pool must be one of {', '.join(POOLS)}, got {pool!r}")
        rng = rng or np.random.default_rng()
        init = InitialWeights(dtype)
        self.fixed_embedding = fixed_embedding

        width = 2 * H if bidirectional else H  # of the output of a recurrent layer
        recurrent = []
        for k in range(layers):
            input_size, number = width if k else D, k + 1 if layers > 1 else ""
            layer = self.recurrent_layer(input_size, H, init)
            if bidirectional:
                backward = self.recurrent_layer(input_size, H, init)
                layer = TimeBidirectional(add_suffix(layer, f"{number}_ahead"), add_suffix(backward, f"{number}_back"))
            else:
                add_suffix(layer, number)
            recurrent.append(layer)

        distinct = dropout == 0 and not bidirectional  # only a recurrent layer takes each word's row once
        stack = [TimeEmbedding(init.normal("embed_W", (V, D), std=0.1), distinct), *recurrent]
        if dropout > 0:
            stack = [part for layer in stack for part in (layer, TimeDropout(dropout, rng))]
        affine_W = init.normal("affine_W", (width, C), std=1 / sqrt(width))
        output = Affine(affine_W, init.zeros("affine_b", C))
        super().__init__([*stack, TimeMean() if pool == "mean" else TimeLast(bidirectional), output], SoftmaxWithLoss())
        init.draw(self.parameters, rng)
        self.flatten_parameters()

    def recurrent_layer(self, D: int, H: int, init: InitialWeights) -> TimeRecurrent:
        """Make a recurrent layer from D to H, not stateful, and the weights that it starts from."""
        raise NotImplementedError

    def backward(self, dout: float = 1.0) -> None:
        """Set all gradients to those of the last loss, times dout; to zero that of a fixed embedding."""
        super().backward(dout)
        if self.fixed_embedding:
            self.layers[0].W.grad[...] = 0

    @property
    def embedding(self) -> Array:
        """The word vectors, (V, D)."""
        return self.layers[0].W.data

    def batch(self, texts: Sequence[np.ndarray], padded: bool = False) -> PackedSequence:
        """Pack or pad the word ids of texts, (T_n,) each, where the model is."""
        return (pad if padded else pack)(texts, xp=get_array_module(self.embedding))

    def probabilities(self, texts: Sequence[np.ndarray], batch_size: int = 100) -> np.ndarray:
        """Return the probability of each class for each text, (n, C), without dropout.

        Texts of nearly the same length share a batch, which is fast. The probabilities of a text do not depend on the
        other texts.
        """
        lengths = np.array([len(text) for text in texts])
        found = np.empty((len(texts), len(self.layers[-1].b.data)))
        with self.evaluating():
            for batch in make_batches(lengths, batch_size, bucketed=True):
                found[batch] = softmax(to_cpu(self.predict(self.batch([texts[n] for n in batch]))))
        return found
