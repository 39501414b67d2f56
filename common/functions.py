"""Pure functions of arrays that stay finite for inputs of any size."""

from __future__ import annotations

from common.backend import Array, get_array_module


def sigmoid(x: Array) -> Array:
    """The logistic function 1 / (1 + exp(-x)), as ½·tanh(x / 2) + ½, which cannot overflow.

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    array of the shape of ``x``, in [0, 1]
    """
    xp = get_array_module(x)
    y = xp.tanh(0.5 * x)
    y *= 0.5
    y += 0.5
    return y


def softmax(x: Array) -> Array:
    """exp(x) / Σ exp(x) over the last axis; the largest element is subtracted first.

    Parameters
    ----------
    x : (..., V) array of logits

    Returns
    -------
    (..., V) array of probabilities; each row sums to 1
    """
    xp = get_array_module(x)
    y = xp.exp(x - x.max(axis=-1, keepdims=True))
    y /= y.sum(axis=-1, keepdims=True)
    return y


def log_softmax(x: Array) -> Array:
    """log(softmax(x)) = x - log Σ exp(x), without taking the log of an underflown probability.

    Parameters
    ----------
    x : (..., V) array of logits

    Returns
    -------
    (..., V) array of log-probabilities, in nats
    """
    xp = get_array_module(x)
    y = x - x.max(axis=-1, keepdims=True)
    y -= xp.log(xp.exp(y).sum(axis=-1, keepdims=True))
    return y


def split_labels(t: Array, ignore_label: int, dtype: type) -> tuple[Array, Array]:
    """Separate labels from the question whether there is one, for a mean over labelled rows.

    Parameters
    ----------
    t : (N,) array of labels
    ignore_label : int
        The label of rows that do not count; it need not be a valid index.
    dtype : floating-point type of the weights

    Returns
    -------
    labels : (N,) array
        ``t`` with 0 in place of ``ignore_label``, so that it can index
    weights : (N,) array
        1 / (number of labelled rows), and 0 where the label is ignored; all zeros,
        never NaN, when every label is ignored
    """
    labelled = t != ignore_label
    weights = labelled.astype(dtype)
    n = weights @ weights  # how many ones
    weights /= n + (n == 0)  # at least 1
    return t * labelled, weights
