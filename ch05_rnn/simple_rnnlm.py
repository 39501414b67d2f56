"""The simplest recurrent language model: words to vectors, one RNN, vectors to words."""

from __future__ import annotations

from common.initial_weights import InitialWeights
from common.recurrent_lm import RecurrentLm
from common.time_layers import TimeRNN


class SimpleRnnlm(RecurrentLm):
    """TimeEmbedding → TimeRNN → TimeAffine.

    Parameters: see RecurrentLm; ``SimpleRnnlm(vocab_size, wordvec_size, hidden_size)`` will do.

    References
    ----------
    Mikolov et al., "Recurrent neural network based language model", 2010; *Deep Learning from Scratch 2*, chapter 5.
    """

    cell = "rnn"

    def recurrent_layer(self, weights: InitialWeights, name: str, D: int, H: int) -> TimeRNN:
        Wx, Wh = weights.recurrent(name, D, H, gates=1)
        return TimeRNN(Wx, Wh, weights.constant(f"{name}_b", (H, 0)), stateful=True)
