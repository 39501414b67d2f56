"""What all tests share: no network, no display, and the folder of texts that are not part of the project."""

import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import write_text
from hypothesis import settings
from oracles import strict_cupy

from common import backend, layers, time_layers
from common.fast import output_layer, products
from dataset.download import FILES

# The same examples in every run, and no time limit: the machine may be busy.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Whatever reaches for the network fails at once, instead of passing here and failing without a network."""

    def refuse(*args, **kwargs):
        raise OSError("tests must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("MPLBACKEND", "Agg")


@pytest.fixture(scope="session")
def data_dir():
    """The folder that RNN_DATA_DIR names, with PTB and WikiText-2 in it."""
    folder = os.environ.get("RNN_DATA_DIR")
    if not folder:
        pytest.skip("RNN_DATA_DIR does not point to a folder with PTB and WikiText-2: it is not set")
    for name in FILES:
        if name.startswith(("ptb/", "wikitext2/")) and not Path(folder, name).is_file():
            pytest.skip(f"RNN_DATA_DIR does not point to a folder with PTB and WikiText-2: no {Path(folder, name)}")
    return Path(folder)


# The scripts whose trainings have a folder.
FOLDERS = {f"ch05_rnn.{name}" for name in ("train_rnnlm", "train_sentence_rnnlm", "train_classifier")} | {
    *("ch06_gated.memorize", "ch06_gated.train_lstm_lm", "ch06_gated.train_gru_lm", "ch06_gated.train_char_lm"),
    *("ch06_gated.train_better_lstm_lm", "ch06_gated.train_sentence_lstm_lm", "ch06_gated.train_classifier"),
}


@pytest.fixture
def error_line(capsys):
    """A function that runs what must end with exit code 2, and returns the one line that it prints to stderr.

    Of a download that failed there is a second line: what has happened.
    """

    def run(function, *args):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            function(*args)
        err = capsys.readouterr().err
        assert stop.value.code == 2
        assert err.endswith("\n")
        assert err.replace("\n  what has happened: ", "").count("\n") == 1, err
        return err.rstrip()

    return run


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A function that runs the ``main`` of a script here, in a folder of its own, and returns its value and output."""
    monkeypatch.chdir(tmp_path)

    def call(main, *options):
        capsys.readouterr()
        if main.__module__ in FOLDERS and not {"--resume", "--overwrite"} & set(options):
            options = (*options, "--overwrite")  # what an earlier call in this test has left
        value = main([str(option) for option in options])
        return value, capsys.readouterr().out

    return call


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path / "text.txt")


# The stand-in for CuPy

_NEVER = property(lambda self: False, lambda self, value: None)


def finds_device():
    """Whether CuPy is installed and sees a GPU."""
    try:
        backend.require_gpu()
    except backend.GpuUnavailable:
        return False
    return True


DEVICES = ["stand-in", pytest.param("device", marks=pytest.mark.gpu)] if finds_device() else ["stand-in"]


@pytest.fixture(params=DEVICES)
def gpu(request, monkeypatch):
    """The stand-in in place of CuPy and, where there is a GPU, CuPy itself."""
    if request.param == "device":
        return backend.require_gpu()
    return request.getfixturevalue("stand_in")


@pytest.fixture
def real_gpu():
    """CuPy, where it sees a GPU."""
    if len(DEVICES) == 1:
        pytest.skip("CuPy is not installed, or it sees no GPU")
    return backend.require_gpu()


@pytest.fixture
def stand_in(monkeypatch):
    """The stand-in in place of CuPy."""
    monkeypatch.setitem(sys.modules, "cupy", strict_cupy.cupy)
    strict_cupy.reset_counts()
    return strict_cupy.cupy


@pytest.fixture
def same_masks(monkeypatch):
    """Let NumPy drop what the GPU drops: give each mask a seed."""

    def uniform(rng, shape, xp):
        numbers = backend.uniform(rng, shape, sys.modules["cupy"])
        return backend.to_cpu(numbers) if xp is np else numbers

    monkeypatch.setattr(layers, "uniform", uniform)


@pytest.fixture
def same_path(same_masks, monkeypatch):
    """Let NumPy, besides, do without what is faster for it, as exact, but rounded otherwise.

    As the GPU does, it subtracts the maximum of all logits, takes them all at once, looks up every word, not the
    distinct ones, and computes each product in one piece.
    """
    monkeypatch.setattr(output_layer, "_SAFE_SUM", 0.5)  # no sum is safe
    monkeypatch.setattr(products, "_CACHED", 2**40)
    monkeypatch.setattr(products, "_FEW", 0)
    monkeypatch.setattr(time_layers.TimeEmbedding, "distinct", _NEVER, raising=False)


@pytest.fixture(params=["no CuPy", "no device", "no driver"])
def no_gpu(request, monkeypatch):
    """Each of the ways in which a machine can have no GPU for CuPy."""

    def count():
        if request.param == "no driver":
            raise strict_cupy.CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
        return 0

    # None in place of a module makes its import fail.
    monkeypatch.setitem(sys.modules, "cupy", None if request.param == "no CuPy" else strict_cupy.cupy)
    monkeypatch.setattr(strict_cupy.cupy.cuda.runtime, "getDeviceCount", count)
