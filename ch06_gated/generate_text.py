"""Let a trained language model write, word by word.

python ch05_rnn/train_rnnlm.py                             # or another training; it leaves runs/rnnlm-sotu
python ch06_gated/generate_text.py runs/rnnlm-sotu
python ch06_gated/generate_text.py runs/rnnlm-sotu --prompt "we the people" --temperature 0.7 --top-p 0.9
python ch06_gated/generate_text.py runs/sentence-rnnlm-bungo --prompt 神 --texts 3
"""

from __future__ import annotations

import numpy as np

from ch06_gated.models import load_run
from common.generation import generate
from common.runs.cli import (
    OneLineParser,
    non_negative_int,
    number,
    positive_float,
    positive_int,
    run,
    use_utf8,
    utf8_text,
)
from common.runs.folder import Run, SentenceRun
from dataset.corpus import EOS


def write(trained: Run | SentenceRun, prompt: list[str], ids: list[int], length: int, stop: bool, **options) -> None:
    """Print the prompt and then each word as it is drawn. Its end ends the text or, if not ``stop``, the line."""
    words = list(prompt)
    written = trained.join(words)
    print(written, end="", flush=True)
    options |= {"skip_ids": trained.skip_ids, "stop_id": trained.stop_id if stop else None}
    for i in generate(trained.model, [*trained.start_ids, *ids], length, **options):
        words.append(trained.word(i))
        text = trained.join(words)
        print(text[len(written) :], end="", flush=True)
        written = text
    print(flush=True)


def main(argv: list[str] | None = None) -> None:
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("folder", help="of a training: runs/NAME")
    parser.add_argument("--prompt", type=utf8_text, default="", help="how the text begins [with a new sentence]")
    parser.add_argument("--length", type=positive_int, default=100, help="words to draw, at most")
    parser.add_argument("--texts", type=positive_int, default=1, help="texts to write, each from the prompt on")
    parser.add_argument("--temperature", type=positive_float, default=0.8, help="below 1: likelier words; above: rarer")
    parser.add_argument("--top-k", type=positive_int, metavar="K", help="draw from the K likeliest words only")
    parser.add_argument(
        "--top-p",
        type=number(float, 0, 1.0000001),
        metavar="P",
        help="draw from the likeliest words only, which together have probability P",
    )
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help=f"go on after {EOS}, in a new line, as models of characters do; otherwise the text ends there",
    )
    parser.add_argument("--seed", type=non_negative_int, default=0, help="of the words that are drawn")
    args = parser.parse_args(argv)

    rng = np.random.default_rng(args.seed)
    with parser.reporting_errors():
        trained = load_run(args.folder)
        if args.keep_going and isinstance(trained, SentenceRun):
            raise ValueError("--keep-going is for models of one long text; nothing follows the end of a document")
        prompt = trained.words(args.prompt)
        ids = trained.ids(prompt)
        for _ in range(args.texts):
            drawn = {"rng": rng, "temperature": args.temperature, "top_k": args.top_k, "top_p": args.top_p}
            write(trained, prompt, ids, args.length, not args.keep_going, **drawn)


if __name__ == "__main__":
    run(main)
