"""The scripts that train gated models, and those that look into trained ones, run as a user runs them."""

import contextlib
import io
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import (
    RESULTS,
    SMALL,
    assert_one_line,
    normal,
    perplexities,
    printed,
    run_script,
    write_text,
)
from matplotlib.image import imread

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
from ch06_gated.models import MODELS, load_run
from common.batching import OffsetBatches
from common.evaluation import evaluate, perplexity
from common.functions import log_softmax, sigmoid
from common.layers import split
from common.optimizer import Adam
from common.runs import tasks
from common.runs.folder import Run
from common.time_layers import TimeGRU, TimeLSTM
from common.trainer import RnnlmTrainer

TRAINING = {"lstm": train_lstm_lm.main, "gru": train_gru_lm.main, "better-lstm": train_better_lstm_lm.main}
READING = [generate_text.main, sentence_probability.main, show_gates.main]

EACH_TRAINING = pytest.mark.parametrize("name", TRAINING)
EACH_READING = pytest.mark.parametrize("main", READING, ids=lambda main: main.__module__.split(".")[1])


@pytest.fixture
def figures(monkeypatch):
    """All figures that are drawn, in a list."""
    drawn, make = [], show_gates.new_figure

    def kept(*size):
        drawn.append(make(*size))
        return drawn[-1]

    for script in (show_gates, gradient_through_time):
        monkeypatch.setattr(script, "new_figure", kept)
    return drawn


@pytest.fixture
def undrawn(monkeypatch):
    """Trainings that leave no learning curve, which takes longer than they do."""
    monkeypatch.setattr(tasks, "plot_learning_curve", lambda *args: None)


def options_of(folder):
    return json.loads((folder / "options.json").read_text(encoding="utf-8"))


def change_options(folder, **changes):
    content = json.dumps({**options_of(folder), **changes})
    (folder / "options.json").write_text(content, encoding="utf-8")


# Training


@pytest.mark.usefixtures("undrawn")
@EACH_TRAINING
def test_training_halves_the_perplexity(run, text, name):
    options = ["--corpus", text, *SMALL, "--optimizer", "adam", "--lr", 0.02, "--max-grad", 1]
    before, _ = run(TRAINING[name], *options, "--epochs", 0)
    after, _ = run(TRAINING[name], *options, "--epochs", 4)
    assert after < 0.5 * before


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("name", "common", "options"),
    [
        ("lstm", [], ["--layers", 2]),
        ("gru", [], ["--layers", 3]),
        ("better-lstm", [], ["--layers", 1]),
        ("lstm", ["--dropout", 0.3], ["--locked-dropout"]),
        ("better-lstm", ["--dropout", 0.3], ["--locked-dropout"]),
        ("lstm", [], ["--init-range", 0.1]),
        ("gru", ["--init-range", 0.1], ["--init-range", 0.2]),
        ("lstm", [], ["--forget-bias", 1]),
        ("better-lstm", ["--forget-bias", 1], ["--forget-bias", -1]),
        ("lstm", [], ["--peepholes"]),
        ("better-lstm", [], ["--peepholes"]),
        ("gru", [], ["--reset-after"]),
        ("lstm", [], ["--tie-weights"]),
        ("gru", [], ["--tie-weights"]),
        ("lstm", [], ["--loss", "sum"]),
    ],
)
def test_options_change_the_training_and_are_kept_with_the_model(run, text, name, common, options):
    plain, _ = run(TRAINING[name], "--corpus", text, *SMALL, *common)
    changed, _ = run(TRAINING[name], "--corpus", text, *SMALL, *common, *options)
    assert changed != plain
    assert changed < 19  # words of the vocabulary
    kept = options_of(Path("runs") / f"{name}-text")
    key = options[0].removeprefix("--").replace("-", "_")
    value = options[1] if len(options) == 2 else True
    assert kept[key] == value
    if key != "loss":
        assert kept["arguments"][key] == value


def test_init_range_bounds_all_initial_weights(run, text):
    # At a learning rate at which nothing moves, the weights that are kept are the initial ones.
    options = ["--lr", 1e-30, "--init-range", 0.03, "--tie-weights", "--forget-bias", 2]
    run(train_lstm_lm.main, "--corpus", text, *SMALL, *options)
    with np.load("runs/lstm-text/best_weights.npz") as weights:
        assert 0.025 < np.abs(weights["embed_W"]).max() <= 0.03
        assert 0.025 < np.abs(weights["lstm_Wx"]).max() <= 0.03
        assert weights["lstm_b"] == pytest.approx([2] * 8 + [0] * 24)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("rate", "longest"), [(1, 5), (2, 0.5), (0.5, 100)])
@pytest.mark.parametrize("name", ["lstm", "better-lstm"])
def test_a_summed_loss_is_a_mean_loss_with_other_numbers(run, text, name, rate, longest):
    T = 4  # a power of two, for which rounding is the same
    options = ["--corpus", text, *SMALL, "--time-size", T]
    found, summed = run(TRAINING[name], *options, "--loss", "sum", "--lr", rate, "--max-grad", longest)
    expected, mean = run(TRAINING[name], *options, "--loss", "mean", "--lr", rate * T, "--max-grad", longest / T)
    _, neither = run(TRAINING[name], *options, "--loss", "mean", "--lr", rate, "--max-grad", longest)
    assert found == pytest.approx(expected, rel=1e-3)
    assert [float(p) for p in perplexities(summed)] == pytest.approx([float(p) for p in perplexities(mean)], abs=0.011)
    assert perplexities(summed) != perplexities(neither)


@pytest.mark.parametrize(
    ("name", "option"), [("gru", "--peepholes"), ("gru", "--forget-bias=1"), ("lstm", "--reset-after")]
)
def test_options_of_another_cell_are_unknown(error_line, name, option):
    assert option.split("=")[0] in error_line(TRAINING[name], [option])


def test_an_init_range_too_wide_for_random_numbers_is_one_line(error_line, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error_line(train_lstm_lm.main, ["--corpus", str(text), *map(str, SMALL), "--init-range", "1e308"])


# The folder of a run

JAPANESE = "吾輩は猫である。\n名前はまだ無い。\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Small trained models: of each, the folder, and what its training printed."""
    root = tmp_path_factory.mktemp("trained")
    text, japanese = write_text(root / "text.txt"), root / "neko.txt"
    japanese.write_text(JAPANESE * 100, encoding="utf-8")
    runs = {
        "rnn": (train_rnnlm.main, text),
        "lstm": (train_lstm_lm.main, text, "--peepholes"),
        "gru": (train_gru_lm.main, text, "--reset-after"),
        "gru-before": (train_gru_lm.main, text),
        "better": (train_better_lstm_lm.main, text, "--dropout", 0.2),
        "char": (train_lstm_lm.main, japanese, "--unit", "char", "--loss", "sum"),
        "rare": (train_lstm_lm.main, text, "--vocab-size", 3),
    }
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name, (main, corpus, *options) in runs.items():
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                main([str(x) for x in ("--corpus", corpus, *SMALL, *options, "--name", name)])
            found[name] = SimpleNamespace(folder=root / "runs" / name, corpus=corpus, output=output.getvalue())
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rnn", "SimpleRnnlm"),
        ("lstm", "LstmLm"),
        ("gru", "GruLm"),
        ("better", "BetterLstmLm"),
        ("char", "LstmLm"),
    ],
)
def test_a_trained_model_is_had_again_from_its_folder(trained, name, kind):
    run = load_run(trained[name].folder)
    unit = "char" if name == "char" else "word"
    corpus = dataset.load(str(trained[name].corpus), unit=unit)
    found = perplexity(evaluate(run.model, corpus.test[:-1], corpus.test[1:]))
    assert [f"{found:.2f}"] == printed("test perplexity ", trained[name].output)
    assert type(run.model).__name__ == kind
    assert run.id_to_word == corpus.id_to_word
    assert run.separator == corpus.separator == ("" if unit == "char" else " ")
    line = "吾輩は猫。" if unit == "char" else "The cat sees rain."
    assert run.words(line) == (list(line) if unit == "char" else ["the", "cat", "sees", "rain", "."])
    assert run.ids(run.words(line)) == [corpus.word_to_id[word] for word in run.words(line)]


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "better", "char"])
def test_options_hold_the_model_and_its_arguments(trained, name):
    options = options_of(trained[name].folder)
    model = MODELS[options["model"]](**options["arguments"], rng=np.random.default_rng(0))
    model.load(trained[name].folder / "best_weights.npz")
    again = load_run(str(trained[name].folder)).model
    assert [p.name for p in model.parameters] == [p.name for p in again.parameters]
    assert all(np.array_equal(a, b) for a, b in zip(model.params, again.params))


def test_words_that_are_unknown_are_read_as_unk_and_named_once(trained, capsys):
    run = load_run(trained["lstm"].folder)
    assert run.ids(["a", "zebra", "cat", "zebra", "eats"]) == [
        run.word_to_id[word] for word in ("a", "<unk>", "cat", "<unk>", "<unk>")
    ]
    assert capsys.readouterr() == ("", "not in the vocabulary, read as <unk>: zebra eats\n")


def test_words_that_are_unknown_are_refused_where_there_is_no_unk(trained, tmp_path, error_line):
    folder = damage(trained["lstm"].folder, tmp_path, words=lambda words: ["<none>", *words[1:]])
    line = error_line(generate_text.main, [str(folder), "--prompt", "the zebra eats"])
    assert "not in the vocabulary: zebra eats" in line


@pytest.mark.parametrize(
    ("corpus", "unit", "words"),
    [
        ("sotu", "word", ["the", "u", ".", "s", "n-1", "1,000", "!"]),
        ("sotu", "char", list(" The U.S n-1 1,000! ")),
        ("bungo", "word", list(" The U.S n-1 1,000! ")),
        ("my/sotu", "word", ["the", "u", ".", "s", "n-1", "1,000", "!"]),
        ("my/sotu", "char", list(" The U.S n-1 1,000! ")),
        ("ptb", "word", ["The", "U.S", "n-1", "1,000!"]),
        ("wikitext2", "word", ["The", "U.S", "n-1", "1,000!"]),
    ],
)
def test_a_line_is_split_as_the_corpus_was(corpus, unit, words):
    assert Run(None, ["<eos>"], corpus, unit).words(" The U.S n-1 1,000! ") == words


def test_words_are_joined_with_spaces_and_characters_without():
    assert Run(None, ["<eos>"], "ptb", "char").separator == " "
    assert Run(None, ["<eos>"], "sotu", "char").separator == ""


# Damaged folders


def damage(folder, tmp_path, options=None, arguments=None, words=None, weights=None, **contents):
    """Copy a folder and change the copy.

    ``options``, ``arguments``, ``words`` and ``weights`` map options.json, the arguments of the model in it, the
    vocabulary and the weights to others. The rest are names of files without their suffixes (options_json, as there is
    ``options``), and what they shall hold; None: there is no such file.
    """
    copy = shutil.copytree(folder, tmp_path / "damaged")
    if options is not None:
        (copy / "options.json").write_text(json.dumps(options(options_of(copy))), encoding="utf-8")
    if arguments is not None:
        change_options(copy, arguments=arguments(options_of(copy)["arguments"]))
    if words is not None:
        vocabulary = copy / "vocabulary.json"
        changed = words(json.loads(vocabulary.read_text(encoding="utf-8")))
        vocabulary.write_text(json.dumps(changed), encoding="utf-8")
    if weights is not None:
        with np.load(copy / "best_weights.npz") as file:
            np.savez(copy / "best_weights.npz", **weights(dict(file)))
    for name, content in contents.items():
        [path] = [path for path in copy.iterdir() if path.stem == name.removesuffix("_json")]
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    return copy


def changed(key, value):
    return lambda entries: {**entries, key: value}


def without(key):
    return lambda entries: {name: value for name, value in entries.items() if name != key}


def weights(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


DAMAGES = [
    # Files that are not there, or not what their names say
    ({"options_json": None}, "is not the folder of a training: it has no options.json"),
    ({"vocabulary": None}, "vocabulary.json"),
    ({"warm_up": None}, "warm_up.json"),
    ({"warm_up": b'["<eos>", "not in it"]'}, "warm_up.json is not a list of words of the vocabulary"),
    ({"warm_up": b"[[]]"}, "warm_up.json is not a list of words of the vocabulary"),
    ({"best_weights": None}, "best_weights.npz"),
    *(
        ({name: content}, ".json is damaged")
        for name in ("options_json", "vocabulary")
        for content in (b"", b"{", b"these are words", b'["\xff"]', "[]".encode("utf-16"), b"\0", b"[1, 2")
    ),
    ({"options_json": b"[" * 100_000}, "options.json"),
    ({"vocabulary": b"[" * 100_000}, "vocabulary.json"),
    # Options
    *(
        ({"options_json": content}, "does not describe a model")
        for content in (b"[]", b"null", b"3", b'"LstmLm"', b"{}")
    ),
    *(
        ({"options": changed(key, value)}, "does not describe a model")
        for key, values in {
            "model": ["Transformer", "", None, 3, ["LstmLm"], {}],
            "arguments": [None, "many", 3, [], [8, 8, 8], [["vocab_size", 8]], {}],
            "unit": ["sentence", None, ["char"], 1],
        }.items()
        for value in values
    ),
    *(
        ({"options": without(key)}, f"does not describe a model: KeyError('{key}')")
        for key in ("model", "arguments", "unit", "corpus")
    ),
    *(({"arguments": without(key)}, key) for key in ("vocab_size", "wordvec_size", "hidden_size")),
    *(
        ({"arguments": changed(key, value)}, reason)
        for key, values, reason in [
            ("colour", ["blue"], "does not describe a model"),
            ("reset_after", [True], "does not describe a model"),  # of a GRU; this is an LSTM
            *(
                (key, ["8", None, [8], {"size": 8}, 8.5], "does not describe a model")
                for key in ("hidden_size", "layers")
            ),
            ("vocab_size", ["19", None, [19], {}, 19.5], "does not describe a model"),
            ("hidden_size", [-8, 0], "sizes must be positive"),
            ("layers", [-1, 0], "sizes must be positive"),
            ("layers", [False], "sizes must be whole numbers"),
            ("dropout", ["0.1", None, []], "does not describe a model"),
            ("dropout", [1, 1.5], "dropout probability must be in [0, 1)"),
            ("hidden_size", [9], "shape"),
            ("layers", [2], "has no lstm1_Wx"),
            ("peepholes", [False], "parameters that this model has not: lstm_p"),
            ("tie_weights", [True], "parameters that this model has not: affine_W"),
            ("vocab_size", [18, 20], "differ in the number of words"),
            ("init_range", ["wide", [1]], "does not describe a model"),
            ("init_range", [-1], ""),
            ("forget_bias", ["much"], ""),
            ("hidden_size", [10**9, 10**30], ""),
        ]
        for value in values
    ),
    *(
        ({"arguments": changed(key, value)}, "options.json")
        for key, value in [
            ("init_range", 1e308),
            ("init_range", float("nan")),
            ("rng", 1),
            ("rng", "0"),
            ("dtype", "int32"),
            ("dtype", "object"),
        ]
    ),
    # Vocabulary
    *(
        ({"vocabulary": json.dumps(content).encode()}, "is not a list of words")
        for content in (None, 3, "words", {"<eos>": 0}, ["<eos>", 1], ["<eos>", None], ["<eos>", ["word"]])
    ),
    ({"words": lambda words: [word.replace("<eos>", "<end>") for word in words]}, "has no <eos>"),
    ({"words": lambda words: []}, "has no <eos>"),
    ({"words": lambda words: words[:-1]}, "differ in the number of words"),
    ({"words": lambda words: [*words, "zebra"]}, "differ in the number of words"),
    ({"words": lambda words: [*words[:-1], words[2]]}, "vocabulary.json"),
    # Weights
    ({"best_weights": b""}, "is not a weight file, or is damaged"),
    ({"best_weights": b"these are not weights\n" * 100}, "is not a weight file, or is damaged"),
    ({"best_weights": weights(embed_W=np.zeros((19, 8)))}, "has no lstm_Wx"),
    ({"best_weights": weights(embed_W=np.zeros((19, 9)))}, "embed_W has shape (19, 9)"),
    ({"best_weights": weights(embed_W=np.full((19, 8), np.nan))}, "embed_W holds values that are not finite"),
    ({"weights": lambda arrays: {name: np.full(x.shape, 1e300) for name, x in arrays.items()}}, "not finite"),
]


@pytest.mark.parametrize(("changes", "reason"), DAMAGES)
def test_a_damaged_folder_is_one_line(trained, tmp_path, error_line, changes, reason):
    folder = damage(trained["lstm"].folder, tmp_path, **changes)
    sentence = write_text(tmp_path / "sentence.txt", 1)
    for main, options in {
        generate_text.main: ["--length", "2"],
        sentence_probability.main: [str(sentence)],
        show_gates.main: ["--sentence", "the cat", "--units", "2"],
    }.items():
        assert reason in error_line(main, [str(folder), *options])
    assert not (folder / "gates.png").exists()


@EACH_READING
@pytest.mark.parametrize("name", ["missing", ".", "text.txt", "text.txt/run"])
def test_a_folder_that_is_none_of_a_training_is_one_line(text, tmp_path, error_line, main, name):
    assert "is not the folder of a training" in error_line(main, [str(tmp_path / name)])


@EACH_READING
def test_a_folder_must_be_given(error_line, main):
    assert "folder" in error_line(main, [])


@pytest.mark.parametrize("script", ["generate_text.py", "sentence_probability.py", "show_gates.py"])
def test_a_damaged_folder_in_a_process(trained, tmp_path, script):
    folder = damage(trained["char"].folder, tmp_path, best_weights=b"damaged")
    assert_one_line(run_script(script, folder, folder=tmp_path), script)


# generate_text.py


def generate(run, trained, name, *options):
    return run(generate_text.main, trained[name].folder, *options)[1]


def greedy(trained, prompt, length, skip=()):
    """The likeliest words up to <eos>, each from a pass over all words before it."""
    ids, found = [*trained.start_ids, *trained.ids(prompt)], []
    while len(found) < length:
        with trained.model.evaluating():
            logits = trained.model.predict(np.array([ids]))[0, -1].copy()
        logits[list(skip)] = -np.inf
        ids.append(int(logits.argmax()))
        if ids[-1] == trained.eos_id:
            break
        found.append(trained.id_to_word[ids[-1]])
    return found


def test_one_seed_gives_the_same_text_and_another_gives_another(run, trained):
    options = ["--length", 60, "--keep-going", "--seed"]
    first, other, again = (generate(run, trained, "lstm", *options, seed) for seed in (0, 1, 0))
    assert first == again
    assert first != other
    assert generate(run, trained, "lstm", *options[:-1]) == first  # which is the seed unless another is given


@pytest.mark.parametrize("options", [["--top-k", 1], ["--top-p", 1e-6], ["--temperature", 1e-6]])
@pytest.mark.parametrize("prompt", ["", "My aunt fears", "no"])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "better"])
def test_the_likeliest_words_after_the_prompt_are_written(run, trained, name, prompt, options):
    model = load_run(trained[name].folder)
    words = prompt.lower().split()
    expected = greedy(model, words, 8, skip=[model.unk_id])
    out = generate(run, trained, name, "--prompt", prompt, "--length", 8, *options)
    assert out == " ".join([*words, *expected]) + "\n"


@pytest.mark.parametrize("options", [["--temperature", 5], ["--top-k", 2], ["--top-p", 0.5]])
def test_options_change_the_text(run, trained, options):
    # At an even temperature of 2 the words are so mixed that 60 of them will not come out the same.
    both = ["--temperature", 2, "--length", 60, "--keep-going"]
    assert generate(run, trained, "lstm", *both) != generate(run, trained, "lstm", *both, *options)


def test_a_text_ends_where_the_sentence_does_or_goes_on_in_a_new_line(run, trained):
    options = ["--length", 40, "--prompt", "the cat"]
    stopped = generate(run, trained, "gru", *options)
    going = generate(run, trained, "gru", *options, "--keep-going")
    assert stopped.count("\n") == 1
    assert stopped == going.splitlines(keepends=True)[0]
    assert going.startswith("the cat ")
    assert len(going.splitlines()) > 2
    assert "<eos>" not in going
    for line in going.splitlines():
        assert line == " ".join(line.split())
    # What is drawn is a word or the end of a line; the last line ends without one.
    assert len(going.split()) - 2 + going.count("\n") - 1 == 40


@pytest.mark.parametrize("length", [1, 2, 3])
def test_length_is_the_number_of_words_that_are_drawn(run, trained, length):
    out = generate(run, trained, "lstm", "--length", length, "--prompt", "a dog", "--top-k", 1)
    assert len(out.split()) == 2 + length


def test_several_texts_all_begin_with_the_prompt(run, trained):
    options = ["--prompt", "no one", "--temperature", 2, "--length", 30]
    texts = generate(run, trained, "lstm", *options, "--texts", 5)
    assert texts.count("\n") == 5
    assert all(line.startswith("no one ") for line in texts.splitlines())
    assert len(set(texts.splitlines())) > 2
    assert texts.startswith(generate(run, trained, "lstm", *options))


def test_unk_is_never_written_though_it_is_the_likeliest(run, trained):
    assert "<unk>" in greedy(load_run(trained["rare"].folder), [], 5)
    out = generate(run, trained, "rare", "--length", 200, "--keep-going")
    assert len(out.split()) > 50
    assert "<unk>" not in out


def test_unknown_words_of_the_prompt_are_named_and_read_as_unk(trained, capsys):
    model = load_run(trained["lstm"].folder)
    generate_text.main([str(trained["lstm"].folder), "--prompt", "The zebra eats", "--top-k", "1", "--length", "2"])
    out, err = capsys.readouterr()
    assert err == "not in the vocabulary, read as <unk>: zebra eats\n"
    expected = greedy(model, ["the", "<unk>", "<unk>"], 2, skip=[model.unk_id])
    assert out == " ".join(["the zebra eats", *expected]) + "\n"


def test_a_prompt_without_words_begins_a_new_sentence(run, trained):
    texts = {generate(run, trained, "lstm", "--prompt", prompt) for prompt in ("", "  ", "\t\n")}
    assert texts == {generate(run, trained, "lstm")}


@pytest.mark.parametrize(
    ("name", "prompt", "begin"), [("lstm", "the cat", "the cat"), ("lstm", "", ""), ("char", "名前 ", "名前 ")]
)
def test_each_word_is_out_before_the_next_is_drawn(trained, monkeypatch, name, prompt, begin):
    model = load_run(trained[name].folder)
    separator = "" if name == "char" else " "
    flushed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(flushed, encoding="utf-8"))
    drawn = [2, 3, model.eos_id, 4, 5]
    seen = []

    def generate(_, ids, length, **options):
        assert ids == [*model.start_ids, *model.ids(model.words(prompt))]
        assert options["stop_id"] is None
        seen.append(flushed.getvalue().decode())
        for i in drawn:
            yield i
            seen.append(flushed.getvalue().decode())

    monkeypatch.setattr(generate_text, "generate", generate)
    generate_text.main([str(trained[name].folder), "--prompt", prompt, "--keep-going"])
    a, b, c, d = (model.id_to_word[i] for i in drawn if i != model.eos_id)
    first = separator.join([*([begin] if begin else []), a])
    lines = [first, first + separator + b]
    expected = [begin, *lines, lines[1] + "\n"]
    expected += [expected[-1] + c, expected[-1] + c + separator + d]
    assert seen == expected
    assert flushed.getvalue().decode() == expected[-1] + "\n"


def test_characters_are_written_without_spaces_between_them_in_any_locale(trained, tmp_path):
    ended = run_script(
        "generate_text.py", trained["char"].folder, "--prompt", "吾輩", "--length", 50, "--keep-going", folder=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert ended.stdout.startswith("吾輩")
    assert set(ended.stdout) <= set(JAPANESE)  # so there is no space
    assert len(ended.stdout) == 2 + 50 + 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("error")
def test_the_lowest_temperature_is_greedy(run, trained):
    options = ["--length", 5, "--keep-going"]
    lowest = generate(run, trained, "lstm", *options, "--temperature", 1e-320)
    assert lowest == generate(run, trained, "lstm", *options, "--top-k", 1)


# sentence_probability.py

SENTENCES = ["the cat sees fish .", "no one fears", "The Cat likes a zebra!", "."]


def log_probability(trained, words):
    """The sum of the logarithms of the probabilities of all words and <eos>, from a pass for each."""
    begin = len(trained.start_ids)
    ids = [*trained.start_ids, *trained.ids(words), trained.eos_id]
    total = 0.0
    for k in range(begin, len(ids)):
        with trained.model.evaluating():
            logits = trained.model.predict(np.array([ids[:k]]))[0, -1].astype(np.float64)
        total += log_softmax(logits)[ids[k]]
    return total, len(ids) - begin


def rows(output):
    """The lines of a table without its head: numbers, and the sentence."""
    head, *lines = output.splitlines()
    assert head == "log-probability  perplexity  words with <eos>  sentence"
    return [(float(p), float(q), int(n), line) for p, q, n, line in (line.split(maxsplit=3) for line in lines)]


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "better"])
def test_the_probability_of_a_sentence_is_the_product_of_those_of_its_words(run, trained, tmp_path, name):
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join(SENTENCES), encoding="utf-8")
    value, output = run(sentence_probability.main, trained[name].folder, path)
    model = load_run(trained[name].folder)
    *found, last = rows(output)
    total, words = 0.0, 0
    for (p, q, n, line), sentence in zip(found, SENTENCES, strict=True):
        expected, length = log_probability(model, model.words(sentence))
        assert p == pytest.approx(expected, abs=0.0051)
        assert q == pytest.approx(np.exp(-expected / length), rel=1e-4, abs=0.0051)
        assert (n, line) == (length, sentence)
        total, words = total + expected, words + length
    assert words == 6 + 4 + 7 + 2
    assert value == pytest.approx(np.exp(-total / words), rel=1e-5)
    assert last == (pytest.approx(total, abs=0.0051), pytest.approx(value, abs=0.0051), words, "all")


def test_the_mean_over_words_is_not_rounded(trained):
    model = load_run(trained["better"].folder)
    words = model.words("no one likes you .")
    found, n = sentence_probability.log_probability(model, words)
    expected, length = log_probability(model, words)
    assert found == pytest.approx(expected, rel=1e-5)
    assert n == length == 6


def test_sentences_do_not_influence_each_other(run, trained, tmp_path):
    path = tmp_path / "sentences.txt"

    def table(sentences):
        path.write_text("".join(f"{line}\n" for line in sentences), encoding="utf-8")
        return run(sentence_probability.main, trained["lstm"].folder, path)[1].splitlines()[1:-1]

    assert [table([line])[0] for line in SENTENCES] == table(SENTENCES) == table(SENTENCES[::-1])[::-1]


def test_empty_lines_are_skipped_and_line_ends_are_no_words(run, trained, tmp_path):
    path = tmp_path / "sentences.txt"
    path.write_bytes(b"\n  the cat sees fish .\r\n\r\n \t \nno one fears\n\n")
    _, output = run(sentence_probability.main, trained["lstm"].folder, path)
    path.write_bytes(b"  the cat sees fish .\nno one fears")
    assert run(sentence_probability.main, trained["lstm"].folder, path)[1] == output
    assert len(rows(output)) == 3


def test_a_byte_order_mark_is_no_word(run, trained, tmp_path):
    path = tmp_path / "sentences.txt"
    path.write_text("the cat sees fish .\n", encoding="utf-8-sig")
    assert rows(run(sentence_probability.main, trained["lstm"].folder, path)[1])[0][2] == 6


def test_a_file_and_standard_input_give_the_same_in_any_locale(trained, tmp_path):
    content = "名前はまだ無い。\n\n猫は犬。\n".encode()
    (tmp_path / "文.txt").write_bytes(content)
    folder = trained["char"].folder
    from_file = run_script("sentence_probability.py", folder, "文.txt", folder=tmp_path)
    from_stdin = run_script("sentence_probability.py", folder, folder=tmp_path, stdin=content)
    assert from_file.returncode == from_stdin.returncode == 0, from_file.stderr
    assert from_file.stdout == from_stdin.stdout
    assert from_file.stderr == from_stdin.stderr == "not in the vocabulary, read as <unk>: 犬\n"
    (likely, *_), (unlikely, *_), _ = rows(from_file.stdout)
    assert unlikely < likely < 0
    assert [row[2:] for row in rows(from_file.stdout)] == [(9, "名前はまだ無い。"), (5, "猫は犬。"), (14, "all")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "there is no sentence to read"),
        (b"\n \r\n\t\n", "there is no sentence to read"),
        (b"the cat\n\xff\xfe\n", "is not UTF-8 text (byte 8: "),
        ("猫\n".encode("utf-16"), "is not UTF-8 text, but UTF-16"),
    ],
)
@pytest.mark.parametrize("source", ["file", "standard input"])
def test_what_holds_no_sentences_is_one_line(trained, tmp_path, error_line, monkeypatch, content, reason, source):
    (tmp_path / "bad.txt").write_bytes(content)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    options = [str(tmp_path / "bad.txt")] if source == "file" else []
    assert reason in error_line(sentence_probability.main, [str(trained["lstm"].folder), *options])


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_a_file_of_sentences_that_cannot_be_read_is_one_line(trained, tmp_path, error_line, name):
    path = str(tmp_path / name)
    assert path in error_line(sentence_probability.main, [str(trained["lstm"].folder), path])


# gradient_through_time.py

N, T, V, D, H = 3, 5, 7, 4, 6
KINDS = {
    "RNN": lambda **options: SimpleRnnlm(V, D, H, **options),
    "GRU": lambda **options: GruLm(V, D, H, **options),
    "GRU, reset after": lambda **options: GruLm(V, D, H, reset_after=True, **options),
    "LSTM": lambda **options: LstmLm(V, D, H, forget_bias=1, **options),
    "LSTM with peepholes": lambda **options: LstmLm(V, D, H, peepholes=True, **options),
}


def by_hand(layer, vectors):
    """What a recurrent layer computes of one sequence of vectors, (T, D), step by step: (T, H) arrays by name."""
    Wx, Wh, b = layer.Wx.data, layer.Wh.data, layer.b.data
    H = len(Wh)
    h = c = np.zeros(H)
    steps = []
    for x in vectors:
        if isinstance(layer, TimeLSTM):
            p_f, p_i, p_o = np.zeros((3, H)) if not hasattr(layer, "p") else layer.p.data.reshape(3, H)
            a_f, a_g, a_i, a_o = (x @ Wx + h @ Wh + b).reshape(4, H)
            i, f = sigmoid(a_i + p_i * c), sigmoid(a_f + p_f * c)
            c = f * c + i * np.tanh(a_g)
            o = sigmoid(a_o + p_o * c)
            h = o * np.tanh(c)
            steps.append({"input": i, "forget": f, "output": o, "cell": c, "hidden": h})
        elif isinstance(layer, TimeGRU):
            a_z, a_r, a_h = (x @ Wx + b[: 3 * H]).reshape(3, H)
            Wh_z, Wh_r, Wh_h = split(Wh, 3)
            z, r = sigmoid(a_z + h @ Wh_z), sigmoid(a_r + h @ Wh_r)
            inner = r * (h @ Wh_h + b[3 * H :]) if layer.reset_after else (r * h) @ Wh_h
            new = np.tanh(a_h + inner)
            h = (1 - z) * new + z * h
            steps.append({"update": z, "reset": r, "candidate": new, "hidden": h})
        else:
            h = np.tanh(x @ Wx + h @ Wh + b)
            steps.append({"hidden": h})
    return {name: np.array([step[name] for step in steps]) for name in steps[0]}


@pytest.fixture(params=KINDS)
def model(request):
    """A model in float64, with weights so large that gradients are of all sizes."""
    model = KINDS[request.param](rng=np.random.default_rng(0), dtype=np.float64)
    for k, p in enumerate(model.params):
        p += 0.5 * normal(*p.shape, seed=k)
    return model


def windows(seed=1):
    words = np.random.default_rng(seed).integers(0, V, (N, T + 1))
    words[0, 1:4] = words[0, 0]  # equal words, each of which has a gradient of its own
    return words[:, :-1], words[:, 1:]


def test_gradient_norms_are_those_of_finite_differences(model):
    xs, ts = windows()
    embedding, recurrent, affine = model.layers

    def loss(vectors, label):
        h = by_hand(recurrent, vectors)["hidden"][-1]
        return -log_softmax(h @ affine.W.data + affine.b.data)[label]

    norms, eps = np.zeros((N, T)), 1e-5
    for n in range(N):
        vectors = embedding.W.data[xs[n]]
        for t in range(T):
            gradient = np.zeros(D)
            for d in range(D):
                step = np.zeros((T, D))
                step[t, d] = eps
                gradient[d] = (loss(vectors + step, ts[n, -1]) - loss(vectors - step, ts[n, -1])) / (2 * eps)
            norms[n, t] = np.sqrt((gradient**2).sum())
    expected = norms.mean(axis=0)[::-1]
    found = gradient_through_time.gradient_norms(model, xs, ts)
    assert found.shape == (T,)
    assert found[0] == 1
    assert found == pytest.approx(expected / expected[0], rel=1e-6)


def test_gradient_norms_depend_neither_on_the_state_nor_on_the_other_labels(model):
    xs, ts = windows()
    first = gradient_through_time.gradient_norms(model, xs, ts)
    model.forward(*windows(seed=2))
    ts = ts.copy()
    ts[:, :-1] = (ts[:, :-1] + 1) % V
    assert np.array_equal(gradient_through_time.gradient_norms(model, xs, ts), first)


GRADIENTS = ["--vocab-size", 50, "--wordvec-size", 8, "--hidden-size", 8, "--time-size", 4, "--seeds", 1]


def test_the_picture_of_gradients_and_what_is_in_it(run, text, figures):
    panels, output = run(gradient_through_time.main, "--corpus", text, *GRADIENTS, "--lr", 0.01)
    assert list(panels) == ["before training", "after training"]
    for title, curves in panels.items():
        assert list(curves) == ["RNN", "GRU", "LSTM"]
        for name, norms in curves.items():
            assert norms.shape == (4,)
            assert norms[0] == 1
            assert (norms > 0).all()
            [line] = re.findall(rf"^{title} +{name} +(.*)$", output, re.MULTILINE)
            assert line == f"3 steps back {norms[3]:9.2e}  3: {norms[3]:9.2e}"
    picture = imread("gradient_through_time.png")
    assert picture.shape[:2] == (504, 1200)  # 4.2 x 10 inches at 120 dots
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 10  # something is drawn
    assert "picture in gradient_through_time.png" in output
    [figure] = figures
    assert [ax.get_title() for ax in figure.axes] == list(panels)
    for ax, curves in zip(figure.axes, panels.values()):
        assert ax.get_yscale() == "log"
        assert [line.get_label() for line in ax.lines] == list(curves)
        assert all(np.array_equal(line.get_ydata(), norms) for line, norms in zip(ax.lines, curves.values()))

    corpus = dataset.load(str(text), 50)
    xs, ts = next(iter(OffsetBatches(corpus.valid[:-1], corpus.valid[1:], 20, 4)))
    for name, model_class, options in [
        ("RNN", SimpleRnnlm, {}),
        ("GRU", GruLm, {}),
        ("LSTM", LstmLm, {"forget_bias": 1}),
    ]:
        model = model_class(len(corpus.id_to_word), 8, 8, rng=np.random.default_rng(0), **options)
        before = gradient_through_time.gradient_norms(model, xs, ts)
        assert np.array_equal(panels["before training"][name], before)
        assert not np.allclose(panels["after training"][name], before, rtol=1e-3)


def test_training_is_not_changed_by_the_measurement_before_it(run, text):
    panels, _ = run(gradient_through_time.main, "--corpus", text, *GRADIENTS)
    corpus = dataset.load(str(text), 50)
    xs, ts = next(iter(OffsetBatches(corpus.valid[:-1], corpus.valid[1:], 20, 4)))
    model = SimpleRnnlm(len(corpus.id_to_word), 8, 8, rng=np.random.default_rng(0))
    RnnlmTrainer(model, Adam(0.002)).fit(corpus.train[:-1], corpus.train[1:], 1, 20, 35, 1.0, None)
    expected = gradient_through_time.gradient_norms(model, xs, ts)
    assert panels["after training"]["RNN"] == pytest.approx(expected, rel=1e-4)


def test_any_number_of_windows_will_do(run, text):
    panels, _ = run(gradient_through_time.main, "--corpus", text, *GRADIENTS, "--windows", 7)
    assert panels["after training"]["LSTM"][0] == 1


def test_gradients_are_repeatable_and_follow_the_options(run, text, monkeypatch):
    monkeypatch.setattr(gradient_through_time, "plot_gradient_norms", lambda *args: None)

    def norms(*options):
        return run(gradient_through_time.main, "--corpus", text, *GRADIENTS, *options)[0]["after training"]["LSTM"]

    plain = norms()
    assert np.array_equal(norms("--seed", 0), plain)
    for options in (["--seed", 1], ["--forget-bias", 3], ["--lr", 0.01], ["--epochs", 2], ["--train-words", 800]):
        assert not np.array_equal(norms(*options), plain), options


def test_the_curves_are_medians_over_the_seeds(run, text, monkeypatch):
    drawn = []
    monkeypatch.setattr(gradient_through_time, "plot_gradient_norms", lambda *args: drawn.append(args))
    one = [run(gradient_through_time.main, "--corpus", text, *GRADIENTS, "--seed", seed)[0] for seed in range(3)]
    three, _ = run(gradient_through_time.main, "--corpus", text, *GRADIENTS, "--seeds", 3)
    for title, curves in three.items():
        for name, norms in curves.items():
            each = [panels[title][name] for panels in one]
            assert np.array_equal(norms, np.median(each, axis=0))
            assert np.array_equal(drawn[-1][2][title, name], [np.min(each, axis=0), np.max(each, axis=0)])


def test_gradient_through_time_quick(tmp_path):
    ended = run_script("gradient_through_time.py", "--quick", "--output", "p.png", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    # In an RNN before training, nothing is left after 99 steps; in an LSTM, more.
    [far] = re.findall(r"^before training +RNN +20 steps back +\S+ +99: +(\S+)$", ended.stdout, re.MULTILINE)
    [lstm] = re.findall(r"^before training +LSTM +20 steps back +\S+ +99: +(\S+)$", ended.stdout, re.MULTILINE)
    assert float(far) < 1e-3
    assert float(lstm) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]
    assert imread(tmp_path / "p.png").shape[:2] == (504, 1200)


def test_gradients_on_a_short_text_are_one_line(error_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_text(tmp_path / "short.txt", 30)
    line = error_line(gradient_through_time.main, ["--corpus", str(path), "--time-size", "50"])
    assert "one batch needs" in line
    assert [file.name for file in tmp_path.iterdir()] == ["short.txt"]


# show_gates.py

WORDS = "my aunt fears the zebra ."
PLOTTED = "maps", "units", "words", "path", "title", "note"


def gates_by_hand(trained, words, number):
    """What the gates and states of a layer are at each word, (T, H) arrays by name."""
    embedding, *layers, _ = trained.model.layers
    x = embedding.W.data[[*trained.start_ids, *trained.ids(words)]].astype(np.float64)
    for layer in [layer for layer in layers if hasattr(layer, "Wh")][:number]:
        found = by_hand(layer, x)
        x = found["hidden"]
    return {name: values[-len(words) :] for name, values in found.items()}


@pytest.mark.parametrize(
    ("name", "layer"), [("lstm", 1), ("gru", 1), ("gru-before", 1), ("better", 1), ("better", 2), ("char", 1)]
)
def test_maps_are_what_the_layer_computes_for_the_sentence(run, trained, monkeypatch, name, layer):
    drawn = SimpleNamespace()
    monkeypatch.setattr(show_gates, "plot_maps", lambda *args: drawn.__dict__.update(zip(PLOTTED, args, strict=True)))
    sentence = "猫は無い。" if name == "char" else WORDS
    options = ["--sentence", sentence, "--layer", layer, "--units", 5]
    maps, output = run(show_gates.main, trained[name].folder, *options)
    model = load_run(trained[name].folder)
    words = model.words(sentence)
    expected = gates_by_hand(model, words, layer)
    change = sum(abs(b - a) for a, b in zip(expected["hidden"], expected["hidden"][1:]))
    units = sorted(range(8), key=lambda unit: -change[unit])[:5]
    assert drawn.maps is maps
    assert list(drawn.units) == units
    assert drawn.words == [word if model.knows(word) else f"{word} <unk>" for word in words]
    assert output == f"picture in {drawn.path}\n"
    assert drawn.path == trained[name].folder / "gates.png"
    assert f"layer {layer}: the 5 units that change most" in drawn.title
    # Each title begins with what it shows: "input gate i: ...", "cell state c", "candidate h̃".
    assert sorted(title.split()[0] for title in maps) == sorted(expected)
    for title, values in maps.items():
        kind = title.split()[0]
        assert values.shape == (5, len(words))
        assert np.allclose(values, expected[kind].T[units], atol=1e-5)
        assert np.abs(values).max() <= 1 or kind == "cell"
        assert values.min() >= 0 or "gate" not in title


def test_the_picture_of_gates_lies_in_the_folder_of_the_run(run, trained, tmp_path):
    folder = shutil.copytree(trained["gru"].folder, tmp_path / "copy")
    maps, _ = run(show_gates.main, folder, "--sentence", "the cat sees you .")
    picture = imread(folder / "gates.png")
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 50  # something is drawn
    # For 5 words, 6 inches; for each of 4 maps of 8 units, 0.5 + 0.1 · 8; and 1.2 more. An inch has 120 dots.
    assert picture.shape[:2] == (4 * 156 + 144, 720)
    assert {values.shape for values in maps.values()} == {(8, 5)}  # all units there are
    assert sorted(path.name for path in folder.iterdir()) == sorted([*RESULTS, "gates.png"])


def test_each_map_is_drawn_with_its_units_and_words(run, trained, tmp_path, figures):
    options = ["--sentence", "the cat sees", "--units", 4, "--output", tmp_path / "gates.png"]
    maps, _ = run(show_gates.main, trained["lstm"].folder, *options)
    _, units = show_gates.read(load_run(trained["lstm"].folder), ["the", "cat", "sees"], 1, 4)
    [figure] = figures
    axes = [ax for ax in figure.axes if ax.get_title(loc="left")]  # and not the scale of colours beside it
    assert [ax.get_title(loc="left") for ax in axes] == list(maps)
    for ax, values in zip(axes, maps.values()):
        [image] = ax.images
        assert np.array_equal(image.get_array(), values)
        low, high = image.get_clim()
        assert low <= values.min() <= values.max() <= high
        assert (low, high) == (0, 1) or low == -high
        assert [label.get_text() for label in ax.get_yticklabels()] == [str(unit) for unit in units]
    assert [label.get_text() for label in axes[-1].get_xticklabels()] == ["the", "cat", "sees"]
    assert figure.get_suptitle() == "LstmLm, layer 1: the 4 units that change most"


def test_one_word_is_a_sentence(run, trained, tmp_path):
    maps, _ = run(show_gates.main, trained["lstm"].folder, "--sentence", "Cat", "--output", tmp_path / "gates.png")
    assert {values.shape for values in maps.values()} == {(8, 1)}


@pytest.mark.parametrize("sentence", ["$ 5 and $ 6", "$x^{$ \\frac _ ^ %", "猫 は 猫", "é ñ 🐈 \u0301"])
def test_any_word_can_stand_below_a_picture(trained, tmp_path, sentence):
    # As if trained on a text that is split at spaces only, so that a word can hold more than one $.
    folder = shutil.copytree(trained["lstm"].folder, tmp_path / "copy")
    change_options(folder, corpus="ptb")
    show_gates.main([str(folder), "--sentence", sentence, "--units", "2"])
    assert imread(folder / "gates.png").shape[1] == 720


def test_japanese_gates_in_any_locale(trained, tmp_path):
    ended = run_script(
        "show_gates.py", trained["char"].folder, "--sentence", "猫は無い", "--output", "門.png", folder=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["門.png"]


def test_an_unknown_word_of_a_sentence_is_named(trained, tmp_path, capsys):
    show_gates.main([str(trained["gru"].folder), "--sentence", WORDS, "--output", str(tmp_path / "gates.png")])
    assert capsys.readouterr().err == "not in the vocabulary, read as <unk>: zebra\n"


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("lstm", ["--layer", "2"], "there is no layer 2: the model has 1"),
        ("better", ["--layer", "3"], "there is no layer 3: the model has 2"),
        ("rnn", [], "this model has no gates: it is a simple RNN"),
        ("lstm", ["--sentence", ""], "the sentence needs at least one word"),
        ("char", ["--sentence", ""], "the sentence needs at least one word"),
        ("lstm", ["--layer", "0"], "argument --layer: "),
        ("lstm", ["--units", "0"], "argument --units: "),
        ("lstm", ["--output", "missing/gates.png"], "missing"),
        ("lstm", ["--output", "gates.doc"], "doc"),
        ("lstm", ["--output", "."], ""),  # writes a file with the name ".png"
    ],
)
def test_gates_that_cannot_be_shown_are_one_line(trained, tmp_path, monkeypatch, error_line, name, options, reason):
    monkeypatch.chdir(tmp_path)
    line = error_line(show_gates.main, [str(trained[name].folder), "--sentence", "the cat .", *options])
    assert reason in line
    assert list(tmp_path.iterdir()) == []
    assert not (trained[name].folder / "gates.png").exists()


# --show


def show_command(name, trained, tmp_path, text):
    """The arguments of a script that draws to picture.png and shows it."""
    path = ["--output", str(tmp_path / "picture.png"), "--show"]
    if name == "show_gates.py":
        return [str(trained["lstm"].folder), "--sentence", "the cat .", *path]
    return ["--corpus", str(text), *map(str, GRADIENTS), *path]


PICTURES = {"show_gates.py": show_gates.main, "gradient_through_time.py": gradient_through_time.main}


@pytest.mark.parametrize("script", PICTURES)
def test_show_without_a_display_is_one_line(trained, tmp_path, text, monkeypatch, error_line, script):
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "agg")
    line = error_line(PICTURES[script], show_command(script, trained, tmp_path, text))
    assert f"there is no display to show the picture on; it is in {tmp_path / 'picture.png'}" in line
    assert (tmp_path / "picture.png").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_show_without_a_display_in_a_process(trained, tmp_path, text):
    script = "show_gates.py"
    assert_one_line(run_script(script, *show_command(script, trained, tmp_path, text), folder=tmp_path), script)


@pytest.mark.parametrize("script", PICTURES)
def test_show_shows_the_picture(trained, tmp_path, text, monkeypatch, script):
    shown = []
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "TkAgg")
    monkeypatch.setattr(plt, "show", lambda: shown.extend(plt.gcf().axes[0].images))
    try:
        PICTURES[script](show_command(script, trained, tmp_path, text))
    finally:
        plt.close("all")
    [image] = shown
    assert np.array_equal(image.get_array(), imread(tmp_path / "picture.png"))
