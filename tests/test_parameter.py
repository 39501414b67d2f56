"""Parameters: one array, one gradient, however many layers share them."""

import numpy as np
import pytest
from helpers import normal

from common.parameter import Parameter, as_parameter, joined, lay_out, unique_parameters


def test_transposed_parameter_shares_data_and_gradient():
    W = Parameter(normal(3, 2), "W")
    W.T.data[0, 1] = 7
    W.T.add_grad(np.ones((2, 3)))
    assert W.data[1, 0] == 7
    assert np.array_equal(W.grad, np.ones((3, 2)))
    assert np.shares_memory(W.T.grad, W.grad)
    assert W.T.T is W


def test_first_gradient_after_zero_grad_replaces_and_the_next_adds():
    W = Parameter(normal(3))
    W.add_grad(np.ones(3))
    W.zero_grad()
    W.add_grad(np.full(3, 2.0))
    W.add_grad(np.full(3, 3.0))
    assert np.array_equal(W.grad, [5, 5, 5])


@pytest.mark.parametrize("transposed", [False, True])
def test_first_rows_after_zero_grad_replace_and_the_next_add(transposed):
    W = Parameter(normal(2, 3)).T if transposed else Parameter(normal(3, 2))
    W.add_grad(np.ones((3, 2)))
    W.base.zero_grad()
    W.add_rows(np.array([2, 0]), np.array([[1.0, 2], [3, 4]]))
    W.add_rows(np.array([0, 1]), np.full((2, 2), 10.0))
    assert np.array_equal(W.grad, [[13, 14], [10, 10], [1, 2]])


def test_gradient_that_nobody_gave_is_zero():
    W = Parameter(normal(3))
    W.add_grad(np.ones(3))
    W.zero_grad()
    assert np.array_equal(W.grad, np.zeros(3))


def test_gradient_array_stays_the_same_object():
    W = Parameter(normal(3))
    grad = W.grad
    W.zero_grad()
    W.add_grad(np.ones(3))
    assert W.grad is grad


def test_as_parameter_keeps_parameters_and_wraps_arrays():
    array = normal(3)
    W = as_parameter(array, "W")
    assert W.data is array
    assert W.name == "W"
    assert as_parameter(W, "other") is W


def test_unique_parameters_by_identity_not_by_value():
    W, twin, b = Parameter(normal(2, 3)), Parameter(normal(2, 3)), Parameter(normal(3))
    assert unique_parameters([W, b, W.T, twin, W]) == [W, b, twin]


def test_a_transposed_parameter_follows_its_base():
    W = Parameter(normal(3, 2))
    T = W.T
    W.convert(lambda x: x.astype(np.float32))
    assert T.data.dtype == T.grad.dtype == np.float32


def test_wrong_shape_of_gradient_is_refused():
    W = Parameter(normal(3, 2))
    with pytest.raises(ValueError, match="broadcast"):
        W.add_grad(np.ones((2, 3)))


def test_repr_names_it():
    assert repr(Parameter(np.zeros((2, 3), np.float32), "rnn_Wx")) == "Parameter(rnn_Wx, shape=(2, 3), dtype=float32)"


def test_laid_out_parameters_keep_values_and_shapes_and_are_parts_of_one_array():
    W, b = Parameter(normal(2, 3)), Parameter(normal(3))
    W.add_grad(np.ones((2, 3)))
    lay_out([W, b])
    assert np.array_equal(W.data, normal(2, 3))
    assert np.array_equal(b.data, normal(3))
    (data,), (grad,) = joined([W.data, b.data]), joined([W.grad, b.grad])
    assert np.array_equal(data, [*normal(2, 3).ravel(), *normal(3)])
    assert np.array_equal(grad, [1, 1, 1, 1, 1, 1, 0, 0, 0])
    assert np.shares_memory(data, W.data)
    data *= 2
    assert np.array_equal(W.T.data, 2 * normal(2, 3).T)


def test_arrays_that_are_not_all_the_parts_of_one_stay_apart():
    W, b, other = (Parameter(normal(3)) for _ in range(3))
    lay_out([W, b])
    for arrays in ([W.data], [W.data, other.data], [W.data, b.grad], [other.data], []):
        assert joined(arrays) is arrays
