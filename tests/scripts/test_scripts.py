"""What every script must do, over the table of all scripts (table.py)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ENVIRONMENT, assert_one_line, run_script, write_text
from matplotlib.image import imread
from oracles import strict_cupy
from table import BAD_VALUES, ROOT, SCRIPTS, call, id_of, main_of, weights

from common.model import Model
from common.optimizer import Optimizer

TRAINED = [name for name, script in SCRIPTS.items() if script.small is not None]
RESUMED = [name for name, script in SCRIPTS.items() if "resume" in script.options]
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=id_of)
each_that_trains = pytest.mark.parametrize("script", TRAINED, ids=id_of)


def assert_same(found, expected):
    """Check that two runs have the same value, lines and arrays, to the last bit."""
    assert str(found[0]) == str(expected[0])  # of arrays, too
    assert found[1] == expected[1]
    assert list(found[2]) == list(expected[2])
    assert all(np.array_equal(a, b) for a, b in zip(found[2].values(), expected[2].values()))


def test_every_script_is_in_the_table():
    found = {p.relative_to(ROOT).as_posix() for p in ROOT.glob("ch*/*.py") if "__main__" in p.read_text("utf-8")}
    assert found == set(SCRIPTS)


@each_script
def test_help_names_every_option(script, capsys):
    with pytest.raises(SystemExit) as stop:
        main_of(script)(["--help"])
    assert stop.value.code == 0
    described = re.findall(r"^  --([\w-]+)", capsys.readouterr().out, re.MULTILINE)
    if "help-all" in described:  # the usual options alone
        assert 10 <= len(described) <= 22
        with pytest.raises(SystemExit):
            main_of(script)(["--help-all"])
        described = re.findall(r"^  --([\w-]+)", capsys.readouterr().out, re.MULTILINE)
    assert sorted({*described} - {"help-all"}) == sorted(SCRIPTS[script].options.split())


@each_that_trains
def test_quick_in_a_process_of_a_poor_locale(script, tmp_path):
    table, working = SCRIPTS[script], tmp_path / "folder"
    working.mkdir()
    write_text(working / "text.txt")
    ended = run_script(script, "--quick", *table.quick, folder=working)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    if table.folder is not None:
        name = f"{table.folder}-quick" if "overwrite" in table.options else table.folder
        results = working / "runs" / name
        assert sorted(path.name for path in results.iterdir()) == sorted(table.results)
        for picture in results.glob("*.png"):
            picture = imread(picture)
            assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 10  # something is drawn
    if "results in" in ended.stdout:
        assert f"results in {Path('runs', name)}: {', '.join(table.results)}\n" in ended.stdout
    if table.figure is not None:
        pattern, low, high = table.figure
        *_, last = re.findall(rf"^{pattern}(\d+\.\d+)", ended.stdout, re.MULTILINE)
        assert low < float(last) < high
    for sample in re.findall(r"^> (.*)$", ended.stdout, re.MULTILINE):
        assert "<" not in sample  # <unk> and <eos> are never written


@each_that_trains
def test_one_seed_gives_the_same_and_another_gives_another(script, folder, capsys):
    first, other, again = (call(capsys, script, "--seed", seed) for seed in (0, 1, 0))
    assert_same(again, first)
    assert str(other[0]) != str(first[0]) or script.endswith("sequences.py")  # which counts steps


@pytest.mark.parametrize("script", RESUMED, ids=id_of)
def test_a_training_that_was_stopped_goes_on(script, folder, capsys):
    whole, _, arrays = call(capsys, script, "--epochs", 3, name="whole")
    call(capsys, script, "--epochs", 1, name="short")
    found = main_of(script)(["--resume", "runs/short", "--epochs", "3"])
    assert "going on after 1.00 epochs" in capsys.readouterr().out
    assert found == whole
    assert_same((found, "", weights("short")), (whole, "", arrays))


@each_script
def test_a_bad_value_is_one_line(script, error_line, folder):
    good = dict(word.split("=") for word in SCRIPTS[script].good.split())
    for option in SCRIPTS[script].options.split():
        for value in BAD_VALUES.get(option, []):
            if good.get(option) != value:
                assert f"argument --{option}: " in error_line(main_of(script), [f"--{option}={value}"])
    assert not Path("runs").exists()


def test_every_option_with_a_value_has_bad_values_in_the_table():
    flags = {
        "quick",
        "plot",
        "gpu",
        "mpi",
        "watch",
        "restart",
        "padded",
        "bucketed",
        "locked-dropout",
        "tie-weights",
        "peepholes",
        "overwrite",
    }
    flags |= {"reset-after", "bidirectional", "fixed-embedding", "skip-bad-steps", "show", "keep-going"}
    text = {"corpus", "name", "weights", "resume", "text", "output", "train-file", "test-file", "embeddings", "prompt"}
    text |= {"sentence", "sequences", "column", "encoding"}
    known = set(BAD_VALUES) | flags | text
    assert {option for script in SCRIPTS.values() for option in script.options.split()} == known


@each_script
def test_an_unknown_option_is_one_line(script, error_line):
    assert "--colour" in error_line(main_of(script), ["folder"] * (not SCRIPTS[script].small) + ["--colour"])


@pytest.mark.parametrize("script", [s for s in TRAINED if "corpus" in SCRIPTS[s].options.split()], ids=id_of)
def test_a_text_that_cannot_be_read_is_one_line(script, error_line, folder):
    if "train-file" in SCRIPTS[script].options:
        line = error_line(main_of(script), ["--corpus", "ag_news", "--train-file", "missing.txt"])
    else:
        line = error_line(main_of(script), ["--corpus", "missing.txt"])
    assert "missing.txt" in line
    assert not Path("runs").exists()


@pytest.mark.parametrize("script", ["ch05_rnn/train_rnnlm.py", "ch06_gated/train_sine.py"])
def test_an_error_in_a_process_is_one_line(script, tmp_path):
    for options in (["--epochs", "some"], ["--colour"], ["--corpus", "猫.txt"]):
        assert_one_line(run_script(script, *options, folder=tmp_path), script.split("/")[1])


@pytest.mark.skipif(sys.platform == "win32", reason="there a pipe that nobody reads is another error")
@pytest.mark.parametrize("both", [False, True], ids=["stdout", "stdout and stderr"])
@pytest.mark.parametrize(
    "script",
    [
        "ch05_rnn/train_rnnlm.py --corpus text.txt --quick",
        "ch05_rnn/sentence_rnn.py --corpus text.txt --show-every 1",
        "ch06_gated/memorize.py --corpus text.txt --quick --texts 5 --tokenizer word --interval 1",
        "ch06_gated/train_sine.py --quick",
        "ch06_gated/train_sequences.py --show-every 1",
        "ch05_rnn/train_rnnlm.py --help",
    ],
)
def test_a_reader_that_has_seen_enough_ends_a_script_without_a_word(folder, script, both):
    name, *options = script.split()
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        ended = subprocess.run(
            [sys.executable, ROOT / name, *options],
            env=ENVIRONMENT,
            stdout=pipe,
            stderr=pipe if both else subprocess.PIPE,
            timeout=120,
        )
    assert ended.returncode in ([0, 141] if "--help" in options else [141])  # of help, argparse itself is silent
    assert not ended.stderr


# On the strict stand-in for CuPy. NumPy takes the GPU's path (``same_path`` in conftest.py), so bits can be compared


@pytest.fixture
def steps(monkeypatch):
    """What has crossed the bus in each step of a training, from forward to the end of the update."""
    forward, update, before, steps = Model.forward, Optimizer.update, [], []

    def counting_forward(self, xs, ts):
        before[:] = [dict(strict_cupy.counts)] if self.loss_layer.training else []
        return forward(self, xs, ts)

    def counting_update(self, params, grads):
        update(self, params, grads)
        if before:
            steps.append({key: n - before[0][key] for key, n in strict_cupy.counts.items()})

    monkeypatch.setattr(Model, "forward", counting_forward)
    monkeypatch.setattr(Optimizer, "update", counting_update)
    return steps


@pytest.mark.parametrize("script", [s for s in TRAINED if "gpu" in SCRIPTS[s].options.split()], ids=id_of)
def test_scripts_give_the_same_on_the_gpu_and_a_step_sends_nothing(stand_in, same_path, folder, capsys, steps, script):
    found = call(capsys, script, "--gpu", name="gpu")
    assert strict_cupy.counts["to_device"] > 0
    if script == "ch05_rnn/sentence_rnn.py":
        assert steps == []  # it sends each word as it reads it
    else:
        assert steps == [{"to_device": 0, "to_host": 0}] * len(steps) != []
    assert_same(found, call(capsys, script, name="cpu"))
    assert found[1].count("\n") > 2
