"""A language model with a gated recurrent unit in place of the simple RNN."""

from __future__ import annotations

from common.initial_weights import InitialWeights
from common.recurrent_lm import RecurrentLm
from common.time_layers import TimeGRU


class GruLm(RecurrentLm):
    """TimeEmbedding → TimeGRU → TimeAffine, with more layers, dropout and tied weights as options.

    Parameters
    ----------
    vocab_size, wordvec_size, hidden_size : int
    reset_after : bool
        The form of PyTorch and cuDNN; see GRU.
    **options
        Those of RecurrentLm.

    References
    ----------
    Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
    2014; *Deep Learning from Scratch 2*, appendix C.
    """

    cell = "gru"

    def __init__(
        self, vocab_size: int, wordvec_size: int, hidden_size: int, *, reset_after: bool = False, **options
    ) -> None:
        self.reset_after = reset_after
        super().__init__(vocab_size, wordvec_size, hidden_size, **options)

    def recurrent_layer(self, weights: InitialWeights, name: str, D: int, H: int) -> TimeGRU:
        Wx, Wh = weights.recurrent(name, D, H, gates=3)
        b = weights.constant(f"{name}_b", ((4 if self.reset_after else 3) * H, 0))
        return TimeGRU(Wx, Wh, b, stateful=True, reset_after=self.reset_after)
