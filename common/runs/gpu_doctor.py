"""Whether a GPU computes what NumPy does, without waiting, in every script; and how long the steps take there.

python -m common.doctor --gpu
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from common.backend import require_gpu, to_gpu
from common.runs import gpu_parity
from common.runs.gpu_parity import ROOT, model_cases, train_step

REPORT = Path("doctor_gpu.json")
BENCHMARK = ROOT / "benchmarks" / "step_time.py"

Row = dict[str, object]  # one line of a table: its name, its figures, and in ``error`` a sentence, or None

# A kernel that keeps the GPU busy.
_BUSY = r"""
extern "C" __global__ void busy(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {}
}"""


def parity() -> Iterator[Row]:
    """Each layer, optimizer and model on both sides."""
    print("largest difference from NumPy, relative to the largest element of an array\n")
    print("float32             float64\nforward   backward  forward   backward")
    for row in gpu_parity.compare():
        figures = [f"{row[dtype][way]:<10.1e}" for dtype in gpu_parity.TOLERANCE if dtype in row for way in row[dtype]]
        print(f"{''.join(figures):40s}{row['name']}")
        yield row


def waiting(cupy: ModuleType) -> Iterator[Row]:
    """While the GPU is busy for a second, the CPU prepares a step of each model: is the GPU still busy then?"""
    print("\na step of training does not wait for the GPU")
    busy, stream = cupy.RawKernel(_BUSY, "busy"), cupy.cuda.get_current_stream()
    busy((1,), (1,), (1,))
    for case in model_cases():
        model = case.make(to_gpu, np.float32)
        first, *_, last = case.batches(model)
        train_step(model, *first)  # compiles the kernels
        stream.synchronize()
        busy((1,), (1,), (2 * 10**9,))
        done = stream.record()
        train_step(model, *last)  # no more kernels than the queue of a GPU holds
        waits = bool(done.done)
        stream.synchronize()
        print(f"{'waits' if waits else 'does not wait':20s}{case}")
        yield {"name": str(case), "error": "waits for the GPU in a step" if waits else None}


def trainings() -> Iterator[Row]:
    """A short training of each script that takes ``--gpu``, in a folder that is then deleted."""
    print("\na short training on the GPU\n\nseconds   result")
    with tempfile.TemporaryDirectory() as folder, in_folder(folder):
        rng = np.random.default_rng(0)
        lines = [" ".join(rng.choice(list("abcdefgh"), 5)) for _ in range(300)]
        Path("text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for path in gpu_parity.chapters():
            options = quick_options(path)
            if options is None:
                continue
            begin = time.perf_counter()
            value, error = run_script(path, options)
            row = {"name": path.relative_to(ROOT).as_posix(), "seconds": time.perf_counter() - begin, "error": error}
            row["result"] = float(value) if isinstance(value, (int, float)) else None
            if row["result"] is not None and not np.isfinite(row["result"]):
                row["error"] = f"ends with {row['result']}"
            result = "" if row["result"] is None else f"{row['result']:.4g}"
            print(f"{row['seconds']:<10.1f}{result:10s}{row['name']}")
            yield row


def quick_options(path: Path) -> list[str] | None:
    """The options of a short training on the GPU; None if the file has none."""
    if "__main__" not in path.read_text(encoding="utf-8"):
        return None
    _, text = run_script(path, ["--help"], capture=True)
    if "--gpu" not in text:
        return None
    options = ["--quick", "--gpu"]
    if "--corpus CORPUS" in text:  # where it may be any file
        options += ["--corpus", "text.txt"]
    if "--tokenizer" in text:
        options += ["--tokenizer", "word"]
    return options


def run_script(path: Path, options: list[str], capture: bool = False) -> tuple[object, str | None]:
    """Run ``main`` of a script; return its value, and what went wrong or, with ``capture``, what it printed."""
    out, err, value, failed = io.StringIO(), io.StringIO(), None, None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            value = gpu_parity.module_of(path).main(options)
    except SystemExit as stop:
        failed = stop.code and err.getvalue().strip()
    except Exception as error:  # of any kind: the other scripts are run all the same
        failed = f"{type(error).__name__}: {error}"
    return value, out.getvalue() if capture else failed or None


@contextlib.contextmanager
def in_folder(folder: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def step_times() -> Iterator[Row]:
    """Time and memory of the steps that benchmarks/step_time.py measures."""
    print("\ntime and memory of a step")
    if not BENCHMARK.is_file():
        print("not measured: benchmarks/step_time.py is not installed, only in a checkout of the repository")
        return
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "steps.json")
        command = [sys.executable, str(BENCHMARK), "--gpu", "--rounds", "2", "--threads", "1", "--json", str(results)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        ended = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace")
        if ended.returncode:
            *_, last = ["no message", *ended.stderr.strip().splitlines()]
            yield {"name": "step_time.py", "error": last}
            return
        for result in json.loads(results.read_text(encoding="utf-8"))["results"]:
            yield {"name": result["config"]["name"], "error": None, **result}


def machine(cupy: ModuleType) -> Row:
    properties, (free, total) = cupy.cuda.runtime.getDeviceProperties(0), cupy.cuda.runtime.memGetInfo()
    return {
        "gpu": properties["name"].decode(),
        "free_bytes": free,
        "total_bytes": total,
        "cupy": cupy.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def try_gpu() -> int:
    """Print the tables, write them to ``doctor_gpu.json``, and return the number of problems."""
    cupy = require_gpu()
    report: dict[str, object] = {"machine": machine(cupy)}
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "parity": parity,
        "waiting": lambda: waiting(cupy),
        "trainings": trainings,
        "steps": step_times,
    }
    print(", ".join(f"{key} {value}" for key, value in report["machine"].items()), end="\n\n")
    problems = []
    for name, part in parts.items():
        report[name] = list(part())
        problems += [f"{row['name']}: {row['error']}" for row in report[name] if row["error"]]
        report |= {"memory_held_bytes": cupy.get_default_memory_pool().total_bytes(), "problems": problems}
        REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")  # what is known, if the rest fails
    print(
        f"\nGPU memory that CuPy holds at the end: {report['memory_held_bytes'] / 2**20:,.0f} MiB; figures in {REPORT}"
    )
    for problem in problems:
        print(f"- {' '.join(problem.split())}")
    print(f"{len(problems)} problems" if problems else "no problem found")
    return len(problems)
