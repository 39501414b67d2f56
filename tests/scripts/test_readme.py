"""What the README tells readers to do works."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
JAPANESE = (ROOT / "README.ja.md").read_text(encoding="utf-8")


def test_python_examples_run(data_dir, capsys, monkeypatch):
    # The examples leave the seed to chance; a test must not.
    default_rng = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed=0: default_rng(seed))
    if not (data_dir / "ptb" / "ptb.train.txt").exists():
        pytest.skip("no ptb/ptb.train.txt in RNN_DATA_DIR")
    names: dict = {}
    examples = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(example, names)
    assert names["trainer"].history[-1]["train_perplexity"] < 8
    error = float(re.search(r"\{'Wx': (?:np\.float64\()?([^)}]+)", capsys.readouterr().out)[1])
    assert error < 1e-7


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README + JAPANESE)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_folders_of_the_map_exist():
    for name in re.findall(r"^  (\w+\.py) ", README, flags=re.MULTILINE):
        assert list((ROOT / "common").rglob(name)), name
    for folder in re.findall(r"^(\w+)/ ", README, flags=re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder


def test_options_of_the_commands_exist():
    for script in set(re.findall(r"python ((?:ch0\d|benchmarks)\S+\.py)", README)):
        options = ""
        for which in ("--help", "--help-all"):  # a script of few options has no --help-all
            command = [sys.executable, ROOT / script, which]
            options += subprocess.run(command, capture_output=True, encoding="utf-8", check=which == "--help").stdout
        for line in re.findall(rf"python {re.escape(script)}((?:.*\\\n)*.*)", README):
            for option in re.findall(r"--[a-z-]+", line):
                assert option in options, (script, option)


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(r"```(?:sh|python)\n.*?```", id="commands"),
        pytest.param(r"(?<![\d.])\d+\.\d+(?![\d.])", id="figures"),
        pytest.param(r"\]\((?!notebooks/|README)([^)]+)\)", id="links"),
    ],
)
def test_all_of_it_is_in_the_japanese_readme(pattern):
    english, japanese = (Counter(re.findall(pattern, text, flags=re.DOTALL)) for text in (README, JAPANESE))
    assert english
    assert not english - japanese
