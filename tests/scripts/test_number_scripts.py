"""The scripts that learn numbers: a sine wave, and sequences to recite."""

import math
import re

import numpy as np
import pytest
from helpers import GRADIENT_ERROR, NOT_POSITIVE, cases
from matplotlib.image import imread

from ch06_gated import train_sequences, train_sine
from ch06_gated.lstm_lm import LstmLm
from ch06_gated.train_sequences import numbers, recite
from ch06_gated.train_sine import free_run, make_network, random_windows, sine
from common.functions import softmax
from common.gradient_check import check_gradients

# Sine


def test_the_wave_has_fifty_steps_a_cycle():
    wave = sine(3)
    assert wave.shape == (150, 1)
    assert wave.dtype == np.float32
    assert np.allclose(wave[[0, 25, 50, 100], 0], 0, rtol=0, atol=1e-5)
    assert wave[12, 0] == pytest.approx(math.sin(2 * math.pi * 12 / 50), abs=1e-6)


def test_gradients_of_the_network():
    model = make_network(2, 0.5, np.random.default_rng(0))
    for p in model.parameters:
        p.convert(lambda x: x.astype(np.float64))
    xs, ts = sine(1)[None, :-1].astype(float), sine(1)[None, 1:].astype(float)

    def loss():
        model.reset_state()
        return float(model.forward(xs, ts))

    loss()
    model.backward()
    params, grads = (
        {p.name: x.copy() if copy else x for p, x in zip(model.parameters, xs_)}
        for xs_, copy in ((model.params, False), (model.grads, True))
    )
    assert max(check_gradients(loss, params, grads).values()) <= GRADIENT_ERROR


def test_random_windows_are_parts_of_the_wave_and_what_follows():
    wave = np.arange(100.0)[:, None]
    windows = list(random_windows(wave[:-1], wave[1:], 3, 7, np.random.default_rng(0)))
    assert len(windows) == 99 // 21
    starts = set()
    for xs, ts in windows:
        assert xs.shape == ts.shape == (3, 7, 1)
        assert (np.diff(xs[:, :, 0]) == 1).all()
        assert np.array_equal(ts, xs + 1)
        starts |= set(xs[:, 0, 0])
    assert len(starts) > 6


def test_running_free_is_hearing_what_was_said():
    model = make_network(3, 0.5, np.random.default_rng(0))
    heard = sine(1)[:10]
    said = free_run(model, heard, 4)
    assert said.shape == (4, 1)
    for k in range(4):  # the whole past at once, from zeros
        model.reset_state()
        everything = np.concatenate([heard, said[:k]])
        assert np.allclose(model.predict(everything[None])[0, -1], said[k], rtol=0, atol=1e-6)


def test_the_sine_wave_is_learnt_and_drawn(run, monkeypatch):
    drawn = []
    plot = train_sine.plot_waves
    monkeypatch.setattr(train_sine, "plot_waves", lambda panels, path: drawn.append(panels) or plot(panels, path))
    errors, output = run(train_sine.main, "--epochs", 60, "--free-cycles", 2)
    assert list(errors) == ["1-5-1", "1-2-1"]
    assert errors["1-5-1"] < 0.05  # of a wave whose mean square is 0.5
    found = [float(x) for x in re.findall(r"one step ahead (\S+)", output)]
    assert len(found) == 10
    assert found[4] < found[0] / 2
    assert re.findall(r"running free for 2 cycles: (\S+)", output) == [f"{error:.2e}" for error in errors.values()]
    assert imread("runs/sine/sine.png").shape[:2] == (600, 1080)
    [panels] = drawn
    for (title, (truth, said)), (name, error) in zip(panels.items(), errors.items(), strict=True):
        assert title.startswith(name)
        assert len(truth) == 150
        assert float(((truth[50:] - said) ** 2).mean()) == pytest.approx(error, rel=1e-5)


BAD_SINES = {
    "--cycles": ["0", "1", "some"],
    "--batch-size": NOT_POSITIVE,
    "--time-size": [*NOT_POSITIVE, "5000"],
    "--epochs": NOT_POSITIVE,
    "--lr": NOT_POSITIVE,
    "--init-range": NOT_POSITIVE,
    "--free-cycles": NOT_POSITIVE,
    "--seed": ["-1"],
    "--output": ["."],
}


@cases(BAD_SINES)
def test_bad_values_for_a_sine_are_one_line(error_line, tmp_path, monkeypatch, option, value):
    monkeypatch.chdir(tmp_path)
    error_line(train_sine.main, ["--epochs", "1", "--cycles", "10", option, value])


# Two sequences


def test_reciting_is_saying_the_likeliest_number_and_hearing_it():
    model = LstmLm(5, 4, 6, init_range=2.0, rng=np.random.default_rng(0))
    said, ps = recite(model, 3, 6)
    assert len(said) == 7
    assert said[0] == 3
    with model.evaluating():  # the whole at once
        expected = softmax(model.predict(np.array([said[:-1]]))[0])
    assert np.allclose(ps, expected, rtol=0, atol=1e-6)
    assert said[1:] == expected.argmax(axis=1).tolist()
    assert len(set(said)) > 1
    assert recite(model, 3, 6)[0] == said  # each time from zeros


def recitals(output):
    """Step, numbers that were said, and the likeliest last ones with their probabilities."""
    found = re.findall(r"^step +(\d+)  ([\d ]+)   last: (.*)$", output, re.MULTILINE)
    return [(int(step), said, dict(part.split(": ") for part in last.split(", "))) for step, said, last in found]


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_both_sequences_are_recited_from_memory(run, seed):
    steps, output = run(train_sequences.main, "--seed", seed, "--show-every", 40)
    *earlier, one, other = recitals(output)
    assert f"both sequences are perfect after {steps} steps" in output
    assert [one[:2], other[:2]] == [(steps, "9 0 1 2 3 4 5 6 7 9"), (steps, "8 0 1 2 3 4 5 6 7 8")]
    assert float(one[2]["9"]) > 0.9
    assert float(other[2]["8"]) > 0.9
    assert [step for step, _, _ in earlier] == [k for k in range(40, steps, 40) for _ in (0, 1)]
    # Before it remembers, it knows the sequences but for the ends, and of these that they are 8 or 9.
    assert any(0.4 < float(last.get("8", 0)) < 0.6 and 0.4 < float(last.get("9", 0)) < 0.6 for _, _, last in earlier)


def test_right_by_chance_is_not_perfect(run):
    _, output = run(train_sequences.main, "--seed", 1, "--show-every", 1, "--max-steps", 160)
    found = recitals(output)
    pairs = [(one[1], other[1]) for one, other in zip(found[::2], found[1::2])]
    assert ("9 0 1 2 3 4 5 6 7 9", "8 0 1 2 3 4 5 6 7 8") in pairs
    assert "not perfect after 160 steps" in output


def test_sequences_of_ones_own_of_any_lengths(run):
    steps, output = run(train_sequences.main, "--sequences", "3 1 4 1 5 9 2 6", "2 1 4 1 5 9 3")
    assert [said for _, said, _ in recitals(output)[-2:]] == ["3 1 4 1 5 9 2 6", "2 1 4 1 5 9 3"]
    assert steps < 1000


@pytest.mark.parametrize("text", ["", "1", "1 two", "1 -2", "1 1000", "1.5 2"])
def test_what_is_no_sequence_is_refused(error_line, text):
    assert "expected two or more whole numbers" in error_line(train_sequences.main, ["--sequences", "1 2", text])
    assert numbers(" 3  0 999 ").tolist() == [3, 0, 999]


def test_sequences_that_begin_alike_are_one_line(error_line):
    assert "both sequences begin with 1" in error_line(train_sequences.main, ["--sequences", "1 2 3", "1 3"])
