"""The textbook's tools, by the textbook's examples and by hand."""

import io
import runpy
import subprocess
import sys

import numpy as np
import pytest
from helpers import ENVIRONMENT, normal

import common.config
import common.np
import common.optimizer
from ch06_gated.better_lstm_lm import BetterLstmLm
from common import backend, util
from common.backend import GpuUnavailable
from common.util import (
    analogy,
    convert_one_hot,
    cos_similarity,
    create_co_matrix,
    create_contexts_target,
    eval_perplexity,
    eval_seq2seq,
    most_similar,
    normalize,
    ppmi,
    preprocess,
)

CORPUS, WORD_TO_ID, ID_TO_WORD = preprocess("You say goodbye and I say hello.")
COUNTS = np.array(
    [
        [0, 1, 0, 0, 0, 0, 0],
        [1, 0, 1, 0, 1, 1, 0],
        [0, 1, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 1, 0, 0],
        [0, 1, 0, 1, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 1, 0],
    ]
)


# np and its switch


def test_np_is_numpy_and_import_star_brings_it():
    names = {}
    exec("from common.np import *", names)
    assert names["np"] is np
    assert names["GPU"] is False


def test_np_is_cupy_where_the_switch_says_so(gpu, monkeypatch):
    monkeypatch.setattr(common.config, "GPU", True)
    names = runpy.run_path(common.np.__file__)
    assert names["np"] is gpu
    assert names["GPU"] is True


def test_a_switch_without_a_gpu_is_one_sentence(no_gpu, monkeypatch):
    monkeypatch.setattr(common.config, "GPU", True)
    with pytest.raises(GpuUnavailable, match=r"CuPy.* pip install"):
        runpy.run_path(common.np.__file__)


def test_import_is_light():
    check = "import sys, common.util; print({'matplotlib', 'sentencepiece', 'pooch', 'cupy'} & {*sys.modules})"
    ended = subprocess.run([sys.executable, "-c", check], env=ENVIRONMENT, capture_output=True)
    assert ended.stdout.split() == [b"set()"]


def test_what_others_define_is_the_same_thing():
    assert util.clip_grads is common.optimizer.clip_grads
    assert (util.to_cpu, util.to_gpu) == (backend.to_cpu, backend.to_gpu)
    assert (util.np, util.GPU) == (np, False)


# Words and counts


def test_words_are_numbered_in_the_order_of_the_text():
    assert CORPUS.tolist() == [0, 1, 2, 3, 4, 1, 5, 6]
    assert ID_TO_WORD == {0: "you", 1: "say", 2: "goodbye", 3: "and", 4: "i", 5: "hello", 6: "."}
    assert {word: i for i, word in ID_TO_WORD.items()} == WORD_TO_ID


@pytest.mark.parametrize("shape", [(6,), (3, 2)])
def test_one_hot_rows(shape):
    ids = np.array([0, 2, 1, 2, 0, 2]).reshape(shape)
    rows = convert_one_hot(ids, 4)
    assert rows.shape == (*shape, 4)
    assert rows.dtype == np.int32
    assert np.array_equal(rows.argmax(axis=-1), ids)
    assert np.array_equal(rows.sum(axis=-1), np.ones(shape))


def test_counts_of_neighbours():
    C = create_co_matrix(CORPUS, 7)
    assert np.array_equal(C, COUNTS)
    assert C.dtype == np.int32
    assert create_co_matrix([0, 0, 0], 2, 2).tolist() == [[6, 0], [0, 0]]  # two pairs of neighbours and one over one
    assert create_co_matrix(np.array([199, 3], np.uint8), 200)[3, 199] == 1  # 199 · 200 is more than uint8 holds
    assert create_co_matrix([0, 1, 2], 3, 9).tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]


@pytest.mark.parametrize("window_size", [1, 2, 5])
def test_counts_equal_those_of_a_loop_over_the_words(window_size):
    corpus = np.random.default_rng(0).zipf(1.5, 300) % 50
    expected = np.zeros((50, 50), int)
    for i, word in enumerate(corpus):
        for j in range(max(i - window_size, 0), min(i + window_size + 1, 300)):
            expected[word, corpus[j]] += i != j
    assert np.array_equal(create_co_matrix(corpus, 50, window_size), expected)


@pytest.mark.filterwarnings("error")
def test_ppmi_by_hand():
    M = ppmi(COUNTS)  # 14 in all; "you" 1, "say" 4, "goodbye" 2
    assert M.dtype == np.float32
    assert M[0, 1] == pytest.approx(np.log2(1 * 14 / (1 * 4)), rel=1e-6)
    assert M[1, 2] == pytest.approx(np.log2(1 * 14 / (4 * 2)), rel=1e-6)
    assert M[0, 2] == 0
    assert np.array_equal(M, M.T)
    with np.errstate(all="raise"):
        never = np.pad(COUNTS, (0, 1))
        assert np.array_equal(ppmi(never), np.pad(M, (0, 1)))
        assert np.allclose(ppmi(never, eps=0), ppmi(never), rtol=1e-6)
    many = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]], np.int32) * 2_000_000_000  # int32 does not hold the sums
    assert np.allclose(ppmi(many), (many > 0) * np.log2(1.5), rtol=1e-6)
    assert (ppmi(np.array([[3, 1], [1, 3]])) >= 0).all()


def test_ppmi_prints_its_progress(capsys):
    ppmi(np.ones((4, 4)), verbose=True)
    assert capsys.readouterr().out == "25.0% done\n50.0% done\n75.0% done\n100.0% done\n"
    ppmi(np.ones((300, 300)), verbose=True)
    assert capsys.readouterr().out.count("\n") == 100


def test_contexts_and_targets():
    contexts, target = create_contexts_target(CORPUS)
    assert contexts.tolist() == [[0, 2], [1, 3], [2, 4], [3, 1], [4, 5], [1, 6]]
    assert target.tolist() == [1, 2, 3, 4, 1, 5]
    contexts, target = create_contexts_target([5, 6, 7, 8, 9, 4], window_size=2)
    assert contexts.tolist() == [[5, 6, 8, 9], [6, 7, 9, 4]]
    assert target.tolist() == [7, 8]
    create_contexts_target(CORPUS)[1][:] = 9  # no view of the corpus
    assert CORPUS[1] == 1


@pytest.mark.parametrize(
    ("function", "args", "error", "message"),
    [
        (preprocess, (["you", "say"],), TypeError, "expected a text, got list"),
        (convert_one_hot, ([0, 4], 4), IndexError, r"word ids must be in \[0, 4\), got 4"),
        (convert_one_hot, ([0, -1], 4), IndexError, r"in \[0, 4\), got -1"),
        (convert_one_hot, ([0.5], 4), TypeError, "word ids must be integers, got float64"),
        (convert_one_hot, ([[[0]]], 4), ValueError, r"\(N,\) or \(N, C\), got shape \(1, 1, 1\)"),
        (create_co_matrix, ([0, 4], 4), IndexError, r"in \[0, 4\), got 4"),
        (create_co_matrix, ([[0, 1]], 4), ValueError, r"shape \(n,\) .* got shape \(1, 2\)"),
        (create_co_matrix, ([0, 1], 4, 0), ValueError, "window_size of at least 1, .* window_size 0"),
        (ppmi, (np.ones((2, 3)),), ValueError, r"counts of shape \(V, V\), got shape \(2, 3\)"),
        (create_contexts_target, ([0, 1, 2, 3], 2), ValueError, "4 words has none with 2 .* at least 5 words"),
        (create_contexts_target, ([0, 1, 2, 3], 0), ValueError, "window_size 0"),
        (cos_similarity, ([1, 2], [1, 2, 3]), ValueError, r"got shapes \(2,\) and \(3,\)"),
        (cos_similarity, ([[1, 2]], [[1, 2]]), ValueError, r"got shapes \(1, 2\)"),
        (most_similar, ("you", WORD_TO_ID, ID_TO_WORD, COUNTS[:6]), ValueError, r"each of 7 words, got shape \(6, 7\)"),
        (analogy, ("you", "i", "say", WORD_TO_ID, ID_TO_WORD, COUNTS[0]), ValueError, r"7 words, got shape \(7,\)"),
        (normalize, (np.ones((2, 2, 2)),), ValueError, r"got shape \(2, 2, 2\)"),
        (eval_perplexity, (None, np.zeros((2, 3), int)), ValueError, r"got shape \(2, 3\)"),
        (eval_perplexity, (None, np.arange(9), 0), ValueError, "positive, got 0 and 35"),
        (eval_perplexity, (None, np.arange(350)), ValueError, "350 words is too short .* 10 and .* 35: it takes 351"),
        (eval_seq2seq, (None, np.ones((2, 3)), np.ones((2, 3)), {}), ValueError, r"got shapes \(2, 3\) and \(2, 3\)"),
        (eval_seq2seq, (None, np.ones((1, 3)), np.ones((2, 3)), {}), ValueError, r"got shapes \(1, 3\) and \(2, 3\)"),
        (eval_seq2seq, (None, np.ones(3), np.ones(3), {}), ValueError, r"got shapes \(3,\) and \(3,\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(function, args, error, message):
    with pytest.raises(error, match=message):
        function(*args)


# Word vectors


def test_cosine_similarity_by_hand():
    assert cos_similarity(COUNTS[0], COUNTS[4]) == pytest.approx(1 / np.sqrt(2), abs=1e-7)
    assert cos_similarity(np.zeros(3), np.ones(3)) == 0
    large = np.array([50_000, 1], np.int32)  # its square is more than int32 holds
    assert cos_similarity(large, large) == pytest.approx(1)
    half = np.full(100, 200, np.float16)
    assert cos_similarity(half, half) == pytest.approx(1)


def similar(capsys, *args, **options):
    """The title that is printed, the words, and the numbers."""
    most_similar(*args, **options)
    title, *lines = capsys.readouterr().out.removesuffix("\n").split("\n ")
    return title, [line.split(": ")[0] for line in lines], [float(line.split(": ")[1]) for line in lines]


def test_most_similar_words_of_the_textbook(capsys):
    title, words, cosines = similar(capsys, "you", WORD_TO_ID, ID_TO_WORD, COUNTS)
    assert title == "\n[query] you"
    assert words == ["goodbye", "i", "hello", "say", "and"]  # of equal ones the first is first
    assert cosines == pytest.approx([0.5**0.5] * 3 + [0] * 2, abs=1e-7)
    assert similar(capsys, "you", WORD_TO_ID, [*WORD_TO_ID], COUNTS, top=1)[1] == ["goodbye"]
    assert similar(capsys, "you", WORD_TO_ID, ID_TO_WORD, np.pad(COUNTS, (0, 1)), top=9)[1][5:] == ["."]
    assert similar(capsys, "cat", WORD_TO_ID, ID_TO_WORD, COUNTS) == ("cat is not found", [], [])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_most_similar_words_are_those_of_the_largest_cosine(capsys, dtype):
    W = normal(50, 6).astype(dtype)
    words = {i: f"w{i}" for i in range(50)}
    cosines = [cos_similarity(W[7], row) for row in W]
    best = [i for i in np.argsort(cosines)[::-1] if i != 7][:3]
    _, found, printed = similar(capsys, "w7", {w: i for i, w in words.items()}, words, W, top=3)
    assert found == [f"w{i}" for i in best]
    assert printed == pytest.approx([cosines[i] for i in best], rel=1e-5)


VECTORS = np.array([[0, 0], [1, 0], [0, 1], [2, 3], [3, 1], [np.nan, 0], [0, -1]])
WORDS = ["man", "king", "woman", "queen", "car", "hole", "no"]
IDS = {word: i for i, word in enumerate(WORDS)}


def test_analogy_by_hand(capsys):
    analogy("man", "king", "woman", IDS, WORDS, VECTORS, top=9)  # (1, 0) - (0, 0) + (0, 1)
    titles, *best = capsys.readouterr().out.split("\n ")
    assert titles == "\n[analogy] man:king = woman:?"
    assert [line.split(":")[0] for line in best] == ["queen", "car", "no"]
    assert [float(line.split(":")[1]) for line in best] == pytest.approx(np.array([5, 4, -1]) / np.sqrt(2))
    analogy("man", "king", "man", IDS, WORDS, VECTORS.astype(np.float32) / 10, top=1, answer="queen")
    assert capsys.readouterr().out.split("\n")[2] == "==>queen:0.2"
    assert np.array_equal(VECTORS[3], [2, 3])  # as they were


@pytest.mark.parametrize("words", [("x", "king", "woman"), ("man", "x", "woman"), ("man", "king", "x")])
def test_analogy_with_an_unknown_word(capsys, words):
    analogy(*words, IDS, WORDS, VECTORS)
    analogy("man", "king", "woman", IDS, WORDS, VECTORS, answer="x")
    assert capsys.readouterr().out == "x is not found\n" * 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_normalize_in_place(dtype):
    with np.errstate(all="raise"):
        tiny, large = np.finfo(dtype).tiny, np.finfo(dtype).max
        x = np.array([[3, -4], [0, 0], [tiny, 0], [large, -large], [1, tiny]], dtype)
        assert normalize(x) is x
        assert np.allclose(x, [[0.6, -0.8], [0, 0], [1, 0], [0.5**0.5, -(0.5**0.5)], [1, 0]], rtol=0, atol=1e-3)
        assert np.allclose(normalize(np.array([3, 4], dtype)), [0.6, 0.8], rtol=0, atol=1e-3)


def test_normalize_makes_integers_floats():
    x = np.array([[0, 5], [0, 0]])
    assert np.array_equal(normalize(x), [[0, 1], [0, 0]])
    assert np.array_equal(x, [[0, 5], [0, 0]])


# Models


class Recorder:
    """A model with given losses, which records its inputs."""

    def __init__(self, losses):
        self.losses = iter(losses)
        self.read = []

    def reset_state(self):
        self.read.append("reset")

    def forward(self, xs, ts):
        assert xs.dtype == ts.dtype == np.int32
        self.read.append((xs.tolist(), ts.tolist()))
        return np.float32(next(self.losses))


class WithFlag(Recorder):
    def forward(self, xs, ts, train_flg=True):
        self.flag = train_flg
        return super().forward(xs, ts)


class WithOptions(Recorder):
    def forward(self, xs, ts, **options):
        self.flag = options["train_flg"]
        return super().forward(xs, ts)


@pytest.mark.parametrize("kind", [Recorder, WithFlag, WithOptions])
def test_perplexity_over_whole_windows_of_parallel_streams(kind, capsys):
    model = kind([1.0, 3.0])
    # 14 words to predict in 2 streams: 7 each, in windows of 3; the last of each is left out.
    assert eval_perplexity(model, list(range(15)), 2, 3) == pytest.approx(np.exp(2))
    assert model.read == [
        "reset",
        ([[0, 1, 2], [7, 8, 9]], [[1, 2, 3], [8, 9, 10]]),
        ([[3, 4, 5], [10, 11, 12]], [[4, 5, 6], [11, 12, 13]]),
        "reset",
    ]
    assert getattr(model, "flag", False) is False
    assert capsys.readouterr().out == "evaluating perplexity ...\n\r0 / 2\r1 / 2\n"


def test_one_window_that_fits_exactly_and_a_hopeless_model():
    model = Recorder([1e5])
    with np.errstate(all="raise"):
        assert eval_perplexity(model, np.arange(7), 2, 3) == np.inf
    assert model.read[1] == ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])


def test_a_type_error_of_the_model_is_not_hidden():
    class Wrong(WithFlag):
        def forward(self, xs, ts, train_flg=True):
            return len(train_flg)

    with pytest.raises(TypeError, match="object of type 'bool' has no len"):
        eval_perplexity(Wrong([]), np.arange(15), 2, 3)


def test_a_model_of_this_project_is_measured_without_dropout_and_left_as_it_was():
    model = BetterLstmLm(9, 4, 4, dropout=0.5, rng=np.random.default_rng(0))
    words = np.random.default_rng(1).integers(0, 9, 71)
    model.forward(words[:10].reshape(2, 5), words[1:11].reshape(2, 5))
    state = [[array.copy() for array in arrays] for arrays in model.state]
    one = eval_perplexity(model, words, 2, 5)
    assert one == eval_perplexity(model, words, 2, 5)
    for arrays, copies in zip(model.state, state, strict=True):
        for array, copy in zip(arrays, copies, strict=True):
            assert np.array_equal(array, copy)


class Answers:
    """A model that answers with given ids."""

    def __init__(self, ids):
        self.ids = ids

    def generate(self, question, start_id, length):
        assert question.tolist() == [[1, 2, 3]]
        assert (start_id, length) == (0, 2)
        return self.ids


@pytest.mark.parametrize("correct", [[[0, 4, 5]], [0, 4, 5]])
@pytest.mark.parametrize(
    ("ids", "right", "mark"),
    [([4, 5], 1, "\033[92m☑\033[0m 45"), ([np.int64(4), np.array(1)], 0, "\033[91m☒\033[0m 41")],
)
def test_one_question(capsys, correct, ids, right, mark):
    chars = dict(enumerate("_12345"))
    question, correct = np.array([[1, 2, 3]]), np.array(correct)
    assert eval_seq2seq(Answers(ids), question, correct, chars) == right
    assert capsys.readouterr().out == ""
    assert eval_seq2seq(Answers(ids), question, correct, chars, verbose=True) == right
    assert capsys.readouterr().out == f"Q 123\nT 45\n{mark}\n---\n"
    assert eval_seq2seq(Answers(ids), question, correct, chars, True, is_reverse=True) == right
    assert capsys.readouterr().out.startswith("Q 321\n")


def test_marks_where_the_terminal_has_no_ticks(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    eval_seq2seq(Answers([4, 5]), np.array([[1, 2, 3]]), np.array([[0, 4, 5]]), dict(enumerate("_12345")), True)
    eval_seq2seq(Answers([4, 4]), np.array([[1, 2, 3]]), np.array([[0, 4, 5]]), dict(enumerate("_12345")), True)
    out.flush()
    assert out.buffer.getvalue().decode().split("\n")[2::4] == ["O 45", "X 44"]


# On a GPU


def test_arrays_of_a_gpu_stay_there(stand_in, capsys):
    device = stand_in.asarray(np.array([0, 2, 1]))
    assert np.array_equal(convert_one_hot(device, 3).get(), np.eye(3)[[0, 2, 1]])
    assert create_co_matrix(device, 3).get().tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    assert create_contexts_target(device)[0].get().tolist() == [[0, 1]]
    x = normal(4, 3)
    assert np.allclose(normalize(stand_in.asarray(x)).get(), normalize(x))
    assert np.allclose(cos_similarity(stand_in.asarray(x[0]), stand_in.asarray(x[1])).get(), cos_similarity(x[0], x[1]))
    words = dict(enumerate("abcd"))
    ids = {w: i for i, w in words.items()}
    for matrix in (x, stand_in.asarray(x)):
        most_similar("a", ids, words, matrix)
        analogy("a", "b", "c", ids, words, matrix, answer="d")
    lines = capsys.readouterr().out.split("\n")
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 : -1]


def test_models_on_a_gpu_get_arrays_of_the_gpu(gpu):
    class OnDevice(Recorder):
        def forward(self, xs, ts):
            return gpu.asarray(super().forward(xs.get(), ts.get()))

    assert eval_perplexity(OnDevice([1.0, 3.0]), gpu.asarray(np.arange(15)), 2, 3) == pytest.approx(np.exp(2))
    chars = dict(enumerate("_12345"))
    question, correct = gpu.asarray(np.array([[1, 2, 3]])), gpu.asarray(np.array([[0, 4, 5]]))

    class Device(Answers):
        def generate(self, question, start_id, length):
            return super().generate(question.get(), start_id, length)

    assert eval_seq2seq(Device([4, 5]), question, correct, chars) == 1


def test_lists_go_where_the_switch_says(gpu, monkeypatch):
    monkeypatch.setattr(util, "np", gpu)
    for array in (np.array([0, 1, 1]), [0, 1, 1]):
        assert isinstance(convert_one_hot(array, 2), gpu.ndarray)
