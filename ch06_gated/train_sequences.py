"""Train an LSTM to recite two number sequences that are alike but for their ends: only memory tells them apart.

    9 0 1 2 3 4 5 6 7 9
    8 0 1 2 3 4 5 6 7 8

    python ch06_gated/train_sequences.py
    python ch06_gated/train_sequences.py --sequences "3 1 4 1 5 9 2 6" "2 1 4 1 5 9 3 6"

Told the first number of a sequence, the network says the next, hears itself say it, and so on. In the middle it hears
the same in both. What comes last depends on what came first: a network that has forgotten it can only guess. So a
sequence is perfect when all its numbers are right, and none of them was a guess: each had a probability above 0.9.
"""

from __future__ import annotations

import argparse

import numpy as np

from ch06_gated.lstm_lm import LstmLm
from common.backend import require_gpu, to_cpu
from common.functions import softmax
from common.model import LanguageModel
from common.optimizer import Adam
from common.packing import pack
from common.runs.cli import OneLineParser, non_negative_int, positive_float, positive_int, run, use_utf8

SURE = 0.9  # a number with a lower probability is a guess
SEQUENCES = "9 0 1 2 3 4 5 6 7 9", "8 0 1 2 3 4 5 6 7 8"


def numbers(text: str) -> np.ndarray:
    """A converter for ``add_argument(type=...)``: numbers from 0 to 999, with spaces between them."""
    try:
        found = np.array([int(word) for word in text.split()])
    except ValueError:
        found = np.array([-1])
    if len(found) < 2 or not (0 <= found.min() <= found.max() < 1000):
        raise argparse.ArgumentTypeError(f"expected two or more whole numbers from 0 to 999, got {text!r}")
    return found


def recite(model: LanguageModel, first: int, length: int) -> tuple[list[int], np.ndarray]:
    """Let the model say what follows the number ``first``, the likeliest number each time, and hear it.

    Returns
    -------
    generated : list of int
        ``first`` and ``length`` more.
    ps : (length, V) array
        The distributions that they were taken from.
    """
    generated, ps = [first], []
    with model.evaluating():
        for _ in range(length):
            (x,) = model.asarrays(np.array([[generated[-1]]]))
            ps.append(softmax(to_cpu(model.predict(x))[0, 0]))
            generated.append(int(ps[-1].argmax()))
    return generated, np.array(ps)


def show(step: int, recited: list[tuple[list[int], np.ndarray]]) -> None:
    """Print what was generated, and how sure the model was of the last number."""
    for generated, ps in recited:
        likely = [f"{i}: {ps[-1, i]:.3f}" for i in np.argsort(-ps[-1], kind="stable")[:3]]
        print(f"step {step:5d}  {' '.join(map(str, generated))}   last: {', '.join(likely)}")


def main(argv: list[str] | None = None) -> int | None:
    """Train until both sequences are recited without a mistake; return the steps that it took, None if too many."""
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument(
        "--sequences", type=numbers, nargs=2, metavar="NUMBERS", default=SEQUENCES, help="that begin differently"
    )
    parser.add_argument("--wordvec-size", type=positive_int, default=8, help="size of a number's vector, D")
    parser.add_argument("--hidden-size", type=positive_int, default=16, help="size of the recurrent state, H")
    parser.add_argument("--lr", type=positive_float, default=0.01, help="learning rate of Adam")
    parser.add_argument("--max-steps", type=positive_int, default=5000, help="steps after which to give up")
    parser.add_argument("--show-every", type=positive_int, default=50, help="steps from one recital to the next")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="seed of the initial weights")
    parser.add_argument("--gpu", action="store_true", help="train on an NVIDIA GPU with CuPy")
    parser.add_argument("--quick", action="store_true", help="short sequences")
    args = parser.parse_args(argv)
    if args.quick:
        parser.set_defaults(sequences=("3 0 1 3", "2 0 1 2"))
        args = parser.parse_args(argv)

    with parser.reporting_errors():
        if args.gpu:
            require_gpu()
        # Defaults are text as it stands, not converted.
        sequences = [numbers(text) if isinstance(text, str) else text for text in args.sequences]
        if sequences[0][0] == sequences[1][0]:
            raise ValueError(f"both sequences begin with {sequences[0][0]}: which one is meant cannot be told")
        V = 1 + max(int(sequence.max()) for sequence in sequences)
        # Numbers that look different from the start, and a memory that keeps what it has: see LstmLm.
        rng, options = np.random.default_rng(args.seed), {"init_range": 0.5, "forget_bias": 1.0}
        model = LstmLm(V, args.wordvec_size, args.hidden_size, **options, rng=rng)
    if args.gpu:
        model.to_gpu()
    # Both side by side; a number is the label of the one before it.
    there = model.asarrays(*sequences)
    xs, ts = pack([sequence[:-1] for sequence in there]), pack([sequence[1:] for sequence in there])
    optimizer = Adam(args.lr)

    for step in range(1, args.max_steps + 1):
        model.reset_state()
        model.forward(xs, ts)
        model.backward()
        optimizer.update(model.params, model.grads)
        recited = [recite(model, int(sequence[0]), len(sequence) - 1) for sequence in sequences]
        right = all(generated == sequence.tolist() for (generated, _), sequence in zip(recited, sequences))
        perfect = right and min(ps.max(axis=1).min() for _, ps in recited) > SURE
        if perfect or step % args.show_every == 0:
            show(step, recited)
        if perfect:
            print(f"both sequences are perfect after {step} steps")
            return step
    print(f"not perfect after {args.max_steps} steps: try another learning rate, or more units")
    return None


if __name__ == "__main__":
    run(main)
