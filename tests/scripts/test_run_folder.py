"""A training overwrites no other, whatever script it is of, unless it is told to."""

import json
from pathlib import Path

import pytest
from helpers import SMALL

from ch05_rnn import train_rnnlm, train_sentence_rnnlm
from ch06_gated import memorize, train_lstm_lm

WORD = ["--tokenizer", "word", "--vocab-size", 30]
SCRIPTS = {
    "words": (train_rnnlm.main, SMALL, "rnnlm-text"),
    "sentences": (train_sentence_rnnlm.main, [*SMALL, *WORD], "sentence-rnnlm-text"),
    "memorize": (memorize.main, ["--texts", "12", "--hidden-size", "8", "--epochs", "1", *WORD], "memorize-text"),
}


def left(name):
    """What is in a run folder, all of it."""
    return {path.name: path.read_bytes() for path in sorted(Path("runs", name).iterdir())}


def train(main, *options):
    main(["--corpus", "text.txt", *map(str, options)])


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_second_training_gets_a_folder_of_its_own(script, folder, capsys):
    main, options, name = SCRIPTS[script]
    train(main, *options)
    first = left(name)
    train(main, *options, "--seed", 1)
    output = capsys.readouterr().out
    assert f"runs/{name} holds another training; the results of this one go to runs/{name}-2\n" in output
    assert f"results in runs/{name}-2: " in output
    train(main, *options, "--quick")
    train(main, *options, "--quick")  # which takes the place of the first quick one
    train(main, *options, "--seed", 2)
    assert left(name) == first
    seeds = {path.name: json.loads((path / "options.json").read_text())["seed"] for path in Path("runs").iterdir()}
    assert seeds == {name: 0, f"{name}-2": 1, f"{name}-3": 2, f"{name}-quick": 0}


def test_a_name_that_is_taken_is_refused(folder, error_line):
    train(train_rnnlm.main, *SMALL, "--name", "x")
    first = left("x")
    for more in ([], ["--quick"], ["--unit", "char"]):
        line = error_line(train_lstm_lm.main, ["--corpus", "text.txt", *map(str, SMALL), "--name", "x", *more])
        assert "runs/x holds a training" in line
        assert all(option in line for option in ("--name", "--overwrite", "--resume runs/x"))
        assert left("x") == first
    train(train_lstm_lm.main, *SMALL, "--name", "x", "--overwrite")
    assert json.loads(left("x")["options.json"])["model"] == "LstmLm"


@pytest.mark.parametrize("content", [None, b"", b"[1]"])
def test_a_folder_that_does_not_say_what_it_holds_is_not_overwritten(folder, content):
    train(train_rnnlm.main, *SMALL)
    path = Path("runs/rnnlm-text/options.json")
    path.unlink() if content is None else path.write_bytes(content)
    before = left("rnnlm-text")
    train(train_rnnlm.main, *SMALL)
    assert left("rnnlm-text") == before
    assert Path("runs/rnnlm-text-2").exists()


def test_other_files_in_a_folder_do_not_matter(folder):
    Path("runs/rnnlm-text").mkdir(parents=True)
    Path("runs/rnnlm-text/notes.txt").write_text("mine")
    train(train_rnnlm.main, *SMALL)
    assert left("rnnlm-text")["notes.txt"] == b"mine"
    assert "best_weights.npz" in left("rnnlm-text")
