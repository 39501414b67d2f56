"""Run the notebooks: each source, NAME.py, in a new kernel; it is written with its outputs to NAME.ipynb.

pip install -e ".[notebooks]"
python notebooks/run.py                                    # all of them, in both languages
python notebooks/run.py notebooks/04_a_language_model.py   # this one
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from common.runs.cli import OneLineParser, run, use_utf8

FOLDER = Path(__file__).resolve().parent


def sources() -> list[Path]:
    """The sources of all notebooks: first those in English, then those in Japanese."""
    return sorted(FOLDER.glob("[0-9]*.py")) + sorted(FOLDER.glob("ja/[0-9]*.py"))


def read(source: Path) -> nbformat.NotebookNode:
    """Read a source in jupytext's percent format as a notebook without outputs."""
    notebook = jupytext.read(source)
    notebook.metadata = {
        "jupytext": {"formats": "ipynb,py:percent"},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}  # the same source gives the same file
    return notebook


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Run all cells in a new kernel that works in ``folder``, and return the notebook with their outputs.

    Raises
    ------
    CellExecutionError
        If a cell raises an exception; its message shows the cell and the traceback.
    """
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}  # figures go to the cells
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}, record_timing=False)
    client.coalesce_streams = True
    client.extra_arguments = ["--log-level=ERROR"]
    client.execute(env=environment)
    notebook.metadata.language_info = {"name": "python"}  # without the version of this Python
    return notebook


def main(argv: list[str] | None = None) -> None:
    """Run notebooks, write them, and print the seconds that each took."""
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("sources", nargs="*", type=Path, metavar="NAME.py", help="of notebooks; all if none is given")
    args = parser.parse_args(argv)
    for source in args.sources or sources():
        start = time.perf_counter()
        with parser.reporting_errors():
            notebook = read(source)
        try:
            execute(notebook, source.resolve().parent)
        except CellExecutionError as error:
            parser.exit(1, f"{source}:\n{error}\n")
        nbformat.write(notebook, source.with_suffix(".ipynb"))
        print(f"{source.with_suffix('.ipynb')}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    run(main)
