"""Imports point one way: from the chapters to runs/ to the textbook and fast/; and never in a circle."""

from graphlib import CycleError, TopologicalSorter

import pytest
from import_closure import find_modules, imported

# What a module may import of the project; the first line that fits it counts. A name stands for all below it.
MAY_IMPORT = {
    "common.doctor": ["common"],  # the command `python -m common.doctor`, whose code is in runs/
    "common.runs": ["common", "dataset"],
    "common": ["common", "not common.runs"],  # fast/ like the textbook
    "dataset": ["dataset"],
    "ch05_rnn": ["common", "dataset", "ch05_rnn"],
    "ch06_gated": ["common", "dataset", "ch06_gated", "ch05_rnn"],  # of ch05_rnn only models: scripts are not imported
}
MODULES = find_modules()
IMPORTS = {name: imported(path, MODULES) for name, path in MODULES.items()}
SCRIPTS = {
    name for name, path in MODULES.items() if name.startswith("ch") and "__main__" in path.read_text(encoding="utf-8")
}


def is_below(name, package):
    return f"{name}.".startswith(f"{package}.")


def may_import(module, name):
    rules = next(rules for package, rules in MAY_IMPORT.items() if is_below(module, package))
    return any(is_below(name, rule) for rule in rules) and not any(
        is_below(name, rule.removeprefix("not ")) for rule in rules if rule.startswith("not ")
    )


def test_the_modules_are_found():
    assert {"common", "common.layers", "common.fast", "dataset.corpus", "ch06_gated.lstm_lm"} <= MODULES.keys()
    assert {"ch05_rnn.train_rnnlm", "ch05_rnn.sentence_rnn"} <= SCRIPTS
    assert "dataset.corpus" in IMPORTS["dataset"]
    assert "ch05_rnn.simple_rnnlm" in IMPORTS["ch05_rnn.train_rnnlm"]


def test_imports_point_one_way():
    wrong = [
        f"{module} imports {name}" for module in IMPORTS for name in IMPORTS[module] if not may_import(module, name)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_script_is_imported():
    wrong = [f"{module} imports {name}" for module in IMPORTS for name in IMPORTS[module] & SCRIPTS]
    assert not wrong, "\n".join(wrong)


def test_no_circle():
    try:
        TopologicalSorter({name: imported(path, MODULES, at_import=True) for name, path in MODULES.items()}).prepare()
    except CycleError as error:
        pytest.fail(f"modules that import each other: {', '.join(error.args[1])}")
