"""Packages of the names of ours, in the place of ours, are found out by every script."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ENVIRONMENT, SCRIPTS, assert_one_line

ROOT = SCRIPTS["train_rnnlm.py"].parents[1]
MAINS = sorted(path for path in set(SCRIPTS.values()) if "__main__" in path.read_text(encoding="utf-8"))


def python(folder, *arguments):
    """Run Python, which finds packages in ``folder`` first."""
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{folder}:{ROOT}", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.fixture(params=["common", "dataset"])
def other(request, tmp_path):
    """Another package, with modules that ours has, too."""
    package = tmp_path / request.param
    package.mkdir()
    for name in ("__init__", "layers", "ptb"):
        (package / f"{name}.py").write_text("def connect(): pass\n")
    return package


@pytest.mark.skipif(sys.platform == "win32", reason="PYTHONPATH is written otherwise there")
@pytest.mark.parametrize("script", MAINS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_script_says_that_it_finds_another_package(other, script):
    ended = python(other.parent, script, "--help")
    assert_one_line(ended, script.name)
    assert f"expected the package {other.name} of {ROOT}, but Python finds {other / '__init__.py'}" in ended.stderr
    assert f"set PYTHONPATH={ROOT}" in ended.stderr


def test_elsewhere_it_is_an_import_error(other):
    ended = python(other.parent, "-c", "import ch06_gated.lstm_lm")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"ImportError: expected the package {other.name} of {ROOT}")


@pytest.mark.parametrize("name", ["common", "dataset"])
def test_a_folder_without_python_is_no_package(tmp_path, name):
    (tmp_path / name).mkdir()
    assert python(tmp_path, SCRIPTS["train_custom_loop.py"], "--help").returncode == 0


def test_the_remedy_is_one(tmp_path, other):
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPTS["train_custom_loop.py"]), "--help"]
    assert subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True).returncode == 0
    assert Path(tmp_path, other.name).is_dir()
