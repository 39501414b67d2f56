"""RecurrentLm: the options of all recurrent language models; and InitialWeights, from which models start."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

import numpy as np

from common.checks import check_sizes
from common.layers import Layer
from common.model import LanguageModel
from common.parameter import Parameter
from common.time_layers import TimeAffine, TimeDropout, TimeEmbeddingDropout, TimeRecurrent, WeightDrop


class RecurrentLm(LanguageModel):
    """A recurrent language model: its subclass writes out the plain one, and options make a larger one of it.

        words   (N, T)      w_0   w_1   w_2
                             |     |     |
        TimeEmbedding       x_0   x_1   x_2        (N, T, D)
                             |     |     |
        recurrent     h →   h_0 → h_1 → h_2 → h    (N, T, H), carried from window to window; stacked
                             |     |     |
        TimeAffine          y_0   y_1   y_2        (N, T, V): scores of the words that follow w_0, w_1, w_2

    Parameters
    ----------
    vocab_size, wordvec_size, hidden_size : int
        V, D and H.
    dropout : float
        Probability that an element is dropped in training, of x and of the output of each recurrent layer.
    locked_dropout : bool
        Drop the same elements at all steps of a window; see TimeDropout.
    weight_drop : float
        Probability that an element of a recurrent matrix Wh is dropped for a window; see WeightDrop.
    word_dropout : float
        Probability that all places of a word in a window are dropped; see TimeEmbeddingDropout.
    tie_weights : bool
        Use the embedding, transposed, as the weights of the output layer; needs D = H.
    init_range : float, optional
        Draw all weights uniformly from ±init_range, instead of normally, each with its own standard deviation.
    rng : numpy.random.Generator, optional
        Source of the initial weights and of the dropout masks.
    dtype : floating-point type
        float32 to train, float64 to check gradients.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive whole number, or an option is out of its range.

    References
    ----------
    Mikolov et al., "Recurrent neural network based language model", 2010; for dropout between the layers, Zaremba
    et al., "Recurrent neural network regularization", 2014; for tying, Press and Wolf, "Using the output embedding
    to improve language models", 2017.
    """

    def __init__(
        self,
        vocab_size: int,
        wordvec_size: int,
        hidden_size: int,
        *,
        layers: int = 1,
        dropout: float = 0.0,
        locked_dropout: bool = False,
        weight_drop: float = 0.0,
        word_dropout: float = 0.0,
        tie_weights: bool = False,
        init_range: float | None = None,
        rng: np.random.Generator | None = None,
        dtype: type = np.float32,
    ) -> None:
        V, D, H = vocab_size, wordvec_size, hidden_size
        check_sizes(vocab_size=V, wordvec_size=D, hidden_size=H, layers=layers)
        if tie_weights and D != H:
            raise ValueError(f"tied weights need wordvec_size = hidden_size, got {D} and {H}")
        if init_range is not None and not 0 < init_range <= 100:
            raise ValueError(f"init_range must be more than 0 and at most 100, got {init_range}")
        rng = rng or np.random.default_rng()
        init = InitialWeights(dtype)
        embedding, *recurrent, affine = self.make_layers(V, D, H, init)

        # A higher layer is that of the same model whose words are vectors of H numbers.
        recurrent += [self.make_layers(1, H, H, init)[1] for _ in range(layers - 1)]
        if layers > 1:
            recurrent = [add_suffix(layer, k) for k, layer in enumerate(recurrent, start=1)]
        if tie_weights:
            init.std[embedding.W] = 1 / sqrt(D)  # as output weights, 0.01 would be too small to start from
            affine = TimeAffine(embedding.W.T, init.zeros("affine_b", V))
        if weight_drop:
            recurrent = [WeightDrop(layer, weight_drop, rng) for layer in recurrent]
        if word_dropout:
            embedding = TimeEmbeddingDropout(embedding.W, word_dropout, rng)
        stack = [embedding, *recurrent]
        if dropout > 0:
            stack = [part for layer in stack for part in (layer, TimeDropout(dropout, rng, locked_dropout))]
        elif not word_dropout:
            embedding.distinct = isinstance(recurrent[0], (TimeRecurrent, WeightDrop))  # can take each word's row once

        super().__init__([*stack, affine])
        init.draw(self.parameters, rng, init_range)
        self.flatten_parameters()

    def make_layers(self, V: int, D: int, H: int, init: InitialWeights) -> list[Layer]:
        """Make the plain model: a TimeEmbedding, a stateful recurrent layer and a TimeAffine, with their weights."""
        raise NotImplementedError


class InitialWeights:
    """The parameters that a model starts from: declared first, drawn when all its layers are made.

    So they can be drawn in the order of the layers, whichever of them the options replace.
    """

    def __init__(self, dtype: type) -> None:
        self.dtype = dtype
        self.std: dict[Parameter, float] = {}  # of those that are not zeros

    def normal(self, name: str, shape: tuple[int, ...], std: float) -> Parameter:
        """Normally distributed around 0, with standard deviation ``std``."""
        p = self.zeros(name, shape)
        self.std[p] = std
        return p

    def zeros(self, name: str, shape: int | tuple[int, ...]) -> Parameter:
        """Zeros, or other constants that are written into ``data``."""
        return Parameter(np.zeros(shape, self.dtype), name)

    def draw(self, parameters: Iterable[Parameter], rng: np.random.Generator, init_range: float | None = None) -> None:
        """Draw those of the parameters that are not constants; uniformly from ±init_range, if it is given."""
        for p in parameters:
            if p not in self.std:
                continue
            if init_range is None:
                p.data = self.std[p] * rng.standard_normal(p.data.shape)
            else:
                p.data = rng.uniform(-init_range, init_range, p.data.shape)


def add_suffix(layer: Layer, suffix: object) -> Layer:
    """Rename the parameters of a layer: with the suffix 2, lstm_Wx becomes lstm2_Wx."""
    for p in layer.parameters:
        p.name = p.name.replace("_", f"{suffix}_", 1)
    return layer
