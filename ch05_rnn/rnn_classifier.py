"""A classifier of texts with a simple RNN."""

from __future__ import annotations

from common.classifier import RecurrentClassifier
from common.initial_weights import InitialWeights
from common.time_layers import TimeRNN


class RnnClassifier(RecurrentClassifier):
    """TimeEmbedding → TimeRNN → TimeMean → Affine.

    A simple RNN has forgotten the first words of a text when it reads the last, so the mean over all steps is what
    it is asked for if nothing else is said. Parameters: see RecurrentClassifier.
    """

    cell = "rnn"

    def __init__(
        self, vocab_size: int, wordvec_size: int, hidden_size: int, classes: int, *, pool: str = "mean", **options
    ) -> None:
        super().__init__(vocab_size, wordvec_size, hidden_size, classes, pool=pool, **options)

    def recurrent_layer(self, weights: InitialWeights, name: str, D: int, H: int) -> TimeRNN:
        Wx, Wh = weights.recurrent(name, D, H, gates=1)
        return TimeRNN(Wx, Wh, weights.constant(f"{name}_b", (H, 0)))
