"""The scripts that compare trainings, colour a text and map words: what they print and draw is what the model says."""

import csv
import io
from itertools import pairwise
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from helpers import SMALL, write_text

from ch05_rnn import train_rnnlm
from ch06_gated import colour_text, compare_runs, train_lstm_lm, word_map
from ch06_gated.models import load_run
from common.evaluation import perplexity
from common.functions import log_softmax
from common.gradient_check import gradient_error, numerical_gradient

TEXT = "the cat sees fish ."


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two small trainings, in a folder of their own."""
    root = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("sys.stdout", io.StringIO())
        write_text(root / "text.txt")
        for main, name in ((train_rnnlm.main, "rnn"), (train_lstm_lm.main, "lstm")):
            main([str(x) for x in ("--corpus", "text.txt", *SMALL, "--name", name)])
    return root / "runs"


def is_drawn(path):
    picture = matplotlib.image.imread(path)
    return len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 10


def test_the_best_epochs_are_compared(run, runs):
    found, output = run(compare_runs.main, runs / "rnn", runs / "lstm")
    for name in ("rnn", "lstm"):
        with open(runs / name / "history.csv", encoding="utf-8", newline="") as file:
            valid = [float(row["valid_perplexity"]) for row in csv.DictReader(file) if row["valid_perplexity"]]
        assert found[str(runs / name)] == min(valid)
        assert f"{min(valid):.2f}" in output
    assert is_drawn("runs/comparison.png")


def test_what_cannot_be_compared_is_one_line(error_line, runs, tmp_path):
    assert "is not the folder of a training" in error_line(compare_runs.main, [str(tmp_path)])
    (tmp_path / "options.json").write_text('{"model": "X"}')
    (tmp_path / "history.csv").write_text("epoch,seconds,valid_accuracy\n1,2,0.5\n")
    assert "cannot be compared" in error_line(compare_runs.main, [str(tmp_path), str(runs / "rnn")])


@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_surprise_is_the_loss_in_bits(run, runs, name):
    found, _ = run(colour_text.main, runs / name, "--text", TEXT)
    trained = load_run(runs / name)
    ids = [*trained.start_ids, *trained.ids(trained.words(TEXT))]
    ts = np.array([ids[1:]])
    ts[:, :-5] = -1
    with trained.model.evaluating():
        loss = float(trained.model.forward(np.array([ids[:-1]]), ts))
    assert 2 ** found.mean() == pytest.approx(perplexity(loss), rel=1e-5)
    page = (runs / name / "surprise.html").read_text(encoding="utf-8")
    assert page.count("<span") == 5
    assert f'title="{found[1]:.3g}">cat<' in page
    assert is_drawn(runs / name / "surprise.png")


@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_saliency_is_the_gradient_of_the_last_prediction(run, runs, name):
    found, _ = run(colour_text.main, runs / name, "--text", TEXT, "--by", "saliency")
    trained = load_run(runs / name)
    trained.start_ids = [trained.unk_id]  # no word twice, so that each has its own row of W
    model, ids = trained.model, trained.ids(trained.words(TEXT))
    for p in model.parameters:
        p.convert(lambda x: x.astype(np.float64))
    model.flatten_parameters()
    computed = colour_text.saliency(trained, ids)
    W = model.layers[0].W.data

    def log_p():
        with model.evaluating():
            logits = model.predict(np.array([[trained.unk_id, *ids[:-1]]]))[0, -1]
        return log_softmax(logits)[ids[-1]]

    expected = np.linalg.norm(numerical_gradient(log_p, W)[ids[:-1]], axis=1)
    assert gradient_error(computed, expected) < 1e-6
    assert len(found) == 5
    assert found[-1] == 0


def test_a_unit_is_coloured(run, runs):
    found, output = run(colour_text.main, runs / "lstm", "--text", TEXT, "--by", "unit", "--unit", 3)
    trained = load_run(runs / "lstm")
    with trained.model.evaluating():
        trained.model.predict(np.array([[*trained.start_ids, *trained.ids(trained.words(TEXT))]]))
        assert found[-1] == trained.model.recurrent_layers[0].c[0, 3]
    assert "unit.html" in output


@pytest.mark.parametrize(
    ("options", "reason"),
    [(["--text", "cat"], "2 to 300 words, got 1"), (["--text", TEXT, "--by", "unit", "--unit", "8"], "0 to 7, got 8")],
)
def test_what_cannot_be_coloured_is_one_line(error_line, runs, options, reason):
    assert reason in error_line(colour_text.main, [str(runs / "lstm"), *options])


def test_markup_in_a_text_is_text(tmp_path):
    path = tmp_path / "x.html"
    colour_text.write_page(["<b>", "&", "猫"], np.array([1.0, 0.0, -1.0]), True, " ", "a < b", path)
    page = path.read_text(encoding="utf-8")
    for expected in ("&lt;b&gt;", "&amp;", "猫", "a &lt; b", "rgb(255,64,64)", "rgb(255,255,255)", "rgb(64,64,255)"):
        assert expected in page


def test_neighbours_have_the_largest_cosine(run, runs):
    found, output = run(word_map.main, runs / "lstm", "cat", "fish", "--top", 3)
    trained = load_run(runs / "lstm")
    W = trained.model.layers[0].W.data.astype(np.float64)
    unit = W / np.linalg.norm(W, axis=1, keepdims=True)
    order = [trained.word(i) for i in np.argsort(-(unit @ unit[trained.word_to_id["cat"]]))]
    assert found["cat"] == order[1:4]
    assert output.count("[query]") == 2
    assert is_drawn(runs / "lstm" / "word_map.png")


def test_the_map_keeps_the_distances_of_points_in_a_plane():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(9, 2)) @ np.linalg.qr(rng.normal(size=(5, 2)))[0].T + 3
    found = word_map.project(plane)
    for a, b in ((0, 1), (3, 8)):
        assert np.linalg.norm(found[a] - found[b]) == pytest.approx(np.linalg.norm(plane[a] - plane[b]))


def test_an_unknown_word_is_one_line(error_line, runs):
    assert "not in the vocabulary: dragon" in error_line(word_map.main, [str(runs / "rnn"), "dragon"])


def test_a_first_word_is_as_likely_after_the_warm_up_as_after_another_part_of_the_text(runs):
    trained = load_run(runs / "lstm")
    lines = Path(runs.parent, "text.txt").read_text().splitlines()
    ids = [trained.word_to_id[word] for line in lines for word in [*line.split(), "<eos>"]]
    firsts = [b for a, b in pairwise(ids) if a == trained.eos_id]

    def loss(beginning):
        with trained.model.evaluating():
            logits = trained.model.predict(np.array([beginning]))[0, -1].astype(np.float64)
        return -log_softmax(logits)[firsts].mean()

    ends = [k + 1 for k, i in enumerate(ids) if i == trained.eos_id and k > 250]
    elsewhere = np.mean([loss(ids[end - 201 : end]) for end in ends[:: len(ends) // 20]])
    assert len(trained.start_ids) == 201
    assert np.exp(loss(trained.start_ids)) < 1.1 * np.exp(elsewhere)
