"""The textbook's files of parameters are read without being executed, and files of here can be read by its code."""

import contextlib
import os
import pickle
import re
import struct
import tracemalloc

import numpy as np
import pytest
from fuzzing import CHANGES, FUZZ_CASES, mutated
from helpers import normal
from hypothesis import given, settings
from hypothesis import strategies as st

from common import base_model
from common.backend import to_cpu, to_gpu
from common.base_model import BaseModel

SHAPES = [(3, 4), (4,), (2, 1, 3), ()]


class Lm(BaseModel):
    def __init__(self, arrays=None):
        self.params = [np.zeros(shape, np.float32) for shape in SHAPES] if arrays is None else arrays


def arrays(dtype=np.float32):
    return [np.asarray(normal(*shape, seed=1)).astype(dtype) for shape in SHAPES]


def assert_equal(found, expected):
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == y.dtype
        assert np.array_equal(x, y)


# What is written and read


def test_the_interface_of_the_textbook():
    model = BaseModel()
    assert model.params is None
    assert model.grads is None
    for method in (model.forward, model.backward):
        with pytest.raises(NotImplementedError):
            method(1, 2)


@pytest.mark.parametrize("name", [None, "x.bin"])
def test_what_is_saved_is_loaded_into_the_same_arrays(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Lm(arrays()).save_params(name)
    assert os.listdir() == [name or "Lm.pkl"]
    model = Lm()
    params = list(model.params)
    model.load_params(name)
    assert all(x is y for x, y in zip(model.params, params))
    assert_equal(params, arrays())


def test_as_the_textbook_writes_and_reads(tmp_path):
    path, model = tmp_path / "Lm.pkl", Lm()
    with open(path, "wb") as file:
        pickle.dump([x.astype(np.float16) for x in arrays()], file)
    model.load_params(path)
    assert_equal(model.params, [x.astype(np.float16).astype("f") for x in arrays()])
    model.save_params(path)
    with open(path, "rb") as file:
        assert_equal([x.astype("f") for x in pickle.load(file)], model.params)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
def test_any_array_of_floats_that_numpy_pickles(tmp_path, protocol, dtype):
    path = tmp_path / "x.pkl"
    wide = normal(6, 4)
    saved = [x.astype(dtype) for x in arrays()]
    saved += [np.asfortranarray(wide).astype(dtype), wide.astype(dtype)[::2], wide.astype(dtype).T]
    saved += [saved[0]] * 2
    frozen = wide.astype(dtype)
    frozen.flags.writeable = False
    saved.append(frozen)
    path.write_bytes(pickle.dumps(saved, protocol))
    for ours in (np.float32, np.float64):
        model = Lm([np.zeros(x.shape, ours) for x in saved])
        model.load_params(path)
        assert_equal(model.params, [x.astype(ours) for x in saved])


def test_the_names_of_numpy_1(tmp_path):
    path, model = tmp_path / "x.pkl", Lm()
    content = pickle.dumps(arrays(), 3)
    assert b"numpy._core" in content
    path.write_bytes(content.replace(b"numpy._core", b"numpy.core"))
    model.load_params(path)
    assert_equal(model.params, arrays())


def test_tied_parameters(tmp_path):
    W, b = normal(5, 3, dtype=np.float32), normal(5, dtype=np.float32)
    Lm([W, W.T, b]).save_params(tmp_path / "x.pkl")
    other = np.zeros_like(W)
    model = Lm([other, other.T, np.zeros_like(b)])
    model.load_params(tmp_path / "x.pkl")
    assert_equal(model.params, [W, W.T, b])
    assert np.shares_memory(model.params[0], model.params[1])


def test_arrays_on_a_gpu(tmp_path, gpu):
    Lm([to_gpu(x) for x in arrays()]).save_params(tmp_path / "x.pkl")
    assert_equal(pickle.loads((tmp_path / "x.pkl").read_bytes()), arrays())
    model = Lm([to_gpu(np.zeros_like(x)) for x in arrays()])
    model.load_params(tmp_path / "x.pkl")
    assert all(isinstance(x, gpu.ndarray) for x in model.params)
    assert_equal([to_cpu(x) for x in model.params], arrays())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x.pkl"
    path.write_bytes(b"old")

    def fail(params, file):
        file.write(b"new")
        raise OSError("the disk is full")

    monkeypatch.setattr(base_model.pickle, "dump", fail)
    with pytest.raises(OSError, match="the disk is full"):
        Lm().save_params(path)
    assert path.read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 1


# What is refused

ARRAY = pickle.dumps(arrays()[1], 3)[2:-1]  # without protocol and end


def text(x):
    return b"X" + struct.pack("<I", len(x)) + x


def reduce(function, *args):
    return b"c" + function.encode().replace(b".", b"\n") + b"\n(" + b"".join(args) + b"tR"


def alone(x):
    """A list of one item."""
    return b"\x80\x03]" + x + b"a."


def pickled(x, protocol=3):
    return pickle.dumps(x, protocol)


def changed(old, new):
    content = pickled([arrays()[1]])
    assert old in content
    return content.replace(old, new)


class Tricky(np.ndarray):
    def __setstate__(self, state):
        os.mkdir("intruded")


MKDIR = text(b"intruded")
EVAL = text(b"__import__('os').mkdir('intruded')")
EXECUTED = {
    "os.mkdir": alone(reduce("os.mkdir", MKDIR)),
    "builtins.eval": alone(reduce("builtins.eval", EVAL)),
    "of protocol 4": b"\x80\x04]\x8c\x02os\x8c\x05mkdir\x93" + MKDIR + b"\x85Ra.",
    "nested": alone(reduce("builtins.list", b"(" + reduce("os.mkdir", MKDIR) + b"t")),
    "behind a good array": alone(ARRAY + b"a" + reduce("os.mkdir", MKDIR)),
    "in the arguments of an array": alone(reduce("numpy.dtype", reduce("builtins.eval", EVAL))),
    "in the state of an array": alone(ARRAY + b"(" + reduce("os.mkdir", MKDIR) + b"tb"),
    "a class": alone(b"(" + MKDIR + b"ios\nmkdir\n"),
    "new object": alone(b"cos\nmkdir\n0" + reduce("os.mkdir", MKDIR)),
    "a subclass": pickle.dumps([np.ones(4, "f").view(Tricky)]),
    "after it was fetched": alone(b"cos\nmkdir\nq\x010h\x01" + MKDIR + b"\x85R"),
}
NO_FLOATS = "expected array 0 to be of float16, float32 or float64"
REFUSED = {
    **{name: (content, r"names [\w.]+, which is no array|operation INST") for name, content in EXECUTED.items()},
    "getattr of an array": (alone(reduce("builtins.getattr", ARRAY, text(b"tofile"))), "names builtins.getattr"),
    "a long name": (b"\x80\x03c" + b"a" * 10**6 + b"\nb\n.", "names a{80}, which"),
    "a name of many lines": (b"\x80\x04\x8c\x03a\nb\x8c\x02\r\n\x93.", r"names a\\nb\.\\r\\n, which"),
    "a name that cannot be printed": (b"\x80\x04\x8c\x03\xed\xb2\x80\x8c\x01b\x93.", r"names \\udc80\.b, which"),
    "another name of NumPy": (pickled(np.float32(1)), "names numpy._core.multiarray.scalar, which"),
    "the array as a name": (alone(text(b"_reconstruct")), "item 0 of its list is not an array"),
    "persistent id": (alone(b"Pos.mkdir\n"), "the pickle operation PERSID"),
    "persistent id on the stack": (alone(MKDIR + b"Q"), "the pickle operation BINPERSID"),
    "extension code": (alone(b"\x82\x01"), "the pickle operation EXT1"),
    "out-of-band buffer": (b"\x80\x05]\x97a.", "the pickle operation NEXT_BUFFER"),
    "a dict": (pickled({"W": arrays()[0]}), "got a dict"),
    "a list of a dict": (pickled([{"W": arrays()[0]}]), "got a dict"),
    "a tuple": (pickled(tuple(arrays())), "expected a list of arrays, got something else"),
    "an array": (pickled(arrays()[0]), "expected a list of arrays, got something else"),
    "a number": (pickled(5), "expected a list of arrays, got something else"),
    "a list of numbers": (pickled([5]), "item 0 of its list is not an array"),
    "a list of lists": (pickled([[5]]), "item 0 of its list is not an array"),
    "a list of itself": (b"\x80\x03]q\x01h\x01a.", "item 0 of its list is not an array"),
    "a dtype": (pickled([np.dtype("f4")]), "item 0 of its list is not an array"),
    "objects": (pickled([np.array([1, None, "x", 2], object)]), NO_FLOATS),
    "integers": (pickled([np.arange(4)]), NO_FLOATS),
    "complex numbers": (pickled([np.ones(4, complex)]), NO_FLOATS),
    "text in arrays": (pickled([np.array(["a"] * 4)]), NO_FLOATS),
    "records": (pickled([np.zeros(4, "f4,f4")]), "got a dict"),
    "arrays in place of numbers": (changed(b"NNNJ", b"K\x04K\x04\x86NNJ"), NO_FLOATS),
    "objects that claim to be floats": (changed(b"f4", b"O4"), NO_FLOATS),
    "a negative shape": (changed(b"K\x04\x85", b"J\xfc\xff\xff\xff\x85"), r"shape \(4,\), got \(-4,\)"),
    "a huge shape": (changed(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85"), r"shape \(4,\), got \(2147483647,\)"),
    "a shape of a truth value": (changed(b"K\x04\x85", b"\x88\x85"), "array 0 is damaged"),
    "a shape of tuples": (changed(b"K\x04\x85", b")" + b"q\x20h\x20\x86" * 40 + b"\x85"), "array 0 is damaged"),
    "a shape without end": (changed(b"K\x04\x85", b"(" + b"K\x04" * 9999 + b"t"), "array 0 is damaged"),
    "too few bytes": (changed(b"f4", b"f8"), "expected 4 numbers in array 0, got 16 bytes of float64"),
    "too many bytes": (changed(b"f4", b"f2"), "expected 4 numbers in array 0, got 16 bytes of float16"),
    "no bytes": (changed(b"C\x10" + arrays()[1].tobytes(), b"N"), "array 0 is damaged"),
    "text that is no bytes": (pickled([arrays()[1]], 2).replace(b"latin1", b"latin2"), "array 0 is damaged"),
    "too many operations": (b"\x80\x03" + b"N" * 10**6 + b".", "more than 100,000 pickle operations"),
    "a memo of two gigabytes": (alone(b"Nr\xff\xff\xff\x7f"), "item 0 of its list is not an array"),
    "a claim of much text": (b"\x80\x04\x8d" + struct.pack("<Q", 10**12) + b"x.", "is damaged"),
    "a claim of many bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 10**12) + b"x.", "is damaged"),
    "a claim of a large buffer": (b"\x80\x05\x96" + struct.pack("<Q", 10**12) + b"x.", "is damaged"),
    "a frame without end": (b"\x80\x04\x95" + struct.pack("<Q", 2**63) + b"x.", "is damaged"),
    "tuples that double": (b"\x80\x03)" + b"q\x01h\x01\x86" * 10**4 + b"a.", "is damaged"),
    "tuples that double, as a name": (b"\x80\x04)" + b"q\x01h\x01\x86" * 10**4 + b"h\x01\x93.", "is damaged"),
    "tuples, one in another": (b"\x80\x03N" + b"\x85" * 99_000 + b".", "got something else"),
    "text of which Python warns": (b"\x80\x03S'\\q'\n.", "is damaged|the pickle operation STRING"),
    "text as a list": (pickled(b"x" * 100, 0), "the pickle operation"),
    "empty": (b"", "is damaged"),
    "no end": (pickled([arrays()[1]])[:-1], "is damaged"),
    "nothing on the stack": (b"\x80\x03.", "is damaged"),
    "no mark": (b"\x80\x03]e.", "is damaged"),
    "no memo": (b"\x80\x03h\x01.", "is damaged"),
    "a number that is called": (alone(b"K\x01)R"), "item 0 of its list is not an array"),
    "a state for a list": (b"\x80\x03])b.", "is damaged"),
    "another format": (b"PK\x03\x04" + bytes(100), "is damaged|the pickle operation"),
}


def refusal(path, content, model):
    """Load a file: the sentence that refuses it, if one does. Then no parameter has changed. It costs little memory."""
    path.write_bytes(content)
    before = [x.copy() for x in model.params]
    message = None
    tracemalloc.start()
    try:
        model.load_params(path)
    except ValueError as error:
        message = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2**24 + 20 * len(content)
    if message is not None:
        assert message.startswith(f"cannot load {path}: ")
        assert_equal(model.params, before)
    return message


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content, why = REFUSED[name]
    message = refusal(tmp_path / "x.pkl", content, Lm([np.ones(4, np.float32)]))
    assert message is not None
    assert re.search(why, message), message
    assert message.isprintable()
    assert len(message) < 400
    assert os.listdir() == ["x.pkl"]  # nothing was executed


@pytest.mark.parametrize("name", EXECUTED)
def test_pickle_itself_would_execute_them(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(Exception):
        pickle.loads(EXECUTED[name])
    assert os.listdir() == ["intruded"]


OTHERS = {
    "one array too few": (lambda x: x[:-1], "expected 4 arrays, one for each parameter, got 3"),
    "one array too many": (lambda x: [*x, x[0]], "expected 4 arrays, one for each parameter, got 5"),
    "another shape": (lambda x: [*x[:2], x[2][0], x[3]], r"array 2 of the parameter's shape \(2, 1, 3\), got \(1, 3\)"),
    "nan": (lambda x: [*x[:3], x[3] * np.nan], "array 3 holds numbers that are not finite in float32"),
    "infinity": (lambda x: [x[0], x[1] * np.inf, *x[2:]], "array 1 holds numbers that are not finite in float32"),
    "too large": (lambda x: [x[0], x[1] * 1e300, *x[2:]], "array 1 holds numbers that are not finite in float32"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", OTHERS)
def test_arrays_that_do_not_fit_change_nothing(tmp_path, name):
    change, why = OTHERS[name]
    saved = [np.asarray(x) for x in change(arrays(np.float64))]
    message = refusal(tmp_path / "x.pkl", pickled(saved), Lm())
    assert message is not None
    assert re.search(why, message), message


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*x\.pkl: save_params writes it"):
        Lm().load_params(tmp_path / "x.pkl")
    with pytest.raises(OSError, match=tmp_path.name):
        Lm().load_params(tmp_path)


# Fuzzing. RNN_FUZZ_CASES=10000 pytest tests/equations/test_base_model.py is the long run.

OPERATIONS = [bytes([operation]) for operation in b"()]}N\x88\x85\x86\x87taeRb02\x94\x93."]
OPERATIONS += [b"K\x04", b"C\x03abc", b"C\x10" + bytes(16), b"q\x01", b"h\x01", MKDIR, ARRAY]
OPERATIONS += [text(x) for x in (b"f4", b"<", b"latin1", b"C")]
OPERATIONS += [b"c" + name + b"\n" for name in (b"numpy\nndarray", b"numpy\ndtype", b"os\nmkdir", b"_codecs\nencode")]
OPERATIONS += [b"cnumpy._core.multiarray\n_reconstruct\n", b"cnumpy._core.numeric\n_frombuffer\n"]


def assert_loads_or_says_why(path, content):
    model = Lm()
    if refusal(path, content, model) is None:
        assert all(np.isfinite(x).all() for x in model.params)
    assert os.listdir(path.parent) == [path.name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@settings(max_examples=FUZZ_CASES)
@given(changes=CHANGES)
def test_mutated_files(folder, protocol, changes):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert_loads_or_says_why(folder / "x.pkl", mutated(pickled(arrays(), protocol), changes))


@settings(max_examples=FUZZ_CASES)
@given(operations=st.lists(st.sampled_from(OPERATIONS), max_size=30))
def test_any_operations(folder, operations):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert_loads_or_says_why(folder / "x.pkl", b"\x80\x04" + b"".join(operations) + b".")
