"""Weights of the textbook, PyTorch, Keras, Chainer and ONNX in our order, and ours in theirs. NumPy arrays in and out.

Four things differ. Who computes W x, where we compute x W, has transposed matrices. The gates are stacked in
different orders. Some have two biases, of the input and of the state, where one will do, as they are only ever added:
we add them, and give all of it to the first. And z of a GRU is either the share of the old state, as here, or that of
the candidate; as 1 - σ(a) = σ(-a), the weights of z then change their sign.

    ================== ======= ========== ======= =================== ============== =====================
                       LSTM    peepholes  GRU     z is the share of   r multiplies   matrices, and biases
    ================== ======= ========== ======= =================== ============== =====================
    ours               f g i o f i o      z r h   the old state       h, or h Wh     (D, nH), 1
    textbook           f g i o            z r h   the candidate       h              (D, nH), 1
    Keras 3            i f g o            z r h   the old state       h, or h Wh     (D, nH), 1; GRU: 1 or 2
    PyTorch            i f g o            r z h   the old state       h Wh           (nH, D), 2
    Chainer, NStep...  i f g o            r z h   the old state       h Wh           n times (H, D), 2
    Chainer, LSTM, GRU g i f o            r z h   the candidate       h              see the functions
    ONNX               i o f g i o f      z r h   the old state       h, or h Wh     (1, nH, D), 2
    ================== ======= ========== ======= =================== ============== =====================

g is the candidate of an LSTM, also written c̃, and h that of a GRU. r that multiplies h Wh is our ``reset_after``:
no weights make a GRU of the one form compute what one of the other computes. Chainer's LSTM has the four numbers of
one unit side by side; all others, all units of one gate.

Nothing differs for embeddings, nor for the textbook's ``Affine`` and the ``Dense`` of Keras; for ``nn.Linear`` see
``affine_from_torch``. A layer without bias is one whose biases are zeros: pass ``np.zeros``.

Every function returns new arrays of the dtype that came, and raises

TypeError
    If the weights are not NumPy arrays of floating point numbers.
ValueError
    If the shapes are not those of such a layer, or if it is the other form of the GRU.

References
----------
*Deep Learning from Scratch 2*, chapters 5 and 6 and appendix C; the documentation of ``torch.nn.RNN``, ``LSTM``,
``GRU`` and ``Linear``; of ``keras.layers.SimpleRNN``, ``LSTM`` and ``GRU``; of ``chainer.links.LSTM``, ``GRU``,
``NStepRNNTanh``, ``NStepLSTM`` and ``NStepGRU``; of ONNX's operators RNN, LSTM and GRU. The documentation of
``NStepLSTM`` says that its last two gates are o and g; in its code, as in cuDNN, they are g and o.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# The gates, a letter each, in the order in which they are stacked.
_LSTM, _PEEPHOLES, _GRU = "fgio", "fio", "zrh"
_LSTM_CUDNN, _GRU_CUDNN = "ifgo", "rzh"  # also of PyTorch and of Chainer's NStep layers
_LSTM_KERAS = "ifgo"
_LSTM_CHAINER, _GRU_CHAINER = "gifo", "rzh"
_LSTM_ONNX, _PEEPHOLES_ONNX = "iofg", "iof"

Array = np.ndarray
Arrays = tuple[Array, ...]

# The textbook


def rnn_from_textbook(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Copy the weights of the textbook's ``RNN``, (D, H), (H, H) and (H,): they are as ours."""
    return _from_columns("the textbook's RNN", "h", "h", Wx, Wh, b)


def rnn_to_textbook(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Copy ours; inverse of ``rnn_from_textbook``."""
    return _from_columns("our RNN", "h", "h", Wx, Wh, b)


def lstm_from_textbook(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Copy the weights of the textbook's ``LSTM``, (D, 4H), (H, 4H) and (4H,): they are as ours."""
    return _from_columns("the textbook's LSTM", "fgio", _LSTM, Wx, Wh, b)


def lstm_to_textbook(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Copy ours; inverse of ``lstm_from_textbook``."""
    return _from_columns("our LSTM", _LSTM, "fgio", Wx, Wh, b)


def gru_from_textbook(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert the weights of the textbook's ``GRU``, (D, 3H), (H, 3H) and (3H,), for ``reset_after=False``."""
    return _negate_z(*_from_columns("the textbook's GRU", "zrh", _GRU, Wx, Wh, b))


def gru_to_textbook(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert ours to ``Wx, Wh, b`` of the textbook's ``GRU``; inverse of ``gru_from_textbook``."""
    _check_form("the textbook's GRU", False, Wh, b)
    return _negate_z(*_from_columns("our GRU", _GRU, "zrh", Wx, Wh, b))


# PyTorch


def rnn_from_torch(weight_ih: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array) -> tuple[Array, Array, Array]:
    """Convert the weights of one layer of ``nn.RNN``.

    Parameters
    ----------
    weight_ih : (H, D) array, ``weight_ih_l0``
    weight_hh : (H, H) array, ``weight_hh_l0``
    bias_ih, bias_hh : (H,) arrays, ``bias_ih_l0`` and ``bias_hh_l0``

    Returns
    -------
    Wx, Wh, b : (D, H), (H, H) and (H,) arrays
    """
    Wx, Wh, bx, bh = _from_rows("nn.RNN", "h", "h", weight_ih, weight_hh, bias_ih, bias_hh)
    return Wx, Wh, bx + bh


def rnn_to_torch(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert ours to ``weight_ih, weight_hh, bias_ih, bias_hh`` of ``nn.RNN``; inverse of ``rnn_from_torch``."""
    return _to_rows("our RNN", "h", "h", Wx, Wh, b, np.zeros_like(b))


def lstm_from_torch(weight_ih: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array) -> tuple[Array, Array, Array]:
    """Convert the weights of one layer of ``nn.LSTM``; one with ``proj_size`` has no equal here.

    Parameters
    ----------
    weight_ih : (4H, D) array
    weight_hh : (4H, H) array
    bias_ih, bias_hh : (4H,) arrays

    Returns
    -------
    Wx, Wh, b : (D, 4H), (H, 4H) and (4H,) arrays
    """
    Wx, Wh, bx, bh = _from_rows("nn.LSTM", _LSTM_CUDNN, _LSTM, weight_ih, weight_hh, bias_ih, bias_hh)
    return Wx, Wh, bx + bh


def lstm_to_torch(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert ours to ``weight_ih, weight_hh, bias_ih, bias_hh`` of ``nn.LSTM``; inverse of ``lstm_from_torch``."""
    return _to_rows("our LSTM", _LSTM, _LSTM_CUDNN, Wx, Wh, b, np.zeros_like(b))


def gru_from_torch(
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array,
    bias_hh: Array,
    reset_after: bool = True,
) -> tuple[Array, Array, Array]:
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
    """
    if not reset_after:
        raise _other_form("PyTorch's GRU", True)
    Wx, Wh, bx, bh = _from_rows("nn.GRU", _GRU_CUDNN, _GRU, weight_ih, weight_hh, bias_ih, bias_hh)
    return Wx, Wh, _join_biases(bx, bh)


def gru_to_torch(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert ours to ``weight_ih, weight_hh, bias_ih, bias_hh`` of ``nn.GRU``; inverse of ``gru_from_torch``."""
    _check_form("PyTorch's GRU", True, Wh, b)
    return _to_rows("our GRU", _GRU, _GRU_CUDNN, Wx, Wh, *_split_bias(Wx, Wh, b))


def affine_from_torch(weight: Array, bias: Array) -> tuple[Array, Array]:
    """Convert the weights of ``nn.Linear``, (H, D) and (H,), to W, (D, H), and b."""
    _check("nn.Linear", (weight, bias), (_size(bias, 0), _size(weight, 1)), (_size(bias, 0),))
    return weight.T.copy(), bias.copy()


def affine_to_torch(W: Array, b: Array) -> tuple[Array, Array]:
    """Convert W, (D, H), and b to ``weight`` and ``bias`` of ``nn.Linear``; inverse of ``affine_from_torch``."""
    _check("our Affine", (W, b), (_size(W, 0), _size(b, 0)), (_size(b, 0),))
    return W.T.copy(), b.copy()


# Keras 3: pass ``*layer.get_weights()``


def rnn_from_keras(kernel: Array, recurrent_kernel: Array, bias: Array) -> Arrays:
    """Copy the weights of ``SimpleRNN``, (D, H), (H, H) and (H,): they are as ours."""
    return _from_columns("Keras SimpleRNN", "h", "h", kernel, recurrent_kernel, bias)


def rnn_to_keras(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Copy ours; inverse of ``rnn_from_keras``."""
    return _from_columns("our RNN", "h", "h", Wx, Wh, b)


def lstm_from_keras(kernel: Array, recurrent_kernel: Array, bias: Array) -> Arrays:
    """Convert the weights of ``LSTM``, (D, 4H), (H, 4H) and (4H,), to Wx, Wh and b of the same shapes."""
    return _from_columns("Keras LSTM", _LSTM_KERAS, _LSTM, kernel, recurrent_kernel, bias)


def lstm_to_keras(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert ours to ``kernel, recurrent_kernel, bias`` of ``LSTM``; inverse of ``lstm_from_keras``."""
    return _from_columns("our LSTM", _LSTM, _LSTM_KERAS, Wx, Wh, b)


def gru_from_keras(kernel: Array, recurrent_kernel: Array, bias: Array) -> Arrays:
    """Convert the weights of ``GRU``, for a GRU with the same ``reset_after``.

    Parameters
    ----------
    kernel, recurrent_kernel : (D, 3H) and (H, 3H) arrays
    bias : (2, 3H) array, the biases of the input and of the state; (3H,) with ``reset_after=False``

    Returns
    -------
    Wx, Wh, b : (D, 3H), (H, 3H) and (4H,) arrays; b is (3H,) with ``reset_after=False``
    """
    if np.ndim(bias) != 2:
        return _from_columns("Keras GRU", "zrh", _GRU, kernel, recurrent_kernel, bias)
    D, H = _size(kernel, 0), _size(recurrent_kernel, 0)
    _check("Keras GRU", (kernel, recurrent_kernel, bias), (D, 3 * H), (H, 3 * H), (2, 3 * H))
    Wx, Wh, bx, bh = _from_columns("Keras GRU", "zrh", _GRU, kernel, recurrent_kernel, *bias)
    return Wx, Wh, _join_biases(bx, bh)


def gru_to_keras(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert ours to ``kernel, recurrent_kernel, bias`` of ``GRU``; inverse of ``gru_from_keras``."""
    if not _is_reset_after(Wh, b):
        return _from_columns("our GRU", _GRU, "zrh", Wx, Wh, b)
    Wx, Wh, bx, bh = _from_columns("our GRU", _GRU, "zrh", Wx, Wh, *_split_bias(Wx, Wh, b))
    return Wx, Wh, np.stack([bx, bh])


# Chainer


def lstm_from_chainer(upward_W: Array, upward_b: Array, lateral_W: Array) -> Arrays:
    """Convert the weights of ``links.LSTM`` or ``StatelessLSTM``.

    Parameters
    ----------
    upward_W : (4H, D) array, ``upward.W``
        Rows 0 to 3 are g, i, f and o of the first unit, rows 4 to 7 of the second.
    upward_b : (4H,) array, ``upward.b``
    lateral_W : (4H, H) array, ``lateral.W``

    Returns
    -------
    Wx, Wh, b : (D, 4H), (H, 4H) and (4H,) arrays
    """
    H = _size(lateral_W, 1)
    shapes = (4 * H, _size(upward_W, 1)), (4 * H,), (4 * H, H)
    _check("Chainer LSTM", (upward_W, upward_b, lateral_W), *shapes)
    W, b, R = (x.reshape(H, 4, -1).swapaxes(0, 1).reshape(x.shape) for x in (upward_W, upward_b, lateral_W))
    return _from_rows("Chainer LSTM", _LSTM_CHAINER, _LSTM, W, R, b)


def lstm_to_chainer(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert ours to ``upward_W, upward_b, lateral_W`` of ``links.LSTM``; inverse of ``lstm_from_chainer``."""
    W, R, b = _to_rows("our LSTM", _LSTM, _LSTM_CHAINER, Wx, Wh, b)
    W, b, R = (x.reshape(4, len(b) // 4, -1).swapaxes(0, 1).reshape(x.shape) for x in (W, b, R))
    return W, b, R


def gru_from_chainer(ws: Sequence[Array], bs: Sequence[Array]) -> Arrays:
    """Convert the weights of ``links.GRU``, ``StatefulGRU`` or ``StatelessGRU``, for ``reset_after=False``.

    Chainer leaves the biases of U out of a step that has no old state. Give its layer an h of zeros to begin with,
    and it computes what ours does.

    Parameters
    ----------
    ws : six arrays: ``W_r.W, W_z.W, W.W``, (H, D), then ``U_r.W, U_z.W, U.W``, (H, H)
    bs : six (H,) arrays: ``W_r.b, W_z.b, W.b, U_r.b, U_z.b, U.b``

    Returns
    -------
    Wx, Wh, b : (D, 3H), (H, 3H) and (3H,) arrays
    """
    Wx, Wh, bx, bh = _from_list("Chainer GRU", _GRU_CHAINER, _GRU, ws, bs)
    return _negate_z(Wx, Wh, bx + bh)


def gru_to_chainer(Wx: Array, Wh: Array, b: Array) -> tuple[list[Array], list[Array]]:
    """Convert ours to ``ws, bs`` of ``links.GRU``; inverse of ``gru_from_chainer``."""
    _check_form("Chainer's GRU", False, Wh, b)
    Wx, Wh, b = _negate_z(*_from_columns("our GRU", _GRU, _GRU, Wx, Wh, b))
    return _to_list("our GRU", _GRU, _GRU_CHAINER, Wx, Wh, b, np.zeros_like(b))


def nstep_rnn_from_chainer(ws: Sequence[Array], bs: Sequence[Array]) -> Arrays:
    """Convert the weights of one layer of ``NStepRNNTanh``: w0, (H, D), and w1, (H, H); b0 and b1, (H,)."""
    Wx, Wh, bx, bh = _from_list("Chainer NStepRNN", "h", "h", ws, bs)
    return Wx, Wh, bx + bh


def nstep_rnn_to_chainer(Wx: Array, Wh: Array, b: Array) -> tuple[list[Array], list[Array]]:
    """Convert ours to ``ws, bs`` of ``NStepRNNTanh``; inverse of ``nstep_rnn_from_chainer``."""
    return _to_list("our RNN", "h", "h", Wx, Wh, b, np.zeros_like(b))


def nstep_lstm_from_chainer(ws: Sequence[Array], bs: Sequence[Array]) -> Arrays:
    """Convert the weights of one layer of ``NStepLSTM``: w0 to w3, (H, D), w4 to w7, (H, H); b0 to b7, (H,)."""
    Wx, Wh, bx, bh = _from_list("Chainer NStepLSTM", _LSTM_CUDNN, _LSTM, ws, bs)
    return Wx, Wh, bx + bh


def nstep_lstm_to_chainer(Wx: Array, Wh: Array, b: Array) -> tuple[list[Array], list[Array]]:
    """Convert ours to ``ws, bs`` of ``NStepLSTM``; inverse of ``nstep_lstm_from_chainer``."""
    return _to_list("our LSTM", _LSTM, _LSTM_CUDNN, Wx, Wh, b, np.zeros_like(b))


def nstep_gru_from_chainer(ws: Sequence[Array], bs: Sequence[Array]) -> Arrays:
    """Convert the weights of one layer of ``NStepGRU``, for a GRU with ``reset_after=True``.

    Parameters
    ----------
    ws : six arrays: w0 to w2, (H, D), and w3 to w5, (H, H)
    bs : six (H,) arrays: b0 to b5

    Returns
    -------
    Wx, Wh, b : (D, 3H), (H, 3H) and (4H,) arrays
    """
    Wx, Wh, bx, bh = _from_list("Chainer NStepGRU", _GRU_CUDNN, _GRU, ws, bs)
    return Wx, Wh, _join_biases(bx, bh)


def nstep_gru_to_chainer(Wx: Array, Wh: Array, b: Array) -> tuple[list[Array], list[Array]]:
    """Convert ours to ``ws, bs`` of ``NStepGRU``; inverse of ``nstep_gru_from_chainer``."""
    _check_form("Chainer's NStepGRU", True, Wh, b)
    return _to_list("our GRU", _GRU, _GRU_CUDNN, Wx, Wh, *_split_bias(Wx, Wh, b))


# ONNX, for one direction


def rnn_from_onnx(W: Array, R: Array, B: Array) -> Arrays:
    """Convert the weights of the operator RNN, (1, H, D), (1, H, H) and (1, 2H), to Wx, Wh and b."""
    Wx, Wh, bx, bh = _from_onnx("RNN", "h", "h", W, R, B)
    return Wx, Wh, bx + bh


def rnn_to_onnx(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert ours to ``W, R, B`` of the operator RNN; inverse of ``rnn_from_onnx``."""
    return _to_onnx("our RNN", "h", "h", Wx, Wh, b, np.zeros_like(b))


def lstm_from_onnx(W: Array, R: Array, B: Array, P: Array | None = None) -> Arrays:
    """Convert the weights of the operator LSTM.

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
    """
    Wx, Wh, bx, bh = _from_onnx("LSTM", _LSTM_ONNX, _LSTM, W, R, B)
    if P is None:
        return Wx, Wh, bx + bh
    _check("ONNX LSTM's peepholes", (P,), (1, 3 * len(Wh)))
    return Wx, Wh, bx + bh, _reorder(P[0], _PEEPHOLES_ONNX, _PEEPHOLES)


def lstm_to_onnx(Wx: Array, Wh: Array, b: Array, p: Array | None = None) -> Arrays:
    """Convert ours to ``W, R, B``, and ``P`` if p is given, of the operator LSTM; inverse of ``lstm_from_onnx``."""
    arrays = _to_onnx("our LSTM", _LSTM, _LSTM_ONNX, Wx, Wh, b, np.zeros_like(b))
    if p is None:
        return arrays
    _check("our LSTM's peepholes", (p,), (3 * len(Wh),))
    return *arrays, _reorder(p, _PEEPHOLES, _PEEPHOLES_ONNX)[None]


def gru_from_onnx(W: Array, R: Array, B: Array, linear_before_reset: int = 0) -> Arrays:
    """Convert the weights of the operator GRU.

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
    """
    Wx, Wh, bx, bh = _from_onnx("GRU", "zrh", _GRU, W, R, B)
    return Wx, Wh, _join_biases(bx, bh) if linear_before_reset else bx + bh


def gru_to_onnx(Wx: Array, Wh: Array, b: Array) -> tuple[Array, Array, Array, int]:
    """Convert ours to ``W, R, B, linear_before_reset`` of the operator GRU; inverse of ``gru_from_onnx``."""
    reset_after = _is_reset_after(Wh, b)
    bx, bh = _split_bias(Wx, Wh, b) if reset_after else (b, np.zeros_like(b))
    return *_to_onnx("our GRU", _GRU, "zrh", Wx, Wh, bx, bh), int(reset_after)


# What they share


def _reorder(x: Array, source: str, target: str) -> Array:
    """Copy gates that stand side by side in the last axis, (..., nH), into another order."""
    columns = np.arange(x.shape[-1]).reshape(len(source), -1)  # of each gate
    return x.take(columns[[source.index(gate) for gate in target]].ravel(), axis=-1)


def _from_columns(kind: str, source: str, target: str, Wx: Array, Wh: Array, *biases: Array) -> Arrays:
    """Reorder Wx, (D, nH), Wh, (H, nH), and biases, (nH,)."""
    n, D, H = len(source), _size(Wx, 0), _size(Wh, 0)
    _check(kind, (Wx, Wh, *biases), (D, n * H), (H, n * H), *[(n * H,)] * len(biases))
    return tuple(_reorder(x, source, target) for x in (Wx, Wh, *biases))


def _from_rows(kind: str, source: str, target: str, W: Array, R: Array, *biases: Array) -> Arrays:
    """Transpose and reorder W, (nH, D), and R, (nH, H), and reorder biases, (nH,)."""
    n, D, H = len(source), _size(W, 1), _size(R, 1)
    _check(kind, (W, R, *biases), (n * H, D), (n * H, H), *[(n * H,)] * len(biases))
    return tuple(_reorder(x.T, source, target) for x in (W, R, *biases))


def _to_rows(kind: str, source: str, target: str, Wx: Array, Wh: Array, *biases: Array) -> Arrays:
    """Inverse of ``_from_rows``."""
    return tuple(x.T.copy() for x in _from_columns(kind, source, target, Wx, Wh, *biases))


def _from_list(kind: str, source: str, target: str, ws: Sequence[Array], bs: Sequence[Array]) -> Arrays:
    """Join and reorder matrices of one gate each, (H, D), then (H, H), and biases, (H,)."""
    n = len(source)
    H, D = np.shape(ws[0]) if len(ws) and np.ndim(ws[0]) == 2 else (0, 0)
    _check(kind, (*ws, *bs), *[(H, D)] * n, *[(H, H)] * n, *[(H,)] * (2 * n))
    joined = (np.concatenate(part) for part in (ws[:n], ws[n:], bs[:n], bs[n:]))
    return _from_rows(kind, source, target, *joined)


def _to_list(
    kind: str, source: str, target: str, Wx: Array, Wh: Array, bx: Array, bh: Array
) -> tuple[list[Array], list[Array]]:
    """Inverse of ``_from_list``."""
    W, R, bx, bh = _to_rows(kind, source, target, Wx, Wh, bx, bh)
    ws, bs = ([x for part in pair for x in np.split(part, len(source))] for pair in ((W, R), (bx, bh)))
    return ws, bs


def _from_onnx(operator: str, source: str, target: str, W: Array, R: Array, B: Array) -> Arrays:
    """Convert W, (1, nH, D), R, (1, nH, H), and B, (1, 2nH), to Wx, Wh and two biases."""
    directions, n, D, H = _size(W, 0), len(source), _size(W, 2), _size(R, 2)
    if directions > 1:
        raise ValueError(f"expected an ONNX {operator} of one direction, got {directions}; convert x[0:1] and x[1:2]")
    _check(f"ONNX {operator}", (W, R, B), (1, n * H, D), (1, n * H, H), (1, 2 * n * H))
    return _from_rows(f"ONNX {operator}", source, target, W[0], R[0], *np.split(B[0], 2))


def _to_onnx(kind: str, source: str, target: str, Wx: Array, Wh: Array, bx: Array, bh: Array) -> Arrays:
    """Inverse of ``_from_onnx``."""
    W, R, bx, bh = _to_rows(kind, source, target, Wx, Wh, bx, bh)
    return W[None], R[None], np.concatenate([bx, bh])[None]


def _negate_z(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Make z of a GRU 1 - z, in place: 1 - σ(a) = σ(-a)."""
    for x in (Wx, Wh, b):
        x[..., : len(Wh)] *= -1
    return Wx, Wh, b


def _join_biases(bx: Array, bh: Array) -> Array:
    """Add the biases of z and r; those of h̃, of x and of h, stay apart: (3H,) and (3H,) -> (4H,)."""
    (bx_z, bx_r, bx_h), (bh_z, bh_r, bh_h) = np.split(bx, 3), np.split(bh, 3)
    return np.concatenate([bx_z + bh_z, bx_r + bh_r, bx_h, bh_h])


def _split_bias(Wx: Array, Wh: Array, b: Array) -> tuple[Array, Array]:
    """Inverse of ``_join_biases``: (4H,) -> (3H,) and (3H,)."""
    D, H = _size(Wx, 0), _size(Wh, 0)
    _check("our GRU", (Wx, Wh, b), (D, 3 * H), (H, 3 * H), (4 * H,))
    return b[: 3 * H], np.concatenate([np.zeros_like(b[: 2 * H]), b[3 * H :]])


def _is_reset_after(Wh: Array, b: Array) -> bool:
    return np.shape(b) == (4 * _size(Wh, 0),)


def _check_form(kind: str, reset_after: bool, Wh: Array, b: Array) -> None:
    """Refuse our GRU if it has the form that ``kind`` has not."""
    if np.shape(b) == ((3 if reset_after else 4) * _size(Wh, 0),):
        raise _other_form(kind, reset_after)


def _other_form(kind: str, reset_after: bool) -> ValueError:
    forms = "before the product with Wh, (r ⊙ h) Wh", "after the product with Wh, r ⊙ (h Wh)"
    return ValueError(
        f"{kind} multiplies by the reset gate {forms[reset_after]}; weights of a GRU with "
        f"reset_after={not reset_after} cannot be converted, as no choice of weights makes the one the other"
    )


def _size(x: Array, axis: int) -> int:
    """Length of an axis; 0 if there is none, for ``_check`` to refuse."""
    return np.shape(x)[axis] if np.ndim(x) > axis else 0


def _check(kind: str, arrays: Sequence[Array], *expected: tuple[int, ...]) -> None:
    for x in arrays:
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
            found = f"of dtype {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
            raise TypeError(f"expected weights of {kind} as NumPy arrays of floating point numbers, got {found}")
    shapes = tuple(x.shape for x in arrays)
    if shapes != expected:
        raise ValueError(f"expected weights of {kind} of shapes {expected}, got {shapes}")
