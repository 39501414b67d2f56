"""Time and memory of one training step: ours, PyTorch's, and the bare matrix products.

    pip install -e ".[bench]"
    python benchmarks/step_time.py
    python benchmarks/step_time.py --gpu

A step is forward, backward, clip and update. The matrix products are those that the equations ask for, alone,
in float32 and at their shapes, with the result written to memory that is there already: time that no way of
writing the step can save (but for what is known to be equal, such as the product of a word that comes twice).

Each of the three runs in a process of its own. They take turns in rounds, so that a machine that others use
too slows all of them; a ratio is the median over the rounds of the ratio in a round. The memory of a step is
the highest that the process reached, less what it had with libraries and text loaded.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

Step = Callable[[], object]
Words = list[tuple[np.ndarray, np.ndarray]]  # batches of word ids and labels, (N, T) each


@dataclass(frozen=True)
class Config:
    """One language model and how it is trained. D = H."""

    name: str
    cell: str
    layers: int
    vocab_size: int
    hidden_size: int
    batch_size: int
    time_size: int
    optimizer: str
    max_grad: float | None
    steps: int  # in each turn; the first is not counted
    tied: bool = False
    dropout: float = 0.0

    def __str__(self) -> str:
        cells = f"{self.layers} x {self.cell}" if self.layers > 1 else self.cell
        extras = [", tied"] * self.tied + [f", dropout {self.dropout}"] * (self.dropout > 0)
        return (
            f"{self.name}: {cells} {self.hidden_size}, V {self.vocab_size:,}{''.join(extras)}, "
            f"{self.batch_size} x {self.time_size}, {self.optimizer}{', clip' if self.max_grad else ''}"
        )


CONFIGS = {
    c.name: c
    for c in (
        Config("A", "RNN", 1, 418, 100, 10, 5, "SGD", None, steps=201),
        Config("R", "RNN", 1, 10_000, 100, 20, 35, "SGD", 0.25, steps=11),
        Config("B", "LSTM", 1, 10_000, 100, 20, 35, "SGD", 0.25, steps=11),
        Config("C", "LSTM", 2, 10_000, 200, 20, 20, "SGD", 0.25, steps=9),
        Config("D", "RNN", 1, 8_000, 512, 64, 100, "Adam", None, steps=3),
        Config("E", "LSTM", 1, 8_000, 1024, 32, 64, "Adam", None, steps=3),
        Config("F", "LSTM", 2, 10_000, 650, 20, 35, "SGD", 0.25, steps=4, tied=True, dropout=0.5),
        Config("G", "GRU", 1, 8_000, 512, 32, 64, "Adam", None, steps=4),
    )
}
LEARNING_RATE = {"SGD": 0.1, "Adam": 0.001}


def batches(config: Config, n: int = 8) -> Words:
    """Words drawn, like those of a language, from a Zipf law: the k-th most frequent with probability ∝ 1 / k."""
    rng = np.random.default_rng(0)
    p = 1 / np.arange(1, config.vocab_size + 1)
    words = rng.choice(config.vocab_size, (n, config.batch_size, config.time_size + 1), p=p / p.sum())
    return [(w[:, :-1].copy(), w[:, 1:].copy()) for w in words]


def our_step(config: Config, words: Words, gpu: bool) -> Step:
    from ch05_rnn.simple_rnnlm import SimpleRnnlm
    from ch06_gated.gru_lm import GruLm
    from ch06_gated.lstm_lm import LstmLm
    from common import optimizer as optimizers

    V, H = config.vocab_size, config.hidden_size
    model = {"RNN": SimpleRnnlm, "GRU": GruLm, "LSTM": LstmLm}[config.cell](
        *(V, H, H),
        layers=config.layers,
        dropout=config.dropout,
        tie_weights=config.tied,
        rng=np.random.default_rng(0),
    )
    if gpu:
        model.to_gpu()
    optimizer = getattr(optimizers, config.optimizer)(LEARNING_RATE[config.optimizer])
    data = Cycle([model.asarrays(*pair) for pair in words])

    def step() -> None:
        model.forward(*data.next())
        model.backward()
        if config.max_grad:
            optimizers.clip_grads(model.grads, config.max_grad)
        optimizer.update(model.params, model.grads)

    return step


def torch_step(config: Config, words: Words, gpu: bool) -> Step:
    import torch

    torch.backends.cudnn.allow_tf32 = False  # as in CuPy, products are of whole float32 numbers

    torch.set_num_threads(threads())
    torch.manual_seed(0)
    V, H, p = config.vocab_size, config.hidden_size, config.dropout
    embed, affine, drop = torch.nn.Embedding(V, H), torch.nn.Linear(H, V), torch.nn.Dropout(p)
    between = p if config.layers > 1 else 0.0
    rnn = getattr(torch.nn, config.cell)(H, H, config.layers, batch_first=True, dropout=between)
    if config.tied:
        affine.weight = embed.weight
    device = "cuda" if gpu else "cpu"
    model = torch.nn.ModuleList([embed, rnn, affine]).to(device)
    optimizer = getattr(torch.optim, config.optimizer)(model.parameters(), LEARNING_RATE[config.optimizer])
    data = Cycle([(torch.from_numpy(x).to(device), torch.from_numpy(t).to(device)) for x, t in words])
    state = None

    def step() -> None:
        nonlocal state
        xs, ts = data.next()
        hs, state = rnn(drop(embed(xs)), state)
        state = tuple(s.detach() for s in state) if config.cell == "LSTM" else state.detach()
        loss = torch.nn.functional.cross_entropy(affine(drop(hs)).flatten(0, 1), ts.flatten())
        optimizer.zero_grad()
        loss.backward()
        if config.max_grad:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad)
        optimizer.step()

    return step


def bare_products(config: Config, _: Words, gpu: bool) -> Step:
    xp = __import__("cupy") if gpu else np
    V, H, N, T = config.vocab_size, config.hidden_size, config.batch_size, config.time_size
    # The columns of Wx and Wh. A GRU needs z and r before it can multiply by the last part of Wh: two products a step.
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[config.cell] * H
    parts = [slice(0, 2 * H), slice(2 * H, 3 * H)] if config.cell == "GRU" else [slice(0, gates)]
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return xp.asarray(rng.standard_normal(shape, dtype=np.float32))

    x, h, a, dy = normal(T * N, H), normal(T * N, H), normal(T * N, gates), normal(T * N, V)
    Wx, Wh, W = normal(H, gates), normal(H, gates), normal(H, V)
    da, dh, dWx, dW = xp.empty_like(a), xp.empty_like(h), xp.empty_like(Wx), xp.empty_like(W)
    step_rows = [slice(t * N, (t + 1) * N) for t in range(T)]

    def step() -> None:
        for _ in range(config.layers):
            xp.matmul(x, Wx, out=a)  # the input of all steps, then the recurrence step by step
            for t in step_rows:
                for part in parts:
                    xp.matmul(h[t], Wh[:, part], out=da[t, part])
        xp.matmul(h, W, out=dy)  # the logits
        # Backward: the same in the other direction, and the gradients of the matrices.
        xp.matmul(h.T, dy, out=dW)
        xp.matmul(dy, W.T, out=dh)
        for _ in range(config.layers):
            for t in step_rows:
                for part in parts:
                    xp.matmul(a[t, part], Wh[:, part].T, out=dh[t])
            xp.matmul(h.T, a, out=dWx)  # dWh
            xp.matmul(x.T, a, out=dWx)
            xp.matmul(a, Wx.T, out=dh)

    return step


IMPLEMENTATIONS = {"ours": our_step, "torch": torch_step, "products": bare_products}


def has_torch(gpu: bool) -> bool:
    """Whether PyTorch is installed and, if it is to, can use the GPU."""
    if importlib.util.find_spec("torch") is None:
        return False
    if not gpu:  # it is not imported here: a new process counts the memory of the one that starts it as its own
        return True
    import torch

    return torch.cuda.is_available()


class Cycle:
    """Batches, again and again."""

    def __init__(self, items: list) -> None:
        self.items = items
        self.i = -1

    def next(self):
        self.i = (self.i + 1) % len(self.items)
        return self.items[self.i]


def threads() -> int:
    return int(os.environ["OPENBLAS_NUM_THREADS"])


def memory_mb() -> tuple[float, float]:
    """Resident memory of this process, now and at its highest, in MB."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[1]) * resource.getpagesize()
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return now / 2**20, max(now, highest) / 2**20


def wait_for_gpu(name: str) -> Callable[[], object]:
    """A function that returns when the GPU has done all that it was given."""
    if name == "torch":
        import torch

        return torch.cuda.synchronize
    import cupy

    return cupy.cuda.get_current_stream().synchronize


def gpu_memory_mb(name: str) -> float:
    """Memory of the GPU that the arrays of this process have taken, at most."""
    if name == "torch":
        import torch

        return torch.cuda.max_memory_reserved() / 2**20
    import cupy

    return cupy.get_default_memory_pool().total_bytes() / 2**20


def work(name: str, config: Config, gpu: bool, pipe: Connection) -> None:
    """One process: makes a model, and a turn of steps each time it is asked; sends the seconds of each step.

    On a GPU, a step is done when its results are there: the CPU, which is steps ahead, waits for the last of a turn.
    """
    if name == "torch":
        import torch

        torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # loads more of the library, which is not a step's
    else:
        import ch06_gated.lstm_lm  # noqa: F401
        import common.optimizer  # noqa: F401
    words = batches(config)
    before, _ = memory_mb()
    step = IMPLEMENTATIONS[name](config, words, gpu)
    wait = wait_for_gpu(name) if gpu else lambda: None
    step()
    wait()
    pipe.send(None)
    while pipe.recv() == "turn":
        seconds, begin = [], time.perf_counter()
        steps = config.steps * 10 if gpu else config.steps
        for _ in range(steps):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        if gpu:
            wait()
            seconds = [(time.perf_counter() - begin) / steps] * 2
        pipe.send(seconds[1:])
    pipe.send(gpu_memory_mb(name) if gpu else memory_mb()[1] - before)


def measure(config: Config, names: list[str], rounds: int, gpu: bool) -> dict:
    """Let the implementations take turns; return medians, ratios and memory."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name in names:
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=work, args=(name, config, gpu, theirs), daemon=True))
        processes[-1].start()
    for pipe in pipes.values():
        pipe.recv()
    turns: dict[str, list[float]] = {name: [] for name in pipes}
    for _ in range(rounds):
        for name, pipe in pipes.items():
            pipe.send("turn")
            turns[name].append(statistics.median(pipe.recv()))
    memory = {}
    for name, pipe in pipes.items():
        pipe.send("end")
        memory[name] = pipe.recv()
    for process in processes:
        process.join()

    def ratio(other: str) -> dict[str, float]:
        ratios = [ours / theirs for ours, theirs in zip(turns["ours"], turns[other])]
        return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}

    result = {
        "config": asdict(config),
        "milliseconds": {name: 1000 * statistics.median(values) for name, values in turns.items()},
        "ours_to_products": ratio("products"),
        "peak_mb": memory,
    }
    if "torch" in names:
        result |= {"ours_to_torch": ratio("torch"), "peak_ours_to_torch": memory["ours"] / memory["torch"]}
    return result


HEADER = """\
| one step of | ours ms | PyTorch ms | products ms | ours / PyTorch | ours / products | ours MB | PyTorch MB | ratio |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def row(config: Config, result: dict) -> str:
    def spread(ratio: dict[str, float]) -> str:
        return f"**{ratio['median']:.2f}** ({ratio['min']:.2f}-{ratio['max']:.2f})"

    def ms(name: str) -> str:
        figure = result["milliseconds"][name]
        return f"{figure:.3g}" if figure < 100 else f"{figure:.0f}"

    peak, torch = result["peak_mb"], "torch" in result["peak_mb"]
    numbers = [ms("ours"), ms("torch") if torch else "-", ms("products")]
    numbers += [spread(result["ours_to_torch"]) if torch else "-", spread(result["ours_to_products"])]
    numbers += [f"{peak['ours']:.0f}"]
    numbers += [f"{peak['torch']:.0f}", f"**{result['peak_ours_to_torch']:.2f}**"] if torch else ["-", "-"]
    return f"| {config} | {' | '.join(numbers)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help=f"of {', '.join(CONFIGS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each implementation (default: 9)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each (default: one a core)")
    parser.add_argument("--gpu", action="store_true", help="all on a GPU: CuPy, and PyTorch with CUDA")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    args = parser.parse_args()
    unknown = set(args.configs) - set(CONFIGS)
    if unknown or args.rounds < 1 or args.threads < 1:
        parser.error(f"unknown configurations: {', '.join(unknown)}" if unknown else "rounds and threads must be >= 1")

    # For the processes to come; some installations set the last two, and slow NumPy's matrix products.
    os.environ.update(OPENBLAS_NUM_THREADS=str(args.threads), OMP_NUM_THREADS=str(args.threads))
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    from importlib.metadata import version

    machine = f"{platform.machine()}, {args.threads} threads, Python {platform.python_version()}"
    machine += f", NumPy {version('numpy')}"
    names = [name for name in IMPLEMENTATIONS if name != "torch" or has_torch(args.gpu)]
    machine += f", PyTorch {version('torch')}" if "torch" in names else ", without PyTorch"
    if args.gpu:
        from common.backend import require_gpu

        cupy = require_gpu()
        name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
        machine += f", {name}, CuPy {cupy.__version__}"
    print(f"{machine}; medians of {args.rounds} rounds\n\n{HEADER}", flush=True)
    results = []
    for name in args.configs or CONFIGS:
        results.append(measure(CONFIGS[name], names, args.rounds, args.gpu))
        print(row(CONFIGS[name], results[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
