"""The scripts that classify texts, run as a user runs them."""

import csv
import io
import json
import random
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import NOT_POSITIVE, cases, printed, run_script

from ch05_rnn import train_classifier as train_rnn
from ch06_gated import classify
from ch06_gated import train_classifier as train_lstm
from common.classifier import RecurrentClassifier
from common.metrics import Accuracy
from common.packing import pack
from common.runs import tasks
from dataset import sotu
from dataset.labelled import LabelledTexts

SCRIPTS = {"rnn-classifier": train_rnn.main, "lstm-classifier": train_lstm.main}
EACH_SCRIPT = pytest.mark.parametrize("name", SCRIPTS)
SMALL = ["--wordvec-size", 8, "--hidden-size", 8, "--lr", 0.02, "--dropout", 0, "--epochs", 1]
RESULTS = [
    "best_weights.npz",
    "checkpoint.npz",
    "confusion_matrix.png",
    "history.csv",
    "options.json",
    "tokenizer.json",
]
TOPICS = ("war army border", "goal match team", "bank price stock", "chip space web")


def accuracies(output):
    return re.findall(r"accuracy (0\.\d{4}|1\.0000)", output)


def write_news(path, items=200, seed=0):
    """News in which only the words of one topic say which class it is."""
    rng = random.Random(seed)
    with open(path, "w", encoding="utf-8", newline="") as file:
        for _ in range(items):
            k = rng.randrange(4)
            words = [*rng.choices(["the", "a", "of", "and"], k=rng.randint(2, 9)), rng.choice(TOPICS[k].split())]
            rng.shuffle(words)
            csv.writer(file, quoting=csv.QUOTE_ALL).writerow([k + 1, "", " ".join(words)])
    return path


@pytest.fixture
def news(tmp_path):
    train, test = write_news(tmp_path / "train.csv"), write_news(tmp_path / "test.csv", 100, seed=1)
    return ["--corpus", "ag_news", "--train-file", train, "--test-file", test]


@pytest.fixture(scope="module", params=SCRIPTS)
def quick(request, tmp_path_factory):
    """One ``--quick`` run of each script; chapter and all, as both have the same name."""
    folder = tmp_path_factory.mktemp("quick")
    chapter = "ch05_rnn" if request.param.startswith("rnn") else "ch06_gated"
    ended = run_script(f"{chapter}/train_classifier.py", "--quick", "--text", "the Soviet Union", folder=folder)
    return SimpleNamespace(ended=ended, output=ended.stdout, folder=folder / "runs" / f"{request.param}-sotu-quick")


def test_quick_ends_well_learns_and_leaves_its_results(quick):
    assert quick.ended.returncode == 0, quick.ended.stderr
    assert quick.ended.stderr == ""
    assert sorted(path.name for path in quick.folder.iterdir()) == RESULTS
    (majority,) = printed(r"test accuracy \d\.\d+  \(always the most frequent class: ", quick.output)
    assert float(printed("test accuracy ", quick.output)[0]) > float(majority) + 0.1
    assert re.search(r"^> the Soviet Union\n  (\S+): 1790-1849 \d\.\d{3}, 1850-1899 .*$", quick.output, re.MULTILINE)


def test_history_is_what_was_printed(quick):
    with open(quick.folder / "history.csv", encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    assert tuple(records[0]) == Accuracy.fields
    found = [f"{float(record[key]):.4f}" for record in records for key in ("train_accuracy", "valid_accuracy")]
    assert found == accuracies(quick.output)[:-1]


@EACH_SCRIPT
def test_the_topic_of_news_is_learnt_whatever_the_options(run, news, name):
    for options in ([], ["--bidirectional"], ["--layers", 2], ["--pool", "last"], ["--padded"], ["--dropout", 0.1]):
        accuracy, _ = run(SCRIPTS[name], *news, *SMALL, "--epochs", 8, *options)
        assert accuracy > 0.6, options  # of four equally frequent classes


@EACH_SCRIPT
def test_padded_and_packed_give_the_same_accuracies(run, news, name):
    (_, packed), (_, padded) = (run(SCRIPTS[name], *news, *SMALL, *option) for option in ([], ["--padded"]))
    assert accuracies(packed) == accuracies(padded)


def test_test_accuracy_is_that_of_the_best_weights(run, news, monkeypatch):
    found = []
    monkeypatch.setattr(tasks, "plot_confusion", lambda counts, *rest: found.append(counts))
    for seed in range(20):  # steps so long that it goes up and down; whether down at the end, rounding decides, too
        found.clear()
        accuracy, output = run(SCRIPTS["rnn-classifier"], *news, *SMALL, "--epochs", 4, "--lr", 0.3, "--seed", seed)
        valid = [float(x) for x in accuracies(output)[1:-1:2]]
        if valid[-1] < max(valid):
            break
    assert valid[-1] < max(valid)
    model, tokenizer, classes = classify.load_classifier("runs/rnn-classifier-ag_news")
    assert classes == ["World", "Sports", "Business", "Sci/Tech"]

    def accuracy_on(path):
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        texts = [np.array(tokenizer.encode(row[2])) for row in rows]
        labels = np.array([int(row[0]) - 1 for row in rows])
        return texts, labels, model.probabilities(texts).argmax(axis=1)

    texts, labels, found_labels = accuracy_on("test.csv")
    assert (labels == found_labels).mean() == accuracy
    with model.evaluating():  # and so packed by hand
        assert np.array_equal(model.predict(pack(texts)).argmax(axis=1), found_labels)
    _, labels_of_valid, found_of_valid = (x[::20] for x in accuracy_on("train.csv"))
    assert f"{(labels_of_valid == found_of_valid).mean():.4f}" == f"{max(valid):.4f}"
    [counts] = found
    assert counts.sum() == 100
    assert counts.trace() == round(100 * accuracy)
    assert counts.sum(axis=1).tolist() == np.bincount(labels).tolist()  # a row is what a text is


def test_max_texts_are_spread_over_all(run, monkeypatch):
    texts = [(f"word{k} and", k // 50) for k in range(100)]
    monkeypatch.setattr(sotu, "load_eras", lambda: LabelledTexts("sotu", ["a", "b"], texts, texts, texts))
    _, output = run(SCRIPTS["rnn-classifier"], *SMALL, "--max-texts", 10)
    assert "corpus sotu: 10 texts to train, 10 valid, 10 test, 2 classes, vocabulary 15, " in output
    assert "always the most frequent class: 0.5000" in output


# Going on


@pytest.mark.parametrize("options", [[], ["--bidirectional", "--dropout", 0.2, "--padded"]])
def test_a_training_that_was_stopped_goes_on(run, news, options):
    options = [*news, *SMALL, *options, "--text", "a bank", "--text", "the goal"]
    whole, output = run(train_lstm.main, *options, "--epochs", 3, "--name", "whole")
    run(train_lstm.main, *options, "--epochs", 1, "--name", "short")
    short, again = run(train_lstm.main, "--resume", "runs/short", "--epochs", 3)
    assert "going on after 1.00 epochs, step 12\n" in again
    assert short == whole
    weights = [Path("runs", name, "best_weights.npz").read_bytes() for name in ("whole", "short")]
    assert weights[0] == weights[1]
    ends = [x.replace("runs/whole", "runs/short").splitlines()[-8:] for x in (output, again)]
    assert ends[0] == ends[1]  # two epochs, the test, two texts and their classes, the results
    assert json.loads(Path("runs/short/options.json").read_text(encoding="utf-8"))["text"] == ["a bank", "the goal"]


def test_what_cannot_go_on_is_one_line(run, news, error_line):
    run(train_lstm.main, *news, *SMALL, "--name", "x")
    for options, reason in [
        (["--bidirectional"], "began with bidirectional = False"),
        (["--lr", "0"], "more than 0"),
        (["--test-file", news[3]], "began with test_file"),
    ]:
        assert reason in error_line(train_lstm.main, ["--resume", "runs/x", *map(str, options)])
    assert "cannot go on with model = RnnClassifier" in error_line(train_rnn.main, ["--resume", "runs/x"])
    write_news(news[3], seed=2)
    assert "began with corpus_sha256" in error_line(train_lstm.main, ["--resume", "runs/x"])


# Word vectors


def write_vectors(folder, D=8):
    path = folder / "vectors.txt"
    numbers = {word: np.eye(4)[k].repeat(D // 4) * 3 for k, words in enumerate(TOPICS) for word in words.split()}
    lines = [f"{word} {' '.join(map(str, vector))}" for word, vector in numbers.items()]
    path.write_text("\n".join([*lines, "never 1 1 1 1 1 1 1 1"]) + "\n", encoding="utf-8")
    return path, numbers


@pytest.mark.parametrize("fixed", [True, False])
def test_word_vectors_of_a_file(run, news, tmp_path, fixed):
    path, numbers = write_vectors(tmp_path)
    options = ["--epochs", 1, "--embeddings", path, *(["--fixed-embedding"] if fixed else [])]
    _, output = run(SCRIPTS["rnn-classifier"], *news, *SMALL, *options)
    assert f"word vectors: {path} has 12 of 16 words of the vocabulary\n" in output
    model, tokenizer, _ = classify.load_classifier("runs/rnn-classifier-ag_news")
    for word, vector in numbers.items():
        [i] = tokenizer.encode(word)
        assert np.array_equal(model.embedding[i], vector.astype(np.float32)) == fixed
        assert np.allclose(model.embedding[i], vector, rtol=0, atol=0.5)


def test_word_vectors_of_another_size_are_one_line(error_line, news, tmp_path):
    path, _ = write_vectors(tmp_path)
    options = [str(x) for x in (*news, "--embeddings", path)]
    assert error_line(train_rnn.main, options).endswith("vectors of 8 numbers: --wordvec-size must be 8")


# A text of one's own


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a classifier of the news above."""
    folder = tmp_path_factory.mktemp("trained")
    train, test = write_news(folder / "train.csv"), write_news(folder / "test.csv", seed=1)
    files = ["--corpus", "ag_news", "--train-file", train, "--test-file", test]
    ended = run_script("ch06_gated/train_classifier.py", *files, *SMALL, "--epochs", 10, folder=folder)
    assert ended.returncode == 0, ended.stderr
    return folder / "runs" / "lstm-classifier-ag_news"


@pytest.mark.parametrize("source", ["file", "standard input"])
def test_texts_are_classified_one_a_line(run, trained, tmp_path, monkeypatch, source):
    content = b"The goal of a team!\n\n  a bank \n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    path = tmp_path / "texts.txt"
    path.write_bytes(content)
    _, output = run(classify.main, trained, *([path] if source == "file" else []))
    lines = output.splitlines()
    assert lines[0::2] == ["> The goal of a team!", "> a bank"]
    assert [line.split(":")[0] for line in lines[1::2]] == ["  Sports", "  Business"]
    for line in lines[1::2]:
        p = {name: float(x) for name, x in re.findall(r"(\S+) (\d\.\d{3})", line)}
        assert list(p) == ["World", "Sports", "Business", "Sci/Tech"]
        assert sum(p.values()) == pytest.approx(1, abs=0.003)
        assert max(p, key=p.get) == line.split(":")[0].strip()


def test_text_in_any_locale(trained, tmp_path):
    ended = run_script("classify.py", trained, folder=tmp_path, stdin="猫 bank\n".encode())
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("> 猫 bank\n  Business: ")


def damage(trained, tmp_path, **changes):
    copy = shutil.copytree(trained, tmp_path / "damaged")
    for name, content in changes.items():
        path = copy / f"{name}.{'npz' if 'weights' in name else 'json'}"
        if content is None:
            path.unlink()
        elif isinstance(content, dict):
            path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **content}), encoding="utf-8")
        else:
            path.write_bytes(content)
    return copy


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"options": None}, "it has no options.json"),
        ({"options": b"{"}, "is damaged"),
        ({"options": b"[]"}, "does not describe a classifier"),
        ({"options": {"model": "LstmLm"}}, "does not describe a classifier"),
        ({"options": {"arguments": {"rng": 1}}}, "does not describe a classifier"),
        ({"options": {"classes": ["a"]}}, "differ in the number"),
        ({"tokenizer": None}, "has no tokenizer"),
        ({"tokenizer": b"{}"}, "not a tokenizer"),
        ({"best_weights": b"PK"}, "not a weight file"),
        ({"best_weights": None}, "No such file"),
    ],
)
def test_a_damaged_folder_is_one_line(error_line, trained, tmp_path, changes, reason):
    assert reason in error_line(classify.main, [str(damage(trained, tmp_path, **changes))])


# A table of one's own


@pytest.mark.parametrize("tokenizer", ["char", "subword", "word"])
def test_japanese_without_spaces_is_read_by_characters_unless_asked(run, tmp_path, capsys, tokenizer):
    words = {"天気": "雨雪風", "料理": "鍋塩味"}
    rng = random.Random(0)
    tails = ["".join(rng.choices("あいうえおかきくけこ", k=4)) for _ in range(120)]
    rows = [f"{label}\t今日の{rng.choice(words[label])}と{tail}。" for label, tail in zip([*words] * 60, tails)]
    (tmp_path / "文.tsv").write_text("\n".join(rows), encoding="utf-8")
    options = ["--train-file", "文.tsv", *SMALL, "--epochs", 101, "--patience", 0]
    options += [] if tokenizer == "char" else ["--tokenizer", tokenizer]
    accuracy, output = run(SCRIPTS["rnn-classifier"], *options)
    assert ("split into characters" in output) == (tokenizer == "char")
    assert "文: class in column 1, text in column 2\n" in output
    assert (accuracy == 1) == (tokenizer != "word")  # to which most sentences are a word that it has never seen
    Path("texts.txt").write_text("雨だ。\n", encoding="utf-8")
    classify.main(["runs/rnn-classifier-文", "texts.txt"])
    out, err = capsys.readouterr()
    assert re.match(r"> 雨だ。\n  (天気|料理): 天気 \d\.\d+, 料理 \d\.\d+\n$", out)
    assert err == f"not in the vocabulary, read as <unk>: {'雨だ' if tokenizer == 'word' else 'だ'}\n"


def test_texts_to_train_that_come_again_in_the_test_are_counted(run, tmp_path):
    for name, texts in (("train", range(40)), ("test", [0, 0, 1, 99])):
        (tmp_path / f"{name}.csv").write_text("".join(f"{k % 2},text {k}\n" for k in texts))
    _, output = run(SCRIPTS["rnn-classifier"], "--train-file", "train.csv", "--test-file", "test.csv", *SMALL)
    assert "3 of the 4 texts to test are among those to train, too\n" in output


# Bad input


BAD_VALUES = {
    "--epochs": NOT_POSITIVE,
    "--batch-size": NOT_POSITIVE,
    "--vocab-size": [*NOT_POSITIVE, "4"],
    "--max-texts": NOT_POSITIVE,
    "--wordvec-size": NOT_POSITIVE,
    "--hidden-size": NOT_POSITIVE,
    "--layers": NOT_POSITIVE,
    "--dropout": ["1", "-0.1", "nan"],
    "--pool": ["max"],
    "--corpus": ["ptb"],
    "--lr": [*NOT_POSITIVE, "inf"],
    "--max-grad": NOT_POSITIVE,
    "--seed": ["-1"],
    "--train-file": ["missing.csv"],
    "--embeddings": ["missing.txt"],
    "--text": ["", " "],
}


@cases(BAD_VALUES)
def test_bad_values_are_one_line(error_line, tmp_path, monkeypatch, option, value):
    monkeypatch.chdir(tmp_path)
    texts = [("a b c", 0), ("d e f", 1)]
    monkeypatch.setattr(sotu, "load_eras", lambda: LabelledTexts("sotu", ["a", "b"], texts, texts, texts))
    error_line(train_lstm.main, [option, value])


@EACH_SCRIPT
def test_a_loss_that_is_lost_is_one_line(error_line, tmp_path, monkeypatch, news, name):
    monkeypatch.chdir(tmp_path)
    options = [*map(str, news), "--lr", "1e38", "--epochs", "3"]
    line = error_line(SCRIPTS[name], options)
    assert re.search(
        r"the (loss|gradient) is (nan|inf) after epoch 0\.\d\d, step \d, with learning rate 1e\+38: try", line
    )
    assert "checkpoint.npz holds the training as it was before" in line


def test_ctrl_c_ends_the_training_not_the_program(run, news, monkeypatch):
    forward, calls = RecurrentClassifier.forward, []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return forward(self, *args)

    monkeypatch.setattr(RecurrentClassifier, "forward", interrupted)
    _, output = run(SCRIPTS["rnn-classifier"], *news, *SMALL, "--epochs", 50)
    assert "interrupted: training ends here" in output
    assert len(accuracies(output)) == 2 * 2 + 1  # two epochs of 12 steps, and the test
    assert Path("runs/rnn-classifier-ag_news/confusion_matrix.png").exists()
