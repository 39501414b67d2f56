"""What depends on where an array is; for the GPU, see test_cupy.py."""

import numpy as np

from common.backend import get_array_module, memory_figures, to_cpu, to_float64, to_floats, uniform


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


def test_the_cpu_has_no_memory_of_a_gpu():
    assert memory_figures(np.zeros(3), "  ") == ""
