"""Weights of PyTorch and ONNX in our order, and ours in PyTorch's. NumPy arrays in, NumPy arrays out.

Three things differ. PyTorch computes W x where we compute x W, so its matrices are transposed. It stacks the gates
in an order of its own. And it has two biases, of the input and of the state, where one will do, as they are only
ever added; we add them, and give all of it to the first.

                 ours       PyTorch    ONNX
    LSTM         o i f c̃    i f c̃ o    i o f c̃
    peepholes    o i f                 i o f
    GRU          z r h̃      r z h̃      z r h̃

For ``nn.Embedding`` nothing differs: its weight is our W, (V, D). For ``nn.Linear`` see ``affine_from_torch``.
A layer that has no bias (``bias=False``) is one whose biases are zeros: pass ``np.zeros``.

References
----------
The documentation of ``torch.nn.RNN``, ``LSTM``, ``GRU`` and ``Linear``; of ONNX, the operators LSTM and GRU.
"""

from __future__ import annotations

import numpy as np

# Where each of our gates stands in the other order: ours[k] is theirs[ORDER[k]].
_LSTM_FROM_TORCH = (3, 0, 1, 2)
_LSTM_FROM_ONNX = (1, 0, 2, 3)
_PEEPHOLES_FROM_ONNX = (1, 0, 2)
_GRU_FROM_TORCH = (1, 0, 2)

Arrays = tuple[np.ndarray, ...]


def rnn_from_torch(
    weight_ih: np.ndarray, weight_hh: np.ndarray, bias_ih: np.ndarray, bias_hh: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convert the weights of one layer of ``nn.RNN``.

    Parameters
    ----------
    weight_ih : (H, D) array, ``weight_ih_l0``
    weight_hh : (H, H) array, ``weight_hh_l0``
    bias_ih, bias_hh : (H,) arrays, ``bias_ih_l0`` and ``bias_hh_l0``

    Returns
    -------
    Wx, Wh, b : (D, H), (H, H) and (H,) arrays

    Raises
    ------
    ValueError
        If the shapes are not those of such a layer.
    """
    _check("nn.RNN", 1, weight_ih, weight_hh, bias_ih, bias_hh)
    return _T(weight_ih), _T(weight_hh), bias_ih + bias_hh


def rnn_to_torch(Wx: np.ndarray, Wh: np.ndarray, b: np.ndarray) -> Arrays:
    """Convert ours to ``weight_ih, weight_hh, bias_ih, bias_hh`` of ``nn.RNN``; inverse of ``rnn_from_torch``."""
    return _T(Wx), _T(Wh), b.copy(), np.zeros_like(b)


def lstm_from_torch(
    weight_ih: np.ndarray, weight_hh: np.ndarray, bias_ih: np.ndarray, bias_hh: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convert the weights of one layer of ``nn.LSTM``.

    Parameters
    ----------
    weight_ih : (4H, D) array
    weight_hh : (4H, H) array
    bias_ih, bias_hh : (4H,) arrays

    Returns
    -------
    Wx, Wh, b : (D, 4H), (H, 4H) and (4H,) arrays

    Raises
    ------
    ValueError
        If the shapes are not those of such a layer; a layer with ``proj_size`` has no equal here.
    """
    _check("nn.LSTM", 4, weight_ih, weight_hh, bias_ih, bias_hh)
    arrays = _T(weight_ih), _T(weight_hh), bias_ih + bias_hh
    return tuple(_reorder(x, _LSTM_FROM_TORCH) for x in arrays)


def lstm_to_torch(Wx: np.ndarray, Wh: np.ndarray, b: np.ndarray) -> Arrays:
    """Convert ours to ``weight_ih, weight_hh, bias_ih, bias_hh`` of ``nn.LSTM``; inverse of ``lstm_from_torch``."""
    Wx, Wh, b = (_reorder(x, np.argsort(_LSTM_FROM_TORCH)) for x in (Wx, Wh, b))
    return _T(Wx), _T(Wh), b, np.zeros_like(b)


def gru_from_torch(
    weight_ih: np.ndarray,
    weight_hh: np.ndarray,
    bias_ih: np.ndarray,
    bias_hh: np.ndarray,
    reset_after: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convert the weights of one layer of ``nn.GRU``, for a GRU with ``reset_after=True``.

    Parameters
    ----------
    weight_ih : (3H, D) array
    weight_hh : (3H, H) array
    bias_ih, bias_hh : (3H,) arrays
    reset_after : bool
        The form that the weights are wanted for: PyTorch knows only one.

    Returns
    -------
    Wx, Wh, b : (D, 3H), (H, 3H) and (4H,) arrays
        The last part of b is the bias of h Wh_h, which r multiplies and which therefore stays on its own.

    Raises
    ------
    ValueError
        If the shapes are not those of such a layer, or ``reset_after`` is False.
    """
    _refuse_reset_before(reset_after)
    _check("nn.GRU", 3, weight_ih, weight_hh, bias_ih, bias_hh)
    Wx, Wh, bx, bh = (_reorder(x, _GRU_FROM_TORCH) for x in (_T(weight_ih), _T(weight_hh), bias_ih, bias_hh))
    return Wx, Wh, _reset_after_bias(bx, bh)


def gru_to_torch(Wx: np.ndarray, Wh: np.ndarray, b: np.ndarray) -> Arrays:
    """Convert ours to ``weight_ih, weight_hh, bias_ih, bias_hh`` of ``nn.GRU``; inverse of ``gru_from_torch``.

    Raises
    ------
    ValueError
        If b has 3H elements: these are weights of a GRU with ``reset_after=False``.
    """
    H = len(Wh)
    _refuse_reset_before(len(b) == 4 * H)
    bx, bh = b[: 3 * H], np.concatenate([np.zeros_like(b[: 2 * H]), b[3 * H :]])
    order = np.argsort(_GRU_FROM_TORCH)
    Wx, Wh, bx, bh = (_reorder(x, order) for x in (Wx, Wh, bx, bh))
    return _T(Wx), _T(Wh), bx, bh


def affine_from_torch(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert the weights of ``nn.Linear``, (H, D) and (H,), to W, (D, H), and b."""
    return _T(weight), bias.copy()


def affine_to_torch(W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert W, (D, H), and b to ``weight`` and ``bias`` of ``nn.Linear``; inverse of ``affine_from_torch``."""
    return _T(W), b.copy()


def lstm_from_onnx(
    W: np.ndarray, R: np.ndarray, B: np.ndarray, P: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Convert the weights of ONNX's operator LSTM, for one direction.

    Parameters
    ----------
    W, R : (1, 4H, D) and (1, 4H, H) arrays
    B : (1, 8H) array
        The biases of W, then those of R.
    P : (1, 3H) array, optional
        Peephole weights.

    Returns
    -------
    Wx, Wh, b : (D, 4H), (H, 4H) and (4H,) arrays
        And p, (3H,), if P is given.

    Raises
    ------
    ValueError
        If the shapes are not those of such a layer.
    """
    W, R, B = (_one_direction("LSTM", x) for x in (W, R, B))
    bx, bh = np.split(B, 2)
    _check("ONNX LSTM", 4, W, R, bx, bh)
    weights = tuple(_reorder(x, _LSTM_FROM_ONNX) for x in (_T(W), _T(R), bx + bh))
    return weights if P is None else (*weights, _reorder(_one_direction("LSTM", P), _PEEPHOLES_FROM_ONNX))


def gru_from_onnx(
    W: np.ndarray, R: np.ndarray, B: np.ndarray, linear_before_reset: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convert the weights of ONNX's operator GRU, for one direction.

    Parameters
    ----------
    W, R : (1, 3H, D) and (1, 3H, H) arrays
    B : (1, 6H) array
        The biases of W, then those of R.
    linear_before_reset : 0 or 1
        The operator's attribute; 1 is a GRU with ``reset_after=True``.

    Returns
    -------
    Wx, Wh, b : (D, 3H), (H, 3H) and (3H,) arrays; b is (4H,) with ``linear_before_reset``

    Raises
    ------
    ValueError
        If the shapes are not those of such a layer.
    """
    W, R, B = (_one_direction("GRU", x) for x in (W, R, B))
    bx, bh = np.split(B, 2)
    _check("ONNX GRU", 3, W, R, bx, bh)
    return _T(W), _T(R), _reset_after_bias(bx, bh) if linear_before_reset else bx + bh


def _reset_after_bias(bx: np.ndarray, bh: np.ndarray) -> np.ndarray:
    """Merge the biases of z and r; those of h̃, of x and of h, stay apart: (3H,) and (3H,) -> (4H,)."""
    (bx_z, bx_r, bx_h), (bh_z, bh_r, bh_h) = np.split(bx, 3), np.split(bh, 3)
    return np.concatenate([bx_z + bh_z, bx_r + bh_r, bx_h, bh_h])


def _T(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.T)


def _reorder(x: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Bring the parts of the last axis, of equal size, into another order."""
    parts = np.split(x, len(order), axis=-1)
    return np.concatenate([parts[k] for k in order], axis=-1)


def _one_direction(operator: str, x: np.ndarray) -> np.ndarray:
    if len(x) != 1:
        raise ValueError(f"expected an ONNX {operator} of one direction, got {len(x)}; convert x[0:1] and x[1:2]")
    return x[0]


def _check(
    kind: str, gates: int, weight_ih: np.ndarray, weight_hh: np.ndarray, bias_ih: np.ndarray, bias_hh: np.ndarray
) -> None:
    H = weight_hh.shape[-1]
    D = weight_ih.shape[-1]
    expected = (gates * H, D), (gates * H, H), (gates * H,), (gates * H,)
    found = weight_ih.shape, weight_hh.shape, bias_ih.shape, bias_hh.shape
    if found != expected:
        raise ValueError(f"expected weights of {kind} of shapes {expected}, got {found}")


def _refuse_reset_before(reset_after: bool) -> None:
    if not reset_after:
        raise ValueError(
            "PyTorch's GRU multiplies by the reset gate after the product with Wh, r ⊙ (h Wh); weights of a GRU with "
            "reset_after=False, (r ⊙ h) Wh, cannot be converted, as no choice of weights makes the one the other"
        )
