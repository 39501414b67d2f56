"""The output layer with its loss, faster. The plain twin: ``TimeAffineSoftmaxWithLoss`` of ``common.time_layers``.

Each trick is a function, and says how much less time forward and backward take with it than without it, in these
sizes, on one core of an x86-64 CPU with AVX-512:

    A  50 rows, H = 100, V = 418      B  700 rows, H = 100, V = 10,000      D  6,400 rows, H = 512, V = 8,000

All together: A 27 %, B 28 %, D 33 %; 10 % of A are those of ``blocked_matmul``.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from common.backend import Array, get_array_module
from common.fast.flat_buffer import AffineWithBias
from common.fast.products import blocked_matmul, cache_blocks, split_evenly
from common.fast.recurrent import make_read_only
from common.packing import from_rows
from common.time_layers import MAX_LOGITS, Sequences, TimeAffineSoftmaxWithLoss

_SAFE_SUM = 1e9  # a sum of exp(logits) in (10^-9, 10^9) says that none overflowed, and none that counts vanished


class FastTimeAffineSoftmaxWithLoss(TimeAffineSoftmaxWithLoss):
    """The same loss and gradients as TimeAffineSoftmaxWithLoss, but for rounding."""

    Wb: AffineWithBias | None = None  # [W; b] as one matrix, where a model has laid them out so
    logits_workspace: Array | None = None
    transient = (*TimeAffineSoftmaxWithLoss.transient, "Wb", "logits_workspace")

    def forward(self, hs: Sequences, ts: Sequences) -> float:
        """Return the loss, in nats per token, of hidden states hs, (N, T, H), with labels ts, (N, T)."""
        h, layout, t, weights = self.rows_and_labels(hs, ts)
        xp = get_array_module(h)
        if self.Wb is not None and not self.Wb.valid:
            self.Wb = None
        self._remembered = None  # gives back the memory of the last pass
        loss, dh = 0.0, xp.empty(h.shape, h.dtype) if self.training else None
        d = dWb = None  # d[W; b] of the slice in hand, as two factors; the sum over the slices before it
        for rows in split_evenly(len(h), MAX_LOGITS // len(self.b.data)):
            if d is not None:
                dWb = d[0] @ d[1] if dWb is None else dWb + d[0] @ d[1]
            w, y = weights[rows], self.make_workspace(rows.stop - rows.start, h)
            labels = xp.arange(0, y.size, y.shape[1]) + t[rows]  # where they are in y.reshape(-1). A: 4 %
            y_t, total = self.exp_logits(h[rows], labels, y)
            loss += w @ (xp.log(total) - y_t)
            if self.training:
                d = self.unscaled_gradients(h[rows], labels, y, total, w, out=dh[rows])
        if self.training:
            self.remember(layout, dh, dWb, d)
        return loss

    def backward(self, dout: float = 1.0) -> Sequences:
        """Return dhs, (N, T, H).

        The product that gives d[W; b] of the last slice, which may be the only one, waited until now: it goes straight
        into the gradient, without an array in between. A: 8 %, D: 2 %.
        """
        layout, dh, dWb, (h1T, dy) = self.recall()
        if dout != 1:
            dh, h1T = dout * dh, dout * h1T
        if self.Wb is not None and self.Wb.valid:
            self.Wb.add_product(h1T, dy)
        else:
            self.W.add_product(h1T[:-1], dy)
            self.b.add_grad(h1T[-1] @ dy)
        if dWb is not None:
            self.W.add_grad(dout * dWb[:-1])
            self.b.add_grad(dout * dWb[-1])
        dhs = from_rows(dh, layout)
        make_read_only(dhs)  # a second backward returns the same
        return dhs

    def make_workspace(self, rows: int, like: Array) -> Array:
        """Memory for logits, (rows, V), kept from step to step. D: 2 %.

        NumPy makes it once, for as many rows as there can be: on most systems, what is not written to costs nothing,
        and to make workspace for more and more rows, as batches of sentences need them, would leave holes in memory.
        """
        found = self.logits_workspace
        if type(found) is not type(like) or found.dtype != like.dtype or len(found) < rows:
            found = self.logits_workspace = None  # gives it back before taking more
            xp, V = get_array_module(like), len(self.b.data)
            most = max(rows, MAX_LOGITS // V) if xp is np else rows
            self.logits_workspace = xp.empty((most, V), like.dtype)
        return self.logits_workspace[:rows]

    def exp_logits(self, h: Array, labels: Array, y: Array) -> tuple[Array, Array]:
        """Set y, (n, V), to exp(logits); return the logits of the labels and the sum of each row of y, (n,).

        The largest logit of each row is subtracted only where one overflows, or all vanish: NumPy saves the two passes
        over y that subtracting takes. A: 4 %, B: 3 %, D: 3 %. A GPU would have to wait for the CPU, which decides.
        """
        xp = get_array_module(y)
        if xp is np:
            y_t, total = self._exp_logits(h, labels, y, subtract_max=False)
            if 1 / _SAFE_SUM < np.minimum.reduce(total) <= np.maximum.reduce(total) < _SAFE_SUM:
                return y_t, total
        return self._exp_logits(h, labels, y, subtract_max=True)

    @np.errstate(over="ignore")
    def _exp_logits(self, h: Array, labels: Array, y: Array, subtract_max: bool) -> tuple[Array, Array]:
        """The same, of logits or of logits - max. The passes over y go block by block, in the cache. B: 1 %."""
        xp = get_array_module(y)
        b, flat = self.logits(h, y), y.reshape(-1)
        y_t, total, ones = xp.empty(len(y), y.dtype), xp.empty(len(y), y.dtype), xp.ones(y.shape[1], y.dtype)
        for rows in cache_blocks(xp, *y.shape):
            y_ = y[rows]
            if b is not None:
                y_ += b
            if subtract_max:
                y_ -= y_.max(axis=1, keepdims=True)
            y_t[rows] = flat[labels[rows]]
            getattr(xp, _EXP)(y_, out=y_)
            xp.matmul(y_, ones, out=total[rows])  # y_.sum(axis=1) as a product. A: 3 %, B: 1 %
        y_t *= _LN_BASE
        return y_t, total

    def logits(self, h: Array, y: Array) -> Array | None:
        """Set y, (n, V), to logits / ``_LN_BASE``; where W and b are not one matrix, without b, which is returned.

        The bias trick: as [h 1] [W; b] = h W + b, the pass over y that adds b is saved. A: 5 %, B: 4 %.
        """
        h1 = with_ones(h, 1 / _LN_BASE)
        if self.Wb is not None:
            blocked_matmul(h1, self.Wb.data, out=y)
            return None
        blocked_matmul(h1[:, :-1], self.W.data, out=y)
        return self.b.data / _LN_BASE

    def unscaled_gradients(
        self, h: Array, labels: Array, y: Array, total: Array, w: Array, out: Array
    ) -> tuple[Array, Array]:
        """From y = exp(logits), compute dh, in ``out``, and d[W; b] as two factors, (H + 1, n) and (n, V).

        With r = w / total, dlogits = w (y / total - onehot) = r (y - total onehot): what is scaled by r are the H
        columns of h and dh, not the many more columns of y. A: 3 %, B: 1 %, D: 2 %.
        """
        y.reshape(-1)[labels] -= total
        r = (w / total)[:, None]
        dh = blocked_matmul(y, self.W.data.T, out=out)
        dh *= r
        return with_ones(h, r).T, y


def with_ones(h: Array, r: Array | float) -> Array:
    """r ⊙ [h 1]: h, (n, H), with a column of ones, (n, H + 1), each row times that of r, (n, 1)."""
    xp = get_array_module(h)
    h1 = xp.empty((len(h), h.shape[1] + 1), h.dtype)
    xp.multiply(h, r, out=h1[:, :-1])
    h1[:, -1:] = r
    return h1


def fastest_exp() -> tuple[str, float]:
    """The name of NumPy's fastest exponential function, and the natural logarithm of its base. A: 3 %, B: 3 %.

    Where NumPy has Intel's short vector mathematical library, on Linux with AVX-512, 2^x takes half
    the time of e^x. It is as good for a GPU, where both are fast. exp(y) = exp2(y / ln 2).
    """
    try:
        from numpy.lib import introspect  # of NumPy 2.1 and later
    except ImportError:
        return "exp", 1.0
    found = introspect.opt_func_info("^exp2$", "float32").get("exp2", {}).values()
    fast = sys.platform == "linux" and {info["current"] for info in found} & {"AVX512_SKX", "X86_V4"}
    return ("exp2", math.log(2)) if fast else ("exp", 1.0)


_EXP, _LN_BASE = fastest_exp()
