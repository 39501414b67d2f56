"""Parameters: one array, one gradient, however many layers share them; and one array for all of them."""

import copy
import pickle

import numpy as np
import pytest
from helpers import normal

from common.fast.flat_buffer import FlatBuffer, flat_buffers
from common.layers import RNN, Affine, Layer, MatMul
from common.parameter import Parameter, shared_memory, unique_parameters


def test_transposed_parameter_shares_data_and_gradient():
    W = Parameter(normal(3, 2), "W")
    W.T.data[0, 1] = 7
    W.T.add_grad(np.ones((2, 3)))
    assert W.data[1, 0] == 7
    assert np.array_equal(W.grad, np.ones((3, 2)))
    assert np.shares_memory(W.T.grad, W.grad)
    assert W.T.T is W


# What gives a gradient to a (3, 2) parameter, and what it gives.
WAYS = {
    "grad": (lambda W: W.add_grad(np.full((3, 2), 2.0)), np.full((3, 2), 2.0)),
    "product": (lambda W: W.add_product(np.ones((3, 4)), np.ones((4, 2))), np.full((3, 2), 4.0)),
    "rows": (lambda W: W.add_rows(np.array([2, 0, 2]), np.ones((3, 2))), np.array([[1.0, 1], [0, 0], [2, 2]])),
    "distinct rows": (
        lambda W: W.add_rows(np.array([2, 0]), np.array([[1.0, 2], [3, 4]]), distinct=True),
        np.array([[3.0, 4], [0, 0], [1, 2]]),
    ),
}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("second", WAYS)
@pytest.mark.parametrize("first", WAYS)
def test_the_first_gradient_of_a_pass_replaces_and_the_others_add(first, second, transposed):
    W = Parameter(normal(2, 3)).T if transposed else Parameter(normal(3, 2))
    grad = W.base.grad
    W.add_grad(normal(3, 2))
    for _ in range(2):
        W.base.is_stale = True
        for way in (first, second):
            WAYS[way][0](W)
        assert np.array_equal(W.grad, WAYS[first][1] + WAYS[second][1])
    assert W.base.grad is grad


def test_a_layer_that_gives_a_second_time_begins_a_new_pass():
    W, a, b = Parameter(normal(3)), Layer(), Layer()
    for layer, expected in ((a, 1), (b, 2), (a, 1), (b, 2), (b, 1)):
        W.begin(layer)
        W.add_grad(np.ones(3))
        assert W.grad.tolist() == [expected] * 3


def test_reading_a_gradient_does_not_change_it():
    W = Parameter(normal(3))
    W.add_grad(np.ones(3))
    W.is_stale = True
    assert W.grad.tolist() == [1, 1, 1]
    assert W.T.grad.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["data", "grad"])
@pytest.mark.parametrize("transposed", [False, True])
def test_an_array_that_is_assigned_is_copied_into_place(name, transposed):
    base = Parameter(np.zeros((2, 3), np.float32), "W")
    W = base.T if transposed else base
    array = getattr(base, name)
    new = np.arange(6.0).reshape(getattr(W, name).shape)
    setattr(W, name, new)
    assert getattr(base, name) is array
    assert np.array_equal(getattr(W, name), new)
    new += 1
    assert not np.array_equal(getattr(W, name), new)
    setattr(W, name, getattr(W, name))
    setattr(W, name, new.tolist())
    assert np.array_equal(getattr(W, name), new)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.zeros((3, 2)), r"W.data has shape \(2, 3\), .* of shape \(3, 2\)"),
        (np.zeros(3), r"shape \(3,\)"),
        (1.0, r"shape \(\)"),
        (np.zeros((2, 3), complex), "complex128"),
        (np.zeros((2, 3), object), "object"),
        (None, "NoneType"),
        ("abc", "str"),
    ],
)
def test_what_does_not_fit_a_parameter_is_refused(value, error):
    W = Parameter(normal(2, 3), "W")
    with pytest.raises((ValueError, TypeError), match=error):
        W.data = value
    assert np.array_equal(W.data, normal(2, 3))


@pytest.mark.parametrize("data", [[1.0, 2.0], np.arange(3), np.zeros(3, complex), None, np.array(["a"])], ids=str)
def test_a_parameter_is_made_of_floating_point_numbers(data):
    with pytest.raises(TypeError, match="floating-point"):
        Parameter(data)


def test_a_gradient_has_the_shape_of_its_parameter():
    with pytest.raises(ValueError, match=r"the gradient of W must have shape \(2, 3\)"):
        Parameter(normal(2, 3), "W", normal(3, 2))
    with pytest.raises(ValueError, match="broadcast"):
        Parameter(normal(2, 3)).add_grad(normal(3, 2))


def test_an_array_assigned_to_the_weight_of_a_layer_is_copied_into_place():
    W = normal(3, 5)
    layer = Affine(W, normal(5))
    layer.W = np.ones((3, 5))
    assert np.array_equal(W, np.ones((3, 5)))
    assert layer.params[0] is W
    with pytest.raises(TypeError, match="has its parameter W already"):
        layer.W = Parameter(normal(3, 5))
    with pytest.raises(ValueError, match=r"\(3, 5\), .* \(5, 3\)"):
        layer.W = normal(5, 3)


def test_no_other_array_is_put_in_place_of_one():
    layer = Affine(normal(3, 5), normal(5))
    params = layer.params
    params[0] -= 0.5 * normal(3, 5)  # in place: the array stays
    assert np.array_equal(layer.W.data, 0.5 * normal(3, 5))
    with pytest.raises(TypeError, match="changed in place"):
        params[0] = params[0] - 1
    with pytest.raises(TypeError, match="changed in place"):
        params[:] = [normal(3, 5), normal(5)]
    assert type(params[:]) is type(params + params) is list


def test_unique_parameters_by_identity_not_by_value():
    W, twin, b = Parameter(normal(2, 3)), Parameter(normal(2, 3)), Parameter(normal(3))
    assert unique_parameters([W, b, W.T, twin, W]) == [W, b, twin]


def test_a_transposed_parameter_follows_its_base():
    W = Parameter(normal(3, 2))
    T = W.T
    W.convert(lambda x: x.astype(np.float32))
    assert T.data.dtype == T.grad.dtype == np.float32
    T.convert(lambda x: x.astype(np.float64))
    assert W.data.dtype == np.float64


def test_repr_names_it():
    W = Parameter(np.zeros((2, 3), np.float32), "rnn_Wx")
    assert repr(W) == "Parameter(rnn_Wx, shape=(2, 3), dtype=float32)"
    assert repr(W.T) == "Parameter(rnn_Wx, shape=(3, 2), dtype=float32)"


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda x: pickle.loads(pickle.dumps(x))}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_parameter_is_one_of_its_own(how, transposed):
    base = Parameter(normal(3, 2), "W")
    W = base.T if transposed else base
    other = COPIES[how](W)
    assert other.name == "W"
    assert np.array_equal(other.data, W.data)
    assert not np.shares_memory(other.data, W.data)
    other.add_grad(np.ones(other.data.shape))
    other.data = np.zeros(other.data.shape)
    assert np.array_equal(base.data, normal(3, 2))
    assert not base.grad.any()
    assert np.array_equal(other.T.grad, np.ones(other.T.data.shape))


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_layer_does_not_know_the_pass_in_hand(how):
    layer = RNN(normal(3, 5), normal(5, 5), normal(5))
    layer.forward(normal(2, 3), normal(2, 5))
    other = COPIES[how](layer)
    with pytest.raises(ValueError, match=r"RNN\.backward was called without a forward"):
        other.backward(normal(2, 5))
    other.forward(normal(2, 3), normal(2, 5))
    dx, dh = other.backward(normal(2, 5))
    for ours, theirs in zip((dx, dh), layer.backward(normal(2, 5))):
        assert np.array_equal(ours, theirs)


def test_a_layer_may_use_one_parameter_twice():
    W = Parameter(normal(5, 5), "W")
    layer, apart = RNN(W, W, normal(5)), RNN(normal(5, 5), normal(5, 5), normal(5))
    for _ in range(2):
        for rnn in (layer, apart):
            rnn.forward(normal(2, 5), normal(2, 5, seed=1))
            rnn.backward(normal(2, 5, seed=2))
        assert np.allclose(W.grad, apart.grads[0] + apart.grads[1], rtol=1e-13)


def test_shared_memory():
    W = normal(4, 6)
    others = {
        "same": [W, W[:], W.T.T, W.reshape(4, 6)],
        "transposed": [W.T, W[:].T],
        "some": [W[1:], W[:, :3], W.reshape(-1), W.reshape(6, 4), W[::-1]],
        "": [W.copy(), normal(6)],
    }
    for how, arrays in others.items():
        assert [shared_memory(W, x) for x in arrays] == [how] * len(arrays)
    assert shared_memory(W[:, :3], W[:, 3:]) == ""
    assert shared_memory(W[::2], W[1::2]) == ""


# One array for all


def laid_out(*shapes):
    parameters = [Parameter(normal(*shape)) for shape in shapes]
    return parameters, FlatBuffer(parameters)


def test_laid_out_parameters_keep_values_and_shapes_and_are_parts_of_one_array():
    (W, b), buffer = laid_out((2, 3), (3,))
    assert np.array_equal(W.data, normal(2, 3))
    assert np.array_equal(b.data, normal(3))
    (data,), (grad,) = flat_buffers(buffer.params, buffer.grads)
    assert np.array_equal(data, [*normal(2, 3).ravel(), *normal(3)])
    W.add_grad(np.ones((2, 3)))
    assert np.array_equal(grad, [1, 1, 1, 1, 1, 1, 0, 0, 0])
    data *= 2
    assert np.array_equal(W.T.data, 2 * normal(2, 3).T)


def test_lists_are_joined_together_or_not_at_all():
    (W, b), buffer = laid_out((3,), (3,))
    _, others = laid_out((3,), (3,))
    _, wide = laid_out((2,), (4,))
    params, grads = buffer.params, buffer.grads
    assert len(flat_buffers(params, others.grads)[1]) == 1
    sums = [g + 1 for g in grads]
    for other in (sums, [b.grad, W.grad], grads[::-1], list(grads), grads[:1], wide.grads, []):
        assert flat_buffers(params, other) == (params, other)
    grads.reverse()
    assert flat_buffers(params, grads) == (params, grads)


def test_w_and_b_are_one_matrix_only_where_they_are_neighbours():
    (W, b, c), buffer = laid_out((2, 3), (3,), (3,))
    Wb = buffer.stacked(W, b)
    assert np.array_equal(Wb.data, np.vstack([W.data, b.data]))
    assert buffer.stacked(W, c) is buffer.stacked(b, W) is buffer.stacked(W.T, b) is None
    assert Wb.valid
    b.move(b.data.copy(), b.grad.copy())
    assert not Wb.valid


def test_one_parameter_makes_a_buffer_too():
    (W,), buffer = laid_out((2, 3))
    assert flat_buffers(buffer.params)[0][0].shape == (6,)
    assert np.shares_memory(buffer.params[0], flat_buffers(buffer.params)[0][0])
    assert np.array_equal(W.data, normal(2, 3))
    assert buffer.stacked(W, W) is None


def test_a_matrix_of_w_and_b_adds_where_one_of_them_has_a_gradient_already():
    (W, b), buffer = laid_out((2, 3), (3,))
    Wb, d = buffer.stacked(W, b), np.ones((3, 3))
    b.add_grad(np.ones(3))
    Wb.add_product(np.eye(3), d)
    assert np.array_equal(W.grad, d[:2])
    assert np.array_equal(b.grad, 2 * d[2])


def test_one_step_layers_over_time_add_up_in_one_pass():
    W, xs, dys = Parameter(normal(3, 5)), normal(4, 2, 3), normal(4, 2, 5)
    steps = [MatMul(W) for _ in xs]
    for _ in range(2):
        for layer, x in zip(steps, xs):
            layer.forward(x)
        for layer, dy in zip(reversed(steps), dys[::-1]):
            layer.backward(dy)
        assert np.allclose(W.grad, sum(x.T @ dy for x, dy in zip(xs, dys)), rtol=1e-13)


def test_a_new_pass_may_end_in_another_layer():
    W = Parameter(normal(3, 5))
    a, b = MatMul(W), MatMul(W)
    for layers in ([a], [b], [a], [b, a], [b], [a, b]):
        for each in (a, b):
            each.forward(normal(2, 3))
        for layer in layers:
            layer.backward(normal(2, 5))
        assert np.allclose(W.grad, len(layers) * normal(2, 3).T @ normal(2, 5), rtol=1e-13)
