"""The benchmark runs and reports; how fast anything is, no test asks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(*arguments, cwd, script="step_time.py"):
    command = [sys.executable, BENCHMARKS / script, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_a_short_run_prints_a_table_and_writes_json(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed: there is nothing to compare with")
    result = run("A", "--rounds", "1", "--threads", "1", "--json", "a.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "| A: RNN 100, V 418, 10 x 5, SGD |" in result.stdout
    (measured,) = json.loads((tmp_path / "a.json").read_text())["results"]
    assert set(measured["milliseconds"]) == {"ours", "torch", "products"}
    assert all(value > 0 for value in measured["milliseconds"].values())
    ms = measured["milliseconds"]
    assert measured["ours_to_torch"]["median"] == pytest.approx(ms["ours"] / ms["torch"])


@pytest.mark.parametrize("arguments", [["Z"], ["A", "--rounds", "0"], ["A", "--threads", "0"]])
def test_bad_arguments_exit_with_code_2(tmp_path, arguments):
    assert run(*arguments, cwd=tmp_path).returncode == 2


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_short_long_run(tmp_path):
    result = run("--quick", cwd=tmp_path, script="long_run.py")
    assert result.returncode == 0, result.stderr
    assert "\n100 steps, 5 records: memory grew by " in result.stdout
    assert not list(tmp_path.iterdir())
