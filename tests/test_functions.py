"""Functions: known values, and inputs so large that careless formulas overflow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.functions import log_softmax, sigmoid, softmax, split_labels

logits = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=3), elements=st.floats(-1e4, 1e4))


def test_sigmoid_of_known_values():
    assert np.allclose(sigmoid(np.array([0.0, np.log(3), -np.log(3)])), [0.5, 0.75, 0.25], rtol=0, atol=1e-15)


@pytest.mark.filterwarnings("error")
def test_sigmoid_does_not_overflow():
    assert np.array_equal(sigmoid(np.array([-1e4, 1e4])), [0, 1])


def test_softmax_of_known_values():
    assert np.allclose(softmax(np.log(np.array([[1.0, 2.0, 5.0]]))), [[0.125, 0.25, 0.625]], rtol=0, atol=1e-15)


@given(logits)
def test_softmax_sums_to_one_and_log_softmax_is_its_log(x):
    y = softmax(x)
    assert np.allclose(y.sum(axis=-1), 1)
    assert np.isfinite(log_softmax(x)).all()
    assert np.allclose(np.exp(log_softmax(x)), y)


def test_log_softmax_where_the_probability_underflows():
    assert np.array_equal(log_softmax(np.array([[1e4, -1e4]])), [[0, -2e4]])


@pytest.mark.parametrize("function", [sigmoid, softmax, log_softmax])
def test_float32_stays_float32(function):
    assert function(np.ones((2, 3), np.float32)).dtype == np.float32


def test_split_labels_weighs_labelled_rows_equally():
    labels, weights = split_labels(np.array([7, -1, 3, -1]), -1, np.float32)
    assert np.array_equal(labels, [7, 0, 3, 0])
    assert np.array_equal(weights, [0.5, 0, 0.5, 0])
    assert weights.dtype == np.float32


def test_split_labels_with_nothing_labelled():
    labels, weights = split_labels(np.array([-100, -100]), -100, np.float64)
    assert np.array_equal(labels, [0, 0])
    assert np.array_equal(weights, [0, 0])
