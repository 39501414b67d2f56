"""The trainer does what the plain loop does, keeps the best weights, and survives Ctrl-C."""

import csv
import math
import re

import numpy as np
import pytest
from helpers import recording

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated.lstm_lm import LstmLm
from common.batching import OffsetBatches, SentenceBatches
from common.evaluation import evaluate, evaluate_windows, perplexity
from common.metrics import Perplexity
from common.optimizer import SGD, Adam, clip_grads
from common.runs.checkpoint import Checkpoint
from common.runs.plotting import plot_learning_curve
from common.runs.recorder import RunRecorder
from common.trainer import RnnlmTrainer

V = 12
WORDS = np.random.default_rng(0).zipf(1.5, 401) % V
TEXT = WORDS[:-1], WORDS[1:]
VALID = WORDS[:60][:-1], WORDS[:60][1:]
SIZES = {"batch_size": 4, "time_size": 5}


def build():
    return SimpleRnnlm(V, 8, 8, rng=np.random.default_rng(0))


def fit(model=None, lr=0.5, text=TEXT, **options):
    trainer = RnnlmTrainer(model or build(), SGD(lr))
    trainer.fit(*text, **{"max_epoch": 2, **SIZES, **options})
    return trainer


def fit_in(folder, lr=0.5, trainer=None, **options):
    """Train, and keep in the folder what a script keeps."""
    trainer = trainer or RnnlmTrainer(build(), SGD(lr))
    with recording(folder) as recorder:
        trainer.fit(*TEXT, **{"max_epoch": 2, **SIZES, **options}, recorder=recorder)
    return trainer


def test_the_trainer_equals_the_plain_loop():
    model, optimizer, losses = build(), SGD(0.5), []
    batches = OffsetBatches(*TEXT, **SIZES)
    for _ in range(2):
        for x, t in batches:
            losses.append(model.forward(x, t))
            model.backward()
            clip_grads(model.grads, 0.5)
            optimizer.update(model.params, model.grads)
    trainer = fit(max_grad=0.5, eval_interval=7)
    for a, b in zip(model.params, trainer.model.params):
        assert np.array_equal(a, b)
    assert [r["iteration"] for r in trainer.history] == [7, 14, 20, 27, 34, 40]
    assert [r["epoch"] for r in trainer.history] == pytest.approx([0.35, 0.7, 1, 1.35, 1.7, 2])
    parts = (0, 7), (7, 14), (0, 20), (20, 27), (27, 34), (20, 40)  # the third and the last are whole epochs
    expected = [perplexity(np.mean(losses[a:b])) for a, b in parts]
    assert [r["train_perplexity"] for r in trainer.history] == pytest.approx(expected, rel=1e-5)


def test_the_gradient_of_a_summed_loss_is_that_of_the_mean_times_the_words_of_a_window():
    model, optimizer = build(), SGD(0.125)
    for x, t in OffsetBatches(*TEXT, **SIZES):
        model.forward(x, t)
        model.backward()
        for g in model.grads:
            g *= SIZES["time_size"]
        clip_grads(model.grads, 1.5)
        optimizer.update(model.params, model.grads)
    trainer = fit(lr=0.125, max_epoch=1, max_grad=1.5, summed=True)
    for a, b in zip(model.params, trainer.model.params):
        assert np.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("longest", [None, 5.0, 1.0])
def test_a_summed_loss_is_a_mean_loss_with_other_numbers(longest):
    T = 8  # a power of two, for which rounding is the same
    options = {"time_size": T, "valid": VALID, "eval_interval": 3}
    summed = fit(lr=0.25, max_grad=longest, summed=True, **options)
    mean = fit(lr=0.25 * T, max_grad=longest and longest / T, **options)
    neither = fit(lr=0.25, max_grad=longest, **options)
    for a, b in zip(summed.model.params, mean.model.params):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-5)
    assert not np.allclose(summed.model.params[0], neither.model.params[0], rtol=1e-2)
    # What is recorded is the mean either way.
    for key in ("train_perplexity", "valid_perplexity"):
        a, b = ([r[key] for r in trainer.history if r[key] is not None] for trainer in (summed, mean))
        assert a == pytest.approx(b, rel=1e-4)
    assert summed.history[0]["lr"] == 0.25


def test_valid_perplexity_is_measured_after_each_epoch_and_the_best_weights_are_kept(tmp_path):
    trainer = fit_in(tmp_path, lr=0.01, valid=VALID, eval_interval=None)
    measured = [r["valid_perplexity"] for r in trainer.history]
    assert measured[1] < measured[0]
    best = build()
    best.load(tmp_path / "best_weights.npz")
    assert perplexity(evaluate(best, *VALID)) == pytest.approx(measured[1]) == trainer.best


def test_best_weights_are_not_the_last_when_training_gets_worse(tmp_path):
    trainer = fit_in(tmp_path, lr=0.01, valid=VALID)
    best = trainer.best
    trainer.optimizer.lr = 50.0  # ruins it
    fit_in(tmp_path, trainer=trainer, max_epoch=1, valid=VALID)
    assert trainer.history[-1]["valid_perplexity"] > best == trainer.best
    trainer.model.load(tmp_path / "best_weights.npz")
    assert perplexity(evaluate(trainer.model, *VALID)) == pytest.approx(best)


def test_learning_rate_falls_only_when_the_valid_perplexity_does_not(monkeypatch):
    measured = iter([3.0, 2.0, 2.5, 2.0, 1.0])
    monkeypatch.setattr("common.metrics.evaluate", lambda *_, **__: next(measured))
    trainer = fit(max_epoch=5, valid=VALID, lr=0.8, lr_decay=4.0, eval_interval=None)
    assert [r["lr"] for r in trainer.history] == pytest.approx([0.8, 0.8, 0.8, 0.2, 0.05])
    assert trainer.optimizer.lr == pytest.approx(0.05)


def test_learning_rate_falls_after_each_epoch_from_a_given_one(monkeypatch):
    measured = iter([3.0, 2.0, 2.5, 1.0])
    monkeypatch.setattr("common.metrics.evaluate", lambda *_, **__: next(measured))
    trainer = fit(max_epoch=4, valid=VALID, lr=0.8, lr_decay=2.0, decay_after=2, eval_interval=None)
    assert [r["lr"] for r in trainer.history] == pytest.approx([0.8, 0.8, 0.4, 0.2])


def test_the_learning_rate_has_a_floor_and_a_training_that_gets_no_better_ends(monkeypatch, capsys):
    measured = iter([3.0, 2.0, 2.5, 2.0, 2.25, 1.0])
    monkeypatch.setattr("common.metrics.evaluate", lambda *_, **__: next(measured))
    how = {"valid": VALID, "lr_decay": 4.0, "min_lr": 0.05, "patience": 3, "eval_interval": None}
    trainer = fit(max_epoch=9, lr=0.8, verbose=True, **how)
    assert [r["lr"] for r in trainer.history] == pytest.approx([0.8, 0.8, 0.8, 0.2, 0.05])
    assert trainer.optimizer.lr == pytest.approx(0.05)
    assert trainer.best_epoch == 2
    *lines, end = capsys.readouterr().out.splitlines()
    assert [line.endswith("best so far") for line in lines] == [False, True, False, False, False]
    assert end == f"no better for 3 epochs: training ends; best valid perplexity {np.exp(2):.2f} at epoch 2"


def test_where_an_epoch_is_short_the_learning_rate_falls_after_some_of_them(monkeypatch):
    measured = iter([3.0, 2.0, 2.5, 2.0, 2.25, 1.0, 1.5, 1.5])
    monkeypatch.setattr("common.metrics.evaluate", lambda *_, **__: next(measured))
    trainer = fit(max_epoch=8, valid=VALID, lr=0.8, lr_decay=2.0, wait=2, eval_interval=None)
    assert [r["lr"] for r in trainer.history] == pytest.approx([0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.4])
    assert trainer.optimizer.lr == pytest.approx(0.2)


def test_a_second_fit_goes_on(tmp_path):
    trainer = fit_in(tmp_path, eval_interval=None)
    fit_in(tmp_path, trainer=trainer, max_epoch=1, eval_interval=None)
    assert [r["epoch"] for r in trainer.history] == [1, 2, 3]
    with open(tmp_path / "history.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == Perplexity.fields
    assert [float(row["train_perplexity"]) for row in rows] == [r["train_perplexity"] for r in trainer.history]
    assert rows[0]["valid_perplexity"] == ""


@pytest.mark.parametrize("end", [0.35, 1.0])  # inside the first epoch, of 20 steps, and at its end
def test_a_record_that_is_enough_ends_the_training_with_its_epoch(end, capsys):
    trainer = fit(max_epoch=5, eval_interval=7, callback=lambda record: record["epoch"] == end, verbose=False)
    assert [record["epoch"] for record in trainer.history] == [0.35, 0.7, 1]
    assert trainer.optimizer.t == 20
    assert not trainer.interrupted
    assert capsys.readouterr().out == ""
    trainer.fit(*TEXT, 2, **SIZES)  # goes on, to its end
    assert trainer.epoch == 3


def test_what_is_done_with_a_record_does_not_slow_training_down(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("common.trainer.time.perf_counter", lambda: now[0])

    def slow(seconds):
        now[0] += seconds

    model = build()
    backward = model.backward
    monkeypatch.setattr(model, "backward", lambda: (slow(0.5), backward()))  # 20 words in half a second
    trainer = fit(model, max_epoch=2, eval_interval=5, callback=lambda record: slow(100.0))
    assert {record["tokens_per_second"] for record in trainer.history} == {40.0}


def test_restart_begins_each_epoch_with_a_state_of_zeros(monkeypatch):
    model = build()
    starts = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda x, t: (starts.append(model.layers[1].h is None), forward(x, t))[1])
    fit(model, restart=True)
    assert [i for i, fresh in enumerate(starts) if fresh] == [0, 20]


def interrupt_at(monkeypatch, optimizer_calls):
    calls = iter(range(1, 10**6))
    update = SGD.update

    def interrupted(self, params, grads):
        if next(calls) == optimizer_calls:
            raise KeyboardInterrupt
        update(self, params, grads)

    monkeypatch.setattr(SGD, "update", interrupted)


def test_ctrl_c_ends_training_and_keeps_the_best(monkeypatch, tmp_path):
    interrupt_at(monkeypatch, 30)
    trainer = fit_in(tmp_path, valid=VALID, eval_interval=None)
    assert trainer.interrupted
    assert len(trainer.history) == 1
    assert (tmp_path / "best_weights.npz").exists()


def test_ctrl_c_before_the_first_measurement_keeps_what_there_is(monkeypatch, tmp_path):
    interrupt_at(monkeypatch, 5)
    trainer = fit_in(tmp_path, valid=VALID)
    model = build()
    model.load(tmp_path / "best_weights.npz")
    assert np.array_equal(model.params[0], trainer.model.params[0])


# Sentences


def sentences_of(*lengths):
    rng = np.random.default_rng(len(lengths))
    return [rng.integers(0, V, length + 1) for length in lengths]


UNSORTED, EQUAL, ONE_TOKEN = (5, 2, 17, 1, 9, 9, 1, 12), (6,) * 7, (1,) * 6
EACH_LENGTHS = pytest.mark.parametrize("lengths", [UNSORTED, EQUAL, ONE_TOKEN], ids=["unsorted", "equal", "one token"])


def test_the_trainer_equals_the_plain_loop_over_windows_of_sentences():
    sentences = sentences_of(*UNSORTED)
    model, optimizer, losses = build(), SGD(0.5), []
    batches = SentenceBatches(sentences, 3, 4)
    for _ in range(2):
        for x, t in batches:
            if batches.resets_state:
                model.reset_state()
            losses.append((float(model.forward(x, t)), x.size))
            model.backward()
            clip_grads(model.grads, 0.5)
            optimizer.update(model.params, model.grads)
    trainer = RnnlmTrainer(build(), SGD(0.5))
    trainer.fit_batches(SentenceBatches(sentences, 3, 4), 2, 0.5, None)
    for a, b in zip(model.params, trainer.model.params):
        assert np.array_equal(a, b)
    first, second = trainer.history
    assert second["iteration"] == len(losses)
    k = first["iteration"]
    for record, part in ((first, losses[:k]), (second, losses[k:])):
        total = sum(loss * words for loss, words in part)
        assert sum(words for _, words in part) == sum(UNSORTED)
        assert record["train_perplexity"] == pytest.approx(perplexity(total / sum(UNSORTED)), rel=1e-5)
        mean = np.mean([loss for loss, _ in part])
        assert record["train_window_perplexity"] == pytest.approx(perplexity(mean), rel=1e-5)
        assert record["train_window_perplexity"] != pytest.approx(record["train_perplexity"], rel=1e-3)


@EACH_LENGTHS
@pytest.mark.parametrize("time_size", [1, 4, 20])
@pytest.mark.parametrize("model_class", [SimpleRnnlm, LstmLm])
def test_packed_and_padded_sentences_train_alike(model_class, lengths, time_size):
    sentences = sentences_of(*lengths)
    trainers = []
    for packed in (True, False):
        model = model_class(V, 8, 8, rng=np.random.default_rng(0), dtype=np.float64)
        trainers.append(RnnlmTrainer(model, Adam(0.01)))
        batches = SentenceBatches(sentences, 3, time_size, packed=packed)
        valid = SentenceBatches(sentences[:5], 2, time_size, packed=packed, shuffled=False)
        trainers[-1].fit_batches(batches, 5, 1.0, 2, valid=valid)
    packed, padded = trainers
    assert packed.iteration == padded.iteration >= 10
    for a, b in zip(packed.model.params, padded.model.params, strict=True):
        assert np.allclose(a, b, rtol=0, atol=1e-9)
    for ours, theirs in zip(packed.history, padded.history, strict=True):
        for key in Perplexity.fields:
            if ours[key] is not None and "second" not in key:
                assert ours[key] == pytest.approx(theirs[key], rel=1e-9)


def test_the_state_goes_from_window_to_window_and_not_to_the_next_batch(monkeypatch):
    model = build()
    starts = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda x, t: (starts.append(model.layers[1].h is None), forward(x, t))[1])
    RnnlmTrainer(model, SGD(0.1)).fit_batches(SentenceBatches(sentences_of(7, 2, 8, 1), 2, 3, shuffled=False), 2)
    assert starts == [True, False, False] * 4


def test_perplexity_of_sentences_depends_neither_on_batches_nor_on_windows():
    sentences = sentences_of(*UNSORTED)
    model = build()
    model.forward(sentences[0][None, :-1], sentences[0][None, 1:])
    before = model.layers[1].h
    alone = []
    for sentence in sentences:
        with model.evaluating():
            alone.append(float(model.forward(sentence[None, :-1], sentence[None, 1:])))
    expected = np.average(alone, weights=UNSORTED)
    for N, T in ((1, 100), (3, 4), (8, 1), (20, 7)):
        for options in ({}, {"packed": False}, {"bucketed": True}):
            loss, _ = evaluate_windows(model, SentenceBatches(sentences, N, T, **options))
            assert loss == pytest.approx(expected, rel=1e-5)
    loss, window_loss = evaluate_windows(model, SentenceBatches(sentences, 1, 100))  # a window a sentence
    assert window_loss == pytest.approx(np.mean(alone), rel=1e-5)
    assert model.layers[1].h is before


def test_sentences_print_both_perplexities(capsys):
    sentences = SentenceBatches(sentences_of(*UNSORTED), 3, 4)
    trainer = RnnlmTrainer(build(), SGD(0.1))
    trainer.fit_batches(sentences, 1, valid=SentenceBatches(sentences_of(3, 1), 2, 2))
    record = trainer.history[-1]
    line = capsys.readouterr().out
    for split in ("train", "valid"):
        words, windows = (record[f"{split}_{kind}"] for kind in ("perplexity", "window_perplexity"))
        assert re.search(rf"{split} perplexity +{words:.2f} \(mean of windows {windows:.2f}\)", line)


def spoil(model, *steps, what="gradient"):
    """Let the gradient, or the loss and with it the state, of some steps be infinite."""
    forward, backward, made = model.forward, model.backward, []

    def spoilt_forward(x, t):
        made.append(x)
        loss = forward(x, t)
        if what == "loss" and len(made) in steps:
            model.layers[1].h.fill(np.nan)
            return loss * np.float32(np.inf)
        return loss

    def spoilt_backward():
        backward()
        if len(made) in steps:
            model.grads[0][0, 0] = np.inf

    model.forward, model.backward = spoilt_forward, spoilt_backward
    return model


@pytest.mark.parametrize("max_grad", [None, 0.5])
@pytest.mark.parametrize(("what", "value"), [("gradient", "inf"), ("loss", "inf")])
def test_a_step_that_goes_wrong_is_an_error_that_says_where_and_what_to_try(tmp_path, what, value, max_grad):
    model = spoil(build(), 25, what=what)
    trainer = RnnlmTrainer(model, SGD(0.5))
    batches = OffsetBatches(*TEXT, **SIZES)
    checkpoint = Checkpoint(tmp_path, np.random.default_rng(), seconds=0)
    match = rf"the {what} is {value} after epoch 1\.25, step 25, with learning rate 0\.5: try a lower learning rate, .*"
    match += r"checkpoint\.npz holds the training as it was before"
    with RunRecorder(checkpoint) as recorder, pytest.raises(FloatingPointError, match=match):
        trainer.fit_batches(batches, 2, max_grad, recorder=recorder)
    assert all(np.isfinite(x).all() for x in model.params)
    again = RnnlmTrainer(build(), SGD(0.5))
    checkpoint.restore(again, OffsetBatches(*TEXT, **SIZES))
    assert again.iteration == 24


@pytest.mark.parametrize("what", ["gradient", "loss"])
def test_bad_steps_can_be_skipped_and_are_counted(what, capsys):
    model = spoil(build(), 3, 25, 26, what=what)
    plain, optimizer = build(), SGD(0.5)
    batches = OffsetBatches(*TEXT, **SIZES)
    for step, (x, t) in enumerate([pair for _ in range(2) for pair in batches], 1):
        plain.forward(x, t)
        plain.backward()
        if step in (3, 25, 26):
            plain.reset_state()
        else:
            optimizer.update(plain.params, plain.grads)
    trainer = fit(model, skip_bad_steps=True, eval_interval=7)
    for a, b in zip(plain.params, trainer.model.params):
        assert np.array_equal(a, b)
    assert trainer.skipped == 3
    assert trainer.optimizer.t == 37
    assert trainer.iteration == 40
    assert all(math.isfinite(record["train_perplexity"]) for record in trainer.history)
    assert re.findall(r"steps skipped so far (\d)", capsys.readouterr().out) == ["1", "3"]


def test_ten_bad_steps_in_a_row_are_too_many():
    trainer = fit(spoil(build(), *range(1, 10), *range(11, 20)), skip_bad_steps=True)
    assert trainer.skipped == 18
    with pytest.raises(FloatingPointError, match=r"the gradient is inf after epoch 0\.75, step 15"):
        fit(spoil(build(), *range(6, 16)), skip_bad_steps=True)


def test_an_epoch_of_bad_steps_alone_has_no_loss():
    batches = OffsetBatches(*TEXT, 40, 5)
    assert len(batches) == 2
    with pytest.raises(FloatingPointError, match=r"the loss is nan after epoch 1\.00"):
        RnnlmTrainer(spoil(build(), 1, 2), SGD(0.5)).fit_batches(batches, 1, skip_bad_steps=True)


def test_weights_that_are_lost_are_an_error():
    model = build()
    model.params[-1][0] = np.nan
    with pytest.raises(FloatingPointError, match=r"loss is nan after epoch 0\.05, step 1, .* lower learning rate"):
        fit(model)


def test_a_learning_rate_that_is_far_too_high_is_an_error():
    with pytest.raises(FloatingPointError, match=r"after epoch .* with learning rate 1e\+30: try a lower"):
        fit(lr=1e30)


def test_a_short_text_is_refused():
    with pytest.raises(ValueError, match="4 x 5 = 20"):
        fit(text=(WORDS[:10], WORDS[1:11]))


def test_learning_curve_is_a_picture(tmp_path):
    history = fit(valid=VALID, eval_interval=5).history
    plot_learning_curve(history, tmp_path / "a.png", "title")
    plot_learning_curve(fit().history, tmp_path / "b.png")  # no valid text
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_random_text_cannot_be_learnt_below_its_entropy():
    rng = np.random.default_rng(0)
    text = rng.choice(V, 5001)
    trainer = fit(max_epoch=3, text=(text[:-1], text[1:]), lr=0.1, eval_interval=None)
    assert math.log(trainer.history[-1]["train_perplexity"]) == pytest.approx(math.log(V), abs=0.02)
