"""A language model with a long short-term memory in place of the simple RNN."""

from __future__ import annotations

from math import sqrt

from common.layers import Layer
from common.recurrent_lm import InitialWeights, RecurrentLm
from common.time_layers import TimeAffine, TimeEmbedding, TimeLSTM, TimePeepholeLSTM


class LstmLm(RecurrentLm):
    """TimeEmbedding → TimeLSTM → TimeAffine, with the mean cross entropy of the next word as its loss.

        x_t      = embed_W[w_t]                                              (N, D)
        h_t, c_t = LSTM(x_t, h_{t-1}, c_{t-1}; lstm_Wx, lstm_Wh, lstm_b)     (N, H) each; see common.layers.LSTM
        y_t      = h_t affine_W + affine_b                                   (N, V)

    Parameters
    ----------
    vocab_size, wordvec_size, hidden_size : int
        V, D and H.
    forget_bias : float
        What the bias of the forget gate starts from. With 1 or 2, a cell state that has learnt nothing yet keeps most
        of what it holds from step to step, and gradients reach further back.
    peepholes : bool
        Let the gates see the cell state.
    **options
        More layers, dropout, tied weights and others: see RecurrentLm.

    References
    ----------
    Sundermeyer et al., "LSTM neural networks for language modeling", 2012; *Deep Learning from Scratch 2*,
    chapter 6; for the forget bias, Jozefowicz et al., "An empirical exploration of recurrent network
    architectures", 2015.
    """

    def __init__(
        self,
        vocab_size: int,
        wordvec_size: int,
        hidden_size: int,
        *,
        forget_bias: float = 0.0,
        peepholes: bool = False,
        **options,
    ) -> None:
        self.forget_bias, self.peepholes = forget_bias, peepholes
        super().__init__(vocab_size, wordvec_size, hidden_size, **options)

    def make_layers(self, V: int, D: int, H: int, init: InitialWeights) -> list[Layer]:
        """Make the layers, and the weights that they start from; the columns are those of f, g, i, o."""
        embed_W = init.normal("embed_W", (V, D), std=0.01)
        lstm_Wx = init.normal("lstm_Wx", (D, 4 * H), std=1 / sqrt(D))
        lstm_Wh = init.normal("lstm_Wh", (H, 4 * H), std=1 / sqrt(H))
        lstm_b = init.zeros("lstm_b", 4 * H)
        lstm_b.data[:H] = self.forget_bias
        lstm_p = init.zeros("lstm_p", 3 * H) if self.peepholes else None
        affine_W = init.normal("affine_W", (H, V), std=1 / sqrt(H))
        affine_b = init.zeros("affine_b", V)

        if lstm_p is None:
            lstm = TimeLSTM(lstm_Wx, lstm_Wh, lstm_b, stateful=True)
        else:
            lstm = TimePeepholeLSTM(lstm_Wx, lstm_Wh, lstm_b, lstm_p, stateful=True)
        return [TimeEmbedding(embed_W), lstm, TimeAffine(affine_W, affine_b)]
