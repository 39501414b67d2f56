"""A small LSTM for a series of numbers: it hears one, and says the next."""

from __future__ import annotations

import numpy as np

from common.backend import to_cpu
from common.model import Model
from common.recurrent_lm import InitialWeights
from common.time_layers import TimeAffine, TimeLSTM, TimeMeanSquaredError


def make_network(hidden_size: int, init_range: float, rng: np.random.Generator) -> Model:
    """TimeLSTM → TimeAffine, one number in and one out, with mean squared error as the loss."""
    H, init = hidden_size, InitialWeights(np.float32)
    lstm_Wx = init.normal("lstm_Wx", (1, 4 * H), std=1)
    lstm_Wh = init.normal("lstm_Wh", (H, 4 * H), std=1)
    affine_W = init.normal("affine_W", (H, 1), std=1)
    lstm = TimeLSTM(lstm_Wx, lstm_Wh, init.zeros("lstm_b", 4 * H), stateful=True)
    affine = TimeAffine(affine_W, init.zeros("affine_b", 1))
    model = Model([lstm, affine], TimeMeanSquaredError())
    init.draw(model.parameters, rng, init_range)
    return model


def free_run(model: Model, context: np.ndarray, steps: int) -> np.ndarray:
    """Let the network hear numbers, (T, 1), and go on by itself: what it says, (steps, 1)."""
    generated = []
    with model.evaluating():
        (x,) = model.asarrays(context[None])
        for _ in range(steps):
            x = model.predict(x)[:, -1:]
            generated.append(to_cpu(x)[0, 0])
    return np.array(generated)
