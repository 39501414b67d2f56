"""The gradient check itself: it must catch what is wrong, and all ones as upstream gradient must not be trusted."""

import numpy as np
import pytest
from helpers import normal

from common.functions import softmax
from common.gradient_check import check_gradients, gradient_error, numerical_gradient


def test_gradient_of_a_cubic():
    x = np.array([1.0, -2.0])
    assert np.allclose(numerical_gradient(lambda: (x**3).sum(), x), [3, 12], rtol=1e-9)
    assert np.array_equal(x, [1, -2])


def test_float32_is_refused():
    with pytest.raises(TypeError, match="float64"):
        numerical_gradient(lambda: 0.0, np.zeros(2, np.float32))


def test_errors_are_relative_to_the_largest_element():
    assert gradient_error(np.array([100.0, 0.0]), np.array([100.0, 1.0])) == pytest.approx(0.01)
    assert gradient_error(np.zeros(2), np.zeros(2)) == 0


def test_random_upstream_gradients_catch_a_mistake_that_all_ones_hide():
    # softmax sums to 1: with all ones upstream its gradient is 0, and so is that of a wrong derivation.
    x = normal(2, 4)

    def wrong_backward(dy):
        y = softmax(x)
        return 5 * y * (dy - (dy * y).sum(axis=1, keepdims=True))  # 5 times too large

    errors = {}
    for name, dy in {"ones": np.ones((2, 4)), "random": normal(2, 4, seed=1)}.items():
        difference = wrong_backward(dy) - numerical_gradient(lambda dy=dy: (softmax(x) * dy).sum(), x)
        errors[name] = np.abs(difference).max()
    assert errors["ones"] < 1e-9
    assert errors["random"] > 0.1


def test_check_gradients_reports_each_name():
    x, y = normal(2), normal(3)
    errors = check_gradients(lambda: (x**2).sum() + y.sum(), {"x": x, "y": y}, {"x": 2 * x, "y": 2 * np.ones(3)})
    assert errors["x"] < 1e-9
    assert errors["y"] == pytest.approx(0.5)
