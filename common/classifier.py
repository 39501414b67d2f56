"""RecurrentClassifier: words to vectors, layers of a recurrent cell, all steps to one vector, and that to a class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from common.backend import Array, get_array_module, to_cpu
from common.batching import make_batches
from common.checks import check_sizes
from common.functions import softmax
from common.initial_weights import InitialWeights
from common.layers import Affine, SoftmaxWithLoss
from common.model import Model
from common.packing import PackedSequence, pack, pad
from common.time_layers import TimeBidirectional, TimeDropout, TimeEmbedding, TimeLast, TimeMean, TimeRecurrent

POOLS = ("last", "mean")


class RecurrentClassifier(Model):
    """TimeEmbedding → recurrent layers → TimeLast or TimeMean → Affine, with the mean cross entropy of the class.

        words               w_0   w_1   w_2        of texts of many lengths: a PackedSequence, see common.packing
                             |     |     |
        TimeEmbedding       x_0   x_1   x_2        (N, T, D)
                             |     |     |
        recurrent           h_0 → h_1 → h_2        (N, T, H), each text from zeros; layer on layer
                                         |
        TimeLast                         h_2       (N, H): the last real state; or TimeMean, the mean of the real ones
                                         |
        Affine                           y         (N, C): a score for each class

    ``predict`` maps the words of N texts to scores, (N, C); ``forward`` maps words, and classes (N,), to the loss in
    nats a text. Texts stay in the order in which they were packed.

    A subclass says of what kind the recurrent layers are: ``cell``, a prefix for the names of their parameters, and
    ``recurrent_layer(weights, name, D, H)``, which makes one.

    Parameters
    ----------
    vocab_size, wordvec_size, hidden_size, classes : int
        V, D, H and C.
    layers : int
        Recurrent layers, one on the other.
    bidirectional : bool
        Let each be two, one of which reads from the last word to the first; the next layer gets 2H numbers a step.
    pool : {"last", "mean"}
        What a text becomes: the last real state of the last layer (with ``bidirectional``, of both directions the
        state in which it has read the whole text), or the mean of the states at all real steps.
    dropout : float
        Probability that an element is dropped in training, of x and of the output of each recurrent layer.
    fixed_embedding : bool
        Leave the word vectors as they are; ``model.embedding`` has them, (V, D), to put others there.
    rng : numpy.random.Generator, optional
        Source of the initial weights and of the dropout masks.
    dtype : floating-point type
        float32 to train, float64 to check gradients.

    Raises
    ------
    ValueError
        If a size is not positive, or the pool is unknown.
    """

    cell: str

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
        weights = InitialWeights(rng, dtype)
        self.fixed_embedding = fixed_embedding

        def dropped(layer: TimeEmbedding | TimeRecurrent | TimeBidirectional) -> list:
            return [layer, TimeDropout(dropout, rng)] if dropout > 0 else [layer]

        embed_W = weights.normal("embed_W", V, D, scale=0.1)
        stack = dropped(TimeEmbedding(embed_W, distinct=dropout == 0 and not bidirectional))
        width = D
        for k in range(layers):
            name = self.cell if layers == 1 else f"{self.cell}{k + 1}"
            if bidirectional:
                ahead = self.recurrent_layer(weights, f"{name}_ahead", width, H)
                stack += dropped(TimeBidirectional(ahead, self.recurrent_layer(weights, f"{name}_back", width, H)))
                width = 2 * H
            else:
                stack += dropped(self.recurrent_layer(weights, name, width, H))
                width = H
        affine_W = weights.normal("affine_W", width, C, scale=1 / math.sqrt(width))
        output = Affine(affine_W, weights.constant("affine_b", (C, 0)))
        super().__init__([*stack, TimeMean() if pool == "mean" else TimeLast(bidirectional), output], SoftmaxWithLoss())
        self.flatten_parameters()

    def recurrent_layer(self, weights: InitialWeights, name: str, D: int, H: int) -> TimeRecurrent:
        """Make a recurrent layer from D to H, not stateful, with parameters whose names begin with ``name``."""
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
        """Bring the word ids of texts, (T_n,) each, together where the model is: packed or, if told so, padded."""
        return (pad if padded else pack)(texts, xp=get_array_module(self.embedding))

    def probabilities(self, texts: Sequence[np.ndarray], batch_size: int = 100) -> np.ndarray:
        """Return the probability of each class for each text, (n, C), without dropout.

        Texts of nearly the same length are read side by side, which is fast. What a text gets does not depend on the
        others.
        """
        lengths = np.array([len(text) for text in texts])
        found = np.empty((len(texts), len(self.layers[-1].b.data)))
        with self.evaluating():
            for batch in make_batches(lengths, batch_size, bucketed=True):
                found[batch] = softmax(to_cpu(self.predict(self.batch([texts[n] for n in batch]))))
        return found
