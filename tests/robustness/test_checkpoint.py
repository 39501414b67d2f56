"""A training that was killed anywhere goes on from its checkpoint as if nothing had happened, byte for byte."""

import csv
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fuzzing import CHANGES, FUZZ_CASES
from helpers import ENVIRONMENT, SCRIPTS, write_text
from hypothesis import given, settings
from hypothesis import strategies as st

from ch05_rnn import train_rnnlm, train_sentence_rnnlm
from ch05_rnn.rnn_classifier import RnnClassifier
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated import memorize, train_lstm_lm
from ch06_gated.better_lstm_lm import BetterLstmLm
from ch06_gated.lstm_classifier import LstmClassifier
from ch06_gated.lstm_lm import LstmLm
from common.batching import OffsetBatches, SentenceBatches, TextBatches
from common.metrics import Accuracy, Perplexity
from common.npz import NpzReader
from common.optimizer import SGD, Adam, AdamW, Momentum
from common.runs.checkpoint import Checkpoint
from common.runs.options import OPTIMIZERS
from common.runs.recorder import RunRecorder
from common.trainer import Trainer

KILLS = int(os.environ.get("RNN_KILLS", "2"))  # in the test of a process that is killed again and again

V = 12
WORDS = np.random.default_rng(0).zipf(1.5, 401) % V
VALID = WORDS[:60]
SENTENCES = [np.random.default_rng(n).integers(0, V, n + 1) for n in (5, 2, 17, 1, 9, 9, 1, 12, 8, 3, 14)]
TEXTS = [np.random.default_rng(n).integers(0, V, 1 + n % 7) for n in range(26)]
LABELS = np.array([text.sum() % 3 for text in TEXTS])
LAST = 2  # epochs


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """What is killed here is a process, not the machine."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class Killed(Exception):
    """In place of ``kill -9``: nothing catches it, and nothing is done on its account."""


class Training:
    """All that a training script makes before it trains: anew each time, as in a new process."""

    def __init__(
        self,
        folder,
        model=LstmLm,
        optimizer=SGD,
        lr=0.5,
        sentences=None,
        texts=None,
        restart=False,
        seconds=0.0,
        **size,
    ):
        self.folder = folder
        self.rng = np.random.default_rng(0)
        self.model = model(V, 8, 8, rng=self.rng, **size)
        self.optimizer = optimizer(lr)
        if texts is not None:
            self.batches = TextBatches(self.model, TEXTS, LABELS, 3, self.rng, **texts)
            self.valid = TEXTS[:7], LABELS[:7]
        elif sentences is None:
            self.batches = OffsetBatches(WORDS[:-1], WORDS[1:], 4, 5, restart)
            self.valid = VALID[:-1], VALID[1:]
        else:
            self.batches = SentenceBatches(SENTENCES, 3, 4, **sentences)
            self.valid = SentenceBatches(SENTENCES[:4], 2, 4, shuffled=False)
        self.trainer = Trainer(self.model, self.optimizer, metric=Perplexity() if texts is None else Accuracy())
        self.checkpoint = Checkpoint(folder, self.rng, {"name": "a run"}, seconds)

    def run(self, epochs=LAST, kill_at=None, resume=False, eval_interval=3, **options):
        """Train, or go on; die before update ``kill_at`` of this call."""
        if resume:
            self.checkpoint.restore(self.trainer, self.batches)
        if kill_at is not None:
            update, calls = self.optimizer.update, iter(range(1, 10**6))

            def dying(params, grads):
                if next(calls) == kill_at:
                    raise Killed
                update(params, grads)

            self.optimizer.update = dying
        try:
            with RunRecorder(self.checkpoint) as recorder:
                self.trainer.fit_batches(
                    *(self.batches, epochs - self.trainer.epoch, 0.5, eval_interval),
                    valid=self.valid,
                    lr_decay=2.0,
                    recorder=recorder,
                    **options,
                )
        finally:
            vars(self.optimizer).pop("update", None)
        return self


def without_times(history):
    return [{k: v for k, v in record.items() if k not in ("seconds", "tokens_per_second")} for record in history]


def assert_same_end(ours, theirs):
    """Check that two trainings have ended in the same place: all bytes but those of times."""
    for a, b in zip(ours.model.params, theirs.model.params, strict=True):
        assert a.tobytes() == b.tobytes()
    for name in ours.optimizer.memories:
        for a, b in zip(getattr(ours.optimizer, name), getattr(theirs.optimizer, name), strict=True):
            assert a.tobytes() == b.tobytes()
    for name in ("t", "lr"):
        assert getattr(ours.optimizer, name) == getattr(theirs.optimizer, name)
    for a, b in zip(ours.model.state, theirs.model.state, strict=True):
        for x, y in zip(a, b, strict=True):
            assert x.tobytes() == y.tobytes()
    assert ours.rng.bit_generator.state == theirs.rng.bit_generator.state
    assert ours.checkpoint.best_path.read_bytes() == theirs.checkpoint.best_path.read_bytes()
    assert without_times(ours.trainer.history) == without_times(theirs.trainer.history)
    with (
        open(ours.folder / "history.csv", encoding="utf-8", newline="") as a,
        open(theirs.folder / "history.csv", encoding="utf-8", newline="") as b,
    ):
        assert without_times(csv.DictReader(a)) == without_times(csv.DictReader(b))


SETTINGS = {
    "SGD, offset": {},
    "SGD, offset, restart": {"restart": True},
    "SGD, sentences": {"sentences": {}},
    "Adam, offset": {"optimizer": Adam, "lr": 0.01},
    "Adam, sentences": {"optimizer": Adam, "lr": 0.01, "sentences": {"bucketed": True}},
    "AdamW, padded sentences": {"optimizer": AdamW, "lr": 0.01, "sentences": {"packed": False}},
    "Momentum, RNN": {"optimizer": Momentum, "lr": 0.1, "model": SimpleRnnlm},
    "Adam, dropout, tied weights": {"model": BetterLstmLm, "optimizer": Adam, "lr": 0.01},
    "texts": {"model": LstmClassifier, "lr": 0.1, "texts": {}, "classes": 3, "dropout": 0.1},
    "Adam, padded texts": {
        **{"model": RnnClassifier, "optimizer": Adam, "lr": 0.01, "texts": {"padded": True}, "classes": 3},
        **{"bidirectional": True, "fixed_embedding": True},
    },
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_killed_anywhere_and_resumed_is_never_stopped(tmp_path, setting):
    def training(name):
        (tmp_path / name).mkdir(exist_ok=True)
        return Training(tmp_path / name, **SETTINGS[setting])

    whole = training("whole").run()
    steps = len(training("whole").batches)
    assert steps >= 8
    # Before the first step, inside the first epoch, in its last step, in the first of the second, and in the very last.
    for kill_at in (1, 5, steps, steps + 1, whole.trainer.iteration):
        with pytest.raises(Killed):
            training(f"killed {kill_at}").run(kill_at=kill_at)
        assert_same_end(training(f"killed {kill_at}").run(resume=True), whole)


def test_killed_at_every_step_and_resumed_each_time(tmp_path):
    options = SETTINGS["Adam, dropout, tied weights"]
    whole, name = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    name.mkdir()
    whole = Training(whole, **options).run()
    for k in range(whole.trainer.iteration - 1):
        with pytest.raises(Killed):
            Training(name, **options).run(kill_at=2, resume=k > 0)
    assert_same_end(Training(name, **options).run(resume=True), whole)


@pytest.mark.parametrize("setting", ["SGD, offset", "Adam, sentences"])
def test_killed_while_it_measures(tmp_path, monkeypatch, setting):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    whole = Training(whole, **SETTINGS[setting]).run()
    with monkeypatch.context() as patch:

        def die(*_, **__):
            raise Killed

        patch.setattr("common.metrics.evaluate", die)
        patch.setattr("common.metrics.evaluate_windows", die)
        with pytest.raises(Killed):
            Training(killed, **SETTINGS[setting]).run()
    assert_same_end(Training(killed, **SETTINGS[setting]).run(resume=True), whole)


def test_a_training_that_has_ended_goes_on_for_more_epochs(tmp_path):
    whole, short = tmp_path / "whole", tmp_path / "short"
    whole.mkdir()
    short.mkdir()
    whole = Training(whole).run(4)
    Training(short).run(2)
    assert_same_end(Training(short).run(2, resume=True).run(4), whole)


def test_checkpoints_are_written_at_intervals_and_after_each_epoch(tmp_path, monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr("common.runs.checkpoint.time.monotonic", lambda: now[0])
    training = Training(tmp_path, seconds=10.0)
    update, save = training.optimizer.update, training.checkpoint.save

    def slow_update(params, grads):  # 3 s
        now[0] += 3.0
        update(params, grads)

    def noted_save(trainer, batches):
        written.append((trainer.iteration, trainer.epoch))
        save(trainer, batches)

    training.optimizer.update = slow_update
    training.checkpoint.save = noted_save
    training.run()
    steps = len(training.batches)
    assert written[0] == (0, 0)
    first = [(i, 0) for i in range(4, steps + 1, 4)]
    assert written[1 : len(first) + 1] == first
    assert (steps, 1) in written
    assert written[-1] == (2 * steps, 2)


# Ctrl-C


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT to send on Windows")
def test_ctrl_c_leaves_a_checkpoint_of_whole_steps(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    whole = Training(whole).run()
    training = Training(stopped, seconds=1e9)
    update = training.optimizer.update

    def press_ctrl_c(params, grads):
        if training.trainer.iteration == 5:
            os.kill(os.getpid(), signal.SIGINT)
        update(params, grads)

    training.optimizer.update = press_ctrl_c
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        training.run()
    finally:
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, usual)
    assert training.trainer.interrupted
    assert training.trainer.iteration == training.optimizer.t == 5
    again = Training(stopped)
    again.checkpoint.restore(again.trainer, again.batches)
    assert again.trainer.iteration == 5
    assert_same_end(Training(stopped).run(resume=True), whole)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT to send on Windows")
def test_a_second_ctrl_c_does_not_wait(tmp_path):
    training = Training(tmp_path, seconds=1e9)
    update = training.optimizer.update

    def press_ctrl_c_twice(params, grads):
        if training.trainer.iteration == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        update(params, grads)

    training.optimizer.update = press_ctrl_c_twice
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        training.run()
    finally:
        signal.signal(signal.SIGINT, usual)
    assert training.trainer.interrupted
    assert training.optimizer.t == 4
    again = Training(tmp_path)
    again.checkpoint.restore(again.trainer, again.batches)  # the last that was whole: that of the beginning
    assert again.trainer.iteration == 0


# The file


def test_a_torn_file_that_a_kill_has_left_is_not_read_and_goes(tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    whole = Training(whole).run()
    with pytest.raises(Killed):
        Training(killed).run(kill_at=25)
    content = (killed / "checkpoint.npz").read_bytes()
    (killed / "best_weights.npz").unlink()  # the checkpoint has them, too
    torn = [killed / "checkpoint.npz.tmp", killed / "best_weights.npz.tmp"]
    for path in torn:
        path.write_bytes(content[: len(content) // 2])
    again = Training(killed)
    again.checkpoint.restore(again.trainer, again.batches)
    assert not any(path.exists() for path in torn)
    assert_same_end(Training(killed).run(resume=True), whole)


@pytest.mark.skipif(os.name == "nt", reason="there are no limits of file sizes to set on Windows")
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    import resource

    whole, full = tmp_path / "whole", tmp_path / "full"
    whole.mkdir()
    full.mkdir()
    whole = Training(whole).run()
    training = Training(full)
    update = training.optimizer.update
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    usual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails, as on a full disk

    def fill_the_disk(params, grads):
        update(params, grads)
        if training.optimizer.t == 7:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))

    training.optimizer.update = fill_the_disk
    try:
        with pytest.raises(OSError, match=r"cannot write .*checkpoint\.npz: .*; the file that was there is unchanged"):
            training.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, usual)
    again = Training(full)
    again.checkpoint.restore(again.trainer, again.batches)
    assert again.trainer.iteration == 6
    assert not list(full.glob("*.tmp"))
    assert_same_end(Training(full).run(resume=True), whole)


def test_a_history_may_be_of_any_length(tmp_path):
    training = Training(tmp_path).run(epochs=1)
    record = training.trainer.history[-1]
    training.trainer.history += [{**record, "iteration": k} for k in range(100_000)]
    training.checkpoint.save(training.trainer, training.batches)
    again = Training(tmp_path)
    again.checkpoint.restore(again.trainer, again.batches)
    assert again.trainer.history == training.trainer.history


def test_bad_steps_in_a_row_are_counted_on(tmp_path):
    def with_bad_steps(training):
        forward = training.model.forward
        training.model.forward = lambda x, t: forward(x, t) * (np.inf if training.trainer.iteration >= 3 else 1)
        return training

    with pytest.raises(FloatingPointError, match="step 13"):
        with_bad_steps(Training(tmp_path)).run(skip_bad_steps=True, eval_interval=None)
    again = with_bad_steps(Training(tmp_path))
    again.checkpoint.restore(again.trainer, again.batches)
    assert (again.trainer.iteration, again.trainer.bad_in_a_row) == (12, 9)
    with pytest.raises(FloatingPointError, match="step 13"):
        again.run(skip_bad_steps=True, eval_interval=None)


# Files that are damaged, or of another training


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a training that was killed in its second epoch, and the content of its checkpoint."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(Killed):
        Training(folder, optimizer=Adam, lr=0.01).run(kill_at=31)
    return folder, (folder / "checkpoint.npz").read_bytes()


def assert_restores_or_says_why(folder, content):
    """Restore a checkpoint: a training that can go on, or a ValueError and no change; and never much memory."""
    path = folder / "checkpoint.npz"
    path.write_bytes(content)
    training = Training(folder, optimizer=Adam, lr=0.01)
    before = everything(training)
    refusal = None
    tracemalloc.start()
    try:
        training.checkpoint.restore(training.trainer, training.batches)
    except ValueError as error:
        refusal = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2**20 + 50 * len(content)
    if refusal is not None:
        assert str(path) in refusal
        assert everything(training) == before
    else:
        assert all(np.isfinite(x).all() for x in training.model.params)
    return refusal


def everything(training):
    """All that a checkpoint changes, in a form that can be compared."""
    return (
        [x.tobytes() for x in training.model.params],
        [[None if x is None else x.tobytes() for x in state] for state in training.model.state],
        {name: x for name, x in vars(training.optimizer).items() if isinstance(x, (int, float))},
        json.dumps([training.trainer.state_dict(), training.trainer.history]),
        [getattr(training.batches, name) for name in training.batches.state_keys],
        training.rng.bit_generator.state,
    )


def changed(content, change_arrays=lambda arrays: None, change_training=lambda training: None):
    """The checkpoint with other arrays, or other numbers."""
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    training = json.loads(arrays["training"].tobytes())
    change_training(training)
    arrays["training"] = np.frombuffer(json.dumps(training).encode(), np.uint8)
    change_arrays(arrays)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_an_unchanged_checkpoint_is_restored(killed):
    assert assert_restores_or_says_why(*killed) is None
    assert assert_restores_or_says_why(killed[0], changed(killed[1])) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: a.pop("training"), "not a checkpoint"),
        (lambda a: a.pop("model/lstm_b"), "model/lstm_b must be float32"),
        (lambda a: a.pop("best/lstm_b"), "best/lstm_b must be float32"),
        (lambda a: a.pop("optimizer/v/0"), "optimizer/v/0 must be float32"),
        (lambda a: a.pop("state/0/1"), "state/0 must be 2 arrays"),
        (lambda a: a.update({"state/0/1": np.zeros((3, 8), np.float32)}), "state/0 must be 2 arrays"),
        (lambda a: a.update({"state/0/0": np.full((4, 8), np.nan, np.float32)}), "state/0/0 .* not finite"),
        (lambda a: a.update({"optimizer/m/0": np.zeros(3, np.float32)}), "optimizer/m/0 must be"),
        (lambda a: a.update({"model/lstm_b": a["model/lstm_b"].astype(float)}), r"got float64 \(32,\)"),
        (lambda a: a["model/lstm_b"].fill(np.inf), "not finite"),
        (lambda a: a.update(training=np.zeros(3)), "not a checkpoint"),
        (lambda a: a.update(training=np.frombuffer(b"[1, 2", np.uint8)), "damaged"),
        (lambda a: a.update(training=np.frombuffer(b"[" * 100_000, np.uint8)), "damaged"),
        (lambda a: a.update(training=np.frombuffer(b"9" * 100_000, np.uint8)), "damaged"),
    ],
)
def test_wrong_arrays(killed, change, reason):
    assert re.search(reason, assert_restores_or_says_why(killed[0], changed(killed[1], change)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop("rng"), "rng"),
        (lambda t: t["rng"].update(bit_generator="MT19937"), "rng bit_generator must be PCG64"),
        (lambda t: t["optimizer"].pop("beta1"), "optimizer must have"),
        (lambda t: t["optimizer"].update(lr=-1), "optimizer lr must not be -1"),
        (lambda t: t["optimizer"].update(lr=math.nan), "optimizer lr must not be nan"),
        (lambda t: t["optimizer"].update(t="7"), "optimizer t must be a number"),
        (lambda t: t["optimizer"].update(t=True), "optimizer t must be a number"),
        (lambda t: t["batches"].update(position=-1), "batches position must not be -1"),
        (lambda t: t["batches"].update(time=10**30), "batches time must not be 1"),
        (lambda t: t["batches"].update(epoch=1), "batches must have position, time"),
        (lambda t: t["trainer"].update(epoch=0.5), "trainer epoch must be a number like 0"),
        (lambda t: t["trainer"].update(epoch_meter=None), "trainer epoch_meter must have"),
        (lambda t: t.update(history=3), "not iterable"),
        (lambda t: t.update(history=[{}]), "a record of the history must have"),
        (lambda t: t["history"][0].update(lr="0.1"), "a record of the history must hold numbers"),
    ],
)
def test_wrong_numbers(killed, change, reason):
    refusal = assert_restores_or_says_why(killed[0], changed(killed[1], change_training=change))
    assert re.search(f"is damaged, or of another training: .*{reason}", refusal)


@pytest.mark.parametrize("order", [None, [], list(range(25)), [0, 0, *range(2, 26)], [0.0, *range(1, 26)], [[0]] * 26])
def test_texts_must_be_in_some_order(tmp_path, order):
    options = SETTINGS["texts"]
    with pytest.raises(Killed):
        Training(tmp_path, **options).run(kill_at=5)
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(changed(path.read_bytes(), change_training=lambda t: t["batches"].update(order=order)))
    training = Training(tmp_path, **options)
    with pytest.raises(ValueError, match="batches order must be an order of 26, got"):
        training.checkpoint.restore(training.trainer, training.batches)
    assert training.batches.order == list(range(26))


@pytest.mark.parametrize(
    "other",
    [{"optimizer": SGD}, {"model": SimpleRnnlm}, {"sentences": {}}, {"layers": 2}],
    ids=["optimizer", "model", "batches", "layers"],
)
def test_a_checkpoint_of_another_training_is_refused(killed, other):
    folder, content = killed
    (folder / "checkpoint.npz").write_bytes(content)
    training = Training(folder, **{"optimizer": Adam, "lr": 0.01, **other})
    before = everything(training)
    with pytest.raises(ValueError, match="checkpoint"):
        training.checkpoint.restore(training.trainer, training.batches)
    assert everything(training) == before


# Fuzzing. RNN_FUZZ_CASES=10000 pytest tests/robustness/test_checkpoint.py -k mutated is the long run.


@settings(max_examples=FUZZ_CASES)
@given(changes=CHANGES)
def test_mutated_checkpoints(killed, changes):
    content = killed[1]
    for share, inserted, removed in changes:
        where = int(share * len(content))
        content = content[:where] + inserted + content[where + removed :]
    assert_restores_or_says_why(killed[0], content)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@settings(max_examples=FUZZ_CASES)
@given(data=st.data())
def test_checkpoints_with_mutated_numbers(killed, data):
    def change(training):
        place = training
        while True:  # walk to a random place in the tree, and put anything there
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            inner = place[key]
            if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
                place[key] = data.draw(JSON)
                return
            place = inner

    assert_restores_or_says_why(killed[0], changed(killed[1], change_training=change))


# Processes that are killed. RNN_KILLS=20 pytest tests/robustness/test_checkpoint.py -k process is the long run.

WORDS_OPTIONS = ["--batch-size", 4, "--time-size", 5, "--optimizer", "sgd", "--lr", 1, "--dropout", 0.2]
DOCUMENTS_OPTIONS = ["--batch-size", 4, "--time-size", 3, "--tokenizer", "word", "--lr", 0.01]
KILLED_SCRIPTS = {"train_lstm_lm.py": WORDS_OPTIONS, "train_sentence_rnnlm.py": DOCUMENTS_OPTIONS}


def start(command, folder):
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def finish(command, folder):
    with start(command, folder) as process:
        output = process.stdout.read()
    assert process.returncode == 0, output
    return folder / "runs" / "x"


def weights_and_history(run):
    """The bytes of the best weights, those of the last in the checkpoint, and the history without times."""
    with NpzReader(run / "checkpoint.npz", "a checkpoint") as file:
        last = {name: file.read(name).tobytes() for name in file.headers if name.startswith(("model/", "optimizer/"))}
    with open(run / "history.csv", encoding="utf-8", newline="") as file:
        return (run / "best_weights.npz").read_bytes(), last, without_times(csv.DictReader(file))


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
@pytest.mark.parametrize("script", KILLED_SCRIPTS)
def test_a_process_that_is_killed_again_and_again_loses_nothing(tmp_path, script):
    text = write_text(tmp_path / "text.txt", 200)
    options = ["--corpus", text, "--name", "x", "--wordvec-size", 8, "--hidden-size", 8, "--samples", 1]
    options += KILLED_SCRIPTS[script]
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    run = tmp_path / "killed" / "runs" / "x"
    random = np.random.default_rng(0)
    command = [SCRIPTS[script], *options, "--checkpoint-seconds", 0, "--epochs", 100_000]
    for _ in range(KILLS):
        with start(command, tmp_path / "killed") as process:
            while "parameters, optimizer" not in process.stdout.readline():  # the last line before it trains
                assert process.poll() is None
            while not (run / "checkpoint.npz").exists():
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.7))
            process.send_signal(signal.SIGKILL)
            output = process.stdout.read()
        assert process.returncode == -signal.SIGKILL, output
        command = [SCRIPTS[script], "--resume", run]
    with NpzReader(run / "checkpoint.npz", "a checkpoint") as file:
        last = json.loads(file.read("training").tobytes())["trainer"]["epoch"] + 2
    finish([*command, "--epochs", last], tmp_path / "killed")
    whole = finish([SCRIPTS[script], *options, "--epochs", last], tmp_path / "whole")
    assert weights_and_history(run) == weights_and_history(whole)
    assert not list(run.glob("*.tmp"))


DIE_WHILE_WRITING = """
import os, signal, sys
from common import npz
from ch05_rnn import train_rnnlm

when, count = sys.argv.pop(1), [0]
function, last = {"half written": "fsync", "not renamed": "replace"}[when], 8  # the first file holds options
usual = getattr(os, function)

def die(*args):
    count[0] += 1
    if count[0] == last:
        if when == "half written":
            os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    usual(*args)

setattr(os, function, die)
train_rnnlm.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
def test_a_process_that_is_killed_while_it_writes_a_checkpoint(tmp_path):
    text = write_text(tmp_path / "text.txt", 200)
    options = ["--corpus", text, "--name", "x", "--wordvec-size", 8, "--hidden-size", 8, "--samples", 1, "--epochs", 2]
    (tmp_path / "whole").mkdir()
    whole = finish([SCRIPTS["train_rnnlm.py"], *options], tmp_path / "whole")
    options += ["--checkpoint-seconds", 0]
    for when in ("half written", "not renamed"):
        folder = tmp_path / when
        folder.mkdir()
        run = folder / "runs" / "x"
        with start(["-c", DIE_WHILE_WRITING, when, *options], folder) as process:
            output = process.stdout.read()
        assert process.returncode == -signal.SIGKILL, output
        assert (run / "checkpoint.npz.tmp").exists()
        finish([SCRIPTS["train_rnnlm.py"], "--resume", run], folder)
        assert weights_and_history(run) == weights_and_history(whole)
        assert not list(run.glob("*.tmp"))


# The option --resume

RESUMABLE = [
    "--epochs",
    1,
    "--wordvec-size",
    8,
    "--hidden-size",
    8,
    "--samples",
    1,
    "--batch-size",
    4,
    "--time-size",
    5,
    "--seed",
    3,
]


def test_more_epochs_after_the_end(run, text):
    options = ["--corpus", text, *RESUMABLE]
    train_rnnlm.main([*map(str, options), "--epochs", "3", "--name", "whole"])
    _, output = run(train_rnnlm.main, *options, "--epochs", 2, "--name", "short")
    found, output = run(train_rnnlm.main, "--resume", "runs/short", "--epochs", 3)
    assert "going on after 2.00 epochs" in output
    assert len(re.findall("^epoch", output, re.MULTILINE)) == 1
    assert weights_and_history(Path("runs/short")) == weights_and_history(Path("runs/whole"))
    assert json.loads(Path("runs/short/options.json").read_text())["epochs"] == 3
    again, output = run(train_rnnlm.main, "--resume", "runs/short")
    assert again == found
    assert "\nepoch" not in output


@pytest.mark.parametrize(
    ("main", "file", "options"),
    [
        (train_rnnlm.main, "vocabulary.json", RESUMABLE),
        (train_sentence_rnnlm.main, "tokenizer.json", ["--tokenizer", "word", *RESUMABLE]),
        (memorize.main, "tokenizer.json", ["--quick", "--texts", 9, "--tokenizer", "word", "--epochs", 1]),
    ],
)
def test_what_a_resumed_training_reads_is_not_written_again(run, text, main, file, options):
    run(main, "--corpus", text, *options, "--name", "x")
    before = Path("runs/x", file).stat()
    _, output = run(main, "--resume", "runs/x", "--epochs", 2)
    assert "going on after 1.00 epochs" in output
    after = Path("runs/x", file).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_options_are_replaced_in_one_move(run, text, monkeypatch):
    run(train_rnnlm.main, "--corpus", text, *RESUMABLE, "--name", "x")
    before = Path("runs/x/options.json").read_bytes()

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        patch.setattr(Path, "unlink", die)  # whom ``kill -9`` ends tidies nothing up
        with pytest.raises(Killed):
            run(train_rnnlm.main, "--resume", "runs/x", "--epochs", 2)
    assert Path("runs/x/options.json").read_bytes() == before
    assert Path("runs/x/options.json.tmp").exists()
    run(train_rnnlm.main, "--resume", "runs/x", "--epochs", 2)
    assert b'"epochs": 2' in Path("runs/x/options.json").read_bytes()
    assert not list(Path("runs/x").glob("*.tmp"))


def test_what_was_switched_on_can_be_switched_off(run, text):
    flags = ["--watch", "--skip-bad-steps", "--eval-interval", 20]
    _, output = run(train_rnnlm.main, "--corpus", text, *RESUMABLE, *flags, "--name", "x")
    assert "\nstep " in output
    _, output = run(train_rnnlm.main, "--resume", "runs/x", "--epochs", 2, "--no-watch", "--no-skip-bad-steps")
    assert "\nepoch   2" in output
    assert "\nstep " not in output
    options = json.loads(Path("runs/x/options.json").read_text())
    assert not options["watch"]
    assert not options["skip_bad_steps"]


def test_what_is_missing_beside_the_checkpoint_is_written_again(run, text):
    run(train_rnnlm.main, "--corpus", text, *RESUMABLE, "--name", "x")
    vocabulary = Path("runs/x/vocabulary.json")
    before = vocabulary.read_bytes()
    vocabulary.unlink()
    run(train_rnnlm.main, "--resume", "runs/x", "--epochs", 2)
    assert vocabulary.read_bytes() == before


def test_a_learning_rate_stays_above_a_thousandth_and_can_be_raised(run, text):
    decay = ["--lr-decay", 1000, "--decay-after", 1]
    run(train_rnnlm.main, "--corpus", text, *RESUMABLE, *decay, "--epochs", 3, "--name", "x")
    run(train_rnnlm.main, "--resume", "runs/x", "--epochs", 4)
    run(train_rnnlm.main, "--resume", "runs/x", "--epochs", 5, "--lr", 0.5)
    with open("runs/x/history.csv", encoding="utf-8", newline="") as file:
        rates = {float(record["epoch"]): float(record["lr"]) for record in csv.DictReader(file)}
    assert [rates[epoch] for epoch in (1, 3, 4, 5)] == pytest.approx([0.002, 2e-6, 2e-6, 0.5])


def test_another_learning_rate(run, text):
    run(train_rnnlm.main, "--corpus", text, *RESUMABLE, "--optimizer", "sgd", "--lr", 1, "--name", "x")
    run(train_rnnlm.main, "--resume", "runs/x", "--epochs", 2, "--lr", 0.5)
    with open("runs/x/history.csv", encoding="utf-8", newline="") as file:
        assert [float(record["lr"]) for record in csv.DictReader(file) if float(record["epoch"]) in (1, 2)] == [1, 0.5]


def test_a_training_that_went_wrong_goes_on_with_a_lower_learning_rate(run, text, error_line):
    options = ["--corpus", text, *RESUMABLE, "--optimizer", "sgd", "--max-grad", 1000, "--name", "x"]
    for more in ([], ["--skip-bad-steps"]):
        line = error_line(train_rnnlm.main, [*map(str, options), "--overwrite", "--lr", "1e30", *more])
        assert "with learning rate 1e+30: try a lower learning rate, or a lower max_grad; " in line
        assert f"{Path('runs/x/checkpoint.npz')} holds the training as it was before" in line
    _, output = run(train_rnnlm.main, "--resume", "runs/x", "--lr", 1, "--max-grad", 0.25)
    assert "going on after 0.00 epochs, step 0" in output
    assert "valid perplexity" in output


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--hidden-size", "9"], "began with hidden_size = 8, and cannot go on with hidden_size = 9"),
        (["--optimizer", "sgd"], "began with optimizer = adam, and cannot go on with optimizer = sgd"),
        (["--restart"], "began with restart = False, and cannot go on with restart = True"),
        (["--seed", "4"], "began with seed = 3"),
    ],
)
def test_options_that_may_not_change(run, text, error_line, options, reason):
    run(train_rnnlm.main, "--corpus", text, *RESUMABLE, "--name", "x")
    before = {path: path.read_bytes() for path in Path("runs/x").iterdir()}
    assert reason in error_line(train_rnnlm.main, ["--resume", "runs/x", *options])
    assert {path: path.read_bytes() for path in Path("runs/x").iterdir()} == before


def test_what_cannot_be_resumed(run, text, error_line):
    run(train_rnnlm.main, "--corpus", text, *RESUMABLE, "--name", "x")
    checkpoint = Path("runs/x/checkpoint.npz")
    assert "model = SimpleRnnlm, and cannot go on with model = LstmLm" in error_line(
        train_lstm_lm.main, ["--resume", "runs/x"]
    )
    content = text.read_bytes()
    text.write_bytes(content.replace(b"cat", b"cow"))
    assert "began with corpus_sha256 =" in error_line(train_rnnlm.main, ["--resume", "runs/x"])
    text.write_bytes(content)
    checkpoint.write_bytes(changed(checkpoint.read_bytes(), change_training=lambda t: t["options"].update(lr=[3])))
    assert "argument --lr: '[3]' is not a number" in error_line(train_rnnlm.main, ["--resume", "runs/x"])
    checkpoint.write_bytes(changed(checkpoint.read_bytes(), change_training=lambda t: t.update(options=[3])))
    assert "has no options" in error_line(train_rnnlm.main, ["--resume", "runs/x"])
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert "is not a checkpoint, or is damaged" in error_line(train_rnnlm.main, ["--resume", "runs/x"])
    checkpoint.unlink()
    assert "checkpoint.npz" in error_line(train_rnnlm.main, ["--resume", "runs/x"])
    assert "runs" in error_line(train_rnnlm.main, ["--resume", "runs/y"])


def test_documents_go_on_with_their_tokenizer(run, text):
    options = ["--corpus", text, "--tokenizer", "subword", "--vocab-size", 28, *RESUMABLE]
    run(train_sentence_rnnlm.main, *options, "--epochs", 2, "--name", "whole")
    run(train_sentence_rnnlm.main, *options, "--epochs", 1, "--name", "short")
    run(train_sentence_rnnlm.main, "--resume", "runs/short", "--epochs", 2)
    assert weights_and_history(Path("runs/short")) == weights_and_history(Path("runs/whole"))


# Learning by heart, with an end of its own


class Dying(Adam):
    """Adam, in a process that is killed before an update."""

    lives = math.inf

    def update(self, params, grads):
        if self.t == self.lives:
            raise Killed
        super().update(params, grads)


def test_texts_learnt_by_heart_are_not_forgotten(run, text, monkeypatch):
    options = ["--corpus", text, "--tokenizer", "word", "--texts", 12, "--batch-size", 5, "--wordvec-size", 8]
    options += ["--hidden-size", 16, "--lr", 0.02, "--interval", 4, "--close", 3]
    whole, output = run(memorize.main, *options, "--name", "whole")
    epochs = re.findall("^epoch +([0-9]+) ", output, re.MULTILINE)
    assert 4 < int(epochs[-1]) < 300  # it has ended by itself
    monkeypatch.setitem(OPTIMIZERS, "adam", partial(Dying, **OPTIMIZERS["adam"].keywords))
    for lives in (0, 4, 3 * int(epochs[-1]) - 1):  # of three steps an epoch
        monkeypatch.setattr(Dying, "lives", lives)
        how = [*options, "--name", "killed"] if lives == 0 else ["--resume", "runs/killed"]
        with pytest.raises(Killed):
            run(memorize.main, *how, "--checkpoint-seconds", 0)
    monkeypatch.setattr(Dying, "lives", math.inf)
    killed, again = run(memorize.main, "--resume", "runs/killed")
    assert killed == whole
    assert again.splitlines()[-4:-2] == output.splitlines()[-4:-2]
    assert weights_and_history(Path("runs/killed")) == weights_and_history(Path("runs/whole"))


def test_texts_learnt_by_heart_must_be_the_same(run, text, error_line):
    options = ["--corpus", text, "--quick", "--texts", 12, "--tokenizer", "word", "--epochs", 1, "--name", "x"]
    run(memorize.main, *options)
    assert "texts = 12, and cannot go on with texts = 9" in error_line(
        memorize.main, ["--resume", "runs/x", "--texts", "9"]
    )
    text.write_bytes(text.read_bytes() + b"one more line .\n")
    assert "began with corpus_sha256 =" in error_line(memorize.main, ["--resume", "runs/x"])
