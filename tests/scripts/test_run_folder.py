"""A run replaces an earlier one of its own kind, and no other, whatever script it is of."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import SMALL, write_text

from ch05_rnn import train_classifier, train_rnnlm, train_sentence_rnnlm
from ch06_gated import memorize, train_lstm_lm

SENTENCES = [*SMALL, "--tokenizer", "word", "--vocab-size", 30]
POEMS = ["--quick", "--texts", 12, "--epochs", 1]
NEWS = ["--corpus", "ag_news", "--test-file", "test.csv", "--vocab-size", 20, "--hidden-size", 4]


@pytest.fixture
def texts(tmp_path):
    """Two folders with a text, news and lines of the same names, and a home for runs."""
    for k, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        write_text(tmp_path / name / "input.txt", seed=k)
        rows = [f'"{1 + i % 4}","title {k}","word{i % 7}"\n' for i in range(40)]
        (tmp_path / name / "train.csv").write_text("".join(rows))
    shutil.copy(tmp_path / "a" / "train.csv", tmp_path / "test.csv")


def left(name):
    """What is in a run folder, all of it."""
    return {path.name: path.read_bytes() for path in sorted(Path("runs", name).iterdir())}


def refuse(error_line, name, main, *options):
    """Check that a run is refused in a line that says what to do, and changes nothing; return the line."""
    before = left(name)
    line = error_line(main, [str(option) for option in options])
    assert f"runs/{name} holds a training " in line
    assert "--name" in line
    assert left(name) == before
    return line


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize(
    ("main", "option", "name", "options", "name_of_text"),
    [
        (train_rnnlm.main, "--corpus", "rnnlm-input", SMALL, "input.txt"),
        (train_lstm_lm.main, "--corpus", "x", [*SMALL, "--unit", "char", "--name", "x"], "input.txt"),
        (train_sentence_rnnlm.main, "--corpus", "sentence-rnnlm-input", SENTENCES, "input.txt"),
        (memorize.main, "--corpus", "memorize", [*POEMS, "--tokenizer", "word"], "input.txt"),
        (train_classifier.main, "--train-file", "rnn-classifier-ag_news", NEWS, "train.csv"),
    ],
    ids=["words", "characters", "sentences", "memorize", "classifier"],
)
def test_a_text_of_the_same_name_does_not_replace_another(run, error_line, main, option, name, options, name_of_text):
    a, b = f"a/{name_of_text}", f"b/{name_of_text}"
    run(main, option, a, *options)
    line = refuse(error_line, name, main, option, b, *options)
    assert f"on another text, {a}," in line
    # The same again may, by whatever path, and with other sizes.
    for path, size in ((a, 9), (f"./b/../{a}", 10)):
        run(main, option, path, *options, "--hidden-size", size, "--seed", size)
        assert json.loads(left(name)["options.json"])["seed"] == size
    run(main, option, a, *options, "--vocab-size", 25)  # the text as ids is then another
    # The same file, with other contents.
    shutil.copy(b, a)
    assert f"on another text, {a} as it was then," in refuse(
        error_line, name, main, option, a, *options, "--vocab-size", 25
    )
    run(main, option, b, *options, "--name", "other")
    run(main, option, b, "--resume", "runs/other", "--epochs", 3)


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize(
    ("first", "second", "differs"),
    [
        (train_rnnlm.main, [train_rnnlm.main, "--unit", "char"], "with another unit, word,"),
        (train_rnnlm.main, [train_lstm_lm.main], "with another model, SimpleRnnlm,"),
        (train_rnnlm.main, [train_rnnlm.main, "--quick"], "of full size, not a --quick one,"),
        (
            train_sentence_rnnlm.main,
            [train_sentence_rnnlm.main, "--tokenizer", "char"],
            "with another tokenizer, word,",
        ),
    ],
    ids=["unit", "model", "quick", "tokenizer"],
)
def test_another_kind_of_training_does_not_replace_it(run, error_line, first, second, differs):
    options = ["--corpus", "a/input.txt", "--name", "x"]
    small = SENTENCES if first is train_sentence_rnnlm.main else SMALL
    run(first, *options, *small)
    main, *others = second
    assert differs in refuse(error_line, "x", main, *options, *small, *others)


@pytest.mark.usefixtures("texts")
def test_a_quick_training_may_be_replaced(run):
    options = ["--corpus", "a/input.txt", *SMALL]
    for quick in (["--quick"], ["--quick", "--hidden-size", 9], []):
        run(train_rnnlm.main, *options, *quick)
    assert not json.loads(left("rnnlm-input")["options.json"])["quick"]


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize("content", [None, b"", b"[1]", b"{", b"\xff"])
def test_a_folder_that_does_not_say_what_it_holds_is_not_replaced(run, error_line, content):
    options = ["--corpus", "a/input.txt", *SMALL]
    run(train_rnnlm.main, *options)
    path = Path("runs/rnnlm-input/options.json")
    path.unlink() if content is None else path.write_bytes(content)
    assert "its options.json does not say" in refuse(error_line, "rnnlm-input", train_rnnlm.main, *options)


@pytest.mark.usefixtures("texts")
def test_other_files_in_a_folder_do_not_matter(run):
    Path("runs/rnnlm-input").mkdir(parents=True)
    Path("runs/rnnlm-input/notes.txt").write_text("mine")
    run(train_rnnlm.main, "--corpus", "a/input.txt", *SMALL)
    assert left("rnnlm-input")["notes.txt"] == b"mine"
