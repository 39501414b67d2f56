"""RecurrentLm: words to vectors, layers of a recurrent cell, vectors to words."""

from __future__ import annotations

import math

import numpy as np

from common.checks import check_sizes
from common.initial_weights import InitialWeights
from common.model import LanguageModel
from common.time_layers import TimeAffine, TimeDropout, TimeEmbedding, TimeRecurrent


class RecurrentLm(LanguageModel):
    """TimeEmbedding → recurrent layers → TimeAffine, with the mean cross entropy of the next word as its loss.

        words   (N, T)      w_0   w_1   w_2
                             |     |     |
        TimeEmbedding       x_0   x_1   x_2        (N, T, D)
                             |     |     |
        recurrent     h →   h_0 → h_1 → h_2 → h    (N, T, H), carried from window to window; layer on layer
                             |     |     |
        TimeAffine          y_0   y_1   y_2        (N, T, V): scores of the words that follow w_0, w_1, w_2

    A subclass says of what kind the recurrent layers are: ``cell``, a prefix for the names of their
    parameters, and ``recurrent_layer(weights, name, D, H)``, which makes one.

    Parameters
    ----------
    vocab_size, wordvec_size, hidden_size : int
        V, D and H.
    layers : int
        Recurrent layers, one on the other.
    dropout : float
        Probability that an element is dropped in training, of x and of the output of each recurrent layer.
    locked_dropout : bool
        Drop the same elements at all steps of a window; see TimeDropout.
    tie_weights : bool
        Use the embedding, transposed, as the weights of the output layer; needs D = H.
    init_range : float, optional
        Draw all weights uniformly from ±init_range; otherwise each layer starts at a scale of its own.
    rng : numpy.random.Generator, optional
        Source of the initial weights and of the dropout masks.
    dtype : floating-point type
        float32 to train, float64 to check gradients.

    References
    ----------
    Mikolov et al., "Recurrent neural network based language model", 2010; for dropout between the layers, Zaremba
    et al., "Recurrent neural network regularization", 2014; for tying, Press and Wolf, "Using the output embedding
    to improve language models", 2017.
    """

    cell: str

    def __init__(
        self,
        vocab_size: int,
        wordvec_size: int,
        hidden_size: int,
        *,
        layers: int = 1,
        dropout: float = 0.0,
        locked_dropout: bool = False,
        tie_weights: bool = False,
        init_range: float | None = None,
        rng: np.random.Generator | None = None,
        dtype: type = np.float32,
    ) -> None:
        V, D, H = vocab_size, wordvec_size, hidden_size
        check_sizes(vocab_size=V, wordvec_size=D, hidden_size=H, layers=layers)
        if tie_weights and D != H:
            raise ValueError(f"tied weights need wordvec_size = hidden_size, got {D} and {H}")
        if init_range is not None and not 0 < init_range <= 100:
            raise ValueError(f"init_range must be more than 0 and at most 100, got {init_range}")
        rng = rng or np.random.default_rng()
        weights = InitialWeights(rng, dtype, init_range)

        def dropped(layer: TimeEmbedding | TimeRecurrent) -> list:
            return [layer, TimeDropout(dropout, rng, locked_dropout)] if dropout > 0 else [layer]

        # As output weights, 0.01 would be too small to start from.
        embed_W = weights.normal("embed_W", V, D, scale=1 / math.sqrt(D) if tie_weights else 0.01)
        stack = dropped(TimeEmbedding(embed_W, distinct=dropout == 0))
        for k in range(layers):
            name = self.cell if layers == 1 else f"{self.cell}{k + 1}"
            stack += dropped(self.recurrent_layer(weights, name, H if k else D, H))
        affine_W = embed_W.T if tie_weights else weights.normal("affine_W", H, V, scale=1 / math.sqrt(H))
        super().__init__([*stack, TimeAffine(affine_W, weights.constant("affine_b", (V, 0)))])
        self.flatten_parameters()

    def recurrent_layer(self, weights: InitialWeights, name: str, D: int, H: int) -> TimeRecurrent:
        """Make a stateful recurrent layer from D to H, with parameters whose names begin with ``name``."""
        raise NotImplementedError
