"""A classifier of texts with a long short-term memory."""

from __future__ import annotations

from math import sqrt

from common.classifier import RecurrentClassifier
from common.recurrent_lm import InitialWeights
from common.time_layers import TimeLSTM


class LstmClassifier(RecurrentClassifier):
    """TimeEmbedding → TimeLSTM → TimeLast → Affine, with more layers and both directions as options.

    The bias of the forget gate starts from 1 (Jozefowicz et al., "An empirical exploration of recurrent network
    architectures", 2015): with 0, a cell state that has learnt nothing yet loses half of what it holds at each step,
    and nothing of the first of forty words is left at the last. For the parameters, see RecurrentClassifier.
    """

    def recurrent_layer(self, D: int, H: int, init: InitialWeights) -> TimeLSTM:
        """Make a recurrent layer, and the weights that it starts from."""
        lstm_Wx = init.normal("lstm_Wx", (D, 4 * H), std=1 / sqrt(D))
        lstm_Wh = init.normal("lstm_Wh", (H, 4 * H), std=1 / sqrt(H))
        lstm_b = init.zeros("lstm_b", 4 * H)
        lstm_b.data[:H] = 1  # gates f, g, i, o
        return TimeLSTM(lstm_Wx, lstm_Wh, lstm_b)
