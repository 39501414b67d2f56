"""Weights of the textbook, PyTorch, Keras, Chainer and ONNX in our layout, and ours in theirs. NumPy arrays in and out.

Four things differ. A layer that computes W x, where we compute x W, has transposed matrices. The gates are stacked in
different orders. Some layers have two biases, of the input and of the state; where they are only ever added, we add
them, and in the other direction the first takes all of it. And z of a GRU is either the share of the previous state, as
here, or that of the candidate; as 1 - σ(a) = σ(-a), the weights of z then change their sign.

    ================== ======= ========== ======= =================== ============== =====================
                       LSTM    peepholes  GRU     z is the share of   r multiplies   matrices, and biases
    ================== ======= ========== ======= =================== ============== =====================
    ours               f g i o f i o      z r h   the previous state  h, or h Wh     (D, nH), 1
    textbook           f g i o            z r h   the candidate       h              (D, nH), 1
    Keras 3            i f g o            z r h   the previous state  h, or h Wh     (D, nH), 1; GRU: 1 or 2
    PyTorch            i f g o            r z h   the previous state  h Wh           (nH, D), 2
    Chainer, NStep...  i f g o            r z h   the previous state  h Wh           n times (H, D), 2
    Chainer, LSTM, GRU g i f o            r z h   the candidate       h              see the functions
    ONNX               i o f g i o f      z r h   the previous state  h, or h Wh     (1, nH, D), 2
    ================== ======= ========== ======= =================== ============== =====================

g is the candidate of an LSTM, also written c̃, and h that of a GRU; n is the number of gates. r that multiplies h Wh is
our ``reset_after``: no weights make a GRU of one form compute what the other form computes.

Ours are Wx, (D, nH), Wh, (H, nH), and b, (nH,), but (4H,) for a GRU with ``reset_after``: the last part of b is the
bias of h Wh_h, which r multiplies and which is therefore separate. Embeddings have the same layout everywhere, and so
have the textbook's ``Affine`` and the ``Dense`` of Keras; for ``nn.Linear`` see ``affine_from_torch``. For a layer
without bias, pass ``np.zeros``.

Every function returns new arrays of the dtype that it was given. A ``..._to_...`` is the inverse of its
``..._from_...`` and returns, in order, what that takes. All raise

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

# Number of gates: our name for the cell, and the gates, a letter each, in the order in which we stack them.
_OURS = {1: ("our RNN", "h"), 3: ("our GRU", "zrh"), 4: ("our LSTM", "fgio")}

Array = np.ndarray
Arrays = tuple[Array, ...]
Lists = tuple[list[Array], list[Array]]

# The textbook


def rnn_from_textbook(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Copy the weights of the textbook's ``RNN``, (D, H), (H, H) and (H,), which has our layout."""
    return _from_columns("the textbook's RNN", "h", Wx, Wh, b)


def rnn_to_textbook(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Copy ours."""
    return _to_columns("h", Wx, Wh, b)


def lstm_from_textbook(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Copy the weights of the textbook's ``LSTM``, (D, 4H), (H, 4H) and (4H,), which has our layout."""
    return _from_columns("the textbook's LSTM", "fgio", Wx, Wh, b)


def lstm_to_textbook(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Copy ours."""
    return _to_columns("fgio", Wx, Wh, b)


def gru_from_textbook(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert the weights of the textbook's ``GRU``, (D, 3H), (H, 3H) and (3H,), for ``reset_after=False``."""
    return _negate_z(*_from_columns("the textbook's GRU", "zrh", Wx, Wh, b))


def gru_to_textbook(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert our GRU with ``reset_after=False``."""
    _check_form("the textbook's GRU", False, Wh, b)
    return _negate_z(*_to_columns("zrh", Wx, Wh, b))


# PyTorch: weight_ih_l0, weight_hh_l0, bias_ih_l0 and bias_hh_l0 of one layer


def rnn_from_torch(weight_ih: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array) -> Arrays:
    """Convert the weights of ``nn.RNN``: (H, D), (H, H), (H,) and (H,)."""
    return _add_biases(*_from_rows("nn.RNN", "h", weight_ih, weight_hh, bias_ih, bias_hh))


def rnn_to_torch(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert our RNN."""
    return _to_rows("h", Wx, Wh, b, np.zeros_like(b))


def lstm_from_torch(weight_ih: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array) -> Arrays:
    """Convert the weights of ``nn.LSTM``, without ``proj_size``: (4H, D), (4H, H), (4H,) and (4H,)."""
    return _add_biases(*_from_rows("nn.LSTM", "ifgo", weight_ih, weight_hh, bias_ih, bias_hh))


def lstm_to_torch(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert our LSTM."""
    return _to_rows("ifgo", Wx, Wh, b, np.zeros_like(b))


def gru_from_torch(
    weight_ih: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array, reset_after: bool = True
) -> Arrays:
    """Convert the weights of ``nn.GRU``, (3H, D), (3H, H), (3H,) and (3H,), for ``reset_after=True``: b is (4H,).

    ``reset_after`` is the form of the GRU that takes the weights; PyTorch has only this one.
    """
    if not reset_after:
        raise _other_form("PyTorch's GRU", True)
    return _join_biases(*_from_rows("nn.GRU", "rzh", weight_ih, weight_hh, bias_ih, bias_hh))


def gru_to_torch(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert our GRU with ``reset_after=True``."""
    _check_form("PyTorch's GRU", True, Wh, b)
    return _to_rows("rzh", Wx, Wh, *_split_bias(Wx, Wh, b))


def affine_from_torch(weight: Array, bias: Array) -> tuple[Array, Array]:
    """Convert the weights of ``nn.Linear``, (H, D) and (H,), to W, (D, H), and b."""
    _check("nn.Linear", (weight, bias), (_size(bias, 0), _size(weight, 1)), (_size(bias, 0),))
    return weight.T.copy(), bias.copy()


def affine_to_torch(W: Array, b: Array) -> tuple[Array, Array]:
    """Convert W, (D, H), and b to ``weight`` and ``bias`` of ``nn.Linear``."""
    _check("our Affine", (W, b), (_size(W, 0), _size(b, 0)), (_size(b, 0),))
    return W.T.copy(), b.copy()


# Keras 3: pass ``*layer.get_weights()``


def rnn_from_keras(kernel: Array, recurrent_kernel: Array, bias: Array) -> Arrays:
    """Copy the weights of ``SimpleRNN``, (D, H), (H, H) and (H,), which has our layout."""
    return _from_columns("Keras SimpleRNN", "h", kernel, recurrent_kernel, bias)


def rnn_to_keras(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Copy ours."""
    return _to_columns("h", Wx, Wh, b)


def lstm_from_keras(kernel: Array, recurrent_kernel: Array, bias: Array) -> Arrays:
    """Convert the weights of ``LSTM``: (D, 4H), (H, 4H) and (4H,)."""
    return _from_columns("Keras LSTM", "ifgo", kernel, recurrent_kernel, bias)


def lstm_to_keras(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert our LSTM."""
    return _to_columns("ifgo", Wx, Wh, b)


def gru_from_keras(kernel: Array, recurrent_kernel: Array, bias: Array) -> Arrays:
    """Convert the weights of ``GRU``, for a GRU with the same ``reset_after``.

    They are (D, 3H), (H, 3H), and the biases of the input and of the state, (2, 3H); (3H,) with ``reset_after=False``.
    """
    if np.ndim(bias) != 2:
        return _from_columns("Keras GRU", "zrh", kernel, recurrent_kernel, bias)
    D, H = _size(kernel, 0), _size(recurrent_kernel, 0)
    _check("Keras GRU", (kernel, recurrent_kernel, bias), (D, 3 * H), (H, 3 * H), (2, 3 * H))
    return _join_biases(*_from_columns("Keras GRU", "zrh", kernel, recurrent_kernel, *bias))


def gru_to_keras(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert our GRU of either form."""
    if not _is_reset_after(Wh, b):
        return _to_columns("zrh", Wx, Wh, b)
    Wx, Wh, bx, bh = _to_columns("zrh", Wx, Wh, *_split_bias(Wx, Wh, b))
    return Wx, Wh, np.stack([bx, bh])


# Chainer


def lstm_from_chainer(upward_W: Array, upward_b: Array, lateral_W: Array) -> Arrays:
    """Convert ``upward.W``, (4H, D), ``upward.b``, (4H,), and ``lateral.W``, (4H, H), of ``LSTM``, ``StatelessLSTM``.

    Rows 0 to 3 are g, i, f and o of the first unit, rows 4 to 7 those of the second; in all other layouts, the rows or
    columns of one gate are side by side.
    """
    H = _size(lateral_W, 1)
    shapes = (4 * H, _size(upward_W, 1)), (4 * H,), (4 * H, H)
    _check("Chainer LSTM", (upward_W, upward_b, lateral_W), *shapes)
    W, b, R = (x.reshape(H, 4, -1).swapaxes(0, 1).reshape(x.shape) for x in (upward_W, upward_b, lateral_W))
    return _from_rows("Chainer LSTM", "gifo", W, R, b)


def lstm_to_chainer(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert our LSTM."""
    W, R, b = _to_rows("gifo", Wx, Wh, b)
    W, b, R = (x.reshape(4, len(b) // 4, -1).swapaxes(0, 1).reshape(x.shape) for x in (W, b, R))
    return W, b, R


def gru_from_chainer(ws: Sequence[Array], bs: Sequence[Array]) -> Arrays:
    """Convert the weights of ``GRU``, ``StatefulGRU`` or ``StatelessGRU``, for ``reset_after=False``.

    ``ws`` are ``W_r.W, W_z.W, W.W``, (H, D), and ``U_r.W, U_z.W, U.W``, (H, H); ``bs`` are their six ``.b``, (H,).
    Chainer omits the biases of U at a step without a previous state: to compare, start its layer with zeros for h.
    """
    return _negate_z(*_add_biases(*_from_list("Chainer GRU", "rzh", ws, bs)))


def gru_to_chainer(Wx: Array, Wh: Array, b: Array) -> Lists:
    """Convert our GRU with ``reset_after=False``."""
    _check_form("Chainer's GRU", False, Wh, b)
    Wx, Wh, b = _negate_z(*_to_columns("zrh", Wx, Wh, b))
    return _to_list("rzh", Wx, Wh, b, np.zeros_like(b))


def nstep_rnn_from_chainer(ws: Sequence[Array], bs: Sequence[Array]) -> Arrays:
    """Convert the weights of one layer of ``NStepRNNTanh``: w0, (H, D), and w1, (H, H); b0 and b1, (H,)."""
    return _add_biases(*_from_list("Chainer NStepRNN", "h", ws, bs))


def nstep_rnn_to_chainer(Wx: Array, Wh: Array, b: Array) -> Lists:
    """Convert our RNN."""
    return _to_list("h", Wx, Wh, b, np.zeros_like(b))


def nstep_lstm_from_chainer(ws: Sequence[Array], bs: Sequence[Array]) -> Arrays:
    """Convert the weights of one layer of ``NStepLSTM``: w0 to w3, (H, D), w4 to w7, (H, H); b0 to b7, (H,)."""
    return _add_biases(*_from_list("Chainer NStepLSTM", "ifgo", ws, bs))


def nstep_lstm_to_chainer(Wx: Array, Wh: Array, b: Array) -> Lists:
    """Convert our LSTM."""
    return _to_list("ifgo", Wx, Wh, b, np.zeros_like(b))


def nstep_gru_from_chainer(ws: Sequence[Array], bs: Sequence[Array]) -> Arrays:
    """Convert the weights of one layer of ``NStepGRU``, for ``reset_after=True``: b is (4H,).

    They are w0 to w2, (H, D), and w3 to w5, (H, H); b0 to b5, (H,).
    """
    return _join_biases(*_from_list("Chainer NStepGRU", "rzh", ws, bs))


def nstep_gru_to_chainer(Wx: Array, Wh: Array, b: Array) -> Lists:
    """Convert our GRU with ``reset_after=True``."""
    _check_form("Chainer's NStepGRU", True, Wh, b)
    return _to_list("rzh", Wx, Wh, *_split_bias(Wx, Wh, b))


# ONNX: W, (1, nH, D), R, (1, nH, H), and B, (1, 2nH), the biases of W and then those of R; for one direction


def rnn_from_onnx(W: Array, R: Array, B: Array) -> Arrays:
    """Convert the weights of the operator RNN: (1, H, D), (1, H, H) and (1, 2H)."""
    return _add_biases(*_from_onnx("RNN", "h", W, R, B))


def rnn_to_onnx(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Convert our RNN."""
    return _to_onnx("h", Wx, Wh, b, np.zeros_like(b))


def lstm_from_onnx(W: Array, R: Array, B: Array, P: Array | None = None) -> Arrays:
    """Convert the weights of the operator LSTM: (1, 4H, D), (1, 4H, H), (1, 8H), and peepholes, (1, 3H).

    Returns Wx, Wh and b, and p, (3H,), if P is given.
    """
    Wx, Wh, b = _add_biases(*_from_onnx("LSTM", "iofg", W, R, B))
    if P is None:
        return Wx, Wh, b
    _check("ONNX LSTM's peepholes", (P,), (1, 3 * len(Wh)))
    return Wx, Wh, b, _reorder(P[0], "iof", "fio")


def lstm_to_onnx(Wx: Array, Wh: Array, b: Array, p: Array | None = None) -> Arrays:
    """Convert our LSTM to W, R, B, and P if p is given."""
    arrays = _to_onnx("iofg", Wx, Wh, b, np.zeros_like(b))
    if p is None:
        return arrays
    _check("our LSTM's peepholes", (p,), (3 * len(Wh),))
    return *arrays, _reorder(p, "fio", "iof")[None]


def gru_from_onnx(W: Array, R: Array, B: Array, linear_before_reset: int = 0) -> Arrays:
    """Convert the weights of the operator GRU: (1, 3H, D), (1, 3H, H) and (1, 6H).

    ``linear_before_reset``, the operator's attribute, is 1 for a GRU with ``reset_after=True``.
    """
    arrays = _from_onnx("GRU", "zrh", W, R, B)
    return _join_biases(*arrays) if linear_before_reset else _add_biases(*arrays)


def gru_to_onnx(Wx: Array, Wh: Array, b: Array) -> tuple[Array, Array, Array, int]:
    """Convert our GRU of either form to W, R, B and ``linear_before_reset``."""
    reset_after = _is_reset_after(Wh, b)
    biases = _split_bias(Wx, Wh, b) if reset_after else (b, np.zeros_like(b))
    return *_to_onnx("zrh", Wx, Wh, *biases), int(reset_after)


# What they share. ``gates`` is the order of the other side.


def _reorder(x: Array, source: str, target: str) -> Array:
    """Copy gates that stand side by side in the last axis, (..., nH), into another order."""
    columns = np.arange(x.shape[-1]).reshape(len(source), -1)  # of each gate
    return x.take(columns[[source.index(gate) for gate in target]].ravel(), axis=-1)


def _columns(kind: str, source: str, target: str, Wx: Array, Wh: Array, *biases: Array) -> Arrays:
    """Check and reorder Wx, (D, nH), Wh, (H, nH), and biases, (nH,)."""
    n, D, H = len(source), _size(Wx, 0), _size(Wh, 0)
    _check(kind, (Wx, Wh, *biases), (D, n * H), (H, n * H), *[(n * H,)] * len(biases))
    return tuple(_reorder(x, source, target) for x in (Wx, Wh, *biases))


def _from_columns(kind: str, gates: str, Wx: Array, Wh: Array, *biases: Array) -> Arrays:
    return _columns(kind, gates, _OURS[len(gates)][1], Wx, Wh, *biases)


def _to_columns(gates: str, Wx: Array, Wh: Array, *biases: Array) -> Arrays:
    kind, ours = _OURS[len(gates)]
    return _columns(kind, ours, gates, Wx, Wh, *biases)


def _from_rows(kind: str, gates: str, W: Array, R: Array, *biases: Array) -> Arrays:
    """Transpose and reorder W, (nH, D), and R, (nH, H), and reorder biases, (nH,)."""
    n, D, H = len(gates), _size(W, 1), _size(R, 1)
    _check(kind, (W, R, *biases), (n * H, D), (n * H, H), *[(n * H,)] * len(biases))
    return _from_columns(kind, gates, W.T, R.T, *biases)


def _to_rows(gates: str, Wx: Array, Wh: Array, *biases: Array) -> Arrays:
    return tuple(x.T.copy() for x in _to_columns(gates, Wx, Wh, *biases))


def _from_list(kind: str, gates: str, ws: Sequence[Array], bs: Sequence[Array]) -> Arrays:
    """Join and reorder matrices of one gate each, (H, D), then (H, H), and biases, (H,)."""
    n = len(gates)
    H, D = np.shape(ws[0]) if len(ws) and np.ndim(ws[0]) == 2 else (0, 0)
    _check(kind, (*ws, *bs), *[(H, D)] * n, *[(H, H)] * n, *[(H,)] * (2 * n))
    return _from_rows(kind, gates, *(np.concatenate(part) for part in (ws[:n], ws[n:], bs[:n], bs[n:])))


def _to_list(gates: str, Wx: Array, Wh: Array, bx: Array, bh: Array) -> Lists:
    W, R, bx, bh = ([*np.split(x, len(gates))] for x in _to_rows(gates, Wx, Wh, bx, bh))
    return W + R, bx + bh


def _from_onnx(operator: str, gates: str, W: Array, R: Array, B: Array) -> Arrays:
    n, D, H = len(gates), _size(W, 2), _size(R, 2)
    if _size(W, 0) > 1:
        raise ValueError(f"expected an ONNX {operator} of one direction, got {len(W)}; convert x[0:1] and x[1:2]")
    _check(f"ONNX {operator}", (W, R, B), (1, n * H, D), (1, n * H, H), (1, 2 * n * H))
    return _from_rows(f"ONNX {operator}", gates, W[0], R[0], *np.split(B[0], 2))


def _to_onnx(gates: str, Wx: Array, Wh: Array, bx: Array, bh: Array) -> Arrays:
    W, R, bx, bh = _to_rows(gates, Wx, Wh, bx, bh)
    return W[None], R[None], np.concatenate([bx, bh])[None]


def _negate_z(Wx: Array, Wh: Array, b: Array) -> Arrays:
    """Make z of a GRU 1 - z, in place: 1 - σ(a) = σ(-a)."""
    for x in (Wx, Wh, b):
        x[..., : len(Wh)] *= -1
    return Wx, Wh, b


def _add_biases(Wx: Array, Wh: Array, bx: Array, bh: Array) -> Arrays:
    return Wx, Wh, bx + bh


def _join_biases(Wx: Array, Wh: Array, bx: Array, bh: Array) -> Arrays:
    """Add the biases of z and r, and keep those of h̃, of x and of h, apart: (3H,) and (3H,) -> (4H,)."""
    (bx_z, bx_r, bx_h), (bh_z, bh_r, bh_h) = np.split(bx, 3), np.split(bh, 3)
    return Wx, Wh, np.concatenate([bx_z + bh_z, bx_r + bh_r, bx_h, bh_h])


def _split_bias(Wx: Array, Wh: Array, b: Array) -> tuple[Array, Array]:
    """Inverse of ``_join_biases``: (4H,) -> (3H,) and (3H,)."""
    D, H = _size(Wx, 0), _size(Wh, 0)
    _check("our GRU", (Wx, Wh, b), (D, 3 * H), (H, 3 * H), (4 * H,))
    return b[: 3 * H], np.concatenate([np.zeros_like(b[: 2 * H]), b[3 * H :]])


def _is_reset_after(Wh: Array, b: Array) -> bool:
    return np.shape(b) == (4 * _size(Wh, 0),)


def _check_form(kind: str, reset_after: bool, Wh: Array, b: Array) -> None:
    """Refuse our GRU if it has the form that ``kind`` does not have."""
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
