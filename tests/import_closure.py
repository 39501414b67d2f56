"""How much a reader has to open: the files that a script imports, directly or not, counted without running anything.

    python tests/import_closure.py

prints the tables of CONTRIBUTING.md. An import inside a function counts; one for type checkers does not, nor does an
empty file.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("common", "dataset", "ch05_rnn", "ch06_gated")
SCRIPTS = ("ch05_rnn.train_custom_loop", "ch05_rnn.train_rnnlm", "ch06_gated.train_lstm_lm")


def find_modules(root: Path = ROOT) -> dict[str, Path]:
    """All modules of the packages, by name: ``common/fast/__init__.py`` is ``common.fast``."""
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def nodes(tree: ast.AST, at_import: bool) -> Iterator[ast.AST]:
    """All nodes of code that may run; with ``at_import``, of code that runs when the module is imported."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from (other, *nodes(other, at_import))
        elif not (at_import and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            yield from (child, *nodes(child, at_import))


def imported(path: Path, modules: Collection[str], at_import: bool = False) -> set[str]:
    """Those of ``modules`` that a file imports: ``from a import b`` is ``a.b`` if that is a module, else ``a``."""
    found = set()
    for node in nodes(ast.parse(path.read_text(encoding="utf-8")), at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}:{node.lineno}: expected an import by the whole name, got a relative one")
            found |= {
                name if (name := f"{node.module}.{alias.name}") in modules else str(node.module) for alias in node.names
            }
    return {name for name in found if name in modules}


def closure(start: str, modules: dict[str, Path], without: str = "") -> set[str]:
    """The modules that ``start`` needs, itself included; those whose names begin with ``without`` are not entered."""
    todo, seen = [start], set()
    while todo:
        name = todo.pop()
        if name not in seen and not (without and name.startswith(without)):
            seen.add(name)
            todo += imported(modules[name], modules)
            todo += [package for package in modules if name.startswith(f"{package}.")]
    return {name for name in seen if modules[name].stat().st_size}


def lines(paths: Iterable[Path]) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def main() -> None:
    modules = find_modules()
    print("| script | files | lines | files without `fast/` | lines |\n| --- | ---: | ---: | ---: | ---: |")
    for script in SCRIPTS:
        files = [[modules[name] for name in closure(script, modules, without)] for without in ("", "common.fast")]
        counts = " | ".join(f"{len(paths)} | {lines(paths):,}" for paths in files)
        print(f"| `{modules[script].relative_to(ROOT).as_posix()}` | {counts} |")
    print("\n| folder | files | lines |\n| --- | ---: | ---: |")
    for folder in ("common", "common/fast", "common/runs", "dataset", "ch05_rnn", "ch06_gated"):
        paths = [path for path in (ROOT / folder).glob("*.py") if path.stat().st_size]
        print(f"| `{folder}/` | {len(paths)} | {lines(paths):,} |")


if __name__ == "__main__":
    main()
