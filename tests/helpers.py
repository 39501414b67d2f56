"""What several tests need: random arrays, the gradient check of a layer, and scripts that run as a user runs them."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import common
from common.gradient_check import check_gradients
from common.layers import Layer
from common.runs.checkpoint import Checkpoint
from common.runs.recorder import RunRecorder

GRADIENT_ERROR = 1e-7  # of central differences in float64, relative to the largest element


def normal(*shape: int, seed: int = 0, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def as_tuple(x: object) -> tuple:
    return x if isinstance(x, tuple) else (x,)


def assert_layer_gradients(layer: Layer, forward, inputs: dict[str, np.ndarray]) -> None:
    """Check all gradients of ``layer``, with random numbers as the gradient of each output.

    ``forward()`` runs the layer on ``inputs`` and returns its output, or a tuple of them; ``backward`` must return the
    gradients of the inputs, in order.
    """
    upstream = [normal(*np.shape(y), seed=99 + k) for k, y in enumerate(as_tuple(forward()))]
    forward()
    dinputs = as_tuple(layer.backward(*(dy if dy.shape else float(dy) for dy in upstream)))
    params = {p.name: p.data for p in layer.parameters} | inputs
    grads = {p.name: p.grad for p in layer.parameters} | dict(zip(inputs, dinputs))

    def loss() -> float:
        return float(sum((y * dy).sum() for y, dy in zip(as_tuple(forward()), upstream)))

    errors = check_gradients(loss, params, grads)
    assert max(errors.values()) <= GRADIENT_ERROR, errors


# Scripts

# By name; and with the chapter, as two may have the same name.
SCRIPTS = {
    name: path
    for path in Path(common.__file__).parents[1].glob("ch*/*.py")
    for name in (path.name, f"{path.parent.name}/{path.name}")
}

# What a training leaves in its folder.
RESULTS = [
    *("best_weights.npz", "checkpoint.npz", "history.csv", "learning_curve.png", "options.json", "vocabulary.json"),
    "warm_up.json",
]

# The poorest place to run in: ASCII only, and nowhere to show a picture.
_UNSET = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND", "PYTHONIOENCODING")
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in _UNSET},
    "LC_ALL": "C",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONUTF8": "0",
    "OPENBLAS_NUM_THREADS": "1",
}

# Sizes of a model that takes no time.
SMALL = ["--wordvec-size", 8, "--hidden-size", 8, "--batch-size", 4, "--time-size", 5, "--samples", 1]
SMALL += ["--optimizer", "sgd", "--lr", 1, "--max-grad", 0.25, "--dropout", 0, "--epochs", 2]

NOT_POSITIVE = ["0", "-1", "many", ""]


def run_script(script: str, *options: object, folder: Path, stdin: bytes = b"") -> subprocess.CompletedProcess:
    """Run a script in ``folder`` to its end, and read what it prints as UTF-8."""
    ended = subprocess.run(
        [sys.executable, SCRIPTS[script], *map(str, options)],
        cwd=folder,
        env=ENVIRONMENT,
        input=stdin,
        capture_output=True,
        timeout=120,
    )
    outputs = ended.stdout, ended.stderr
    ended.stdout, ended.stderr = (output.decode("utf-8").replace(os.linesep, "\n") for output in outputs)
    return ended


def launcher() -> str:
    """The mpiexec beside this Python, or that of the system."""
    pytest.importorskip("mpi4py", reason='MPI is not installed: pip install -e ".[mpi]"')
    here = shutil.which("mpiexec", path=Path(sys.executable).parent) or shutil.which("mpiexec")
    if here is None:
        pytest.skip("there is no mpiexec")
    return here


def assert_one_line(ended: subprocess.CompletedProcess, script: str) -> None:
    """Check that a script has ended with an error in one line."""
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"{script}: error: ")
    assert ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stdout + ended.stderr


def printed(pattern: str, output: str) -> list[str]:
    """The numbers that a pattern finds, each at the start of a line, as they are printed."""
    return re.findall(rf"^{pattern}(\d+\.\d\d)", output, re.MULTILINE)


def perplexities(output: str) -> list[str]:
    """All perplexities that the training of a language model prints."""
    return [
        *printed(r"epoch +\d+  train perplexity +", output),
        *printed(r"epoch .* valid perplexity +", output),
        *printed("test perplexity ", output),
    ]


def write_text(path: Path, lines: int = 300, seed: int = 0) -> Path:
    """Write sentences in which some words follow others more often, so that there is something to learn."""
    rng = random.Random(seed)
    subjects, verbs, objects = "the cat|a dog|my aunt|no one", "sees|likes|fears", "fish|rain|music|mice|you"
    path.write_text(
        "".join(
            " ".join(rng.choice(words.split("|")) for words in (subjects, verbs, objects)) + " .\n"
            for _ in range(lines)
        ),
        encoding="utf-8",
    )
    return path


def cases(options: dict[str, list[str]]) -> pytest.MarkDecorator:
    """One test for each value of each option."""
    return pytest.mark.parametrize(
        ("option", "value"), [(option, value) for option, values in options.items() for value in values]
    )


def take_home_away(monkeypatch: pytest.MonkeyPatch, home: str | None) -> None:
    """Let the user have no home folder, as an unknown user of a container: HOME is not set, or empty."""
    for name in ("XDG_CACHE_HOME", "RNN_DATA_DIR", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    pwd = pytest.importorskip("pwd", reason="only POSIX finds home folders so")

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)


@contextmanager
def recording(folder: Path, rng: np.random.Generator | None = None, seconds: float = 1e9) -> Iterator[RunRecorder]:
    """A recorder that keeps in the folder what a script keeps of a training."""
    with RunRecorder(Checkpoint(folder, rng or np.random.default_rng(0), seconds=seconds)) as recorder:
        yield recorder
