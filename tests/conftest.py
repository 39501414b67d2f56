"""What all tests share: no network, no display, and the folder of texts that are not part of the project."""

import os
import socket
from pathlib import Path

import pytest
from helpers import write_text
from hypothesis import settings

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


@pytest.fixture
def error_line(capsys):
    """A function that runs what must end with exit code 2, and returns the one line that it prints to stderr."""

    def run(function, *args):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            function(*args)
        err = capsys.readouterr().err
        assert stop.value.code == 2
        assert err.count("\n") == 1, err
        assert err.endswith("\n")
        return err.rstrip()

    return run


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A function that runs the ``main`` of a script here, in a folder of its own, and returns its value and output."""
    monkeypatch.chdir(tmp_path)

    def call(main, *options):
        capsys.readouterr()
        value = main([str(option) for option in options])
        return value, capsys.readouterr().out

    return call


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path / "text.txt")
