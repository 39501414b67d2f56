"""The simplest recurrent language model: words to vectors, one RNN, vectors to words."""

from __future__ import annotations

from math import sqrt

from common.layers import Layer
from common.recurrent_lm import InitialWeights, RecurrentLm
from common.time_layers import TimeAffine, TimeEmbedding, TimeRNN


class SimpleRnnlm(RecurrentLm):
    """TimeEmbedding → TimeRNN → TimeAffine, with the mean cross entropy of the next word as its loss.

        x_t = embed_W[w_t]                                        (N, D)
        h_t = tanh(x_t rnn_Wx + h_{t-1} rnn_Wh + rnn_b)           (N, H)
        y_t = h_t affine_W + affine_b                             (N, V)
        L   = -(1 / NT) Σ_nt log softmax(y_t)[w_{t+1}]

    ``SimpleRnnlm(vocab_size, wordvec_size, hidden_size)`` is the model below. For more layers, dropout, tied weights
    and other options, see RecurrentLm.

    References
    ----------
    Mikolov et al., "Recurrent neural network based language model", 2010; *Deep Learning from Scratch 2*, chapter 5.
    """

    def make_layers(self, V: int, D: int, H: int, init: InitialWeights) -> list[Layer]:
        """Make the layers, and the weights that they start from."""
        # Words must be heard beside the state: with smaller vectors and a larger Wh, all units can saturate early, and
        # stay so whatever the input.
        embed_W = init.normal("embed_W", (V, D), std=0.1)
        rnn_Wx = init.normal("rnn_Wx", (D, H), std=1 / sqrt(D))
        rnn_Wh = init.normal("rnn_Wh", (H, H), std=0.5 / sqrt(H))
        rnn_b = init.zeros("rnn_b", H)
        affine_W = init.normal("affine_W", (H, V), std=1 / sqrt(H))
        affine_b = init.zeros("affine_b", V)

        return [
            TimeEmbedding(embed_W),
            TimeRNN(rnn_Wx, rnn_Wh, rnn_b, stateful=True),
            TimeAffine(affine_W, affine_b),
        ]
