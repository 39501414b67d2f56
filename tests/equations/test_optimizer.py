"""Optimizers against the formulas of the papers, written out for whole arrays."""

import numpy as np
import pytest
from helpers import normal

import common.optimizer as optimizer
from common.fast.flat_buffer import FlatBuffer, flat_buffers
from common.optimizer import SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSprop, clip_grads
from common.parameter import Parameter

SHAPES = [(7, 3), (5,), (1, 1)]


def run(rule, steps=5, dtype=np.float64):
    """Make steps with gradients that differ; return the parameters."""
    params = [normal(*shape, dtype=dtype) for shape in SHAPES]
    for step in range(steps):
        rule.update(params, [normal(*shape, seed=step + 1, dtype=dtype) for shape in SHAPES])
    return params


def expected(formula, steps=5):
    """The same with ``formula(w, g, memory, t) -> w``, where memory is a dict that lives as long as w."""
    params = [normal(*shape) for shape in SHAPES]
    memories = [{} for _ in params]
    for step in range(steps):
        grads = [normal(*shape, seed=step + 1) for shape in SHAPES]
        params = [formula(w, g, memory, step + 1) for w, g, memory in zip(params, grads, memories)]
    return params


def adam_formula(w, g, memory, t, decay=0.0):
    w = w - 0.1 * decay * w
    memory["m"] = 0.8 * memory.get("m", 0) + 0.2 * g
    memory["v"] = 0.9 * memory.get("v", 0) + 0.1 * g**2
    return w - 0.1 * (memory["m"] / (1 - 0.8**t)) / (np.sqrt(memory["v"] / (1 - 0.9**t)) + 1e-3)


def momentum_formula(w, g, memory, t):
    memory["v"] = 0.5 * memory.get("v", 0) - 0.1 * g
    return w + memory["v"]


def textbook_adam_formula(w, g, memory, t):
    memory["m"] = memory.get("m", 0) + 0.2 * (g - memory.get("m", 0))
    memory["v"] = memory.get("v", 0) + 0.1 * (g**2 - memory.get("v", 0))
    lr = 0.1 * np.sqrt(1 - 0.9**t) / (1 - 0.8**t)
    return w - lr * memory["m"] / (np.sqrt(memory["v"]) + 1e-3)


def nesterov_formula(w, g, memory, t):
    v = 0.5 * memory.get("v", 0) - 0.1 * g  # the textbook's form of the same step
    memory["v"] = v
    before = (v + 0.1 * g) / 0.5
    return w + 0.5 * 0.5 * before - 1.5 * 0.1 * g


def adagrad_formula(w, g, memory, t):
    memory["h"] = memory.get("h", 0) + g**2
    return w - 0.1 * g / (np.sqrt(memory["h"]) + 1e-3)


def rmsprop_formula(w, g, memory, t):
    memory["h"] = 0.8 * memory.get("h", 0) + 0.2 * g**2
    return w - 0.1 * g / (np.sqrt(memory["h"]) + 1e-3)


RULES = {
    "nesterov": (lambda: Nesterov(0.1, 0.5), nesterov_formula),
    "adagrad": (lambda: AdaGrad(0.1, 1e-3), adagrad_formula),
    "rmsprop": (lambda: RMSprop(0.1, 0.8, 1e-3), rmsprop_formula),
    "adam, uncorrected": (lambda: Adam(0.1, 0.8, 0.9, 1e-3), textbook_adam_formula),
    "sgd": (lambda: SGD(0.1), lambda w, g, memory, t: w - 0.1 * g),
    "momentum": (lambda: Momentum(0.1, 0.5), momentum_formula),
    "adam": (lambda: Adam(0.1, 0.8, 0.9, 1e-3, corrected=True), adam_formula),
    "adamw": (
        lambda: AdamW(0.1, 0.8, 0.9, 1e-3, weight_decay=0.3),
        lambda w, g, memory, t: adam_formula(w, g, memory, t, decay=0.3),
    ),
}


@pytest.mark.parametrize("block", [2**16, 4])
@pytest.mark.parametrize("name", RULES)
def test_updates_follow_the_formula_whatever_the_size_of_the_blocks(monkeypatch, name, block):
    monkeypatch.setattr(optimizer, "_BLOCK", block)
    rule, formula = RULES[name]
    for ours, theirs in zip(run(rule()), expected(formula)):
        assert np.allclose(ours, theirs, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", RULES)
def test_float32_stays_float32_and_arrays_stay_the_same_objects(name):
    params = [normal(4, 3, dtype=np.float32)]
    array = params[0]
    RULES[name][0]().update(params, [normal(4, 3, seed=1, dtype=np.float32)])
    assert params[0] is array
    assert array.dtype == np.float32
    assert not np.array_equal(array, normal(4, 3, dtype=np.float32))


@pytest.mark.parametrize("name", RULES)
def test_transposed_parameters_are_updated_in_place(name):
    base, plain = normal(4, 3), normal(4, 3)
    RULES[name][0]().update([base.T], [normal(4, 3, seed=1).T])
    RULES[name][0]().update([plain], [normal(4, 3, seed=1)])
    assert np.allclose(base, plain, rtol=1e-14)


def test_the_defaults():
    defaults = {
        SGD: {"lr": 0.01},
        Momentum: {"lr": 0.01, "momentum": 0.9},
        Nesterov: {"lr": 0.01, "momentum": 0.9},
        AdaGrad: {"lr": 0.01, "eps": 1e-7},
        RMSprop: {"lr": 0.01, "decay_rate": 0.99, "eps": 1e-7},
        Adam: {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-7, "corrected": False},
        AdamW: {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "corrected": True, "weight_decay": 0.01},
    }
    for rule, expected in defaults.items():
        assert vars(rule()) == {**expected, "t": 0, **dict.fromkeys(rule.memories)}


@pytest.mark.parametrize("lr", [0, -1, float("nan")])
def test_learning_rates_that_are_not_positive_are_refused(lr):
    with pytest.raises(ValueError, match="must be positive"):
        SGD(lr)


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="1 parameters need as many gradients, got 0"):
        SGD().update([normal(2)], [])


def test_clip_grads_scales_all_by_one_factor():
    grads = [np.array([3.0, 0.0]), np.array([[4.0]])]
    assert clip_grads(grads, 1.0) == pytest.approx(5)
    assert np.allclose(grads[0], [0.6, 0], atol=1e-6)
    assert np.allclose(grads[1], [[0.8]], atol=1e-6)


def test_clip_grads_leaves_short_gradients_alone():
    grads = [normal(3), np.zeros(3)]
    kept = grads[0].copy()
    clip_grads(grads, 100.0)
    assert np.array_equal(grads, [kept, np.zeros(3)])
    assert clip_grads(grads[1:], 1.0) == 0
    assert not grads[1].any()


@pytest.mark.parametrize("name", RULES)
def test_parameters_in_one_array_are_clipped_and_updated_as_if_apart(name):
    apart, together = ([Parameter(normal(*shape)) for shape in SHAPES] for _ in range(2))
    buffer = FlatBuffer(together)
    for parameters, params, grads in (
        (apart, [p.data for p in apart], [p.grad for p in apart]),
        (together, buffer.params, buffer.grads),
    ):
        rule = RULES[name][0]()
        for step in range(3):
            for p in parameters:
                p.grad[...] = normal(*p.data.shape, seed=step + 1)
            clip_grads(grads, 0.5)
            rule.update(params, grads)
        for memory in rule.memories:
            assert len(flat_buffers(params, getattr(rule, memory))[1]) == (3 if parameters is apart else 1)
    for a, b in zip(apart, together):
        assert np.allclose(a.data, b.data, rtol=1e-13, atol=0)
