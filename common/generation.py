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
    top_k: int | None = None,
    top_p: float | None = None,
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
    top_k, top_p : int and float, optional
        See ``next_word_distribution``.
    """
    if len(prompt) == 0:
        raise ValueError("the prompt needs at least one word")
    with model.evaluating():
        (words,) = model.asarrays(np.array([prompt]))
        for _ in range(length):
            logits = to_cpu(model.predict(words)[0, -1]).astype(np.float64)
            logits[list(skip_ids)] = -np.inf
            word = int(rng.choice(len(logits), p=next_word_distribution(logits, temperature, top_k, top_p)))
            if word == stop_id:
                return
            yield word
            (words,) = model.asarrays(np.array([[word]]))


def next_word_distribution(
    logits: np.ndarray, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray:
    """Return the probabilities from which the next word is drawn.

    Parameters
    ----------
    logits : (V,) array
    temperature : float
        p ∝ exp(logit / temperature).
    top_k : int, optional
        Draw from the k likeliest words only.
    top_p : float in (0, 1], optional
        Draw from the likeliest words only, as few as together have at least this probability (nucleus sampling).
        With ``top_k``, of those that it leaves.

    Returns
    -------
    (V,) array that sums to 1

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    Fan, Lewis and Dauphin, "Hierarchical neural story generation", 2018 (top-k); Holtzman et al., "The curious case
    of neural text degeneration", 2020 (top-p).
    """
    if temperature <= 0:
        raise ValueError(f"the temperature must be positive, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {top_p}")
    with np.errstate(over="ignore"):  # at a very low temperature all but the likeliest become -infinity
        p = softmax((logits - logits.max()) / temperature)
    likeliest_first = np.argsort(-p, kind="stable")
    if top_k is not None:
        p[likeliest_first[top_k:]] = 0
        p /= p.sum()
    if top_p is not None:
        before = np.cumsum(p[likeliest_first]) - p[likeliest_first]  # what all likelier words have together
        p[likeliest_first[before >= top_p]] = 0
    return p / p.sum()
