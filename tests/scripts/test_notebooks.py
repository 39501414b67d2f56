"""Every notebook runs from a clean kernel, is the notebook that its source says, and can check its answers."""

import ast
import re
import runpy
from pathlib import Path

import pytest

NOT_INSTALLED = 'the notebooks extra is not installed: pip install -e ".[notebooks]"'
for module in ("jupytext", "nbclient", "ipykernel"):
    pytest.importorskip(module, reason=NOT_INSTALLED)
nbformat = pytest.importorskip("nbformat", reason=NOT_INSTALLED)

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = runpy.run_path(str(FOLDER / "run.py"))
read, execute, SOURCES = NOTEBOOKS["read"], NOTEBOOKS["execute"], NOTEBOOKS["sources"]()
ENGLISH = [source for source in SOURCES if source.parent == FOLDER]
CHECK = re.compile(r"if answer_(\d) is None:")

# Answers as they must not be: the right ones, and 1 more.
SPOIL = """
def spoil(answer):
    if callable(answer):
        return lambda *args, **kwargs: spoil(answer(*args, **kwargs))
    return tuple(map(spoil, answer)) if isinstance(answer, tuple) else np.asarray(answer) + 1


answer_1, answer_2, answer_3 = spoil(answer_1), spoil(answer_2), spoil(answer_3)
"""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """More threads than cores wait for each other: tests may run side by side."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def answers(name: str) -> str:
    """The right answers to the exercises of a notebook: a piece of Python."""
    pieces = re.split(r"^# %% (\w+)\n", (FOLDER / "answers.py").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2]))[name]


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def new_cell(source: str, id: str, may_fail: bool = False):
    cell = nbformat.v4.new_code_cell(source, id=id)
    cell.metadata.tags = ["raises-exception"] if may_fail else []
    return cell


def kinds(cell) -> list[str]:
    """What a cell shows: text, figures, tables."""
    return [
        output.get("name") or ("figure" if "image/png" in output.data else "value") if "data" in output else "text"
        for output in cell.outputs
        if output.output_type != "error"
    ]


def test_there_are_notebooks():
    assert len(ENGLISH) >= 1
    assert {source.name for source in SOURCES if source.parent != FOLDER} == {source.name for source in ENGLISH}


@pytest.mark.parametrize("source", ENGLISH, ids=lambda source: source.stem)
def test_runs_from_a_clean_kernel_and_checks_answers(source):
    written = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    notebook = read(source)
    own = code(notebook)
    checks = [cell for cell in own if CHECK.match(cell.source)]
    assert [CHECK.match(cell.source)[1] for cell in checks] == ["1", "2", "3"]
    right = [new_cell(cell.source, f"right-{k}") for k, cell in enumerate(checks)]
    wrong = [new_cell(cell.source, f"wrong-{k}", may_fail=True) for k, cell in enumerate(checks)]
    notebook.cells += [new_cell(answers(source.stem), "answers"), *right, new_cell(SPOIL, "spoil"), *wrong]
    execute(notebook, FOLDER)

    for cell in own:
        assert not any(output.get("name") == "stderr" for output in cell.outputs), cell.source
    assert [kinds(cell) for cell in own] == [kinds(cell) for cell in code(written)]
    assert any("figure" in kinds(cell) for cell in own)
    for k, cell in enumerate(checks):
        assert cell.outputs[0].text == f"Exercise {k + 1}: not yet\n"
        assert right[k].outputs[0].text == f"Exercise {k + 1}: right\n"
        assert wrong[k].outputs[0].ename == "AssertionError"
        assert len(wrong[k].outputs[0].evalue) > 10  # says what may be wrong


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: f"{source.parent.name}-{source.stem}")
def test_written_notebook_is_that_of_its_source(source):
    run_it = f"run python notebooks/run.py {source.relative_to(FOLDER.parent)}"
    written = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(written)
    expected = read(source)
    assert [(c.cell_type, c.source) for c in written.cells] == [(c.cell_type, c.source) for c in expected.cells], run_it
    assert written.metadata == expected.metadata, run_it
    # All cells ran once, in order, without an error.
    assert [cell.execution_count for cell in code(written)] == list(range(1, len(code(written)) + 1)), run_it
    assert not any(output.output_type == "error" for cell in code(written) for output in cell.outputs), run_it


@pytest.mark.parametrize("source", ENGLISH, ids=lambda source: source.stem)
def test_japanese_notebook_has_the_same_code(source):
    english, japanese = read(source), read(FOLDER / "ja" / source.name)
    assert [cell.cell_type for cell in english.cells] == [cell.cell_type for cell in japanese.cells]
    for ours, theirs in zip(english.cells, japanese.cells):
        if ours.cell_type == "code":
            assert ours.source == theirs.source
        else:
            assert ours.source != theirs.source
            assert re.search("[ぁ-ん]", theirs.source), "not Japanese"
            # The same equations, headings and files.
            for pattern in (r"\$\$.*?\$\$", r"^#+ ", r"`[^`\n]+`"):
                found = [re.findall(pattern, cell.source, re.MULTILINE | re.DOTALL) for cell in (ours, theirs)]
                ours_, theirs_ = ([re.sub(r"\\text{.*?}", "", x) for x in sorted(found_)] for found_ in found)
                assert ours_ == theirs_, theirs.source


@pytest.mark.parametrize("source", ENGLISH, ids=lambda source: source.stem)
def test_cells_are_short(source):
    for cell in code(read(source)):
        ast.parse(cell.source)  # no magic commands: a cell can be pasted into a program
        assert cell.source.count("\n") < 18, cell.source


def test_script_writes_what_a_notebook_shows(tmp_path, capsys):
    source = tmp_path / "small.py"
    source.write_text("# %% [markdown]\n# Text.\n\n# %%\nprint(6 * 7)\n", encoding="utf-8")
    NOTEBOOKS["main"]([str(source)])
    assert "small.ipynb: " in capsys.readouterr().out
    written = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert [cell.cell_type for cell in written.cells] == ["markdown", "code"]
    assert written.cells[1].outputs[0].text == "42\n"


def test_script_stops_at_a_cell_that_fails(tmp_path, capsys):
    source = tmp_path / "small.py"
    source.write_text("# %%\nprint(6 / 0)\n", encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        NOTEBOOKS["main"]([str(source)])
    assert stop.value.code == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert not source.with_suffix(".ipynb").exists()


def test_script_reports_a_source_that_is_not_there(error_line, tmp_path):
    assert "nothing.py" in error_line(NOTEBOOKS["main"], [str(tmp_path / "nothing.py")])
