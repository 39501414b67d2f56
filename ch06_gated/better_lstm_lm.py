"""The better LSTM language model: two layers, dropout on each side of them, and tied weights."""

from __future__ import annotations

from ch06_gated.lstm_lm import LstmLm


class BetterLstmLm(LstmLm):
    """TimeEmbedding → TimeDropout → (TimeLSTM → TimeDropout) twice → TimeAffine, which is the embedding transposed.

    Three steps from LstmLm: two layers, which can compute more than one; dropout, against overfitting; and one matrix
    in place of two, affine_W = embed_W^T, as the vector of a word and the weights of its score mean much the same.

    Parameters
    ----------
    vocab_size, wordvec_size, hidden_size : int
        With tied weights, the last two are equal.
    layers, dropout, tie_weights
        As in RecurrentLm, with other defaults.
    **options
        Those of LstmLm and RecurrentLm.

    References
    ----------
    Zaremba et al., "Recurrent neural network regularization", 2014; Press and Wolf, "Using the output embedding to
    improve language models", 2017; *Deep Learning from Scratch 2*, section 6.5.
    """

    def __init__(
        self,
        vocab_size: int,
        wordvec_size: int = 650,
        hidden_size: int = 650,
        *,
        layers: int = 2,
        dropout: float = 0.5,
        tie_weights: bool = True,
        **options,
    ) -> None:
        super().__init__(
            vocab_size, wordvec_size, hidden_size, layers=layers, dropout=dropout, tie_weights=tie_weights, **options
        )
