"""The textbook's tools: count-based word vectors, similar words, and the evaluation of its models.

They print what the textbook's print. Results are on the device of the arguments; lists go where ``common.config.GPU``
says.
"""

from __future__ import annotations

import inspect
import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy

from common.backend import Array, get_array_module, to_cpu, to_float64, to_gpu  # noqa: F401, to_gpu: a textbook's name
from common.checks import as_ids, check_range
from common.np import GPU, np  # noqa: F401, for the textbook's readers, to whom "import *" brings them
from common.optimizer import clip_grads  # noqa: F401, a textbook's name

Words = Mapping[int, str] | Sequence[str]  # id_to_word

# Words and counts


def preprocess(text: str) -> tuple[Array, dict[str, int], dict[int, str]]:
    """Number the words of a text in the order in which they first occur: corpus, (n,), word_to_id, id_to_word.

    The text is split at spaces and made lower case; a full stop is a word.
    """
    if not isinstance(text, str):
        raise TypeError(f"expected a text, got {type(text).__name__}")
    words = text.lower().replace(".", " .").split(" ")
    id_to_word = dict(enumerate(dict.fromkeys(words)))
    word_to_id = {word: i for i, word in id_to_word.items()}
    return np.array([word_to_id[word] for word in words]), word_to_id, id_to_word


def convert_one_hot(corpus: Array, vocab_size: int) -> Array:
    """Convert word ids, (N,) or (N, C), to one-hot vectors, (N, V) or (N, C, V), int32."""
    corpus = _asarray(corpus)
    if corpus.ndim not in (1, 2):
        raise ValueError(f"expected word ids of shape (N,) or (N, C), got shape {corpus.shape}")
    check_range(as_ids(corpus, "word ids"), vocab_size, "word ids")
    xp = get_array_module(corpus)
    rows = xp.zeros((corpus.size, vocab_size), dtype=numpy.int32)
    rows[xp.arange(corpus.size), corpus.reshape(-1)] = 1
    return rows.reshape(*corpus.shape, vocab_size)


def create_co_matrix(corpus: Array, vocab_size: int, window_size: int = 1) -> Array:
    """Count how often two words of a corpus, (n,), are at most ``window_size`` words apart: (V, V) int32, symmetric."""
    corpus = _corpus(corpus, window_size)
    check_range(as_ids(corpus, "word ids"), vocab_size, "word ids")
    ids = to_cpu(corpus).astype(numpy.int64)  # V² may be more than int32 holds
    C = numpy.zeros((vocab_size, vocab_size), dtype=numpy.int32)
    for distance in range(1, window_size + 1):
        pairs, counts = numpy.unique(ids[:-distance] * vocab_size + ids[distance:], return_counts=True)
        left, right = pairs // vocab_size, pairs % vocab_size
        C[left, right] += counts.astype(numpy.int32)
        C[right, left] += counts.astype(numpy.int32)
    return get_array_module(corpus).asarray(C)


def ppmi(C: Array, verbose: bool = False, eps: float = 1e-8) -> Array:
    """Positive pointwise mutual information, max(0, log₂(C[i, j] N / (S[i] S[j]) + eps)).

    C are counts, (V, V), S the sums of its columns, N is the sum of all. The result is a (V, V) float32 array; words
    that never occur have zeros. ``verbose`` prints each percent of progress.
    """
    C = _asarray(C)
    if C.ndim != 2 or C.shape[0] != C.shape[1]:
        raise ValueError(f"expected counts of shape (V, V), got shape {C.shape}")
    xp = get_array_module(C)
    V = len(C)
    M = xp.zeros((V, V), dtype=numpy.float32)
    S = C.sum(axis=0, dtype=numpy.float64)
    N = S.sum()
    S = xp.where(S == 0, 1.0, S)  # a word that never occurs: 0 / 1 in place of 0 / 0
    for i in range(V):  # row by row, to save memory: C may be large
        with numpy.errstate(divide="ignore"):  # log(0) = -inf, if eps is 0
            M[i] = xp.maximum(xp.log(C[i] * N / (S * S[i]) + eps) / math.log(2), 0)
        if verbose and 100 * (i + 1) // V > 100 * i // V:
            print(f"{100 * (i + 1) / V:.1f}% done")
    return M


def create_contexts_target(corpus: Array, window_size: int = 1) -> tuple[Array, Array]:
    """Return contexts, (n - 2C, 2C), and targets, (n - 2C,), of a corpus, (n,), where C is ``window_size``.

    A context is the C words to the left and the C words to the right of its target.
    """
    corpus = _corpus(corpus, window_size)
    xp = get_array_module(corpus)
    n = len(corpus) - 2 * window_size
    if n < 1:
        raise ValueError(
            f"a corpus of {len(corpus)} words has none with {window_size} neighbours on both sides: "
            f"expected at least {2 * window_size + 1} words, or a smaller window_size"
        )
    offsets = [k for k in range(2 * window_size + 1) if k != window_size]
    contexts = corpus[xp.arange(n)[:, None] + xp.asarray(offsets)]
    return contexts, corpus[window_size : window_size + n].copy()


# Word vectors


def cos_similarity(x: Array, y: Array, eps: float = 1e-8) -> Array:
    """x · y / (‖x‖ ‖y‖), of two vectors, (D,); ``eps`` is added to each norm, so that zeros give 0."""
    x, y = _as_vectors(x), _as_vectors(y)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"expected two vectors of one length, got shapes {x.shape} and {y.shape}")
    return (_unit(x, eps) * _unit(y, eps)).sum()


def most_similar(
    query: str, word_to_id: Mapping[str, int], id_to_word: Words, word_matrix: Array, top: int = 5
) -> None:
    """Print the ``top`` words whose vectors, rows of ``word_matrix``, (V, D), have the largest cosine with ``query``'s.

    Ties go to the smaller id. A word that is not in the vocabulary is reported as "not found".
    """
    if _missing([query], word_to_id):
        return
    W = _as_vectors(_word_matrix(word_matrix, id_to_word))
    print(f"\n[query] {query}")
    unit = _unit(W, eps=1e-8)
    _print_best(to_cpu(unit @ unit[word_to_id[query]]), id_to_word, {query}, top)


def analogy(
    a: str,
    b: str,
    c: str,
    word_to_id: Mapping[str, int],
    id_to_word: Words,
    word_matrix: Array,
    top: int = 5,
    answer: str | None = None,
) -> None:
    """Print the ``top`` words d in "a is to b as c is to d": the largest W (b - a + c) / ‖b - a + c‖.

    W is ``word_matrix``, (V, D). The inner product of ``answer`` is printed first. Words that are not in the
    vocabulary are reported as "not found".
    """
    if _missing([a, b, c] if answer is None else [a, b, c, answer], word_to_id):
        return
    W = _as_vectors(_word_matrix(word_matrix, id_to_word))
    print(f"\n[analogy] {a}:{b} = {c}:?")
    similarity = to_cpu(W @ normalize(W[word_to_id[b]] - W[word_to_id[a]] + W[word_to_id[c]]))
    if answer is not None:
        print(f"==>{answer}:{similarity[word_to_id[answer]]!s}")
    _print_best(similarity, id_to_word, {a, b, c}, top)


@numpy.errstate(under="ignore")
def normalize(x: Array) -> Array:
    """Scale a vector, (D,), or each row of a matrix, (N, D), to norm 1, in place, and return it.

    Zeros stay zeros. Integers cannot be scaled in place: a new array is returned.
    """
    x = _asarray(x)
    if x.ndim not in (1, 2):
        raise ValueError(f"expected a vector, (D,), or a matrix, (N, D), got shape {x.shape}")
    if x.dtype.kind != "f":
        x = x.astype(numpy.float64)
    xp = get_array_module(x)
    largest = xp.maximum(x, -x).max(axis=-1, keepdims=True)
    x /= xp.where(largest == 0, 1, largest)  # so that no square overflows or underflows
    x /= xp.maximum(_length(x), 1)  # it is at least 1, but for zeros
    return x


# Models


def eval_perplexity(model: Any, corpus: Array, batch_size: int = 10, time_size: int = 35) -> float:
    """Perplexity of a text, (n,) word ids, by the textbook's definition: exp of the mean loss of the windows.

    The text is cut into ``batch_size`` parallel streams of (n - 1) // batch_size words, and these into windows of
    ``time_size`` words. Words that do not fill a window are left out; ``common.evaluation.evaluate`` counts every word.

    ``model`` has ``forward(xs, ts)``, which returns the mean loss and may take ``train_flg``, and ``reset_state()``,
    which is called before and after. Raises ValueError if the text does not fill a window.
    """
    corpus = _corpus(corpus, 1)
    if min(batch_size, time_size) < 1:
        raise ValueError(f"batch_size and time_size must be positive, got {batch_size} and {time_size}")
    length = (len(corpus) - 1) // batch_size
    windows = length // time_size
    if windows == 0:
        raise ValueError(
            f"a text of {len(corpus)} words is too short for batch_size {batch_size} and time_size {time_size}: "
            f"it takes {batch_size * time_size + 1} words, or a smaller batch_size or time_size"
        )
    print("evaluating perplexity ...")
    corpus = corpus.astype(numpy.int32)
    xs = corpus[: batch_size * length].reshape(batch_size, length)
    ts = corpus[1 : batch_size * length + 1].reshape(batch_size, length)
    parameters = inspect.signature(model.forward).parameters
    takes_flag = "train_flg" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    options = {"train_flg": False} if takes_flag else {}
    total = 0.0
    with model.evaluating() if hasattr(model, "evaluating") else nullcontext():  # without the dropout of our own models
        model.reset_state()
        for k in range(windows):
            window = slice(k * time_size, (k + 1) * time_size)
            total += to_float64(model.forward(xs[:, window], ts[:, window], **options))
            print(f"\r{k} / {windows}", end="", flush=True)
        model.reset_state()
    print()
    with numpy.errstate(over="ignore"):
        return float(numpy.exp(float(total) / windows))


def eval_seq2seq(
    model: Any, question: Array, correct: Array, id_to_char: Words, verbose: bool = False, is_reverse: bool = False
) -> int:
    """Let a model answer a question, (1, T) character ids. Returns 1 if its answer equals ``correct``, (1, L), else 0.

    ``correct`` begins with the start character, which is passed to ``model.generate(question, start_id, length)``.
    ``verbose`` prints question, answer and guess; ``is_reverse`` says that the question is reversed, for printing.
    """
    question, correct = _asarray(question), _asarray(correct)
    if question.ndim != 2 or len(question) != 1 or correct.ndim not in (1, 2) or correct.size != correct.shape[-1]:
        raise ValueError(
            "expected one question, of shape (1, T), and its answer, of shape (1, L); "
            f"got shapes {question.shape} and {correct.shape}"
        )
    start_id, *answer = to_cpu(correct).ravel().tolist()
    guess = model.generate(question, start_id, len(answer))
    asked, right, given = ("".join(id_to_char[int(c)] for c in ids) for ids in (to_cpu(question)[0], answer, guess))
    if verbose:
        print("Q", asked[::-1] if is_reverse else asked)
        print("T", right)
        print(_mark(given == right), given)
        print("---")
    return int(given == right)


def _asarray(x: Array) -> Array:
    """Return a CuPy array unchanged; convert all else to an array of NumPy or CuPy, as ``common.config.GPU`` says."""
    return x if get_array_module(x) is not numpy else np.asarray(x)


def _corpus(corpus: Array, window_size: int) -> Array:
    corpus = _asarray(corpus)
    if corpus.ndim != 1 or window_size < 1:
        raise ValueError(
            "expected word ids of shape (n,) and a window_size of at least 1, "
            f"got shape {corpus.shape} and window_size {window_size}"
        )
    return corpus


def _word_matrix(W: Array, id_to_word: Words) -> Array:
    """The rows of W that belong to a word."""
    W = _asarray(W)
    if W.ndim != 2 or len(W) < len(id_to_word):
        raise ValueError(f"expected a word_matrix with a row for each of {len(id_to_word)} words, got shape {W.shape}")
    return W[: len(id_to_word)]


def _as_vectors(x: Array) -> Array:
    """Convert integers and float16, whose squares may overflow, to a larger dtype."""
    x = _asarray(x)
    if x.dtype == numpy.float16:
        return x.astype(numpy.float32)
    return x if x.dtype.kind == "f" else x.astype(numpy.float64)


def _length(x: Array) -> Array:
    return get_array_module(x).sqrt((x * x).sum(axis=-1, keepdims=True))


def _unit(x: Array, eps: float) -> Array:
    return x / (_length(x) + eps)


def _missing(words: list[str], word_to_id: Mapping[str, int]) -> bool:
    """Print the first word that is not in the vocabulary, if there is one."""
    for word in words:
        if word not in word_to_id:
            print(f"{word} is not found")
            return True
    return False


def _print_best(similarity: numpy.ndarray, id_to_word: Words, without: set[str], top: int) -> None:
    order = (-similarity).argsort(kind="stable").tolist()
    best = [i for i in order if id_to_word[i] not in without and not numpy.isnan(similarity[i])]
    for i in best[:top]:
        print(f" {id_to_word[i]}: {similarity[i]}")


def _mark(right: bool) -> str:
    """A green tick or a red cross; letters where the terminal cannot show them."""
    try:
        "☑☒".encode(sys.stdout.encoding or "utf-8")
        has_marks = os.name != "nt"
    except UnicodeEncodeError:
        has_marks = False
    marks = ("\033[91m☒\033[0m", "\033[92m☑\033[0m") if has_marks else ("X", "O")
    return marks[right]
