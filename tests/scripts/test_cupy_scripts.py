"""Every script that takes ``--gpu``, in its quick setting, on the strict stand-in for CuPy: the results of NumPy.

NumPy takes the GPU's path (see ``same_path`` in conftest.py), so that results can be compared bit for bit.
"""

from __future__ import annotations

import importlib
import re
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import RESULTS, write_text
from oracles import strict_cupy

import common
from ch05_rnn import sentence_rnn, train_rnnlm
from ch06_gated import train_sine
from ch06_gated.lstm_classifier import LstmClassifier
from ch06_gated.lstm_lm import LstmLm
from common.batching import TextBatches
from common.evaluation import SINGLE_PROCESS
from common.metrics import Accuracy
from common.model import Model
from common.optimizer import Adam, Optimizer
from common.runs.options import DocumentTrainingOptions
from common.runs.tasks import DocumentTask
from common.trainer import Trainer
from dataset.tokenizer import WordTokenizer

REPOSITORY = Path(common.__file__).parents[1]

# What makes each script small enough for a test, besides --quick.
SIZE = ["--wordvec-size", 8, "--hidden-size", 8]
BATCH = ["--corpus", "text.txt", *SIZE, "--batch-size", 4, "--time-size", 5, "--dropout", 0.2, "--eval-interval", 7]
TEXT = [*BATCH, "--max-words", 400]
SENTENCES = [*BATCH, "--max-documents", 40, "--tokenizer", "word"]
CLASSIFIER = [*SIZE, "--max-texts", 20, "--epochs", 1, "--dropout", 0.2, "--text", "the state of the union"]
CLASSIFIER += ["--checkpoint-seconds", 0]  # after each step
SMALL = {
    "ch05_rnn/sentence_rnn.py": ["--corpus", "text.txt", *SIZE, "--form", "stream", "--sentences", 40],
    "ch05_rnn/train_classifier.py": CLASSIFIER,
    "ch05_rnn/train_rnnlm.py": [*TEXT, "--tie-weights", "--watch"],
    "ch05_rnn/train_sentence_rnnlm.py": [*SENTENCES, "--locked-dropout"],
    "ch06_gated/memorize.py": ["--corpus", "text.txt", *SIZE, "--texts", 9, "--epochs", 4, "--interval", 2],
    "ch06_gated/train_better_lstm_lm.py": [*TEXT, "--optimizer", "adam"],
    "ch06_gated/train_char_lm.py": [*TEXT, "--time-size", 20],
    "ch06_gated/train_classifier.py": [*CLASSIFIER, "--bidirectional"],
    "ch06_gated/train_gru_lm.py": [*TEXT, "--layers", 2, "--reset-after"],
    "ch06_gated/train_lstm_lm.py": [*TEXT, "--peepholes", "--optimizer", "momentum"],
    "ch06_gated/train_sentence_lstm_lm.py": [*SENTENCES, "--padded", "--bucketed"],
    "ch06_gated/train_sequences.py": ["--show-every", 5],
    "ch06_gated/train_sine.py": ["--cycles", 11, "--free-cycles", 1, "--epochs", 5],
}
NO_NAME = ["ch05_rnn/sentence_rnn.py", "ch06_gated/train_sequences.py", "ch06_gated/train_sine.py"]  # of a run folder


def main_of(script):
    return importlib.import_module(script.removesuffix(".py").replace("/", ".")).main


def takes_gpu(script, capsys):
    """Whether --gpu is in the help of a script."""
    with pytest.raises(SystemExit):
        main_of(script)(["--help"])
    return "--gpu" in capsys.readouterr().out


def test_every_script_that_takes_gpu_is_tested(capsys):
    scripts = [path for path in REPOSITORY.glob("ch*/*.py") if "__main__" in path.read_text(encoding="utf-8")]
    names = [path.relative_to(REPOSITORY).as_posix() for path in scripts]
    assert {name for name in names if takes_gpu(name, capsys)} == set(SMALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a text in it."""
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt")
    return tmp_path


def run(capsys, script, *options):
    """Run a script; return its value, what it prints that is not of the machine, and all arrays that it leaves."""
    name = "gpu" if "--gpu" in options else "cpu"
    capsys.readouterr()
    options = ["--quick", *SMALL[script], *options]
    if script not in NO_NAME:
        options += ["--name", name]
    value = main_of(script)(list(map(str, options)))
    out = re.sub(r"  [\d,]+ tokens/s|  GPU memory [^\n]*held", "", capsys.readouterr().out)
    arrays = {}
    for path in sorted(Path("runs", name).glob("best_weights.npz")):
        with np.load(path) as file:
            arrays |= {key: file[key] for key in file.files}
    return value, out.replace(f"runs/{name}", "runs/NAME"), arrays


@pytest.fixture
def steps(monkeypatch):
    """What has crossed the bus in each step of a training, from forward to the end of the update."""
    forward, update, before, steps = Model.forward, Optimizer.update, [], []

    def counting_forward(self, xs, ts):
        before[:] = [dict(strict_cupy.counts)] if self.loss_layer.training else []
        return forward(self, xs, ts)

    def counting_update(self, params, grads):
        update(self, params, grads)
        if before:
            steps.append({key: n - before[0][key] for key, n in strict_cupy.counts.items()})

    monkeypatch.setattr(Model, "forward", counting_forward)
    monkeypatch.setattr(Optimizer, "update", counting_update)
    return steps


@pytest.mark.parametrize("script", SMALL)
def test_scripts_give_the_same_on_the_gpu_and_a_step_sends_nothing(stand_in, same_path, folder, capsys, steps, script):
    value, out, arrays = run(capsys, script, "--gpu")
    assert strict_cupy.counts["to_device"] > 0
    if script == "ch05_rnn/sentence_rnn.py":
        assert steps == []  # it sends each word as it reads it
    else:
        assert steps == [{"to_device": 0, "to_host": 0}] * len(steps) != []
    expected_value, expected_out, expected_arrays = run(capsys, script)
    assert value == expected_value
    assert out == expected_out
    assert out.count("\n") > 2
    assert list(arrays) == list(expected_arrays)
    for ours, theirs in zip(arrays.values(), expected_arrays.values()):
        assert np.array_equal(ours, theirs)


def test_an_epoch_of_a_classifier_waits_once(stand_in):
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 9, n).astype(np.int32) for n in (5, 2, 7, 3, 4)]
    model = LstmClassifier(9, 4, 4, 3, dropout=0.5, rng=rng)
    model.to_gpu()
    batches = TextBatches(model, texts, np.array([0, 2, 1, 1, 0]), 2, rng)
    for eval_interval, waits in ((100, 1), (2, 2)):
        strict_cupy.reset_counts()
        Trainer(model, Adam(0.1), metric=Accuracy()).fit_batches(batches, 1, 1.0, eval_interval, verbose=False)
        assert strict_cupy.counts == {"to_device": 3 * 3, "to_host": waits}  # three arrays for each of three batches


@pytest.mark.parametrize("windows", ["continuing", "random"])
def test_a_sine_wave_lives_on_the_gpu_and_each_line_waits_once(stand_in, capsys, windows):
    rng = np.random.default_rng(0)
    model = train_sine.make_network(2, 0.1, rng)
    model.to_gpu()
    args = Namespace(batch_size=5, time_size=10, epochs=5, lr=0.02)
    strict_cupy.reset_counts()
    train_sine.train(model, train_sine.sine(4), windows, args, rng)
    assert capsys.readouterr().out.count("\n") == 5
    places = 0 if windows == "continuing" else 3 * 5  # of random windows: an array for each of three batches
    assert strict_cupy.counts == {"to_device": 2 + places, "to_host": 5}


def test_documents_go_to_the_gpu_in_one_copy(stand_in):
    documents = ["a b c", "b", "c a"]
    tokenizer = WordTokenizer.train(documents, 10)
    model = LstmLm(tokenizer.vocab_size, 4, 4)
    model.to_gpu()
    task = DocumentTask.__new__(DocumentTask)
    task.options = SimpleNamespace(training=DocumentTrainingOptions(batch_size=2, time_size=3))
    task.tokenizer, task.parallel = tokenizer, SINGLE_PROCESS
    strict_cupy.reset_counts()
    batches = task.batches(model, documents, shuffled=True)
    assert strict_cupy.counts == {"to_device": 1, "to_host": 0}
    assert all(isinstance(x.data, strict_cupy.ndarray) for window in batches for x in window)


# One script, in other ways


def test_a_training_leaves_the_same_files_on_the_gpu(stand_in, folder, capsys):
    run(capsys, "ch05_rnn/train_rnnlm.py", "--gpu")
    assert {path.name for path in (folder / "runs" / "gpu").iterdir()} == set(RESULTS)


def test_sentences_one_by_one_give_the_same_on_the_gpu(stand_in, folder):
    options = ["--quick", "--corpus", "text.txt", "--form", "sentence", "--sentences", "20"]
    assert sentence_rnn.main([*options, "--gpu"]) == sentence_rnn.main(options)


def test_a_script_starts_from_saved_weights_on_the_gpu(stand_in, same_path, folder, capsys):
    script, start = "ch05_rnn/train_rnnlm.py", ["--weights", "weights.npz", "--lr", 0.1]
    _, _, first = run(capsys, script)
    Path("runs/cpu/best_weights.npz").rename("weights.npz")
    value, out, ours = run(capsys, script, "--gpu", *start)
    assert (value, out) == run(capsys, script, *start)[:2]
    assert not np.array_equal(ours["embed_W"], first["embed_W"])


def test_a_script_with_numpys_shortcuts_gives_nearly_the_same(stand_in, same_masks, folder, capsys):
    script = "ch05_rnn/train_rnnlm.py"
    assert run(capsys, script, "--gpu")[0] == pytest.approx(run(capsys, script)[0], rel=1e-4)


# Without a GPU


def test_a_training_on_the_gpu_goes_on_without_one(stand_in, same_path, folder, capsys, monkeypatch):
    script = "ch05_rnn/train_rnnlm.py"
    run(capsys, script, "--gpu", "--epochs", 1)
    monkeypatch.setattr(stand_in.cuda.runtime, "getDeviceCount", lambda: 0)
    found = main_of(script)(["--resume", "runs/gpu", "--no-gpu", "--epochs", "2"])
    assert found == run(capsys, script, "--epochs", 2)[0]


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_a_script_says_in_one_line_what_to_install(folder, capsys):
    with pytest.raises(SystemExit) as stop:
        train_rnnlm.main(["--quick", "--corpus", "text.txt", "--gpu"])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "cuda12" in err
    assert "cuda13" in err
    assert not (folder / "runs").exists()
