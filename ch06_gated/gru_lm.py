"""A language model with a gated recurrent unit in place of the simple RNN."""

from __future__ import annotations

from math import sqrt

from common.layers import Layer
from common.recurrent_lm import InitialWeights, RecurrentLm
from common.time_layers import TimeAffine, TimeEmbedding, TimeGRU


class GruLm(RecurrentLm):
    """TimeEmbedding → TimeGRU → TimeAffine, with the mean cross entropy of the next word as its loss.

        x_t = embed_W[w_t]                                  (N, D)
        h_t = GRU(x_t, h_{t-1}; gru_Wx, gru_Wh, gru_b)      (N, H); see common.layers.GRU
        y_t = h_t affine_W + affine_b                       (N, V)

    Parameters
    ----------
    vocab_size, wordvec_size, hidden_size : int
        V, D and H.
    reset_after : bool
        The form of PyTorch and cuDNN; see GRU.
    **options
        More layers, dropout, tied weights and others: see RecurrentLm.

    References
    ----------
    Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
    2014; *Deep Learning from Scratch 2*, appendix C.
    """

    def __init__(
        self, vocab_size: int, wordvec_size: int, hidden_size: int, *, reset_after: bool = False, **options
    ) -> None:
        self.reset_after = reset_after
        super().__init__(vocab_size, wordvec_size, hidden_size, **options)

    def make_layers(self, V: int, D: int, H: int, init: InitialWeights) -> list[Layer]:
        """Make the layers, and the weights that they start from; the columns are those of z, r, h̃."""
        embed_W = init.normal("embed_W", (V, D), std=0.01)
        gru_Wx = init.normal("gru_Wx", (D, 3 * H), std=1 / sqrt(D))
        gru_Wh = init.normal("gru_Wh", (H, 3 * H), std=1 / sqrt(H))
        gru_b = init.zeros("gru_b", 4 * H if self.reset_after else 3 * H)
        affine_W = init.normal("affine_W", (H, V), std=1 / sqrt(H))
        affine_b = init.zeros("affine_b", V)

        return [
            TimeEmbedding(embed_W),
            TimeGRU(gru_Wx, gru_Wh, gru_b, stateful=True, reset_after=self.reset_after),
            TimeAffine(affine_W, affine_b),
        ]
