"""Sums of the rows that belong to equal ids: the gradient of an embedding. The plain twin is ``np.add.at``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from common.backend import Array, get_array_module

if TYPE_CHECKING:
    from common.packing import Layout

_BLOCK = 64  # rows that one matrix product adds up


class Unique:
    """The distinct numbers of an array, so that rows which belong to equal numbers can be summed. NumPy only.

    Parameters
    ----------
    ids : (n,) array of integers

    Attributes
    ----------
    distinct : (U,) array
        The numbers that occur, in the order in which they first do.
    index : (n,) array
        Where each id is in ``distinct``: ``distinct[index]`` equals ``ids``.
    """

    def __init__(self, ids: np.ndarray) -> None:
        number: dict[int, int] = {}  # keeps their order
        index = [number.setdefault(i, len(number)) for i in ids.tolist()]
        self.distinct = np.fromiter(number, np.intp, len(number))
        self.index = np.array(index, np.intp)

    def segment_sum(self, rows: np.ndarray) -> np.ndarray:
        """Sum the rows, (n, D), of each distinct number: sums[u] = Σ rows[i] over all i with index[i] = u, (U, D).

        ``np.add.at(sums, index, rows)`` takes five times as long. Sorted, the rows of a sum are neighbours, so
        the sums of a block of rows are one product with a small matrix of zeros and ones:

            index 0 0 1          1 1 0   row 0     row 0 + row 1 -> sums[0]
                                 0 0 1 @ row 1  =  row 2         -> sums[1]
                                         row 2
        """
        if len(rows) <= _BLOCK:
            member = np.arange(len(self.distinct))[:, None] == self.index
            return member.astype(rows.dtype) @ rows
        order = self.index.argsort(kind="stable")
        in_order = self.index[order]  # 0 0 0 1 2 2 ...
        sums = np.zeros((len(self.distinct), rows.shape[1]), dtype=rows.dtype)
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            u = in_order[block]
            low, high = u[0], u[-1] + 1
            member = (np.arange(low, high)[:, None] == u).astype(rows.dtype)
            sums[low:high] += member @ rows[order[block]]
        return sums


class UniqueRows:
    """A sequence of vectors in which vectors repeat: row r is rows[groups.index[r]].

    Of the 6,400 words of a batch perhaps 2,000 are distinct. A product x_nt Wx of all of them is the product of 2,000
    rows and a look-up; the gradients of equal words can be summed before they are multiplied. The results are those
    of the full (N, T, D) array, but for the order of summation.

    Attributes
    ----------
    rows : (U, D) array
    groups : Unique
        Of the words, in the order of time.
    layout : Layout
    """

    def __init__(self, rows: Array, groups: Unique, layout: Layout) -> None:
        self.rows, self.groups, self.layout = rows, groups, layout


def scatter_add(target: Array, index: Array, rows: Array) -> None:
    """``np.add.at(target, index, rows)``: add ``rows[i]`` to ``target[index[i]]``, for every i, in place.

    ``target[index] += rows`` would add only one of the rows that share an index.

    Parameters
    ----------
    target : (V, D) array, changed in place
    index : (n,) array of integers in [0, V)
    rows : (n, D) array
    """
    xp = get_array_module(target)
    if xp is np:
        groups = Unique(index)
        target[groups.distinct] += groups.segment_sum(rows)
    else:
        xp.add.at(target, index, rows)
