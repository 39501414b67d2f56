"""Sums of rows that share an index."""

import numpy as np
import pytest
from helpers import normal

from common.backend import Groups, get_array_module, scatter_add, to_cpu


@pytest.mark.parametrize("n", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("V", [1, 5, 400])
def test_scatter_add_equals_np_add_at(n, V):
    index = np.random.default_rng(n).zipf(1.3, n) % V
    expected, target = normal(V, 3), normal(V, 3)
    np.add.at(expected, index, normal(n, 3))
    scatter_add(target, index, normal(n, 3))
    assert np.allclose(target, expected, rtol=0, atol=1e-12)


def test_scatter_add_keeps_float32():
    target = np.zeros((2, 3), np.float32)
    scatter_add(target, np.array([1, 1]), np.ones((2, 3), np.float32))
    assert np.array_equal(target, [[0, 0, 0], [2, 2, 2]])


def test_groups_find_the_distinct_numbers():
    ids = np.array([5, 2, 5, 9, 2])
    groups = Groups(ids)
    assert np.array_equal(groups.distinct, [2, 5, 9])
    assert np.array_equal(groups.distinct[groups.index], ids)


def test_numpy_arrays_and_numbers_belong_to_numpy():
    for x in (np.zeros(2), np.float32(1), 1.0, [1]):
        assert get_array_module(x) is np


def test_to_cpu_returns_numpy_arrays_as_they_are():
    x = np.zeros(2)
    assert to_cpu(x) is x
