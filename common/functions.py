"""Pure functions of arrays that stay finite for inputs of any size.

What is too small for its dtype becomes 0, and that is right: ``np.seterr(all="raise")`` finds no fault here.
"""

from __future__ import annotations

import numpy

from common.backend import Array, get_array_module
from common.checks import as_ids, check_range, from_one_hot
from common.np import GPU, np  # noqa: F401, for the textbook's readers, to whom "import *" brings them


@numpy.errstate(under="ignore")
def sigmoid(x: Array) -> Array:
    """The logistic function 1 / (1 + exp(-x)), as ½·tanh(x / 2) + ½, which cannot overflow.

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    array of the shape of ``x``, in [0, 1]
    """
    x = as_float(x)
    xp = get_array_module(x)
    y = xp.tanh(0.5 * x)
    y *= 0.5
    y += 0.5
    return y


def relu(x: Array) -> Array:
    """max(x, 0), element by element.

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    array of the shape and the dtype of ``x``
    """
    return get_array_module(x).maximum(x, 0)


@numpy.errstate(under="ignore", over="ignore")  # x - max may be -inf, of which exp makes the right 0
def softmax(x: Array) -> Array:
    """exp(x) / Σ exp(x) over the last axis; the largest element is subtracted first.

    Parameters
    ----------
    x : (..., V) array of logits

    Returns
    -------
    (..., V) array of probabilities; each row sums to 1
    """
    x = as_float(x)
    xp = get_array_module(x)
    y = xp.exp(x - x.max(axis=-1, keepdims=True))
    y /= y.sum(axis=-1, keepdims=True)
    return y


@numpy.errstate(under="ignore")
def log_softmax(x: Array) -> Array:
    """log(softmax(x)) = x - log Σ exp(x), without taking the log of an underflown probability.

    Parameters
    ----------
    x : (..., V) array of logits

    Returns
    -------
    (..., V) array of log-probabilities, in nats
    """
    x = as_float(x)
    xp = get_array_module(x)
    y = x - x.max(axis=-1, keepdims=True)
    y -= xp.log(xp.exp(y).sum(axis=-1, keepdims=True))
    return y


def cross_entropy_error(y: Array, t: Array) -> Array:
    """Mean of -log y[n, t[n]] over the rows n: the loss of probabilities, not of logits.

    A probability of 0 counts as the smallest normal number of its dtype, so the loss stays finite: 708 in float64,
    87 in float32. All other probabilities are taken as they are.

    Parameters
    ----------
    y : (N, V) array of probabilities, or (V,) for one row
    t : (N,) array of labels, a label for one row; or an array of the shape of ``y`` with a one in each row

    Returns
    -------
    number, in nats

    Raises
    ------
    TypeError
        If labels are not integers.
    ValueError
        If the shapes do not fit, rows of ``t`` are not one-hot, or ``y`` is not between 0 and 1.
    IndexError
        If a label is not below V.
    """
    y = as_float(y)
    xp = get_array_module(y)
    t = xp.asarray(t)
    labels = from_one_hot(t) if t.shape == y.shape else as_ids(t, "labels")
    if y.ndim == 1:
        y, labels = y.reshape(1, -1), labels.reshape(-1)
    if y.ndim != 2 or labels.shape != y.shape[:1] or not y.size:
        raise ValueError(
            "expected probabilities y, (N, V) or (V,), and labels t, (N,), or one-hot rows t of the shape of y; "
            f"got y of shape {y.shape} and t of shape {t.shape}"
        )
    check_range(labels, y.shape[1], "labels")
    p = y[xp.arange(len(y)), labels]
    if not (p.min() >= 0 and p.max() <= 1.01):  # rounding to float16 may exceed 1
        raise ValueError(f"expected probabilities between 0 and 1, as softmax makes them, got {p.min()} to {p.max()}")
    return -xp.log(xp.maximum(p, numpy.finfo(p.dtype).tiny)).sum() / len(p)


def as_float(x: Array) -> Array:
    """x as it is; integers, of which differences may overflow, in float64."""
    if getattr(getattr(x, "dtype", None), "kind", None) == "f":
        return x
    x = get_array_module(x).asarray(x)
    if x.dtype.kind not in "biuf":
        raise TypeError(f"expected real numbers, got an array of {x.dtype}")
    return x if x.dtype.kind == "f" else x.astype(numpy.float64)  # a list may be of floats


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
