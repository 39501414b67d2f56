"""The steps of TimeRNN, TimeGRU and TimeLSTM on a GPU: between two matrix products, one kernel.

A step of a recurrent layer is a dozen operations on few numbers. On a GPU each of them is a kernel, and the CPU takes
longer to start a kernel than the GPU to run it. So what stands between two products is one kernel here. The methods
``_step``, ``_local_gradients`` and ``_backward_step`` in recurrent.py are the plain path: they compute the same.

In the kernels, i counts the N·H numbers of a state; its row is n = i / H, its column j = i % H. ``a`` are the gates of
all rows: before a step their pre-activations, after it their values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from common.backend import Array, get_array_module

if TYPE_CHECKING:
    from common.fast.recurrent import TimeGRU, TimeLSTM, TimeRecurrent, TimeRNN

_SIGMOID = "template <typename T> __device__ T sigmoid(T x) { return 1 / (1 + exp(-x)); }"

# Name: what goes in, what goes out (and may go in, too), and what is computed.
_KERNELS = {
    "rnn": ("T product", "T h", "h = tanh(h + product)"),
    "rnn_backward": ("T h, T dh", "T da", "da = (1 - h * h) * dh"),
    "lstm": (
        "raw T product, T c_prev, int32 H",
        "raw T a, T c, T h",
        """
        int k = i / H * 4 * H + i % H;
        T f = sigmoid(a[k] + product[k]);
        T g = tanh(a[k + H] + product[k + H]);
        T input = sigmoid(a[k + 2 * H] + product[k + 2 * H]);
        T o = sigmoid(a[k + 3 * H] + product[k + 3 * H]);
        c = f * c_prev + g * input;
        h = o * tanh(c);
        a[k] = f; a[k + H] = g; a[k + 2 * H] = input; a[k + 3 * H] = o;
        """,
    ),
    "lstm_backward": (
        "raw T a, T c_prev, T c, T dh, int32 H",
        "raw T da, T dc",
        """
        int k = i / H * 4 * H + i % H;
        T f = a[k], g = a[k + H], input = a[k + 2 * H], o = a[k + 3 * H];
        T tanh_c = tanh(c);
        dc += dh * o * (1 - tanh_c * tanh_c);
        da[k] = dc * c_prev * f * (1 - f);
        da[k + H] = dc * input * (1 - g * g);
        da[k + 2 * H] = dc * g * input * (1 - input);
        da[k + 3 * H] = dh * tanh_c * o * (1 - o);
        dc *= f;
        """,
    ),
    "gru_gates": (
        "raw T product, T h_prev, int32 H",
        "raw T a, T inner",
        """
        int n = i / H, j = i % H, k = n * 3 * H + j, l = n * 2 * H + j;
        a[k] = sigmoid(a[k] + product[l]);
        T r = sigmoid(a[k + H] + product[l + H]);
        a[k + H] = r;
        inner = r * h_prev;
        """,
    ),
    "gru": (
        "T product, T h_prev, int32 H",
        "raw T a, T h",
        """
        int k = i / H * 3 * H + i % H;
        T z = a[k], h_tilde = tanh(a[k + 2 * H] + product);
        a[k + 2 * H] = h_tilde;
        h = h_tilde + z * (h_prev - h_tilde);
        """,
    ),
    "gru_reset_after": (
        "raw T product, T h_prev, raw T b, int32 H",
        "raw T a, T inner, T h",
        """
        int j = i % H, k = i / H * 3 * H + j;
        T z = sigmoid(a[k] + product[k]);
        T r = sigmoid(a[k + H] + product[k + H]);
        inner = product[k + 2 * H] + b[3 * H + j];
        T h_tilde = tanh(a[k + 2 * H] + r * inner);
        h = h_tilde + z * (h_prev - h_tilde);
        a[k] = z; a[k + H] = r; a[k + 2 * H] = h_tilde;
        """,
    ),
    "gru_backward": (
        "raw T a, T h, int32 H",
        "raw T da, raw T da_h, T dh",
        """
        int k = i / H * 3 * H + i % H;
        T z = a[k], h_tilde = a[k + 2 * H];
        da[k] = dh * (1 - z) * (h - h_tilde);
        da[k + 2 * H] = da_h[i] = dh * (1 - z) * (1 - h_tilde * h_tilde);
        dh *= z;
        """,
    ),
    "gru_backward_reset": (
        "raw T a, T inner, T d_inner, int32 H",
        "raw T da, raw T da_zr, T dh",
        """
        int n = i / H, j = i % H, k = n * 3 * H + j, l = n * 2 * H + j;
        T r = a[k + H];
        da_zr[l] = da[k];
        da[k + H] = da_zr[l + H] = d_inner * inner * (1 - r);
        dh += d_inner * r;
        """,
    ),
    "gru_backward_reset_after": (
        "raw T a, T h, T inner, int32 H",
        "raw T da, raw T da_product, T dh",
        """
        int k = i / H * 3 * H + i % H;
        T z = a[k], r = a[k + H], h_tilde = a[k + 2 * H];
        T da_h = dh * (1 - z) * (1 - h_tilde * h_tilde);
        da[k] = da_product[k] = dh * (1 - z) * (h - h_tilde);
        da[k + H] = da_product[k + H] = da_h * inner * r * (1 - r);
        da[k + 2 * H] = da_h;
        da_product[k + 2 * H] = da_h * r;
        dh *= z;
        """,
    ),
}


@lru_cache
def _kernel(xp: ModuleType, name: str) -> Callable:
    inputs, outputs, operation = _KERNELS[name]
    return xp.ElementwiseKernel(inputs, outputs, operation, name, preamble=_SIGMOID)


Step = Callable[..., None]


def _rnn_steps(layer: TimeRNN, xp: ModuleType) -> tuple[Step, Step]:
    def step(xp: ModuleType, rows_t: slice, rows_prev: slice) -> None:
        _kernel(xp, "rnn")(layer.hs[rows_prev] @ layer.Wh.data, layer.hs_next[rows_t])

    def backward_step(xp: ModuleType, rows_t: slice, dh: Array, da: Array) -> None:
        da_t = da[rows_t]
        _kernel(xp, "rnn_backward")(layer.hs_next[rows_t], dh, da_t)
        xp.matmul(da_t, layer.WhT, out=dh)

    return step, backward_step


def _lstm_steps(layer: TimeLSTM, xp: ModuleType) -> tuple[Step, Step]:
    H = len(layer.Wh.data)

    def step(xp: ModuleType, rows_t: slice, rows_prev: slice) -> None:
        product, a, c, h = (
            layer.hs[rows_prev] @ layer.Wh.data,
            layer.gates[rows_t],
            layer.cs_next[rows_t],
            layer.hs_next[rows_t],
        )
        _kernel(xp, "lstm")(product, layer.cs[rows_prev], H, a, c, h)

    def backward_step(xp: ModuleType, rows_t: slice, dh: Array, da: Array) -> None:
        a, c, da_t, dc = layer.gates[rows_t], layer.cs_next[rows_t], da[rows_t], layer.dc[: len(dh)]
        _kernel(xp, "lstm_backward")(a, layer.cs_prev[rows_t], c, dh, H, da_t, dc)
        xp.matmul(da_t, layer.WhT, out=dh)

    return step, backward_step


def _gru_steps(layer: TimeGRU, xp: ModuleType) -> tuple[Step, Step]:
    H, Wh = len(layer.Wh.data), layer.Wh.data
    if not layer.reset_after:  # what is not contiguous, a product copies each time
        Wh_zr, Wh_h = xp.ascontiguousarray(Wh[:, : 2 * H]), xp.ascontiguousarray(Wh[:, 2 * H :])

    def step(xp: ModuleType, rows_t: slice, rows_prev: slice) -> None:
        h_prev, a, inner, h = layer.hs[rows_prev], layer.gates[rows_t], layer.inner[rows_t], layer.hs_next[rows_t]
        if layer.reset_after:
            _kernel(xp, "gru_reset_after")(h_prev @ Wh, h_prev, layer.b.data, H, a, inner, h)
        else:
            _kernel(xp, "gru_gates")(h_prev @ Wh_zr, h_prev, H, a, inner)
            _kernel(xp, "gru")(inner @ Wh_h, h_prev, H, a, h)

    def backward_step(xp: ModuleType, rows_t: slice, dh: Array, da: Array) -> None:
        a, h, inner, da_t = layer.gates[rows_t], layer.hs_next[rows_t], layer.inner[rows_t], da[rows_t]
        if layer.reset_after:
            da_product = xp.empty_like(da_t)
            _kernel(xp, "gru_backward_reset_after")(a, h, inner, H, da_t, da_product, dh)
            dh += da_product @ layer.WhT
        else:
            da_h, da_zr = xp.empty_like(dh), xp.empty((len(dh), 2 * H), dh.dtype)
            _kernel(xp, "gru_backward")(a, h, H, da_t, da_h, dh)
            _kernel(xp, "gru_backward_reset")(a, inner, da_h @ layer.WhT[2 * H :], H, da_t, da_zr, dh)
            dh += da_zr @ layer.WhT[: 2 * H]

    return step, backward_step


_STEPS = {"TimeRNN": _rnn_steps, "TimeGRU": _gru_steps, "TimeLSTM": _lstm_steps}


def fused_steps(layer: TimeRecurrent) -> tuple[Step, Step] | None:
    """In place of ``_step`` and ``_backward_step``; None on the CPU, and for a cell that has no kernels here."""
    xp = get_array_module(layer.Wh.data)
    known = xp is not np and hasattr(xp, "ElementwiseKernel") and type(layer).__name__ in _STEPS
    return _STEPS[type(layer).__name__](layer, xp) if known else None
