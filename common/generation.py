"""Text from a trained model, word by word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from common.backend import to_cpu
from common.functions import softmax
from common.model import LanguageModel


def generate(
    model: LanguageModel,
    prompt: Sequence[int],
    length: int,
    rng: np.random.Generator,
    temperature: float = 1.0,
    skip_ids: Sequence[int] = (),
    stop_id: int | None = None,
) -> Iterator[int]:
    """Yield word ids, each drawn from the model's distribution given all words before it.

    Parameters
    ----------
    model : LanguageModel
        Read in evaluation mode with a state of its own, until the iterator ends or is closed.
    prompt : sequence of int
        At least one id. All of it is read before the first word is drawn; it is not yielded.
    length : int
        Words to draw, at most.
    rng : numpy.random.Generator
    temperature : float
        p ∝ exp(logit / temperature): below 1 prefers likely words, above 1 is more daring.
    skip_ids : sequence of int
        Ids that are never drawn, such as that of ``<unk>``.
    stop_id : int, optional
        Ends the text when it is drawn; not yielded.
    """
    if len(prompt) == 0:
        raise ValueError("the prompt needs at least one word")
    if temperature <= 0:
        raise ValueError(f"the temperature must be positive, got {temperature}")
    with model.evaluating():
        (words,) = model.asarrays(np.array([prompt]))
        for _ in range(length):
            logits = to_cpu(model.predict(words)[0, -1]).astype(np.float64)
            logits[list(skip_ids)] = -np.inf
            word = int(rng.choice(len(logits), p=softmax(logits / temperature)))
            if word == stop_id:
                return
            yield word
            (words,) = model.asarrays(np.array([[word]]))
