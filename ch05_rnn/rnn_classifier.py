"""A classifier of texts with a simple RNN."""

from __future__ import annotations

from math import sqrt

from common.classifier import RecurrentClassifier
from common.recurrent_lm import InitialWeights
from common.time_layers import TimeRNN


class RnnClassifier(RecurrentClassifier):
    """TimeEmbedding → TimeRNN → TimeMean → Affine.

    By the last word of a text, a simple RNN has forgotten the first ones, so the mean over all steps is the default.
    For the parameters, see RecurrentClassifier.
    """

    def __init__(
        self, vocab_size: int, wordvec_size: int, hidden_size: int, classes: int, *, pool: str = "mean", **options
    ) -> None:
        super().__init__(vocab_size, wordvec_size, hidden_size, classes, pool=pool, **options)

    def recurrent_layer(self, D: int, H: int, init: InitialWeights) -> TimeRNN:
        """Make a recurrent layer, and the weights that it starts from."""
        rnn_Wx = init.normal("rnn_Wx", (D, H), std=1 / sqrt(D))
        rnn_Wh = init.normal("rnn_Wh", (H, H), std=1 / sqrt(H))
        rnn_b = init.zeros("rnn_b", H)
        return TimeRNN(rnn_Wx, rnn_Wh, rnn_b)
