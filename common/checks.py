"""Checks of what is passed to layers: a wrong shape, type or value raises an error that says what was expected."""

from __future__ import annotations

import math

import numpy as np

from common.backend import Array, get_array_module

_INTP, _UINTP = np.dtype(np.intp), np.dtype(np.uintp)


def check_shape(what: str, x: Array, expected: tuple[int, ...]) -> None:
    """Raise a TypeError or ValueError that names both shapes, unless x is an array of the shape ``expected``."""
    if getattr(x, "shape", None) != expected:
        if not hasattr(x, "shape"):
            raise TypeError(f"{what} must be an array of shape {expected}, got {type(x).__name__}")
        raise ValueError(f"{what} must have shape {expected}, got {x.shape}")


def check_weights(layer: str, shapes: dict[str, tuple[int, ...]], **weights: object) -> None:
    """Raise a ValueError that names all shapes, unless the weights of a layer fit each other."""
    found = {name: w.data.shape for name, w in weights.items()}
    if found != shapes:
        raise ValueError(f"{layer} needs weights of shapes {_named(shapes)}, got {_named(found)}")
    if len({get_array_module(w.data) for w in weights.values()}) > 1:
        raise ValueError(f"the weights of {layer} must be on one device")


def two_axes(name: str, W: object) -> tuple[int, int]:
    """The shape of W, a parameter, which must be a matrix; otherwise a ValueError."""
    if W.data.ndim != 2:
        raise ValueError(f"{name} must have two axes, got shape {W.data.shape}")
    return W.data.shape


def check_recurrent_weights(layer: object) -> None:
    """Raise a ValueError unless Wx is (D, G·H), Wh (H, G·H), b (G·H,), or (4H,) with ``reset_after``, and p (3H,)."""
    (D, _), (H, _), G = two_axes("Wx", layer.Wx), two_axes("Wh", layer.Wh), layer.G
    parts = G + getattr(layer, "reset_after", False)
    shapes = {"Wx": (D, G * H), "Wh": (H, G * H), "b": (parts * H,), "p": (3 * H,)}
    weights = {name: value for name, value in vars(layer).items() if name in shapes}
    check_weights(type(layer).__name__, {name: shapes[name] for name in weights}, **weights)


def check_inputs(cell: object, x: Array, **states: Array) -> None:
    """Raise an error unless x is (N, D) and each state, by name, (N, H)."""
    D, H = len(cell.Wx.data), len(cell.Wh.data)
    if getattr(x, "ndim", 2) != 2:
        raise ValueError(f"x must have shape (N, {D}), got {x.shape}")
    check_shape("x", x, (len(x), D))
    for name, state in states.items():
        check_shape(name, state, (len(x), H))


def check_upstream(shape: tuple[int, ...], **gradients: Array | float) -> None:
    """Raise an error unless each gradient, by name, has this shape, or is the number 0."""
    for name, d in gradients.items():
        if hasattr(d, "shape") or d != 0:
            check_shape(name, d, shape)


def _named(values: dict[str, object]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in values.items())


def as_ids(x: Array | list, what: str) -> Array:
    """Return ids as an array of the integers that index arrays; raise a TypeError if they are not integers."""
    if isinstance(x, (list, tuple)):
        x = np.asarray(x)
    dtype = getattr(x, "dtype", None)
    if dtype is _INTP:
        return x
    if dtype is None or dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers, got {dtype or type(x).__name__}")
    return x.astype(np.intp)


def all_in_range(ids: Array, size: int) -> bool:
    """Whether all of ``ids`` are known to be in [0, size). On a GPU nothing is."""
    # As an unsigned number, a negative one is huge: one look at the largest finds both.
    return type(ids) is np.ndarray and ids.size > 0 and np.maximum.reduce(ids.view(_UINTP), axis=None) < size


def check_range(ids: Array, size: int, what: str, ignored: int | None = None) -> None:
    """Raise an IndexError unless all of ``ids`` are in [0, size); it says which label would have been ``ignored``.

    On a GPU they are not looked at, as the CPU would have to wait for it.
    """
    if get_array_module(ids) is np and ids.size > 0 and not all_in_range(ids, size):
        wrong = ids[(ids < 0) | (ids >= size)][0]
        also = "" if ignored is None else f", or {ignored} to be ignored"
        raise IndexError(f"{what} must be in [0, {size}){also}, got {wrong}")


def check_text(ids: Array | list, size: int | None, what: str, ignored: int | None = None) -> Array:
    """Return the ids of a whole text, (n,), as an array.

    Raises
    ------
    ValueError, TypeError, IndexError
        If they have more than one axis, are not integers, or are neither in [0, size) nor ``ignored``.
    """
    ids = ids if hasattr(ids, "shape") else np.asarray(ids)
    if ids.ndim != 1:
        raise ValueError(f"{what} of a text must have shape (n,), got {ids.shape}")
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers, got {ids.dtype}")
    if size is None or get_array_module(ids) is not np:  # None: of a layer of the reader's own
        return ids
    if ids.size and not 0 <= ids.min() <= ids.max() < size:
        check_range(as_ids(ids if ignored is None else ids[ids != ignored], what), size, what, ignored)
    return ids


def from_one_hot(t: Array) -> Array:
    """Labels, (...), of one-hot labels t, (..., V); raise an error if a row has anything but one 1 and zeros."""
    if t.dtype.kind not in "biuf":
        raise TypeError(f"labels must be integers, got {t.dtype}")
    if not ((t * t == t).min() and (t.sum(axis=-1) == 1).min()):  # only 0 and 1 are their own squares
        raise ValueError(
            f"labels of shape {t.shape}, that of the scores, must be one-hot: in each row one 1, and zeros"
        )
    return t.argmax(axis=-1)


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_whole(name: str, value: int) -> None:
    """Raise a TypeError unless ``value`` is a whole number."""
    if not _is_whole(value):
        raise TypeError(f"{name} must be a whole number, got {value!r}")


def check_sizes(**sizes: int) -> None:
    """Raise an error that names all sizes unless they are whole numbers, and positive."""
    if not all(map(_is_whole, sizes.values())):
        raise TypeError(f"sizes must be whole numbers, got {_named(sizes)}")
    if min(sizes.values()) <= 0:
        raise ValueError(f"sizes must be positive, got {_named(sizes)}")


def check_number(name: str, value: float, low: float, high: float = math.inf, *, closed: bool = False) -> None:
    """Raise a TypeError or ValueError unless ``value`` is a number in (low, high), or in [low, high) if ``closed``."""
    if not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (low <= value if closed else low < value) or not value < high:
        interval = f"in {'[' if closed else '('}{low}, {high})"
        wanted = "positive" if (low, high, closed) == (0, math.inf, False) else interval
        raise ValueError(f"{name} must be {wanted}, got {value}")
