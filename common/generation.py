"""Text from a trained language model, word by word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from common.backend import to_cpu
from common.checks import as_ids, check_range, check_whole
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
    """Yield word ids w_t, each drawn from P(w_t | w_1, ..., w_{t-1}), the model's distribution.

    The model starts from a state of zeros, in evaluation mode. It is restored between two words.

    Parameters
    ----------
    prompt : sequence of int
        At least one id. All of it is read before the first word is drawn; it is not yielded. A model that was trained
        on one long text has hardly seen a state of zeros: let the prompt begin with some 200 words of that text.
    length : int
        Words to draw, at most.
    temperature, top_k, top_p
        See ``next_word_distribution``.
    skip_ids : sequence of int
        Ids that are never drawn, such as that of ``<unk>``.
    stop_id : int, optional
        Ends the text when it is drawn; not yielded.

    Raises
    ------
    ValueError
        If the prompt is empty, an argument is out of its range, or a recurrent layer is not stateful.
    TypeError, IndexError
        If an id is not an integer, or not in the vocabulary.
    """
    if np.ndim(prompt) != 1:
        raise ValueError(f"the prompt must be a sequence of word ids, got {prompt!r}")
    if len(prompt) == 0:
        raise ValueError("the prompt needs at least one word")
    prompt = as_ids(np.asarray(prompt), "word ids of the prompt")
    check_whole("length", length)
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {rng!r}")
    if length < 0:
        raise ValueError(f"the length must be 0 or more, got {length}")
    model.check_stateful("generate")
    check_sampling(temperature, top_k, top_p)
    return _generate(model, prompt, length, rng, list(skip_ids), stop_id, (temperature, top_k, top_p))


def _generate(
    model: LanguageModel,
    prompt: np.ndarray,
    length: int,
    rng: np.random.Generator,
    skip_ids: list[int],
    stop_id: int | None,
    sampling: tuple[float, int | None, float | None],
) -> Iterator[int]:
    words, session = np.array([prompt]), []
    for _ in range(length):
        # For one step only: between two words the model may be trained, or write another text.
        with model.evaluating(session):
            logits = to_cpu(model.predict(*model.asarrays(words))[0, -1]).astype(np.float64)
        check_range(np.array(skip_ids, np.intp), len(logits), "skip_ids")
        logits[skip_ids] = -np.inf
        word = int(rng.choice(len(logits), p=next_word_distribution(logits, *sampling)))
        if word == stop_id:
            return
        yield word
        words = np.array([[word]])


def next_word_distribution(
    logits: np.ndarray, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray:
    """Return the probabilities from which the next word is drawn, (V,), given its logits, (V,).

        p_i ∝ exp(logit_i / temperature)    for the words that top_k and top_p leave, 0 for all others

    Parameters
    ----------
    temperature : float
        Below 1 prefers likely words; above 1 gives unlikely words a better chance.
    top_k : int, optional
        Keep only the k likeliest words.
    top_p : float in (0, 1], optional
        Of the words that ``top_k`` leaves, keep only the fewest likeliest that together have at least this
        probability (nucleus sampling).

    Raises
    ------
    ValueError
        If an argument is out of its range, or no word can be drawn.

    References
    ----------
    Fan, Lewis and Dauphin, "Hierarchical neural story generation", 2018 (top-k); Holtzman et al., "The curious case
    of neural text degeneration", 2020 (top-p).
    """
    check_sampling(temperature, top_k, top_p)
    if not np.isfinite(logits).any() or np.isnan(logits).any():
        raise ValueError("there is no word to draw from: no logit is a finite number, or one is NaN")
    with np.errstate(over="ignore"):  # at a very low temperature all but the likeliest become -infinity
        p = softmax((logits - logits.max()) / temperature)
    likeliest_first = np.argsort(-p, kind="stable")
    if top_k is not None:
        p[likeliest_first[top_k:]] = 0
        p /= p.sum()
    if top_p is not None:
        before = np.cumsum(p[likeliest_first]) - p[likeliest_first]  # the probability of all likelier words
        p[likeliest_first[before >= top_p]] = 0
    return p / p.sum()


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise a ValueError if an argument of ``next_word_distribution`` is out of its range."""
    if not 0 < temperature < np.inf:
        raise ValueError(f"the temperature must be positive, got {temperature}")
    if top_k is not None:
        check_whole("top_k", top_k)
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {top_p}")
