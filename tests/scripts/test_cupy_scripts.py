"""Scripts with ``--gpu`` on the strict stand-in for CuPy: what crosses the bus, and other ways to start.

That every script gives the results of NumPy is tested in test_scripts.py.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import RESULTS
from oracles import strict_cupy
from table import call, main_of

from ch05_rnn import sentence_rnn, train_rnnlm
from ch06_gated import train_sine
from ch06_gated.lstm_classifier import LstmClassifier
from ch06_gated.lstm_lm import LstmLm
from common.batching import TextBatches
from common.evaluation import SINGLE_PROCESS
from common.metrics import Accuracy
from common.optimizer import Adam
from common.runs.options import DocumentTrainingOptions
from common.runs.tasks import DocumentTask
from common.trainer import Trainer
from dataset.tokenizer import WordTokenizer


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
    call(capsys, "ch05_rnn/train_rnnlm.py", "--gpu")
    assert {path.name for path in (folder / "runs" / "x").iterdir()} == set(RESULTS)


def test_sentences_one_by_one_give_the_same_on_the_gpu(stand_in, folder):
    options = ["--quick", "--corpus", "text.txt", "--form", "sentence", "--sentences", "20"]
    assert sentence_rnn.main([*options, "--gpu"]) == sentence_rnn.main(options)


def test_a_script_starts_from_saved_weights_on_the_gpu(stand_in, same_path, folder, capsys):
    script, start = "ch05_rnn/train_rnnlm.py", ["--weights", "weights.npz", "--lr", 0.1]
    _, _, first = call(capsys, script)
    Path("runs/x/best_weights.npz").rename("weights.npz")
    value, out, ours = call(capsys, script, "--gpu", *start)
    assert (value, out) == call(capsys, script, *start)[:2]
    assert not np.array_equal(ours["embed_W"], first["embed_W"])


def test_a_script_with_numpys_shortcuts_gives_nearly_the_same(stand_in, same_masks, folder, capsys):
    script = "ch05_rnn/train_rnnlm.py"
    assert call(capsys, script, "--gpu")[0] == pytest.approx(call(capsys, script)[0], rel=1e-4)


# Without a GPU


def test_a_training_on_the_gpu_goes_on_without_one(stand_in, same_path, folder, capsys, monkeypatch):
    script = "ch05_rnn/train_rnnlm.py"
    call(capsys, script, "--gpu", "--epochs", 1)
    monkeypatch.setattr(stand_in.cuda.runtime, "getDeviceCount", lambda: 0)
    found = main_of(script)(["--resume", "runs/x", "--no-gpu", "--epochs", "2"])
    assert found == call(capsys, script, "--epochs", 2)[0]


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
