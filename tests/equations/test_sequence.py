"""Questions and answers: character ids, the order of lines, the search for a file, and generated lines."""

import hashlib
import re
from datetime import datetime

import numpy as np
import pytest

from dataset import sequence
from dataset.corpus import DatasetError

LINES = [f"{k}+{k}".ljust(5) + f"_{2 * k}".ljust(4) for k in range(23)]


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An empty folder to be in, an empty data folder, no vocabulary; the global generator as it was."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("RNN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(sequence, "_vocabulary", None)
    state = np.random.get_state()
    yield
    np.random.set_state(state)


def write(path, lines=LINES):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def text_of(ids):
    return ["".join(sequence.get_vocab()[1][i] for i in row) for row in ids.tolist()]


def test_characters_are_numbered_in_the_order_of_the_lines_and_a_tenth_is_the_test_set(tmp_path):
    write(tmp_path / "sums.txt")
    (x_train, t_train), (x_test, t_test) = sequence.load_data(str(tmp_path / "sums.txt"))
    char_to_id, id_to_char = sequence.get_vocab()
    assert "".join(char_to_id) == "0+ _124368579"  # 0+0_0, 1+1_2, 2+2_4, 3+3_6, 4+4_8, 5+5_10, ...
    assert list(char_to_id.values()) == list(range(13))
    assert id_to_char == {i: char for char, i in char_to_id.items()}
    assert [a.shape for a in (x_train, t_train, x_test, t_test)] == [(21, 5), (21, 4), (2, 5), (2, 4)]
    assert {a.dtype for a in (x_train, t_train, x_test, t_test)} == {np.dtype(int)}


def test_lines_are_shuffled_by_the_global_generator_as_in_the_textbook(tmp_path):
    write(tmp_path / "sums.txt")
    for seed in (1984, 7):
        (x, t), (x_test, t_test) = sequence.load_data(tmp_path / "sums.txt", seed=seed)
        after = np.random.random()
        np.random.seed(seed)
        order = np.arange(23)
        np.random.shuffle(order)
        assert np.random.random() == after
        read = [q + a for q, a in zip(text_of(np.vstack([x, x_test])), text_of(np.vstack([t, t_test])))]
        assert read == [LINES[k] for k in order]
    np.random.seed(5)
    one = sequence.load_data(tmp_path / "sums.txt", seed=None)[0][0]
    np.random.seed(5)
    assert np.array_equal(one, sequence.load_data(tmp_path / "sums.txt", seed=None)[0][0])
    assert not np.array_equal(one, sequence.load_data(tmp_path / "sums.txt", seed=None)[0][0])


def test_the_nearest_file_is_read(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "book")
    places = [
        tmp_path / "here" / "addition.txt",
        tmp_path / "book" / "dataset" / "addition.txt",
        tmp_path / "data" / "sequence" / "addition.txt",
    ]
    for k, place in enumerate(places):
        write(place, [f"{k} _{k}"] * 10)
    for k, place in enumerate(places):
        assert set(text_of(sequence.load_data("addition.txt")[0][0])) == {f"{k} "}
        place.unlink()
    assert len(sequence.load_data("addition.txt")[0][0]) == 45_000


def test_each_file_has_its_own_vocabulary(tmp_path):
    write(tmp_path / "a.txt", ["ab_c"])
    write(tmp_path / "b.txt", ["dc_b"])
    sequence.load_data(tmp_path / "a.txt")
    first = sequence.get_vocab()[0]
    sequence.load_data(tmp_path / "b.txt")
    assert first == {"a": 0, "b": 1, "_": 2, "c": 3}
    assert sequence.get_vocab()[0] == {"d": 0, "c": 1, "_": 2, "b": 3}


def read_sum(line):
    match = re.fullmatch(r"(0|[1-9]\d{0,2})\+(0|[1-9]\d{0,2}) *_(\d+) *", line)
    a, b, total = map(int, match.groups())
    assert a + b == total
    return min(a, b), max(a, b)


def read_date(line):
    question, answer = line.split("_")
    question = question.rstrip()
    word = question.split()[0]
    form = 0 if "/" in word else 3 if word.endswith(",") else 2 if len(word) > 3 else 1  # May is in 1
    expected = ["%m/%d/%y", "%b %d, %Y", "%B %d, %Y", "%A, %B %d, %Y"][form]
    assert datetime.strptime(question, expected).date().isoformat() == answer
    assert question in (question.lower(), question.upper(), question.title())
    return form, question == question.title(), question == question.lower()


def test_generated_sums():
    (x, t), (x_test, t_test) = sequence.load_data("addition.txt")
    assert [a.shape for a in (x, t, x_test, t_test)] == [(45_000, 7), (45_000, 5), (5_000, 7), (5_000, 5)]
    assert len(sequence.get_vocab()[0]) == 13
    sums = [read_sum(q + a) for q, a in zip(text_of(np.vstack([x, x_test])), text_of(np.vstack([t, t_test])))]
    assert len(set(sums)) == 50_000
    a_digits = np.bincount([len(str(b)) for _, b in sums], minlength=4) / 50_000
    assert a_digits[1] == 55 / 50_000  # all there are
    assert abs(a_digits[3] - 0.9) < 0.01


def test_generated_dates():
    (x, t), (x_test, t_test) = sequence.load_data("date.txt")
    assert [a.shape for a in (x, t, x_test, t_test)] == [(45_000, 29), (45_000, 11), (5_000, 29), (5_000, 11)]
    assert len(sequence.get_vocab()[0]) == 59
    dates = [q + a for q, a in zip(text_of(x_test), text_of(t_test))]
    kinds = np.array([read_date(line) for line in dates], int)
    assert np.allclose(np.bincount(kinds[:, 0]) / 5_000, 0.25, atol=0.03)
    words = kinds[kinds[:, 0] > 0]
    assert np.allclose(words[:, 1:].mean(axis=0), [0.5, 0.25], atol=0.03)
    assert {line[-10:-6] for line in dates} == {str(year) for year in range(1970, 2017)}


@pytest.mark.parametrize(("name", "checksum"), [("addition.txt", "22cfd72e0809af27"), ("date.txt", "fcadafb9954b5b52")])
def test_generated_lines_are_the_same_on_every_machine(name, checksum):
    lines = sequence._read(name)[1]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest().startswith(checksum)


def test_nothing_is_written(tmp_path):
    sequence.load_data("date.txt")
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1+1_2", "1+2 3"], "line 2: expected a question, _ and an answer, got '1\\+2 3'"),
        (["1+1_2", "_2"], "line 2: expected a question, _ and an answer, got '_2'"),
        (["1+1_2", "", "1+1_2"], "line 2: expected a question, _ and an answer, got ''"),
        ([""], "line 1: expected a question"),
        (["1+1_2 ", "1+1_2", "1+1_2"], "line 2: expected 3 characters and, from _ on, 3, as in line 1, got 3 and 2"),
        (["1+1_2", "1+1_2", "11+1_2"], "line 3: expected 3 characters and, from _ on, 2, .* got 4 and 2: fill them"),
    ],
)
def test_lines_that_are_not_questions_and_answers_are_named(tmp_path, lines, message):
    write(tmp_path / "x.txt", lines)
    with pytest.raises(DatasetError, match=f"x.txt, {message}"):
        sequence.load_data(str(tmp_path / "x.txt"))


def test_the_first_mark_begins_the_answer(tmp_path):
    write(tmp_path / "x.txt", ["a_b_c"])
    (x, t), _ = sequence.load_data(tmp_path / "x.txt")
    assert text_of(x) + text_of(t) == ["a", "_b_c"]


def test_line_ends_of_windows_and_a_last_line_without_one(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"1+1_2\r\n1+2_3")
    (x, t), _ = sequence.load_data(str(tmp_path / "x.txt"))
    assert sorted(text_of(x)) == ["1+1", "1+2"]
    assert sorted(text_of(t)) == ["_2", "_3"]


def test_a_missing_file_and_a_vocabulary_before_the_first_load():
    with pytest.raises(DatasetError, match="no vocabulary yet: call load_data first"):
        sequence.get_vocab()
    with pytest.raises(DatasetError, match=r"no file sums\.txt: expected a path, .* addition\.txt or date\.txt"):
        sequence.load_data("sums.txt")


def test_without_a_home_folder_there_are_sums(monkeypatch):
    def no_home():
        raise RuntimeError

    monkeypatch.setattr(sequence, "data_dir", no_home)
    assert len(sequence.load_data()[0][0]) == 45_000
