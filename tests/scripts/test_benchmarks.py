"""The benchmarks run and report; how fast anything is, no test asks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import launcher, write_text

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


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


def test_three_ways_to_train_on_sentences_learn_the_same(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed: there is nothing to compare with")
    write_text(tmp_path / "text.txt")
    sizes = ["--corpus", "text.txt", "--vocab-size", "28", "--hidden-size", "8", "--rounds", "3", "--lengths", "20"]
    result = run(*sizes, "--dropout", "0", "--threads", "1", "--json", "a.json", cwd=tmp_path, script="sentences.py")
    assert result.returncode == 0, result.stderr
    assert "| ours, packed |" in result.stdout
    assert "| 20 |" in result.stdout
    measured = json.loads((tmp_path / "a.json").read_text())
    packed, padded, torch = (measured["training"][way] for way in ("packed", "padded", "torch"))
    assert packed["updates"] == padded["updates"] == torch["updates"] == 4  # one of them not timed
    for ours in (packed, padded):
        assert ours["perplexity"] == pytest.approx(torch["perplexity"], rel=1e-5)
        assert ours["speed_to_torch"]["median"] > 0
    (long,) = measured["memory"]
    assert long["T"] == 20
    assert long["padded"]["peak_mb"] > 0


@pytest.mark.parametrize("option", ["--rounds=-1", "--threads=0", "--lengths=0", "--hidden-size=0"])
def test_bad_numbers_of_sentences_exit_with_code_2(tmp_path, option):
    assert run(option, cwd=tmp_path, script="sentences.py").returncode == 2


def test_scaling_is_measured_and_predicted(tmp_path):
    launcher()  # skips where there is none
    sizes = ["--vocab-size", "50", "--hidden-size", "8", "--rounds", "1", "--steps", "2"]
    result = run(*sizes, "--json", "a.json", cwd=tmp_path, script="scaling.py")
    assert result.returncode == 0, result.stderr
    assert "| 2 ranks, 1 thread each |" in result.stdout
    assert "| 64 ranks, 64 a rank |" in result.stdout
    found = json.loads((tmp_path / "a.json").read_text())
    one, two = found["measured"]["1 rank, 1 thread"], found["measured"]["2 ranks, 1 thread each"]
    assert one["bytes"] == two["bytes"] == 4 * (50 * 8 + 2 * 8 * 32 + 32 + 50 * 8 + 50)
    assert 0 < two["adding"] < two["step"]
    assert all(predicted["efficiency"] > 0 for predicted in found["predicted"].values())


def test_a_batch_that_64_ranks_cannot_share_exits_with_code_2(tmp_path):
    assert run("--batch-size=65", cwd=tmp_path, script="scaling.py").returncode == 2


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_short_long_run(tmp_path):
    result = run("--quick", cwd=tmp_path, script="long_run.py")
    assert result.returncode == 0, result.stderr
    assert "\na checkpoint of 0.04 million parameters has 0." in result.stdout
    assert "\n100 steps, 5 records: memory grew by " in result.stdout
    assert not list(tmp_path.iterdir())
