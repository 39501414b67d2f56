"""A language model with a long short-term memory in place of the simple RNN."""

from __future__ import annotations

from common.initial_weights import InitialWeights
from common.recurrent_lm import RecurrentLm
from common.time_layers import TimeLSTM, TimePeepholeLSTM


class LstmLm(RecurrentLm):
    """TimeEmbedding → TimeLSTM → TimeAffine, with more layers, dropout and tied weights as options.

    Parameters
    ----------
    vocab_size, wordvec_size, hidden_size : int
    forget_bias : float
        What the bias of the forget gate starts from. With 1 or 2, a cell state that has learnt nothing yet keeps most
        of what it holds from step to step, and gradients reach further back.
    peepholes : bool
        Let the gates see the cell state.
    **options
        Those of RecurrentLm.

    References
    ----------
    Sundermeyer et al., "LSTM neural networks for language modeling", 2012; *Deep Learning from Scratch 2*,
    chapter 6; for the forget bias, Jozefowicz et al., "An empirical exploration of recurrent network
    architectures", 2015.
    """

    cell = "lstm"

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

    def recurrent_layer(self, weights: InitialWeights, name: str, D: int, H: int) -> TimeLSTM:
        Wx, Wh = weights.recurrent(name, D, H, gates=4)
        b = weights.constant(f"{name}_b", (H, self.forget_bias), (3 * H, 0))  # f; g, i, o
        if self.peepholes:
            return TimePeepholeLSTM(Wx, Wh, b, weights.constant(f"{name}_p", (3 * H, 0)), stateful=True)
        return TimeLSTM(Wx, Wh, b, stateful=True)
