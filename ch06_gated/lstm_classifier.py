"""A classifier of texts with a long short-term memory."""

from __future__ import annotations

from common.classifier import RecurrentClassifier
from common.initial_weights import InitialWeights
from common.time_layers import TimeLSTM


class LstmClassifier(RecurrentClassifier):
    """TimeEmbedding → TimeLSTM → TimeLast → Affine, with more layers and both directions as options.

    The forget gate starts with a bias of 1 (Jozefowicz et al., "An empirical exploration of recurrent network
    architectures", 2015): with 0, a memory that has learnt nothing yet loses half of what it holds at each step, and
    of the first of forty words there is nothing left at the last. Parameters: see RecurrentClassifier.
    """

    cell = "lstm"

    def recurrent_layer(self, weights: InitialWeights, name: str, D: int, H: int) -> TimeLSTM:
        Wx, Wh = weights.recurrent(name, D, H, gates=4)
        return TimeLSTM(Wx, Wh, weights.constant(f"{name}_b", (H, 1), (3 * H, 0)))  # f; g, i, o
