"""Texts with classes, and word vectors: read, or refused in one line."""

import csv
import re

import numpy as np
import pytest

from dataset import ag_news, sotu, table
from dataset.corpus import DatasetError, split_words
from dataset.labelled import LabelledTexts
from dataset.word_vectors import load_vectors

# AG News


def write_items(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    return path


def test_an_item_is_title_and_description_with_a_class_from_zero(tmp_path):
    path = write_items(tmp_path / "x.csv", [(3, "Oil, up", 'He said "no"'), (1, "", "Two\nlines"), (4, " ", " ")])
    assert ag_news.read(path) == [('Oil, up He said "no"', 2), ("Two lines", 0)]


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("Great Britain #39;s Davis Cup", "Great Britain's Davis Cup"),
        ("Egypt's and &#39;a&#39; b", "Egypt's and 'a' b"),
        ("remains quot;real quot;.", 'remains"real".'),
        ("AT amp;T", "AT&T"),
        ("South &lt;b&gt;...&lt;/b&gt; LONDON", "South ... LONDON"),
        ('Inc. &lt;A HREF="x?t=ODP.N"&gt;ODP.N&lt;/A&gt;, the', "Inc. ODP.N , the"),
        ("found a\\2,500-year-old tomb", "found a 2,500-year-old tomb"),
        ("at 1 p.m.; then", "at 1 p.m.; then"),
    ],
)
def test_traces_of_web_pages_are_removed(raw, cleaned):
    assert ag_news.clean(raw) == cleaned


def test_one_of_twenty_items_is_for_validation(tmp_path):
    rows = [(k % 4 + 1, f"t{k}", "d") for k in range(45)]
    path = write_items(tmp_path / "x.csv", rows)
    data = ag_news.load(path, write_items(tmp_path / "y.csv", rows[:3]))
    assert data.valid == [("t0 d", 0), ("t20 d", 0), ("t40 d", 0)]
    assert len(data.train) == 42
    assert data.train[:2] == [("t1 d", 1), ("t2 d", 2)]
    assert data.test == [("t0 d", 0), ("t1 d", 1), ("t2 d", 2)]
    assert data.classes == ["World", "Sports", "Business", "Sci/Tech"]


@pytest.mark.parametrize("form", ["Class Index,Title,Description", "text,label", "label,text"])
def test_the_forms_in_which_the_news_are_shared(tmp_path, form):
    rows = [(k % 4, f"t, {k}", "d") for k in range(40)]
    if form.startswith("Class"):
        shared = [(k + 1, title, text) for k, title, text in rows]
    else:
        shared = [(k, f"{title} {text}")[:: 1 if form.startswith("label") else -1] for k, title, text in rows]
    path = write_items(tmp_path / "x.csv", [form.split(","), *shared, [], ["", ""]])
    assert ag_news.read(path) == [(f"{title} {text}", k) for k, title, text in rows]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('"5","a","b"\n', "line 1: expected a class from 1 to 4, got '5'"),
        ("label,text\n\n4,b\n", "line 3: expected a class from 0 to 3, got '4'"),
        ('"1","a","b"\n"1","a"\n', "line 2: expected 3 cells as in most rows, got 2"),
        ("class,title,description\n", "has no texts"),
        ("", "is empty"),
        ('"1","",""\n', "has no texts"),
        (f'"1","a","&#{"9" * 5000};"\n', "line 1: Exceeds the limit"),
        ('"1","a","b"\n' * 19, "has 19 items; it takes at least 20"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, content, reason):
    path = tmp_path / "x.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=reason):
        ag_news.load(path, path)


def test_the_files_at_hand(data_dir):
    test_file, train_file = data_dir / "ag_news" / "test.csv", data_dir / "ag_news" / "train-partial.csv"
    if not (test_file.is_file() and train_file.is_file()):
        pytest.skip("no ag_news in RNN_DATA_DIR")
    data = ag_news.load(train_file)  # the test file is the canonical one, which is fetched, and verified
    assert [len(part) for part in (data.train, data.valid, data.test)] == [13_815, 728, 7_600]
    assert np.bincount([label for _, label in data.test]).tolist() == [1900] * 4
    assert not {text for text, _ in data.train} & {text for text, _ in data.test}


# Eras


def test_paragraphs_have_the_era_of_their_message_and_messages_stay_whole(monkeypatch):
    long, short = "word " * 20, "word " * 19
    years = [1790, 1849, 1850, 1899, 1900, 1949, 1950, 2020, 1790, 1850, 1900]
    messages = [(year, f"{long}{k}\n\n{short}\n{long}again {k}") for k, year in enumerate(years)]
    monkeypatch.setattr(sotu, "_messages", lambda: messages)
    data = sotu.load_eras()
    assert data.classes == ["1790-1849", "1850-1899", "1900-1949", "1950-"]
    assert [label for _, label in data.train] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3, 0, 0, 2, 2]
    assert [label for _, label in data.valid] == [2, 2]
    assert [label for _, label in data.test] == [1, 1]
    assert data.test == [(f"{long}9", 1), (f"{long}again 9", 1)]


def test_eras_of_the_messages():
    data = sotu.load_eras()
    assert [len(part) for part in (data.train, data.valid, data.test)] == [17_834, 1_918, 1_988]
    for part in (data.train, data.valid, data.test):
        assert {label for _, label in part} == {0, 1, 2, 3}
        assert min(len(split_words(text)) for text, _ in part[:200]) >= 20
    assert data.train[0][0].startswith("I embrace with great satisfaction")


def test_checksum_changes_with_texts_classes_and_splits():
    def sha(classes=("a", "b"), train=(("x", 0), ("y", 1)), valid=(("z", 1),)):
        return LabelledTexts("n", list(classes), list(train), list(valid), []).sha256

    assert sha() == sha()
    others = [sha(classes=("a", "c")), sha(train=(("x", 1), ("y", 1))), sha(train=(("x", 0),)), sha(valid=())]
    assert len({sha(), *others}) == 5


# Word vectors


@pytest.mark.parametrize("header", ["", "4 2\n"])
def test_vectors_of_the_wanted_words(tmp_path, header):
    path = tmp_path / "vectors.txt"
    path.write_text(f"{header}the 1 -2.5\n. . 7 7\ncat 0.5 1e-1 \nthe 9 9\nother x y\n", encoding="utf-8")
    vectors, D = load_vectors(path, ["cat", "the", "dog", "."])
    assert D == 2
    assert {word: vector.tolist() for word, vector in vectors.items()} == {
        "the": [1.0, -2.5],
        "cat": [0.5, float(np.float32(0.1))],
    }
    assert vectors["cat"].dtype == np.float32


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no vectors"),
        (b"3 2\n", "has no vectors"),
        (b"word\n", "line 1: expected a word and its numbers"),
        (b"a 1 2\nword 1\n", "line 2: expected a word and 2 numbers"),
        (b"a 1 2\nword 1 x\n", "line 2: expected 2 finite numbers, got '1 x'"),
        (b"word 1 nan\n", "line 1: expected 2 finite numbers"),
        (b"3 2\nword \xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_files_that_are_no_vectors_are_refused(tmp_path, content, reason):
    path = tmp_path / "vectors.txt"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=reason):
        load_vectors(path, ["word"])


def test_a_missing_file_is_refused(tmp_path):
    for read in (lambda path: load_vectors(path, ["word"]), ag_news.read):
        with pytest.raises(DatasetError, match="cannot read"):
            read(tmp_path / "missing.txt")


# Texts and classes of one's own

ROWS = [("good" if k % 3 else "bad", f"text {k}") for k in range(60)]


def written(rows, delimiter=",", header=None, order=(0, 1)):
    lines = [*([header] if header else []), *([row[k] for k in order] for row in rows)]
    return "".join(delimiter.join(line) + "\n" for line in lines)


@pytest.mark.parametrize(
    "content",
    [
        written(ROWS),
        written(ROWS, "\t") + "\n\n",
        written(ROWS, ";", order=(1, 0)),
        written(ROWS, header=("Label", "Text")),
        written(ROWS, header=("text", "label"), order=(1, 0)),
        written([(str(k), *row) for k, row in enumerate(ROWS)], header=("id", "category", "review"), order=(0, 1, 2)),
        written(ROWS, header=("v1", "v2")),  # names of no meaning: of the classes, v1 alone has one text
        written([(*row, "") for row in ROWS], header=("v2", "v1", ""), order=(1, 0, 2)) + ",,\n",
        "\ufeff" + "".join(f'"{label}","{text}"\r\n' for label, text in ROWS),
    ],
)
def test_a_table_of_texts_and_classes_is_understood(tmp_path, content):
    path = tmp_path / "mine.csv"
    path.write_bytes(content.encode())
    data = table.load(path)
    assert (data.name, data.classes) == ("mine", ["bad", "good"])
    numbered = [(text, int(label == "good")) for label, text in ROWS]
    assert sorted([*data.train, *data.valid, *data.test]) == sorted(numbered)
    assert len(data.notes) == 1
    assert re.search(r"class in column [12]\b.*, text in columns? [123]\b", data.notes[0])
    assert data.valid == [numbered[k] for k in (7, 12, 22, 37, 42, 52)]  # of each class, the fifth of ten
    assert data.test == [numbered[k] for k in (14, 27, 29, 44, 57, 59)]
    with_test = table.load(path, path)
    assert with_test.test == numbered
    assert len(with_test.train) == 54


def test_text_in_several_columns_is_joined_and_numbers_are_in_order(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("".join(f'{k % 12},"title, {k}","two\nlines"\n' for k in range(240)))
    data = table.load(path)
    assert data.classes == [str(k) for k in range(12)]
    assert data.train[0] == ("title, 0 two lines", 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("one line of prose\nand another\n", "is not a table"),
        ("a,b\n\na,b,c\na,b\n", "line 3: expected 2 cells as in most rows, got 3"),
        ("a,x\na,x\na,x\n", "all 3 texts are of the class 'a'"),
        ("".join(f"{k},text {k}\n" for k in range(200)), "200 different classes in 200 rows, .*: name the columns"),
        ("label,text\n" + written(ROWS, order=(1, 0)), "only 2 different texts: are the columns swapped"),
        ('label,text\na,"x\ny"\n,y\nb,z\n', "line 4: there is no class in column 1: 'y'"),
        ('a,"x\nb,y\na,z\n', "line 1 or later: unexpected end of data"),
        ('a,x\nb,"y" z\na,z\n', "line 2 or later: .*must be doubled"),
        ("label,text\na,\n", "has no texts"),
        ("a,x\nb,y\na,z\n", "too short for validation"),
    ],
)
def test_what_is_no_table_of_classes_is_refused(tmp_path, content, reason):
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(DatasetError, match=reason):
        table.load(path)


def test_a_class_of_the_test_file_alone_is_refused(tmp_path):
    for name, label in (("train.csv", "bad"), ("test.csv", "other")):
        (tmp_path / name).write_text(written([*ROWS[1:], (label, "x")]))
    with pytest.raises(DatasetError, match=r"test.csv, line 60: there is no class 'other' in .*train.csv"):
        table.load(tmp_path / "train.csv", tmp_path / "test.csv")


def test_a_class_may_be_called_as_columns_are(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(written([("topic" if k % 3 else "message", text) for k, (_, text) in enumerate(ROWS)]))
    assert len(table.read_table(path).rows) == len(ROWS)


def test_lone_quotation_marks_of_a_table_with_tabs_join_no_lines(tmp_path):
    path = tmp_path / "x.tsv"
    texts = ['"never closed', 'in "the" middle', '"all, with ""two"" in it"', '"', "'"]
    path.write_text("".join(f"{'ab'[k % 2]}\t{texts[k % 5]} {k}\n" for k in range(20)) + '"b"\t"whole ""w"""\n')
    rows = table.read_table(path).rows
    assert [text for text, _, _ in rows[:5]] == [f"{text} {k}" for k, text in enumerate(texts)]
    assert rows[-1] == ('whole "w"', "b", 21)


def test_a_test_file_may_have_its_columns_in_another_order(tmp_path):
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text(written(ROWS, header=("text", "label"), order=(1, 0)))
    expected = [(text, int(label == "good")) for label, text in ROWS[:3]]
    for content in (
        written(ROWS[:3], header=("Label", "Text")),
        written(ROWS[:3], header=("text", "label"), order=(1, 0)),
        written(ROWS[:3], order=(1, 0)),
    ):
        test.write_text(content)
        assert table.load(train, test).test == expected
    test.write_text("good\nbad\n")
    with pytest.raises(DatasetError, match="is not a table"):
        table.load(train, test)


def test_what_is_left_out_or_cannot_be_tested_is_told(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(written([*ROWS, ("good", " "), ("rare", "x"), ("few", "y"), ("few", "z"), ("bad", "")]))
    _, *notes = table.load(path).notes
    assert notes == [
        "rows without a text are left out, 2 in all: line 61, 65",
        "too few texts to test these classes, too: few (2), rare (1)",
    ]
