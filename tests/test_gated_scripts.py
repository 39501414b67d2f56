"""The scripts of the gated chapter, run as a user runs them, and what they find in the folder of a training."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from test_scripts import RESULTS, SMALL, printed, run, run_script, text, write_text  # noqa: F401 (fixtures)

import dataset
from ch05_rnn import train_rnnlm
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated import (
    generate_text,
    gradient_through_time,
    sentence_probability,
    show_gates,
    train_better_lstm_lm,
    train_gru_lm,
    train_lstm_lm,
)
from ch06_gated.gru_lm import GruLm
from ch06_gated.lstm_lm import LstmLm
from ch06_gated.run_folder import load_run
from common.evaluation import evaluate, perplexity
from common.functions import log_softmax
from common.layers import GRU, LSTM

CHAPTER = Path(train_lstm_lm.__file__).parent
TRAININGS = {
    "rnnlm": train_rnnlm.main,
    "lstm": train_lstm_lm.main,
    "gru": train_gru_lm.main,
    "better-lstm": train_better_lstm_lm.main,
}
EACH_TRAINING = pytest.mark.parametrize("name", TRAININGS)


def small(path, *options):
    return [str(x) for x in ("--corpus", path, *SMALL, *options)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder in which each training has left a run, and the test perplexity that each returned."""
    folder = tmp_path_factory.mktemp("gated")
    path = write_text(folder / "text.txt")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, main in TRAININGS.items():
            found[name] = folder / "runs" / f"{name}-text", main(small(path, "--epochs", 4))
    return found


# Training


@pytest.mark.parametrize("script", ["train_lstm_lm.py", "train_gru_lm.py", "train_better_lstm_lm.py"])
def test_quick_ends_well_and_learns(tmp_path, script):
    ended = run_script(CHAPTER / script, "--quick", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == RESULTS
    first, second = map(float, printed(r"epoch +\d+  train perplexity +", ended.stdout))
    assert first > second
    assert 30 < float(printed("test perplexity ", ended.stdout)[0]) < 200  # of 502 words


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lstm", ["--layers", 2]),
        ("lstm", ["--dropout", 0.3]),
        ("lstm", ["--tie-weights"]),
        ("lstm", ["--init-range", 0.1]),
        ("lstm", ["--forget-bias", 1]),
        ("lstm", ["--peepholes"]),
        ("lstm", ["--loss", "sum"]),
        ("gru", ["--reset-after"]),
    ],
)
def test_options_change_the_training(run, text, name, options):  # noqa: F811
    plain, _ = run(TRAININGS[name], *small(text))
    changed, _ = run(TRAININGS[name], *small(text, *options))
    assert changed != plain
    assert changed < 19  # words of the vocabulary


def test_locked_dropout_is_another_dropout(run, text):  # noqa: F811
    found = [
        run(train_lstm_lm.main, *small(text, "--dropout", 0.3, *locked))[0] for locked in ([], ["--locked-dropout"])
    ]
    assert found[0] != found[1]


def test_the_summed_loss_is_the_mean_with_another_rate_and_limit(run, text):  # noqa: F811
    options = ["--corpus", text, *SMALL, "--time-size", 4]
    mean, _ = run(train_lstm_lm.main, *options, "--lr", 4, "--max-grad", 0.25)
    summed, _ = run(train_lstm_lm.main, *options, "--loss", "sum", "--lr", 1, "--max-grad", 1)
    assert summed == pytest.approx(mean, rel=1e-3)


# The folder of a training


@EACH_TRAINING
def test_a_run_is_loaded_as_it_was_trained(runs, name):
    folder, test_perplexity = runs[name]
    trained = load_run(folder)
    ids = np.array([trained.word_to_id[word] for word in words_to_test_on(folder.parent.parent / "text.txt")])
    assert perplexity(evaluate(trained.model, ids[:-1], ids[1:])) == pytest.approx(test_perplexity, rel=1e-6)


def words_to_test_on(path):
    corpus = dataset.load(str(path))
    return [corpus.id_to_word[i] for i in corpus.test]


OPTIONS, VOCABULARY, WEIGHTS = "options.json", "vocabulary.json", "best_weights.npz"


def options_with(**changes):
    def change(folder):
        options = json.loads((folder / OPTIONS).read_text())
        for key, value in changes.items():
            (options["arguments"] if key in options["arguments"] else options)[key] = value
        (folder / OPTIONS).write_text(json.dumps(options))

    return change


def replaced(name, data):
    return lambda folder: (folder / name).write_bytes(data)


DAMAGES = {
    "no options": lambda folder: (folder / OPTIONS).unlink(),
    "no vocabulary": lambda folder: (folder / VOCABULARY).unlink(),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "options are not JSON": replaced(OPTIONS, b"{"),
    "options are not UTF-8": replaced(OPTIONS, b"\xff"),
    "options are a list": replaced(OPTIONS, b"[]"),
    "options are a number": replaced(OPTIONS, b"7"),
    "vocabulary is an object": replaced(VOCABULARY, b"{}"),
    "vocabulary of numbers": replaced(VOCABULARY, b"[1, 2]"),
    "vocabulary without <eos>": replaced(VOCABULARY, b'["a"]'),
    "vocabulary too short": replaced(VOCABULARY, b'["<eos>"]'),
    "weights are garbage": replaced(WEIGHTS, b"garbage"),
    "unknown model": options_with(model="os.system"),
    "model is a list": options_with(model=["LstmLm"]),
    "arguments are null": options_with(arguments=None),
    "size of another model": options_with(hidden_size=9),
    "size is text": options_with(hidden_size="8"),
    "size is null": options_with(hidden_size=None),
    "size is negative": options_with(hidden_size=-8),
    "size is nested": options_with(hidden_size=[8]),
    "size is broken": options_with(hidden_size=8.5),
    "size is huge": options_with(hidden_size=10**9),
    "layers are text": options_with(layers="1"),
    "dropout is text": options_with(dropout="0"),
    "init_range is negative": options_with(init_range=-1),
    "forget_bias is text": options_with(forget_bias="a"),
    "unit is a number": options_with(corpus="text.txt", unit=5),
    "unit is a list": options_with(corpus="text.txt", unit=[]),
}


@pytest.mark.parametrize("script", [generate_text, sentence_probability, show_gates])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_one_line(runs, error_line, tmp_path, damage, script):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (OPTIONS, VOCABULARY, WEIGHTS):
        (folder / name).write_bytes((runs["lstm"][0] / name).read_bytes())
    damage(folder)
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("the cat\n")
    arguments = {generate_text: ["--prompt", "the cat"], sentence_probability: [str(sentences)], show_gates: []}
    assert error_line(script.main, [str(folder), *arguments[script]])


# Writing


def written(capsys, folder, *options):
    capsys.readouterr()
    generate_text.main([str(x) for x in (folder, *options)])
    return capsys.readouterr().out


def test_a_seed_gives_its_text_again(runs, capsys):
    first, again, other = (written(capsys, runs["lstm"][0], "--texts", 5, "--seed", seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first.count("\n") == 5


def test_the_prompt_comes_first_and_unknown_words_are_named(runs, capsys):
    generate_text.main([str(runs["gru"][0]), "--prompt", "The zebra sees"])
    out, err = capsys.readouterr()
    assert out.startswith("the zebra sees ")
    assert "zebra" in err
    assert "<unk>" not in out


def test_a_text_ends_or_goes_on_after_a_sentence(runs, capsys):
    assert written(capsys, runs["lstm"][0], "--length", 200).count("\n") == 1
    assert written(capsys, runs["lstm"][0], "--length", 200, "--keep-going").count("\n") > 5
    assert len(written(capsys, runs["lstm"][0], "--length", 2).split()) == 2


@pytest.mark.parametrize("options", [["--top-k", 1], ["--top-p", 1e-9], ["--temperature", 1e-3]])
def test_only_the_likeliest_word_is_the_argmax(runs, capsys, options):
    trained = load_run(runs["lstm"][0])
    ids = [trained.eos_id]
    for _ in range(4):
        with trained.model.evaluating():
            logits = trained.model.predict(np.array([ids]))[0, -1].copy()
        logits[trained.unk_id] = -np.inf
        ids.append(int(logits.argmax()))
    greedy = " ".join(trained.id_to_word[i] for i in ids[1:])
    assert written(capsys, runs["lstm"][0], "--length", 4, *options).strip() == greedy


def test_each_word_is_printed_before_the_next_is_drawn(runs, capsys, monkeypatch):
    def words(*args, **kwargs):
        for i in (3, 4, 5):
            yield i
            seen.append(capsys.readouterr().out)

    seen = []
    monkeypatch.setattr(generate_text, "generate", words)
    generate_text.main([str(runs["lstm"][0])])
    names = load_run(runs["lstm"][0]).id_to_word
    assert seen == [names[3], f" {names[4]}", f" {names[5]}"]


def test_japanese_characters_are_joined_in_any_locale(tmp_path):
    path = tmp_path / "neko.txt"
    path.write_text("吾輩は猫である。\n名前はまだ無い。\n" * 100, encoding="utf-8")
    options = ["--corpus", path, "--unit", "char", *SMALL, "--epochs", 1]
    assert run_script(CHAPTER / "train_lstm_lm.py", *options, folder=tmp_path).returncode == 0
    ended = run_script(CHAPTER / "generate_text.py", "runs/lstm-neko", "--prompt", "吾輩", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("吾輩")
    assert " " not in ended.stdout


@pytest.mark.parametrize(
    "option", ["--top-k=0", "--top-p=0", "--top-p=1.5", "--temperature=0", "--length=0", "--seed=-1"]
)
def test_bad_options_are_one_line(runs, error_line, option):
    assert option.split("=")[0] in error_line(generate_text.main, [str(runs["lstm"][0]), option])


# Probability


def test_probabilities_are_those_of_the_model(runs, capsys, tmp_path):
    path = tmp_path / "sentences.txt"
    path.write_text("the cat sees fish .\n\nno one fears me\n", encoding="utf-8")
    found = sentence_probability.main([str(runs["lstm"][0]), str(path)])
    lines = capsys.readouterr().out.splitlines()[1:]
    trained, total, count = load_run(runs["lstm"][0]), 0.0, 0
    for line, sentence in zip(lines, ("the cat sees fish .", "no one fears me")):
        ids = [trained.eos_id, *trained.ids(sentence.split()), trained.eos_id]
        with trained.model.evaluating():
            log_p = log_softmax(trained.model.predict(np.array([ids[:-1]]))[0])
        expected = sum(log_p[t, i] for t, i in enumerate(ids[1:]))
        assert line.split()[:3] == [f"{expected:.2f}", f"{math.exp(-expected / (len(ids) - 1)):.2f}", str(len(ids) - 1)]
        assert line.endswith(sentence)
        total, count = total + expected, count + len(ids) - 1
    assert lines[-1].split() == [f"{total:.2f}", f"{found:.2f}", str(count), "all"]
    assert found == pytest.approx(math.exp(-total / count), rel=1e-5)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
def test_nothing_to_read_is_one_line(runs, error_line, tmp_path, content):
    path = tmp_path / "sentences.txt"
    path.write_bytes(content)
    assert error_line(sentence_probability.main, [str(runs["lstm"][0]), str(path)])


def test_a_missing_file_is_one_line(runs, error_line, tmp_path):
    assert "nowhere.txt" in error_line(sentence_probability.main, [str(runs["lstm"][0]), str(tmp_path / "nowhere.txt")])


# Looking inside


@pytest.mark.parametrize("model_class", [SimpleRnnlm, GruLm, LstmLm])
def test_gradient_norms_are_those_of_finite_differences(model_class):
    V, D, N, T = 6, 3, 2, 4
    model = model_class(V, D, 4, rng=np.random.default_rng(0), dtype=np.float64)
    words = np.arange(N * T).reshape(N, T) % V
    norms = gradient_through_time.gradient_norms(model, words, (words + 1) % V)
    vectors = model.layers[0].forward(words).copy()
    labels = np.full((N, T), -1)
    labels[:, -1] = (words[:, -1] + 1) % V

    def loss(xs):
        model.reset_state()
        return float(model.loss_layer.forward(model.layers[1].forward(xs), labels))

    gradient = np.zeros_like(vectors)
    for place in np.ndindex(vectors.shape):
        step = np.zeros_like(vectors)
        step[place] = 1e-5
        gradient[place] = (loss(vectors + step) - loss(vectors - step)) / 2e-5
    expected = np.sqrt((gradient**2).sum(axis=2)).mean(axis=0)[::-1]
    assert np.allclose(norms, expected / expected[0], rtol=1e-6)


def test_gradient_through_time_draws_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    panels = gradient_through_time.main(["--quick", "--time-size", "30"])
    assert list(panels) == ["before training", "after training"]
    assert all(set(curves) == {"RNN", "GRU", "LSTM"} for curves in panels.values())
    assert all(norms.shape == (30,) and norms[0] == 1 for curves in panels.values() for norms in curves.values())
    picture = imread("gradient_through_time.png")
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 10


@pytest.mark.parametrize("name", ["lstm", "gru", "better-lstm"])
def test_maps_are_those_of_the_layer(runs, tmp_path, name):
    words = ["the", "cat", "sees", "fish"]
    path = tmp_path / "gates.png"
    maps = show_gates.main([str(runs[name][0]), "--sentence", " ".join(words), "--units", "3", "--output", str(path)])
    trained = load_run(runs[name][0])
    embedding, recurrent, *_ = trained.model.layers
    weights = [p.data for p in recurrent.parameters]
    step, state = (GRU(*weights[:3]), []) if name == "gru" else (LSTM(*weights[:3]), [np.zeros((1, 8), np.float32)])
    h = np.zeros((1, 8), np.float32)
    hs, zs = [], []
    for i in [trained.eos_id, *trained.ids(words)]:
        result = step.forward(embedding.W.data[[i]], h, *state)
        h, *state = result if isinstance(result, tuple) else (result,)
        hs.append(h[0])
        zs.append(step.cache[2 if name == "gru" else 4][0])  # z, or the input gate
    hs, zs = np.array(hs[1:]), np.array(zs[1:])
    units = np.argsort(-np.abs(np.diff(hs, axis=0)).sum(axis=0), kind="stable")[:3]
    assert np.allclose(maps["state h"], hs[:, units].T, atol=1e-6)
    first = next(iter(maps))
    assert np.allclose(maps[first], zs[:, units].T, atol=1e-6)
    assert all(((values >= 0) & (values <= 1)).all() for key, values in maps.items() if "gate" in key)
    assert len(np.unique(imread(path).reshape(-1, 4), axis=0)) > 10


def test_any_word_can_be_drawn(runs, tmp_path):
    show_gates.main([str(runs["lstm"][0]), "--sentence", "the $x^{ cat", "--output", str(tmp_path / "gates.png")])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lstm", ["--layer", "2"], "there is no layer 2: the model has 1"),
        ("rnnlm", [], "no gates"),
        ("lstm", ["--sentence", " "], "at least one word"),
        ("lstm", ["--show"], "no display"),
    ],
)
def test_what_cannot_be_shown_is_one_line(runs, error_line, tmp_path, name, options, message):
    arguments = [str(runs[name][0]), "--sentence", "the cat", "--output", str(tmp_path / "gates.png"), *options]
    assert message in error_line(show_gates.main, arguments)
