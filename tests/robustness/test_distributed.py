"""Many processes train as one: the same course, to rounding; and if one of them fails, all end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import ENVIRONMENT, SCRIPTS, launcher, perplexities, run_script, write_text
from train_in_ranks import CASES, begin, train

from ch05_rnn import train_classifier, train_rnnlm
from ch06_gated import memorize
from common.backend import cores
from common.batching import OffsetBatches, SentenceBatches
from common.evaluation import SINGLE_PROCESS
from common.runs.distributed import launched

WORKER = Path(__file__).with_name("train_in_ranks.py")
SECONDS = 30  # in which a training with a dead rank must have ended; 10 times what it takes


def start(n, *command, folder, environment=ENVIRONMENT):
    return subprocess.Popen(
        [launcher(), "-n", str(n), sys.executable, *map(str, command)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def run(n, *command, folder, timeout=120, environment=ENVIRONMENT):
    """Run a program in n ranks to its end; return what it has printed."""
    with start(n, *command, folder=folder, environment=environment) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, output, errors


def succeed(n, *command, folder, environment=ENVIRONMENT):
    code, output, errors = run(n, *command, folder=folder, environment=environment)
    assert code == 0, output + errors
    return output


def assert_close(found, expected):
    assert set(found) == set(expected)
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-10, atol=1e-10, err_msg=key)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What comes out of all cases, by the number of ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    found = {}
    for n in (1, 2, 4):
        succeed(n, WORKER, folder, folder=folder)
        with np.load(folder / f"{n}.npz") as arrays:
            found[n] = dict(arrays)
    return found


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_any_number_of_ranks_takes_the_same_course(outcomes, case, n):
    one, many = ({k: x for k, x in outcomes[m].items() if k.startswith(f"{case}/")} for m in (1, n))
    assert one
    assert_close(many, one)


@pytest.mark.parametrize("case", ["plain", "packed"])
def test_ranks_take_the_course_of_a_training_without_mpi(outcomes, case):
    alone = train(case)
    assert_close({k: outcomes[2][f"{case}/{k}"] for k in alone}, alone)


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 3), (3, 1)])
def test_a_training_goes_on_with_another_number_of_ranks(outcomes, tmp_path, before, after):
    succeed(before, WORKER, tmp_path, "stop", folder=tmp_path)
    succeed(after, WORKER, tmp_path, "go_on", folder=tmp_path)
    for step in (5, 6):
        with np.load(tmp_path / f"resumed after {step}.npz") as found:
            assert_close(dict(found), outcomes[1])


@pytest.mark.parametrize("how", ["one rank", "no launcher", "no MPI"])
def test_a_training_in_ranks_goes_on_alone(tmp_path, monkeypatch, how):
    options = ["--corpus", write_text(tmp_path / "text.txt"), "--epochs", 2, "--seed", 3]
    # DataParallel have dropout masks of their own, whatever their number.
    mpi, dropout = (["--no-mpi"], 0) if how == "no MPI" else (["--mpi"], 0.3)
    options += [
        "--dropout",
        dropout,
        "--wordvec-size",
        8,
        "--hidden-size",
        8,
        "--samples",
        1,
        "--batch-size",
        4,
        "--time-size",
        5,
    ]
    script = SCRIPTS["train_rnnlm.py"]
    output = succeed(2, script, "--mpi", *options, "--name", "x", folder=tmp_path)
    whole = perplexities(alone(*mpi, *options, "--epochs", 3, "--name", "y", folder=tmp_path))
    resume = ["--resume", "runs/x", "--epochs", 3]  # --mpi is an option of the run
    if how == "one rank":
        more = succeed(1, script, *resume, folder=tmp_path)
    elif how == "no launcher":
        more = alone(*resume, folder=tmp_path)
    else:
        (tmp_path / "mpi4py.py").write_text("raise ImportError('not here')", encoding="utf-8")
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", path)
        more = alone(*resume, *mpi, folder=tmp_path)
    assert perplexities(output)[:2] == whole[:2]
    assert perplexities(more)[-1] == whole[-1]


def alone(*options, folder):
    ended = run_script("train_rnnlm.py", *options, folder=folder)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_ranks_leave_out_the_same_bad_steps(tmp_path):
    skipped = [succeed(n, WORKER, tmp_path, "skip", folder=tmp_path).splitlines()[-1] for n in (1, 2)]
    assert skipped == ["2 skipped", "2 skipped"]
    with np.load(tmp_path / "skip 1.npz") as one, np.load(tmp_path / "skip 2.npz") as many:
        assert_close(dict(many), dict(one))


def test_a_full_disk_ends_all_ranks_and_leaves_the_last_checkpoint(tmp_path):
    code, _, errors = run(2, WORKER, tmp_path, "fill_the_disk", folder=tmp_path, timeout=SECONDS)
    assert code == 1
    assert errors.count("the file that was there is unchanged") == 1
    trainer, batches, _, checkpoint = begin("plain", SINGLE_PROCESS, tmp_path / "full")
    checkpoint.restore(trainer, batches)
    assert trainer.iteration == 4


@pytest.mark.parametrize(
    ("script", "options"), [("train_lstm_lm.py", []), ("train_sentence_rnnlm.py", ["--tokenizer", "word"])]
)
def test_rank_0_alone_writes_and_prints(tmp_path, script, options):
    text = write_text(tmp_path / "text.txt")
    command = [sys.executable, str(SCRIPTS[script]), "--mpi", "--corpus", str(text), "--quick", "--name", "x", *options]
    here, there = tmp_path / "rank 0", tmp_path / "rank 1"
    here.mkdir()
    there.mkdir()
    together = [launcher(), "-wdir", str(here), "-n", "1", *command, ":", "-wdir", str(there), "-n", "1", *command]
    ended = subprocess.run(together, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=120, check=True)
    output = ended.stdout.decode("utf-8")
    assert output.count("corpus text") == 1
    assert output.count("results in ") == 1
    assert not list(there.iterdir())
    history = (here / "runs/x/history.csv").read_text(encoding="utf-8").splitlines()
    assert len({line.split(",")[1] for line in history}) == len(history)  # each record once


def test_one_allreduce_adds_up_all_gradients(tmp_path):
    loss, gradients, expected = map(int, succeed(2, WORKER, tmp_path, "count", folder=tmp_path).split())
    assert gradients == expected
    assert loss == 8


# If one rank fails, all end


def test_a_rank_that_is_killed_ends_all(tmp_path):
    options = ["--mpi", "--quick", "--epochs", 100_000, "--corpus", write_text(tmp_path / "text.txt")]
    process = start(2, SCRIPTS["train_rnnlm.py"], *options, folder=tmp_path)
    while "parameters, optimizer" not in process.stdout.readline():
        assert process.poll() is None
    (agent,) = children(process.pid)
    ranks = children(agent)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    started = time.monotonic()
    output, errors = process.communicate(timeout=SECONDS)
    assert time.monotonic() - started < SECONDS
    assert process.returncode != 0
    assert "Killed" in output + errors
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


def children(pid):
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_an_error_on_one_rank_ends_all(tmp_path):
    code, _, errors = run(3, WORKER, tmp_path, "fail", folder=tmp_path, timeout=SECONDS)
    assert code == 1
    assert "ZeroDivisionError" in errors
    assert "rank 2 of 3 has failed:" in errors


def test_a_rank_that_ends_early_ends_all_and_what_it_said_is_heard(tmp_path):
    code, _, errors = run(2, WORKER, tmp_path, "hang_up", folder=tmp_path, timeout=SECONDS)
    assert code == 2
    assert errors.count("a line for the user") == 1


def test_a_loss_that_is_lost_on_one_rank_is_lost_on_all(tmp_path):
    code, _, errors = run(2, WORKER, tmp_path, "lose", folder=tmp_path, timeout=SECONDS)
    assert code == 1
    assert errors.count("FloatingPointError: the loss is inf after epoch 0.08, step 1") == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--corpus", "nothing.txt"], "nothing.txt"),
        (["--hidden-size", 0], "argument --hidden-size: must be more than 0, got 0"),
        (["--resume", "runs/none"], "none"),
        (["--no-mpi"], "mpiexec has started 3 processes, which would each train by itself"),
        (["--batch-size", 2], "a batch of 2 streams cannot be shared by 3 processes"),
        (["--lr", "1e30", "--max-grad", 1e9, "--optimizer", "sgd"], "try a lower learning rate"),
    ],
)
def test_what_a_user_can_mend_is_said_once(tmp_path, options, reason):
    command = [SCRIPTS["train_rnnlm.py"], "--mpi", "--quick", "--corpus", write_text(tmp_path / "text.txt"), *options]
    code, _, errors = run(3, *command, folder=tmp_path, timeout=SECONDS)
    assert code == 2
    lines = [line for line in errors.splitlines() if line.startswith("train_rnnlm.py: error: ")]
    assert len(lines) == 1, errors
    assert reason in lines[0]
    assert "Traceback" not in errors


def test_a_rank_that_does_not_see_the_run_ends_all(tmp_path):
    here, there = tmp_path / "rank 0", tmp_path / "rank 1"
    here.mkdir()
    there.mkdir()
    text = str(write_text(tmp_path / "text.txt"))
    script = str(SCRIPTS["train_rnnlm.py"])
    succeed(2, script, "--mpi", "--quick", "--corpus", text, "--name", "x", folder=here)
    resume = [sys.executable, script, "--resume", "runs/x", "--epochs", "3"]
    together = [launcher(), "-wdir", str(here), "-n", "1", *resume, ":", "-wdir", str(there), "-n", "1", *resume]
    ended = subprocess.run(together, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=SECONDS)
    errors = ended.stderr.decode("utf-8")
    assert ended.returncode == 2
    assert errors.count("error: [Errno 2] No such file or directory: 'runs/x/checkpoint.npz'") == 1, errors


def test_ranks_of_an_unknown_launcher_must_be_asked_for(tmp_path):
    text = write_text(tmp_path / "text.txt")
    succeed(2, SCRIPTS["train_rnnlm.py"], "--mpi", "--quick", "--corpus", text, "--name", "x", folder=tmp_path)
    # MPI has begun; now nothing tells how many processes there are.
    hide = "import os, runpy, sys; from mpi4py import MPI; del os.environ['PMI_SIZE']; sys.argv[:1] = []; "
    hide += "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = ["-c", hide, SCRIPTS["train_rnnlm.py"], "--resume", "runs/x", "--epochs", 3]
    code, _, errors = run(2, *command, folder=tmp_path, timeout=SECONDS)
    assert code == 2
    assert errors.count("say --mpi, in full, on the command line, too") == 1
    assert "epoch   3" in succeed(2, *command, "--mpi", folder=tmp_path)


def test_a_second_ctrl_c_does_not_keep_a_rank_from_ending_all(tmp_path):
    code, _, _ = run(2, WORKER, tmp_path, "interrupt_twice", folder=tmp_path, timeout=SECONDS)
    assert code != 0


def test_ctrl_c_outside_a_training_is_said_once(tmp_path):
    code, _, errors = run(2, WORKER, tmp_path, "interrupt", folder=tmp_path, timeout=SECONDS)
    assert code == 130
    assert errors.splitlines().count("interrupted") == 1
    assert "Traceback" not in errors


def test_ctrl_c_ends_all_ranks_with_what_they_have(tmp_path):
    options = ["--mpi", "--quick", "--epochs", 100_000, "--corpus", write_text(tmp_path / "text.txt"), "--name", "x"]
    # Of a process in the background, Ctrl-C may be switched off.
    code = "import signal, runpy, sys; signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv[:1] = []; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    process = start(2, "-c", code, SCRIPTS["train_rnnlm.py"], *options, folder=tmp_path)
    while not process.stdout.readline().startswith("epoch   1"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output + errors
    assert output.count("interrupted: training ends here") == 1
    assert output.count("test perplexity") == 1


# Threads


def test_ranks_share_the_cores(tmp_path):
    chosen = {name: value for name, value in ENVIRONMENT.items() if name != "OPENBLAS_NUM_THREADS"}
    for n, expected in ((1, cores()), (2 * cores(), 1)):
        output = succeed(n, WORKER, tmp_path, "threads", folder=tmp_path, environment=chosen)
        assert output.split() == [str(expected)]


def test_all_ranks_have_as_many_threads_as_the_smallest_machine_has_cores(tmp_path):
    chosen = {name: value for name, value in ENVIRONMENT.items() if name != "OPENBLAS_NUM_THREADS"}
    command = [sys.executable, str(WORKER), str(tmp_path), "threads"]
    large, small = (["-n", "1", "env", f"WORKER_CORES={n}", *command] for n in (6, 4))
    together = [launcher(), *large, ":", *small]
    ended = subprocess.run(together, cwd=tmp_path, env=chosen, capture_output=True, timeout=SECONDS, check=True)
    assert ended.stdout.decode().split() == ["2"]


# Without ranks


@pytest.mark.parametrize(("values", "expected"), [({}, 1), ({"PMI_SIZE": "3"}, 3), ({"PMI_SIZE": "many"}, 1)])
def test_how_many_processes_mpiexec_has_started(monkeypatch, values, expected):
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert launched() == expected


def test_an_mpiexec_of_another_mpi_is_an_error(tmp_path):
    launcher()
    environment = {**ENVIRONMENT, "OMPI_COMM_WORLD_SIZE": "2"}
    command = [sys.executable, str(SCRIPTS["train_rnnlm.py"]), "--mpi", "--quick", "--corpus", "bungo"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=SECONDS)
    assert ended.returncode == 2
    assert b"2 processes, which cannot find each other" in ended.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("main", [memorize.main, train_classifier.main])
def test_a_script_for_one_process_is_not_for_mpiexec(monkeypatch, error_line, tmp_path, main):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert "start this script without it" in error_line(main, ["--quick"])
    assert not list(tmp_path.iterdir())


def test_without_mpi_one_line_says_what_to_install(monkeypatch, error_line, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    line = error_line(train_rnnlm.main, ["--mpi", "--quick"])
    assert 'pip install -e ".[mpi]"' in line


def test_mpi_is_not_for_the_gpu(error_line):
    assert "leave out --gpu or --mpi" in error_line(train_rnnlm.main, ["--mpi", "--gpu", "--quick"])


def test_the_shares_of_ranks_make_up_each_batch():
    xs = np.arange(100)
    sentences = [np.arange(n) for n in (2, 9, 4, 5, 7, 3, 2)]
    for make in (
        lambda shard: OffsetBatches(xs, xs, 5, 4, shard=shard),
        lambda shard: SentenceBatches(sentences, 4, 3, shard=shard),
        lambda shard: SentenceBatches(sentences, 4, 3, packed=False, shard=shard),
    ):
        whole = [(batches.words, batches.token_share) for batches in [make(slice(None))] for _ in batches]
        shares = np.zeros(len(whole))
        for rank in range(3):
            batches = make(slice(rank, None, 3))
            for k, (x, t) in enumerate(batches):
                assert (batches.words, 1) == whole[k]
                shares[k] += batches.token_share
                if x is None:
                    assert t is None
                    assert batches.token_share == 0
        np.testing.assert_allclose(shares, 1)
