"""The doctor says what there is, and for each problem what to do."""

import importlib.metadata
import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import take_home_away

from common.backend import GpuUnavailable
from common.runs import doctor, gpu_doctor, gpu_parity


@pytest.fixture
def diagnose(monkeypatch, tmp_path, capsys):
    """A function that runs the doctor in a folder of its own; it returns the number of problems and what is printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RNN_DATA_DIR", raising=False)
    monkeypatch.setattr(doctor, "speed", lambda: 50.0)
    monkeypatch.setattr(doctor, "blas_threads", lambda: 1)
    monkeypatch.setattr(doctor, "require_gpu", no_gpu)
    monkeypatch.setattr("common.runs.doctor.Path.exists", lambda path: False)  # no /dev/nvidia0
    monkeypatch.delitem(sys.modules, "cupy", raising=False)

    def call():
        capsys.readouterr()
        return doctor.main([]), capsys.readouterr().out

    return call


def no_gpu():
    raise GpuUnavailable("the GPU needs CuPy: install it")


def test_a_healthy_machine(diagnose):
    problems, output = diagnose()
    assert problems == 0
    assert output.endswith("\nno problem found\n")
    for line in (f"numpy           {np.__version__}", "matrix product  50 x", "GPU             none", "not set"):
        assert line in output


def test_a_missing_package(diagnose, monkeypatch):
    version = importlib.metadata.version

    def without_tqdm(package):
        if package == "tqdm":
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(importlib.metadata, "version", without_tqdm)
    problems, output = diagnose()
    assert problems == 1
    assert "- tqdm is not installed: pip install -e .\n1 problems" in output


def test_a_numpy_without_a_fast_blas(diagnose, monkeypatch):
    monkeypatch.setattr(np, "show_config", lambda mode: {"Build Dependencies": {"blas": {"name": "none"}}})
    assert "- NumPy has no fast BLAS" in diagnose()[1]


def test_more_threads_than_cores(diagnose, monkeypatch):
    monkeypatch.setattr(doctor, "cores", lambda: 2)
    monkeypatch.setattr(doctor, "blas_threads", lambda: 3)
    assert "- BLAS has 3 threads, but this process only 2 cores: set OPENBLAS_NUM_THREADS=2" in diagnose()[1]
    monkeypatch.setattr(doctor, "blas_threads", lambda: None)
    assert diagnose()[0] == 0


def test_a_gpu_that_nobody_can_use(diagnose, monkeypatch):
    monkeypatch.setattr("common.runs.doctor.Path.exists", lambda path: str(path) == os.path.join("/dev", "nvidia0"))
    problems, output = diagnose()
    assert problems == 1
    assert "- the GPU needs CuPy: install it" in output


@pytest.mark.parametrize(("fault", "advice"), [(None, ""), ("wrong", "multiplies wrongly"), ("broken", "no cublas")])
def test_a_gpu(diagnose, monkeypatch, fault, advice):
    class Arange(np.ndarray):
        def get(self):
            if fault == "broken":
                raise ImportError("no cublas")
            return np.asarray(self) + (fault == "wrong")

    runtime = SimpleNamespace(
        getDeviceProperties=lambda device: {"name": b"A GPU"}, memGetInfo=lambda: (3 * 2**30, 4 * 2**30)
    )
    cupy = SimpleNamespace(
        __version__="14.0",
        cuda=SimpleNamespace(runtime=runtime),
        arange=lambda n, dtype: np.arange(n, dtype=dtype).view(Arange),
    )
    monkeypatch.setattr(doctor, "require_gpu", lambda: cupy)
    problems, output = diagnose()
    assert "A GPU, 3.0 of 4.0 GiB free, CuPy 14.0" in output
    assert problems == (fault is not None)
    assert advice in output


def test_folders(diagnose, monkeypatch, tmp_path):
    monkeypatch.setenv("RNN_DATA_DIR", str(tmp_path / "data"))
    assert f"- RNN_DATA_DIR names no folder: make {tmp_path / 'data'}, or unset RNN_DATA_DIR" in diagnose()[1]
    (tmp_path / "data" / "ptb").mkdir(parents=True)
    (tmp_path / "data" / "wikitext2").mkdir()
    problems, output = diagnose()
    assert problems == 0
    assert f"RNN_DATA_DIR    {tmp_path / 'data'}: ptb, wikitext2" in output


def test_a_full_disk_and_a_folder_to_read_only(diagnose, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    problems, output = diagnose()
    assert problems == 2
    assert "little disk space" in output
    assert "cannot be written to" in output


def test_threads_cores_and_speed_are_numbers():
    assert doctor.cores() >= 1
    assert doctor.blas_threads() in (None, *range(1, 1000))
    assert doctor.speed(64, 1) > 0


@pytest.mark.parametrize("home", [None, ""])
def test_without_a_home_folder_rnn_data_dir_is_asked_for(diagnose, monkeypatch, tmp_path, home):
    take_home_away(monkeypatch, home)
    problems, output = diagnose()
    assert problems == 1
    assert "cache           none\n" in output
    assert "- there is no home folder for downloads: set RNN_DATA_DIR" in output
    monkeypatch.setenv("RNN_DATA_DIR", str(tmp_path))
    assert diagnose()[0] == 0


def test_another_dataset_is_a_problem(diagnose, monkeypatch, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "__init__.py").write_text("")
    monkeypatch.delitem(sys.modules, "dataset")
    monkeypatch.syspath_prepend(tmp_path)
    problems, output = diagnose()
    assert problems == 1
    assert f"- the package dataset is another, {tmp_path / 'dataset' / '__init__.py'}: uninstall it" in output


# With --gpu


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_there_is_none_to_try(error_line):
    assert "cuda12" in error_line(doctor.main, ["--gpu"])


@pytest.fixture
def try_gpu(monkeypatch, tmp_path, capsys):
    """A function that runs the doctor with --gpu; it returns the exit code, what is printed, and the report.

    On the stand-in, which cannot be busy, without that part; one script alone is run, and no step is timed.
    """
    monkeypatch.chdir(tmp_path)
    options = gpu_doctor.quick_options
    monkeypatch.setattr(gpu_doctor, "quick_options", lambda p: options(p) if p.stem == "train_gru_lm" else None)
    monkeypatch.setattr(gpu_doctor, "BENCHMARK", tmp_path / "missing.py")
    waiting = gpu_doctor.waiting
    monkeypatch.setattr(gpu_doctor, "waiting", lambda cupy: waiting(cupy) if hasattr(cupy, "RawKernel") else [])

    def call():
        with pytest.raises(SystemExit) as stop:
            doctor.main(["--gpu"])
        return stop.value.code, capsys.readouterr().out, json.loads((tmp_path / "doctor_gpu.json").read_text())

    return call


def test_a_gpu_that_computes_what_numpy_does(gpu, try_gpu):
    code, output, report = try_gpu()
    assert code == 0
    assert output.endswith("\nno problem found\n")
    assert "benchmarks/step_time.py is not installed" in output
    assert not report["problems"]
    rows = {row["name"]: row for row in report["parity"]}
    names = {"LSTM", "TimeGRU, packed", "Nesterov", "SimpleRnnlm", "BetterLstmLm, peepholes", "RnnClassifier"}
    assert names <= set(rows)
    assert 0 < rows["LstmLm"]["float32"]["backward"] < 1e-5
    (row,) = report["trainings"]
    assert row["name"] == "ch06_gated/train_gru_lm.py"
    assert row["result"] > 1
    assert [path.name for path in gpu_doctor.Path.cwd().iterdir()] == ["doctor_gpu.json"]


def test_a_gpu_that_does_not(stand_in, try_gpu, monkeypatch):
    tanh = stand_in.tanh
    monkeypatch.setattr(stand_in, "tanh", lambda x, out=None: tanh(x * 1.001, out=out))
    monkeypatch.setattr(stand_in, "sqrt", None)
    monkeypatch.delitem(gpu_parity.LAYERS, "MatMul")
    code, output, report = try_gpu()
    assert code == 1
    wrong = {row["name"]: row["error"] for row in report["parity"] if row["error"]}
    assert "differs by" in wrong["TimeLSTM, packed"]
    assert "TypeError" in wrong["Adam"]
    assert wrong["MatMul"] == "is a layer that is not compared"
    assert not {"Affine", "TimeEmbedding"} & set(wrong)
    assert f"{len(report['problems'])} problems\n" in output
    assert "ch06_gated/train_gru_lm.py: TypeError" in output


def test_a_benchmark_that_fails_is_a_problem(stand_in, try_gpu, tmp_path):
    (tmp_path / "missing.py").write_text("raise ValueError('no torch')\n")
    code, _, report = try_gpu()
    assert code == 1
    assert report["problems"] == ["step_time.py: ValueError: no torch"]


@pytest.mark.gpu
def test_every_script_trains_on_a_real_gpu(real_gpu, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    rows = list(gpu_doctor.trainings())
    assert len(rows) > 10
    assert not [row for row in rows if row["error"]]
