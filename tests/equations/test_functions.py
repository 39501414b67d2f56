"""Functions: known values, and inputs so large that careless formulas overflow."""

import numpy as np
import pytest
from helpers import normal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.functions import cross_entropy_error, log_softmax, relu, sigmoid, softmax, split_labels

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


@pytest.mark.parametrize("function", [sigmoid, softmax, log_softmax, relu])
def test_float32_stays_float32(function):
    assert function(np.ones((2, 3), np.float32)).dtype == np.float32


def test_relu_keeps_what_is_positive():
    assert np.array_equal(relu(np.array([[-2.0, 0.0], [3.0, -0.5]])), [[0, 0], [3, 0]])


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 5), (2, 3, 4, 5)])
def test_rows_of_any_number_of_axes_are_each_a_row(shape):
    x = normal(*shape)
    for function in (softmax, log_softmax):
        rows = [function(row) for row in x.reshape(-1, 5)]
        assert np.allclose(function(x), np.reshape(rows, shape), rtol=0, atol=1e-15)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_no_number_is_so_large_or_small_that_numpy_finds_fault(dtype):
    largest, tiny = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    with np.errstate(all="raise"):
        x = np.array([[-largest, -1, 0, 1, largest / 2], [-800, -tiny, 0, tiny, 800]], dtype)
        logistic = [[0, 0.268941, 0.5, 0.731059, 1], [0, 0.5, 0.5, 0.5, 1]]
        assert abs(sigmoid(x) - np.array(logistic, dtype)).max() < 1e-3
        assert np.array_equal(softmax(x), np.eye(5)[[4, 4]])
        assert np.array_equal(softmax(x[0]), np.eye(5)[4])
        assert np.array_equal(log_softmax(np.array([0, -800, -9e3], dtype)), [0, -800, -9e3])
        assert np.array_equal(relu(x)[0], [0, 0, 0, 1, largest / 2])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int32])
@pytest.mark.parametrize("function", [sigmoid, softmax, log_softmax])
def test_integers_are_computed_in_double_precision(function, dtype):
    info = np.iinfo(dtype) if dtype is not bool else np.iinfo(np.uint8)
    x = np.array([info.min, 0, 1, 2, info.max]).astype(dtype)  # of which differences overflow
    assert np.array_equal(function(x), function(x.astype(float)))
    assert np.array_equal(function(x.tolist()), function(x.astype(float)))


def test_what_is_not_a_real_number_is_refused():
    with pytest.raises(TypeError, match="expected real numbers, got an array of complex128"):
        softmax(np.ones(2, complex))


Y = np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])


@pytest.mark.parametrize(
    ("y", "t", "expected"),
    [
        (Y, [2, 1], -(np.log(0.7) + np.log(0.25)) / 2),
        (Y, [[0, 0, 1], [0, 1, 0]], -(np.log(0.7) + np.log(0.25)) / 2),
        (Y[0], [1], -np.log(0.2)),
        (Y[0], 1, -np.log(0.2)),
        (Y[0], [0.0, 1.0, 0.0], -np.log(0.2)),
        (Y[0], [False, True, False], -np.log(0.2)),
        ([1, 0], [0], 0),
        ([[1.0, 0.0]], [1], -np.log(np.finfo(np.float64).tiny)),
        (np.array([[1, 0]], np.float32), [1], -np.log(np.finfo(np.float32).tiny)),
        ([[1.0, 1e-12]], [1], -np.log(1e-12)),
    ],
)
def test_cross_entropy_by_hand(y, t, expected):
    with np.errstate(all="raise"):
        assert cross_entropy_error(np.array(y), np.array(t)) == pytest.approx(expected, rel=1e-6, abs=0)


@pytest.mark.parametrize(
    ("y", "t", "error", "message"),
    [
        (Y, [0, 3], IndexError, r"labels must be in \[0, 3\), got 3"),
        (Y, [-1, 0], IndexError, r"in \[0, 3\), got -1"),
        (Y, [0.0, 1.0], TypeError, "labels must be integers, got float64"),
        (Y, [True, False], TypeError, "labels must be integers, got bool"),
        (Y, [[0], [1]], ValueError, r"got y of shape \(2, 3\) and t of shape \(2, 1\)"),
        (Y, [0, 1, 2], ValueError, r"got y of shape \(2, 3\) and t of shape \(3,\)"),
        (Y[None], [[0, 1]], ValueError, r"got y of shape \(1, 2, 3\)"),
        (Y[:0], np.zeros(0, int), ValueError, r"got y of shape \(0, 3\)"),
        (Y, [[0, 0.5, 0.5], [0, 1, 0]], ValueError, r"shape \(2, 3\), .* must be one-hot"),
        (Y, [[0, 0, 0], [0, 1, 0]], ValueError, "one-hot"),
        (Y - 0.6, [0, 0], ValueError, "between 0 and 1, as softmax makes them, got -0.5 to -0.0"),
        (Y * 2, [2, 0], ValueError, "between 0 and 1, as softmax makes them, got 1.0 to 1.4"),
        (Y * np.nan, [2, 0], ValueError, "got nan to nan"),
    ],
)
def test_cross_entropy_refuses_what_does_not_fit(y, t, error, message):
    with pytest.raises(error, match=message):
        cross_entropy_error(y, np.array(t))


@pytest.mark.parametrize("function", [sigmoid, softmax, log_softmax, relu])
def test_on_a_gpu_all_stays_there(gpu, function):
    x = normal(2, 3)
    y = function(gpu.asarray(x))
    assert isinstance(y, gpu.ndarray)
    assert np.allclose(y.get(), function(x), rtol=1e-14, atol=0)


def test_cross_entropy_on_a_gpu(gpu):
    for t in (np.array([2, 1]), np.array([[0, 0, 1], [0, 1, 0]])):
        assert cross_entropy_error(gpu.asarray(Y), gpu.asarray(t)).get() == cross_entropy_error(Y, t)


def test_import_star_brings_numpy_as_in_the_textbook():
    names = {}
    exec("from common.functions import *", names)
    assert names["np"] is np
    assert names["GPU"] is False


def test_split_labels_weighs_labelled_rows_equally():
    labels, weights = split_labels(np.array([7, -1, 3, -1]), -1, np.float32)
    assert np.array_equal(labels, [7, 0, 3, 0])
    assert np.array_equal(weights, [0.5, 0, 0.5, 0])
    assert weights.dtype == np.float32


def test_split_labels_with_nothing_labelled():
    labels, weights = split_labels(np.array([-100, -100]), -100, np.float64)
    assert np.array_equal(labels, [0, 0])
    assert np.array_equal(weights, [0, 0])
