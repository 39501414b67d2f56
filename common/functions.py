"""Pure functions of arrays that stay finite for inputs of any size.

What underflows becomes 0, which is right; so ``np.seterr(all="raise")`` raises nothing here.
"""

from __future__ import annotations

import numpy

from common.backend import Array, get_array_module
from common.checks import all_in_range, as_ids, check_range, check_shape, from_one_hot
from common.np import GPU, np  # noqa: F401, as "import *" brings them in the textbook


@numpy.errstate(under="ignore")
def sigmoid(x: Array) -> Array:
    """σ(x) = 1 / (1 + exp(-x)), element by element, computed as ½·tanh(x / 2) + ½, which cannot overflow."""
    x = as_float(x)
    xp = get_array_module(x)
    y = xp.tanh(0.5 * x)
    y *= 0.5
    y += 0.5
    return y


def relu(x: Array) -> Array:
    """max(x, 0), element by element."""
    return get_array_module(x).maximum(x, 0)


@numpy.errstate(under="ignore", over="ignore")  # x - max may be -inf, of which exp makes the right 0
def softmax(x: Array) -> Array:
    """Probabilities, (..., V), of logits x, (..., V): exp(x) / Σ exp(x) over the last axis.

    The largest logit of each row is subtracted first: the result is the same, and exp cannot overflow.
    """
    x = as_float(x)
    xp = get_array_module(x)
    y = xp.exp(x - x.max(axis=-1, keepdims=True))
    y /= y.sum(axis=-1, keepdims=True)
    return y


@numpy.errstate(under="ignore")
def log_softmax(x: Array) -> Array:
    """Log-probabilities, (..., V), in nats, of logits x, (..., V): x - log Σ exp(x).

    It is finite where log(softmax(x)) would take the logarithm of a probability that has underflowed to 0.
    """
    x = as_float(x)
    xp = get_array_module(x)
    y = x - x.max(axis=-1, keepdims=True)
    y -= xp.log(xp.exp(y).sum(axis=-1, keepdims=True))
    return y


def cross_entropy_error(y: Array, t: Array) -> Array:
    """L = -(1 / N) Σ_n log y[n, t[n]], in nats: the loss of probabilities y, not of logits.

    A probability of 0 counts as the smallest normal number of its dtype, so that the loss stays finite: 708 in
    float64, 87 in float32.

    Parameters
    ----------
    y : (N, V) array of probabilities, or (V,) for one row
    t : (N,) array of labels, a label for one row; or one-hot labels of the shape of ``y``

    Raises
    ------
    TypeError, IndexError, ValueError
        If labels are not integers, not in [0, V), or do not fit y; or if y is not between 0 and 1.
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
    """Return x if it is of floating-point numbers; integers, whose differences may overflow, as float64."""
    if getattr(getattr(x, "dtype", None), "kind", None) == "f":
        return x
    x = get_array_module(x).asarray(x)
    if x.dtype.kind not in "biuf":
        raise TypeError(f"expected real numbers, got an array of {x.dtype}")
    return x if x.dtype.kind == "f" else x.astype(numpy.float64)  # a list may be of floats


def split_labels(t: Array, ignore_label: int, dtype: type) -> tuple[Array, Array]:
    """Return labels that can index, (N,), and the weight of each row in the mean over the labelled rows, (N,).

    Where t, (N,), is ``ignore_label``, which need not be a valid index, the label is 0 and the weight 0. The weight of
    the others is 1 / (number of labelled rows). If every label is ignored, all weights are 0, never NaN.
    """
    labelled = t != ignore_label
    weights = labelled.astype(dtype)
    n = weights @ weights  # how many ones
    weights /= n + (n == 0)  # at least 1
    return t * labelled, weights


def as_labels(t: Array, shape: tuple[int, ...], V: int, ignore_label: int, dtype: type) -> tuple[Array, Array]:
    """The same as ``split_labels``, of labels t that are checked first.

    t, of ``shape``, holds labels in [0, V) or ``ignore_label``; or one-hot labels, (*shape, V).
    """
    if isinstance(t, (list, tuple)):
        t = numpy.asarray(t)
    if getattr(t, "shape", None) != shape:
        t = from_one_hot(t) if getattr(t, "shape", None) == (*shape, V) else t
        check_shape("labels", t, shape)
    t = as_ids(t, "labels")
    if all_in_range(t, V) and not 0 <= ignore_label < V:  # the usual case: each row has a label
        weights = numpy.empty(len(t), dtype)
        weights.fill(1 / len(t))
        return t, weights
    labels, weights = split_labels(t, ignore_label, dtype)
    check_range(labels, V, "labels", ignore_label)
    return labels, weights
