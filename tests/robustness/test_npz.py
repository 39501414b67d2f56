"""Weight files are written whole or not at all, and a file that lies is refused before it costs memory."""

import errno
import io
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
from fuzzing import CHANGES, FUZZ_CASES, mutated
from hypothesis import given, settings
from hypothesis import strategies as st

from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.npz import NpzReader, write_npz

FLOATS = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }\n"


def member(header, data=b"", version=b"\x01\x00"):
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + data


def archive(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def read_all(path):
    with NpzReader(path, "an array file") as file:
        return {name: file.read(name) for name in file.headers}


def measured(path):
    """What ``read_all`` does with a file, and the most memory that it needs, in bytes."""
    tracemalloc.start()
    try:
        return read_all(path)
    except ValueError as error:
        return error
    finally:
        measured.peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64, bool, "<U5", ">f4"])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 4), (2, 0, 3), (2, 1, 3, 1)])
def test_what_is_written_is_read(tmp_path, dtype, shape):
    arrays = {"a/b": np.full(shape, 7).astype(dtype), "c": np.asfortranarray(np.ones((3, 4)))}
    write_npz(tmp_path / "x.npz", arrays)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    found = read_all(tmp_path / "x.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


LIES = {
    "ten gigabytes": archive([("a.npy", member(FLOATS % b"2500000000,"))]),
    "ten gigabytes, compressed": archive([("a.npy", member(FLOATS % b"2500000,", bytes(10**7)))], zipfile.ZIP_DEFLATED),
    "shape that overflows": archive([("a.npy", member(FLOATS % (b"999999999999999999, " * 31 + b"9")))]),
    "one number too few": archive([("a.npy", member(FLOATS % b"3,", bytes(8)))]),
    "one byte too many": archive([("a.npy", member(FLOATS % b"2,", bytes(9)))]),
    "objects": archive([("a.npy", member(FLOATS.replace(b"<f4", b"|O") % b"", b"cos\nsystem\n"))]),
    "an expression": archive([("a.npy", member(b"__import__('os').mkdir('intruded')\n"))]),
    "nested brackets": archive([("a.npy", member(b"(" * 60_000))]),
    "a long header": archive([("a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(100))]),
    "no header": archive([("a.npy", b"")]),
    "another member": archive([("a.txt", b"hello")]),
    "a name twice": archive([("a.npy", member(FLOATS % b"")), ("a", b"")]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_is_refused_before_it_costs_memory(tmp_path, monkeypatch, lie):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.npz"
    path.write_bytes(LIES[lie])
    assert "is not an array file, or is damaged" in str(measured(path))
    assert measured.peak < 2**20
    assert not (tmp_path / "intruded").exists()


def one_inside_another():
    """An archive whose array a holds, as its numbers, the whole member b."""
    inner = archive([("b.npy", member(FLOATS % b"25000,", bytes(100_000)))])
    table, end = inner.index(b"PK\x01\x02"), inner.index(b"PK\x05\x06")
    header = FLOATS.replace(b"<f4", b"|u1") % (b"%d," % table)
    outer = archive([("a.npy", member(header, inner[:table]))])
    entry = bytearray(inner[table:end])
    entry[42:46] = outer.index(b"PK\x03\x04", 4).to_bytes(4, "little")  # where b begins
    start, tail = outer.index(b"PK\x01\x02", len(inner) - 200), outer.index(b"PK\x05\x06")
    ending = bytearray(outer[tail:])
    ending[8:12] = (2).to_bytes(2, "little") * 2
    ending[12:16] = (tail - start + len(entry)).to_bytes(4, "little")
    return outer[:tail] + bytes(entry) + bytes(ending)


def test_arrays_that_share_bytes_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(one_inside_another())
    assert zipfile.ZipFile(path).namelist() == ["a.npy", "b.npy"]
    assert "damaged" in str(measured(path))


# Fuzzing. RNN_FUZZ_CASES=10000 pytest tests/robustness/test_npz.py is the long run.


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A model, and the bytes of its weight file."""
    path = tmp_path_factory.mktemp("weights") / "w.npz"
    model = SimpleRnnlm(7, 3, 4, rng=np.random.default_rng(0))
    model.save(path)
    return model, path, path.read_bytes()


def assert_loads_or_says_why(weights, content):
    """Load a weight file: all of it, or a ValueError and no change; and never much memory."""
    model, path, _ = weights
    path.write_bytes(content)
    kept = [x.copy() for x in model.params]
    refusal = None
    tracemalloc.start()
    try:
        model.load(path)
    except ValueError as error:
        refusal = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if refusal is not None:
        assert str(path) in refusal
        for a, b in zip(kept, model.params):
            assert np.array_equal(a, b)
    assert peak < 2**18 + 50 * len(content)
    assert all(np.isfinite(x).all() for x in model.params)


@settings(max_examples=FUZZ_CASES)
@given(changes=CHANGES)
def test_mutated_weight_files(weights, changes):
    assert_loads_or_says_why(weights, mutated(weights[2], changes))


@settings(max_examples=FUZZ_CASES)
@given(start=st.integers(0), changes=CHANGES)
def test_weight_files_whose_table_of_contents_is_mutated(weights, start, changes):
    content = weights[2]
    table = content.index(b"PK\x01\x02")
    assert_loads_or_says_why(weights, content[:table] + mutated(content[table:], changes))


HEADERS = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda descr, order, shape: f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n".encode(),
        st.sampled_from(
            ["<f4", "<f8", ">f4", "|O", "<f16", "<U9", "|S0", "|V8", "<f0", "<i3", "<c8", "|b1", "<U999999999"]
        ),
        st.booleans(),
        st.one_of(st.lists(st.integers(0, 2**70), max_size=40).map(tuple), st.just((7, 3)), st.just((4,))),
    ),
)


@settings(max_examples=FUZZ_CASES)
@given(
    headers=st.lists(HEADERS, min_size=4, max_size=4),
    data=st.binary(max_size=200),
    compression=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    version=st.sampled_from([b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00"]),
)
def test_weight_files_with_arbitrary_headers(weights, headers, data, compression, version):
    names = [p.name for p in weights[0].parameters]
    members = [(f"{name}.npy", member(h, data, version)) for name, h in zip(names, headers)]
    assert_loads_or_says_why(weights, archive(members, compression))


@settings(max_examples=FUZZ_CASES)
@given(content=st.binary(max_size=500))
def test_arbitrary_bytes_as_weight_files(weights, content):
    assert_loads_or_says_why(weights, content)


# Writing


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    write_npz(path, {"a": np.arange(3)})
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*x\.npz: No space left on device; .* is unchanged"):
        write_npz(path, {"a": np.arange(4)})
    with pytest.raises(OSError, match=r"cannot write .*y\.npz: No space left on device$"):
        write_npz(tmp_path / "y.npz", {"a": np.arange(4)})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.skipif(os.name == "nt", reason="there are no limits of file sizes to set on Windows")
@pytest.mark.parametrize("room", [0, 1, 1000, 100_000, 399_999])
def test_a_disk_with_too_little_room_leaves_the_old_file(tmp_path, room):
    import resource
    import signal

    path = tmp_path / "x.npz"
    write_npz(path, {"a": np.arange(3)})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OSError, match="cannot write"):
            write_npz(path, {"a": np.zeros(50_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.npz"]
