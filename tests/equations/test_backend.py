"""Sums of rows that share an index, and what else depends on where an array is; for the GPU, see test_cupy.py."""

import sys

import numpy as np
import pytest
from helpers import normal

import common.backend as backend
from common.backend import (
    Unique,
    blocked_matmul,
    fastest_exp,
    get_array_module,
    memory_figures,
    scatter_add,
    to_cpu,
    to_float64,
    to_floats,
    uniform,
)


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
    groups = Unique(ids)
    assert np.array_equal(groups.distinct, [5, 2, 9])  # in the order in which they first occur
    assert np.array_equal(groups.distinct[groups.index], ids)


@pytest.mark.parametrize("n", [1, 9, 10, 50, 51, 200])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_is_the_same_in_one_piece_and_in_parts(monkeypatch, n, transposed):
    monkeypatch.setattr(backend, "_SMALL", 10 * 7 * 4)
    monkeypatch.setattr(backend, "_SMALL_TRANSPOSED", 10 * 4)
    A, B = normal(n, 7), normal(4, 7, seed=1).T if transposed else normal(7, 4, seed=1)
    out = np.full((n, 4), np.nan)
    assert blocked_matmul(A, B, out) is out
    assert np.allclose(out, A @ B, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("n", "pieces"), [(10, 1), (11, 2), (50, 5), (51, 1)])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_is_made_in_parts_where_a_few_are_enough(monkeypatch, n, pieces, transposed):
    monkeypatch.setattr(backend, "_SMALL", 1000 if transposed else 10 * 7 * 4)
    monkeypatch.setattr(backend, "_SMALL_TRANSPOSED", 10 * 4 if transposed else 1)
    seen, matmul = [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda A, B, out: seen.append(len(A)) or matmul(A, B, out=out))
    blocked_matmul(normal(n, 7), normal(4, 7).T if transposed else normal(7, 4), np.empty((n, 4)))
    assert len(seen) == pieces
    assert sum(seen) == n


def test_numpy_arrays_and_numbers_belong_to_numpy():
    for x in (np.zeros(2), np.float32(1), 1.0, [1]):
        assert get_array_module(x) is np


def test_to_cpu_returns_numpy_arrays_as_they_are():
    x = np.zeros(2)
    assert to_cpu(x) is x


def test_on_the_cpu_random_numbers_are_those_of_the_generator_and_nothing_else_is_drawn():
    rng, same = np.random.default_rng(3), np.random.default_rng(3)
    for shape in ((2, 3), (5,)):
        assert np.array_equal(uniform(rng, shape, np), same.random(shape, dtype=np.float32))
    assert rng.bit_generator.state == same.bit_generator.state


def test_numbers_of_numpy_and_python_become_python_floats():
    for x in (np.float32(0.5), np.array(0.5), 0.5):
        assert type(to_float64(x)) is float
        assert to_float64(x) == 0.5
    assert to_floats(np.float32(0.5), 2) == [0.5, 2.0]


@pytest.mark.parametrize(
    ("platform", "target", "expected"),
    [
        ("linux", "X86_V4", "exp2"),
        ("linux", "AVX512_SKX", "exp2"),
        ("linux", "baseline(X86_V2)", "exp"),
        ("win32", "X86_V4", "exp"),
    ],
)
def test_powers_of_2_are_chosen_where_they_are_fast(monkeypatch, platform, target, expected):
    introspect = pytest.importorskip("numpy.lib.introspect", reason="it came with NumPy 2.1")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(introspect, "opt_func_info", lambda *_: {"exp2": {"ff": {"current": target}}})
    name, unit = fastest_exp()
    assert name == expected
    assert getattr(np, name)(3 / unit) == pytest.approx(np.exp(3))


def test_a_numpy_that_knows_nothing_of_exp2_computes_powers_of_e(monkeypatch):
    introspect = pytest.importorskip("numpy.lib.introspect", reason="it came with NumPy 2.1")
    monkeypatch.setattr(introspect, "opt_func_info", lambda *_: {})
    assert fastest_exp() == ("exp", 1.0)


def test_an_old_numpy_computes_powers_of_e(monkeypatch):
    monkeypatch.delattr(np.lib, "introspect", raising=False)
    monkeypatch.setitem(sys.modules, "numpy.lib.introspect", None)
    assert fastest_exp() == ("exp", 1.0)


def test_the_cpu_has_no_memory_of_a_gpu():
    assert memory_figures(np.zeros(3), "  ") == ""
