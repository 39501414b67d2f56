"""Products in blocks and segment sums: the same as ``@`` and ``np.add.at``."""

import numpy as np
import pytest
from helpers import normal

from common.fast import products
from common.fast.products import blocked_matmul, split_evenly
from common.fast.segment_sum import Unique, scatter_add


@pytest.mark.parametrize("n", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("V", [1, 5, 400])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scatter_add_equals_np_add_at(n, V, dtype):
    index = np.random.default_rng(n).zipf(1.3, n) % V
    rows = normal(n, 3).round(2).astype(dtype)
    expected, target = normal(V, 3), normal(V, 3).astype(dtype)
    np.add.at(expected, index, rows)
    scatter_add(target, index, rows)
    assert target.dtype == dtype
    assert np.allclose(target, expected, rtol=0, atol=1e-12 if dtype is np.float64 else 1e-3)


def test_the_distinct_numbers_stand_in_the_order_in_which_they_first_occur():
    ids = np.array([5, 2, 5, 9, 2])
    groups = Unique(ids)
    assert np.array_equal(groups.distinct, [5, 2, 9])
    assert np.array_equal(groups.distinct[groups.index], ids)


@pytest.mark.parametrize(("n", "size", "lengths"), [(10, 5, [5, 5]), (11, 5, [3, 4, 4]), (2, 0, [1, 1]), (0, 3, [])])
def test_slices_are_few_and_even(n, size, lengths):
    slices = split_evenly(n, size)
    assert [s.stop - s.start for s in slices] == lengths
    assert [k for s in slices for k in range(n)[s]] == list(range(n))


@pytest.mark.parametrize(("n", "pieces"), [(1, 1), (10, 1), (11, 2), (50, 5), (51, 1)])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_in_blocks_is_the_product_and_has_few_blocks(monkeypatch, n, pieces, transposed):
    monkeypatch.setattr(products, "_SMALL", 1000 if transposed else 10 * 7 * 4)
    monkeypatch.setattr(products, "_SMALL_TRANSPOSED", 10 * 4 if transposed else 1)
    A, B = normal(n, 7), normal(4, 7, seed=1).T if transposed else normal(7, 4, seed=1)
    expected, out, seen, matmul = A @ B, np.full((n, 4), np.nan), [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda A, B, out: seen.append(len(A)) or matmul(A, B, out=out))
    assert blocked_matmul(A, B, out) is out
    assert np.allclose(out, expected, rtol=0, atol=1e-14)
    assert len(seen) == pieces
