"""The scripts, run as a user runs them: what they print and write, and what they say to bad input."""

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import (
    ENVIRONMENT,
    RESULTS,
    SCRIPTS,
    SMALL,
    assert_one_line,
    perplexities,
    printed,
    run_script,
    write_text,
)

import dataset
from ch05_rnn import train_custom_loop, train_rnnlm, train_sentence_rnnlm
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.batching import OffsetBatches
from common.evaluation import evaluate, perplexity
from common.metrics import Perplexity
from common.optimizer import SGD
from dataset.corpus import split_words

BOTH = pytest.mark.parametrize("main", [train_rnnlm.main, train_custom_loop.main], ids=["rnnlm", "custom_loop"])

# What they print and write


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """One run of ``train_rnnlm.py --quick``."""
    folder = tmp_path_factory.mktemp("quick")
    ended = run_script("train_rnnlm.py", "--quick", folder=folder)
    return SimpleNamespace(
        ended=ended, output=ended.stdout, folder=folder, results=folder / "runs" / "rnnlm-sotu-quick"
    )


def test_history_is_what_was_printed(quick):
    with open(quick.results / "history.csv", encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    assert tuple(records[0]) == Perplexity.fields
    valid = [record["valid_perplexity"] for record in records if record["valid_perplexity"]]
    assert [f"{float(number):.2f}" for number in valid] == printed("epoch .* valid perplexity +", quick.output)
    assert len(valid) == 2
    assert float(records[-1]["epoch"]) == 2
    assert int(records[-1]["iteration"]) == 2 * (19_999 // (20 * 35))


def test_options_and_vocabulary_are_kept_with_the_weights(quick):
    options = json.loads((quick.results / "options.json").read_text(encoding="utf-8"))
    vocabulary = json.loads((quick.results / "vocabulary.json").read_text(encoding="utf-8"))
    assert options["corpus"] == "sotu"
    assert options["seed"] == 0
    assert options["corpus_sha256"][:12] in quick.output
    assert vocabulary[:3] == ["<unk>", "<eos>", "the"]
    assert len(vocabulary) == len(set(vocabulary)) == 502
    with np.load(quick.results / "best_weights.npz") as weights:
        assert weights["embed_W"].shape == (502, options["wordvec_size"])
        assert weights["rnn_Wh"].shape == (options["hidden_size"], options["hidden_size"])


def test_same_seed_same_perplexities_in_another_process(quick, tmp_path):
    again = run_script("train_rnnlm.py", "--quick", "--seed", 0, "--name", "again", folder=tmp_path)
    assert perplexities(again.stdout) == perplexities(quick.output)
    assert len(perplexities(again.stdout)) == 5
    assert sorted(path.name for path in (tmp_path / "runs" / "again").iterdir()) == RESULTS


def test_weights_of_a_run_give_its_test_perplexity_again(quick, run):
    for weights in (quick.results / "best_weights.npz", quick.results):  # which know the sizes and the vocabulary
        _, output = run(train_rnnlm.main, "--weights", weights, "--max-words", 20_000, "--epochs", 0, "--seed", 7)
        assert printed("test perplexity ", output) == printed("test perplexity ", quick.output)
        assert "epoch" not in output


def test_training_goes_on_from_weights(run, text):
    options = ["--corpus", text, *SMALL, "--name", "same"]
    start, _ = run(train_rnnlm.main, *options, "--epochs", 5)
    weights = Path("runs/same/best_weights.npz")
    end, _ = run(train_rnnlm.main, *options, "--epochs", 5, "--weights", weights)
    assert end < start


# A script, its options, and into what it splits a line of a text to measure.
LANGUAGE_MODELS = {
    "words": (train_rnnlm.main, [], lambda line: [*split_words(line), "<eos>"]),
    "characters": (train_rnnlm.main, ["--unit", "char"], lambda line: [*line, "<eos>"]),
    "sentences": (train_sentence_rnnlm.main, ["--tokenizer", "word"], split_words),
}


@pytest.fixture(params=LANGUAGE_MODELS)
def tuning(request, run, text):
    """A script, options that train on with another text, its split lines, and what the first run measures there."""
    main, options, split = LANGUAGE_MODELS[request.param]
    run(main, "--corpus", text, *SMALL, *options, "--name", "first", "--samples", 0)
    other = write_text(text.with_name("other.txt"), seed=1)
    lines = other.read_text(encoding="utf-8").replace("mice", "ξ").splitlines()
    other.write_text("\n".join(lines), encoding="utf-8")
    options = ["--corpus", other, "--batch-size", 4, "--lr", 0.01, "--samples", 1, "--weights", "runs/first"]
    measured, _ = run(main, *options, "--epochs", 0)
    return main, options, [split(line) for line in lines], measured


def test_a_run_goes_on_with_another_text_in_its_vocabulary(tuning, run):
    main, options, lines, before = tuning
    after, output = run(main, *options, "--epochs", 2, "--name", "second")
    assert after < before
    first, second = (next(Path("runs", name).glob("[vt]o*.json")).read_text("utf-8") for name in ("first", "second"))
    assert first == second
    assert "ξ" not in first
    share = re.search(r"in the vocabulary of runs/first, (\S+)% of the text to measure is <unk>\n", output)[1]
    units = [unit for line in lines[-len(lines) // 20 :] for unit in line]
    assert float(share) == pytest.approx(100 * units.count("ξ") / len(units), abs=1)
    assert len(re.findall("^> ", output, re.MULTILINE)) == 2  # on the way, and at the end
    whole, _ = run(main, *options, "--epochs", 3, "--name", "whole")
    shutil.rmtree("runs/first")  # which is not needed to go on
    resumed, _ = run(main, "--resume", "runs/second", "--epochs", 3)
    assert resumed == whole


def test_what_contradicts_the_weights_is_one_line(tuning, error_line):
    main, options, _, _ = tuning
    options = list(map(str, options))
    for option, value in {"hidden-size": "9", "layers": "2", "vocab-size": "5", "weights": "runs/none"}.items():
        assert f"--{option} " in error_line(main, [*options, f"--{option}={value}"])
    if "sentence" not in main.__module__:
        unit = json.loads(Path("runs/first/options.json").read_text())["unit"]
        other = {"word": "char", "char": "word"}[unit]
        assert f"--unit must be that of runs/first, {unit}: " in error_line(main, [*options, "--unit", other])
    assert [path.name for path in Path("runs").iterdir()] == ["first"]


def test_measuring_writes_nothing(run, text):
    options = ["--corpus", text, *SMALL]
    trained, _ = run(train_rnnlm.main, *options)
    before = {path: path.read_bytes() for path in Path("runs/rnnlm-text").iterdir()}
    weights = ["--weights", Path("runs/rnnlm-text/best_weights.npz")]
    assert run(train_rnnlm.main, *options, *weights, "--epochs", 0)[0] == trained
    assert run(train_rnnlm.main, *options, *weights, "--epochs", 0, "--name", "new")[0] == trained
    assert {path: path.read_bytes() for path in Path("runs").rglob("*.*")} == before


def test_learning_rate_is_divided_from_an_epoch_on(run, text):
    options = ["--corpus", text, *SMALL, "--epochs", 4, "--lr-decay", 2, "--decay-after", 2]
    _, output = run(train_rnnlm.main, *options)
    assert re.findall(r"^epoch .* lr (\S+)", output, re.MULTILINE) == ["1", "1", "0.5", "0.25"]


def test_the_best_weights_are_tested_not_the_last(run, text):
    # Steps so long that the valid perplexity goes up and down.
    options = ["--corpus", text, *SMALL, "--lr", 20, "--max-grad", 5, "--lr-decay", 1]
    found, output = run(train_rnnlm.main, *options, "--epochs", 6)
    valid = list(map(float, printed("epoch .* valid perplexity +", output)))
    assert min(valid) < valid[-1]
    corpus = dataset.load(str(text))
    model = SimpleRnnlm(len(corpus.id_to_word), 8, 8)
    model.load("runs/rnnlm-text/best_weights.npz")
    valid_again, test_again = (perplexity(evaluate(model, ids[:-1], ids[1:])) for ids in (corpus.valid, corpus.test))
    assert f"{valid_again:.2f}" == f"{min(valid):.2f}"
    assert test_again == found


def test_labels_are_the_next_words(run, tmp_path):
    # The first word of a line is any of 16; what follows, its partner and <eos>, is certain. So the perplexity is
    # 16^(1/3) = 2.5 in the end. It would be 1 for labels that are the words themselves, 6.3 for words further on.
    rng = random.Random(0)
    first_words = [rng.randrange(16) for _ in range(1000)]
    path = tmp_path / "pairs.txt"
    path.write_text("".join(f"x{i} y{i}\n" for i in first_words), encoding="utf-8")
    options = ["--corpus", path, "--wordvec-size", 16, "--hidden-size", 16, "--lr", 1, "--time-size", 5, "--epochs", 20]
    found, _ = run(train_rnnlm.main, *options)
    assert 2.3 < found < 3.5


@pytest.mark.parametrize("options", [["--tie-weights"], ["--dropout", 0.3], ["--restart"], ["--max-grad", 100]])
def test_options_change_the_training(run, text, options):
    plain, _ = run(train_rnnlm.main, "--corpus", text, *SMALL)
    changed, _ = run(train_rnnlm.main, "--corpus", text, *SMALL, *options)
    assert changed != plain
    assert changed < 19  # words of the vocabulary


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw"])
def test_all_optimizers_learn(run, text, optimizer):
    rate = {"sgd": 5, "momentum": 1, "adam": 0.02, "adamw": 0.02}[optimizer]
    before, _ = run(train_rnnlm.main, "--corpus", text, *SMALL, "--epochs", 0)
    after, _ = run(train_rnnlm.main, "--corpus", text, *SMALL, "--epochs", 4, "--optimizer", optimizer, "--lr", rate)
    assert after < 0.5 * before


def test_japanese_by_character(tmp_path):
    path = tmp_path / "neko.txt"
    path.write_text("吾輩は猫である。\n名前はまだ無い。\n" * 150, encoding="utf-8")
    ended = run_script("train_rnnlm.py", "--corpus", path, "--unit", "char", "--quick", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert float(printed("test perplexity ", ended.stdout)[0]) < 15  # of 16 characters and two markers
    sample, _ = ended.stdout.rsplit("\n> ")[-1].split("\nresults")
    assert "\n" in sample.strip()  # some lines
    assert set(sample) <= set("吾輩は猫である。名前はまだ無い。\n")  # printed as they are, even in an ASCII locale
    vocabulary = json.loads((tmp_path / "runs/rnnlm-neko-quick/vocabulary.json").read_text(encoding="utf-8"))
    assert "猫" in vocabulary


@pytest.mark.parametrize(
    "name",
    [
        "my text",
        "texte d’été",
        "$x^{$",  # would be a formula in a picture
        "猫",
        pytest.param(
            "half \udce9",  # é in an encoding that is not UTF-8
            marks=pytest.mark.skipif(sys.platform != "linux", reason="file names are always Unicode"),
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_any_file_name_will_do(run, tmp_path, name):
    path = write_text(tmp_path / f"{name}.txt")
    run(train_rnnlm.main, "--corpus", path, *SMALL, "--epochs", 1)
    assert sorted(file.name for file in Path(f"runs/rnnlm-{name}").iterdir()) == RESULTS


def test_quick_leaves_options_that_are_given(run, text):
    _, output = run(train_rnnlm.main, "--corpus", text, "--quick", "--epochs", 3, "--samples", 0)
    assert len(printed("epoch .* valid perplexity +", output)) == 3


def test_custom_loop_seeds_and_plot(run, text, monkeypatch):
    monkeypatch.setattr(train_custom_loop, "EPOCHS", 2)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gca().lines[-1].get_ydata()[-1]))
    options = ["--corpus", text, "--plot"]
    first, other, again = (run(train_custom_loop.main, *options, "--seed", seed) for seed in (0, 1, 0))
    assert first == again
    assert first[0] != other[0]
    assert printed("epoch   2  perplexity ", first[1]) == [f"{first[0]:.2f}"]
    assert shown == [first[0], other[0], again[0]]


def test_the_custom_loop_is_that_of_offset_batches(capsys):
    words = np.random.default_rng(0).integers(0, 30, 1000)
    found = train_custom_loop.train(words, 3, seed=0)
    vocabulary, corpus = np.unique(words, return_inverse=True)
    batches = OffsetBatches(corpus[:-1], corpus[1:], 10, 5)
    model = SimpleRnnlm(len(vocabulary), 100, 100, rng=np.random.default_rng(0))
    for k in range(3):
        losses = []
        for x, t in batches:
            losses.append(float(model.forward(x, t)))
            model.backward()
            SGD(0.1).update(model.params, model.grads)
        assert found[k] == pytest.approx(np.exp(np.mean(losses)))


@pytest.mark.usefixtures("data_dir")
def test_custom_loop_learns_a_thousand_words_of_ptb_by_heart(run):
    last, output = run(train_custom_loop.main, "--corpus", "ptb", "--seed", 0)
    assert output.startswith("corpus size: 1000, vocabulary size: 418\n")
    assert last < 7
    assert float(printed("epoch  20  perplexity ", output)[0]) < 200


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT to send on Windows")
def test_ctrl_c_ends_the_training_not_the_program(tmp_path, text):
    command = [sys.executable, SCRIPTS["train_rnnlm.py"], "--corpus", text, *SMALL, "--epochs", 100_000]
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=tmp_path,
        env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        # A shell that starts the tests in the background lets them, and so this process, ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    alarm = threading.Timer(60, process.kill)
    alarm.start()
    try:
        with process:
            output = ""
            for line in process.stdout:
                output += line
                if line.startswith("epoch"):
                    process.send_signal(signal.SIGINT)
                    break
            output += process.stdout.read()
    finally:
        alarm.cancel()
        process.kill()
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert "interrupted: training ends here" in output
    [found] = printed("test perplexity ", output)
    results = tmp_path / "runs" / "rnnlm-text"
    assert sorted(path.name for path in results.iterdir()) == RESULTS
    # The weights that were kept are those that were measured.
    again = run_script(
        "train_rnnlm.py",
        "--corpus",
        text,
        *SMALL,
        "--epochs",
        0,
        "--weights",
        results / "best_weights.npz",
        folder=tmp_path,
    )
    assert printed("test perplexity ", again.stdout) == [found]


def test_ctrl_c_while_the_first_weights_are_written(run, text, monkeypatch):
    replace = os.replace

    def interrupt(old, new):
        if "weights" not in str(new):
            return replace(old, new)
        monkeypatch.setattr(os, "replace", replace)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    _, output = run(train_rnnlm.main, "--corpus", text, *SMALL)
    assert "interrupted" in output
    assert printed("test perplexity ", output)


# Bad input: one line, exit code 2, and nothing written


@pytest.fixture
def fail(error_line, tmp_path, monkeypatch):
    """A function that runs ``main`` in a folder of its own, and returns the one line with which it fails."""
    monkeypatch.chdir(tmp_path)

    def call(main, *options):
        line = error_line(main, [str(option) for option in options])
        assert not Path("runs").exists()
        return line

    return call


CORPORA = {
    "empty": (b"", "has 0 words in 0 lines"),
    "blank lines": (b"\n\n \n", "has 0 words in 0 lines"),
    "one word": (b"word", "has 1 words in 1 lines"),
    "two lines": (b"one two\nthree\n", "has 3 words in 2 lines"),
    "Shift JIS": ("一\n二\n三\n".encode("shift_jis"), "is not UTF-8 text"),
    "UTF-16": ("one\ntwo\nthree\n".encode("utf-16"), "is not UTF-8 text"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not UTF-8 text"),
}


@BOTH
@pytest.mark.parametrize("kind", CORPORA)
def test_bad_corpus(fail, tmp_path, main, kind):
    content, reason = CORPORA[kind]
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    assert f"{path} {reason}" in fail(main, "--corpus", path)


@BOTH
@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_corpus_that_cannot_be_read(fail, tmp_path, main, name):
    assert f"cannot read {tmp_path / name}" in fail(main, "--corpus", tmp_path / name)


def test_corpus_shorter_than_a_batch(fail, tmp_path, text):
    line = fail(train_rnnlm.main, "--corpus", text, "--batch-size", 100, "--time-size", 50)
    assert "one batch needs batch_size x time_size = 100 x 50 = 5000" in line
    path = write_text(tmp_path / "short.txt", lines=4)
    assert "a window takes more than 50 words" in fail(train_custom_loop.main, "--corpus", path)


@BOTH
def test_corpus_that_cannot_be_downloaded(fail, tmp_path, monkeypatch, main):
    monkeypatch.setenv("RNN_DATA_DIR", str(tmp_path / "cache"))
    assert "--corpus sotu" in fail(main, "--corpus", "ptb")


def test_tied_weights_of_different_sizes(fail, text):
    line = fail(train_rnnlm.main, "--corpus", text, "--tie-weights", "--wordvec-size", 8, "--hidden-size", 9)
    assert "tied weights need wordvec_size = hidden_size, got 8 and 9" in line


def test_a_name_that_is_a_file(error_line, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("in the way")
    line = error_line(train_rnnlm.main, ["--corpus", str(text), *map(str, SMALL)])
    assert "runs" in line


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_learning_rate_so_high_that_the_loss_is_lost(error_line, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--corpus", text, *SMALL, "--lr", 1e38, "--max-grad", 1e38, "--epochs", 20]
    assert "try a lower learning rate" in error_line(train_rnnlm.main, list(map(str, options)))


def test_a_model_larger_than_memory(fail, text):
    assert fail(train_rnnlm.main, "--corpus", text, "--hidden-size", 10**13)


# Bad weight files


class Intruder:
    """Unpickling it makes a folder: what a weight file from a stranger could do, were it allowed to."""

    def __reduce__(self):
        return os.mkdir, ("intruded",)


WEIGHT_SIZES = 19, 8, 8  # vocabulary of ``write_text`` with both markers, D and H


def weights_of(path, *sizes, **changes):
    """Save the weights of a model, with changes, and return the file's content."""
    SimpleRnnlm(*sizes, rng=np.random.default_rng(0)).save(path)
    if changes:
        with np.load(path) as file:
            arrays = {**file, **changes}
        np.savez(path, **{name: x for name, x in arrays.items() if x is not None})
    return path.read_bytes()


@pytest.fixture
def load_weights(fail, text, tmp_path):
    """A function that starts train_rnnlm from a file with such content, and returns the line with which it fails."""
    path = tmp_path / "weights.npz"

    def load(content):
        path.write_bytes(content)
        line = fail(train_rnnlm.main, "--corpus", text, *SMALL, "--weights", path)
        assert str(path) in line
        return line

    return load


@pytest.mark.parametrize("sizes", [(19, 8, 9), (19, 9, 8), (20, 8, 8)])
def test_weights_of_another_shape(load_weights, tmp_path, sizes):
    line = load_weights(weights_of(tmp_path / "other.npz", *sizes))
    assert re.search(r"has shape \(.*\), but this model's has \(.*\)", line)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rnn_b": None}, "has no rnn_b"),
        ({"lstm_b": np.zeros(3)}, "parameters that this model has not: lstm_b"),
        ({"rnn_b": np.full(8, np.nan)}, "rnn_b holds values that are not finite"),
        ({"rnn_b": np.full(8, "0.1")}, "rnn_b holds values that are not finite"),
        ({"rnn_b": np.zeros(8, complex)}, "rnn_b holds values that are not finite"),
    ],
)
def test_weights_that_are_not_all_there_or_not_numbers(load_weights, tmp_path, changes, reason):
    assert reason in load_weights(weights_of(tmp_path / "changed.npz", *WEIGHT_SIZES, **changes))


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.9, 0.99, 0.9999])
def test_truncated_weights(load_weights, tmp_path, share):
    content = weights_of(tmp_path / "whole.npz", *WEIGHT_SIZES)
    assert "is not a weight file, or is damaged" in load_weights(content[: int(share * len(content))])


def test_pickled_objects_in_weights_are_not_loaded(load_weights, tmp_path):
    objects = np.array([Intruder()], dtype=object)
    line = load_weights(weights_of(tmp_path / "evil.npz", *WEIGHT_SIZES, embed_W=objects))
    assert "is not a weight file, or is damaged" in line
    assert not Path("intruded").exists()


def test_a_pickle_as_weights_is_not_loaded(load_weights, tmp_path):
    with open(tmp_path / "evil.pickle", "wb") as file:
        np.save(file, np.array([Intruder()], dtype=object), allow_pickle=True)
    load_weights((tmp_path / "evil.pickle").read_bytes())
    assert not Path("intruded").exists()


@pytest.mark.parametrize("name", [".", "missing.npz"])
def test_weights_that_cannot_be_read(fail, text, tmp_path, name):
    line = fail(train_rnnlm.main, "--corpus", text, *SMALL, "--weights", tmp_path / name)
    assert str(tmp_path / name) in line


# Some of these in a process of its own, where a traceback would be seen


def test_bad_weights_in_a_process(tmp_path, text):
    (tmp_path / "weights.npz").write_bytes(weights_of(tmp_path / "whole.npz", *WEIGHT_SIZES)[:1000])
    options = ["--corpus", text, *SMALL, "--weights", "weights.npz"]
    assert_one_line(run_script("train_rnnlm.py", *options, folder=tmp_path), "train_rnnlm.py")
