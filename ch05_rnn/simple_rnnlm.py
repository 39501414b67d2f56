"""The simplest recurrent language model: words to vectors, one RNN, vectors to words."""

from __future__ import annotations

import math

import numpy as np

from common.model import LanguageModel
from common.parameter import Parameter
from common.time_layers import TimeAffine, TimeDropout, TimeEmbedding, TimeRNN


class SimpleRnnlm(LanguageModel):
    """TimeEmbedding → TimeRNN → TimeAffine, with the mean cross entropy of the next word as its loss.

        words   (N, T)      w_0   w_1   w_2
                             |     |     |
        TimeEmbedding       x_0   x_1   x_2        (N, T, D)
                             |     |     |
        TimeRNN       h →   h_0 → h_1 → h_2 → h    (N, T, H)
                             |     |     |
        TimeAffine          y_0   y_1   y_2        (N, T, V): scores of the words that follow w_0, w_1, w_2

    Parameters
    ----------
    vocab_size, wordvec_size, hidden_size : int
        V, D and H.
    dropout : float
        Probability that an element of x and of h is dropped in training.
    tie_weights : bool
        Use the embedding, transposed, as the weights of the output layer; needs D = H.
    rng : numpy.random.Generator, optional
        Source of the initial weights and of the dropout masks.
    dtype : floating-point type
        float32 to train, float64 to check gradients.

    References
    ----------
    Mikolov et al., "Recurrent neural network based language model", 2010; *Deep Learning from Scratch 2*,
    chapter 5; for tying, Press and Wolf, "Using the output embedding to improve language models", 2017.
    """

    def __init__(
        self,
        vocab_size: int,
        wordvec_size: int,
        hidden_size: int,
        *,
        dropout: float = 0.0,
        tie_weights: bool = False,
        rng: np.random.Generator | None = None,
        dtype: type = np.float32,
    ) -> None:
        V, D, H = vocab_size, wordvec_size, hidden_size
        if min(V, D, H) <= 0:
            raise ValueError(f"sizes must be positive, got vocab_size {V}, wordvec_size {D}, hidden_size {H}")
        if tie_weights and D != H:
            raise ValueError(f"tied weights need wordvec_size = hidden_size, got {D} and {H}")
        rng = rng or np.random.default_rng()

        def normal(name: str, *shape: int, scale: float) -> Parameter:
            return Parameter((scale * rng.standard_normal(shape)).astype(dtype), name)

        def zeros(name: str, *shape: int) -> Parameter:
            return Parameter(np.zeros(shape, dtype), name)

        # As output weights, 0.01 would be too small to start from.
        embed_W = normal("embed_W", V, D, scale=1 / math.sqrt(D) if tie_weights else 0.01)
        rnn_Wx = normal("rnn_Wx", D, H, scale=1 / math.sqrt(D))
        rnn_Wh = normal("rnn_Wh", H, H, scale=1 / math.sqrt(H))
        rnn_b = zeros("rnn_b", H)
        affine_W = embed_W.T if tie_weights else normal("affine_W", H, V, scale=1 / math.sqrt(H))
        affine_b = zeros("affine_b", V)

        layers = [
            TimeEmbedding(embed_W, distinct=dropout == 0),
            TimeRNN(rnn_Wx, rnn_Wh, rnn_b, stateful=True),
            TimeAffine(affine_W, affine_b),
        ]
        if dropout > 0:
            layers.insert(1, TimeDropout(dropout, rng))
            layers.insert(3, TimeDropout(dropout, rng))
        super().__init__(layers)
