"""What the scripts that train a classifier of texts share: options, the course of a run, and what is reported."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from common.backend import require_gpu
from common.classifier import POOLS, RecurrentClassifier
from common.classifier_trainer import ClassifierTrainer, TextBatches
from common.runs.cli import OneLineParser, fraction, non_negative_int, positive_float, positive_int, use_utf8, utf8_text
from common.runs.plotting import plot_confusion
from common.runs.resuming import add_resuming_options, parse_options
from common.runs.training import OPTIMIZERS, add_gpu_option, fit, prepare_run_folder
from dataset import ag_news, sotu
from dataset.labelled import LabelledText, LabelledTexts
from dataset.tokenizer import SPECIAL, WordTokenizer
from dataset.word_vectors import load_vectors

RECORD_EVERY = 100  # steps

# The options that are arguments of every RecurrentClassifier.
MODEL_OPTIONS = ("wordvec_size", "hidden_size", "layers", "bidirectional", "pool", "dropout", "fixed_embedding")

QUICK = {"max_texts": 1000, "vocab_size": 2000, "epochs": 2, "lr": 0.005}

Texts = list[np.ndarray]  # word ids, (T_n,) each


def train_classifier(
    argv: list[str] | None, description: str, model_class: type[RecurrentClassifier], name: str, pool: str
) -> float:
    """Train a classifier as the command line says, and return its test accuracy.

    Parameters
    ----------
    argv : list of str or None
        The command line; None for that of the program.
    description : str
        The docstring of the script, whose first line goes into the help.
    model_class : type
    name : str
        Results go to runs/NAME-CORPUS.
    pool : str
        What this model makes of a text if nothing else is said.
    """
    use_utf8()
    parser = OneLineParser(description=description.splitlines()[0])
    add_options(parser, name, pool)
    args = parse_options(parser, argv, QUICK)
    rng = np.random.default_rng(args.seed)

    with parser.reporting_errors():
        if args.gpu:
            require_gpu()
        data = load_texts(args)
        tokenizer = WordTokenizer.train([text for text, _ in data.train], args.vocab_size)
        train, valid, test = (encode(tokenizer, part) for part in (data.train, data.valid, data.test))
        print(
            f"corpus {data.name}: {len(data.train):,} texts to train, {len(data.valid):,} valid, {len(data.test):,} "
            f"test, {len(data.classes)} classes, vocabulary {tokenizer.vocab_size:,}, sha256 {data.sha256[:12]}"
        )
        sizes = {"vocab_size": tokenizer.vocab_size, "classes": len(data.classes)}
        arguments = {**sizes, **{key: vars(args)[key] for key in MODEL_OPTIONS}}
        model = model_class(**arguments, rng=rng)
        if args.embeddings is not None and args.resume is None:
            start_from_vectors(model, tokenizer, args.embeddings)
        folder = Path(args.resume or Path("runs") / (args.name or f"{name}-{data.name}"))
        options = {**vars(args), "model": model_class.__name__, "arguments": arguments, "classes": data.classes}
        options["corpus_sha256"] = data.sha256
        prepare_run_folder(folder, options)
        tokenizer.save(folder)
    if args.gpu:
        model.to_gpu()
    print(f"model {model_class.__name__}: {sum(p.size for p in model.params):,} parameters")

    with parser.reporting_errors():
        batches = TextBatches(model, *train, args.batch_size, rng, args.padded)
        fit(args, ClassifierTrainer(model, OPTIMIZERS["adam"](lr=args.lr)), batches, valid, folder, options, rng)
    texts, labels = test
    found = model.probabilities(texts).argmax(axis=1)
    accuracy = float((found == labels).mean())
    majority = np.bincount(labels).max() / len(labels)
    print(f"test accuracy {accuracy:.4f}  (always the most frequent class: {majority:.4f})")
    confusion = np.zeros((len(data.classes),) * 2, int)
    np.add.at(confusion, (labels, found), 1)
    title = f"{model_class.__name__} on {data.name}: test accuracy {accuracy:.3f}"
    plot_confusion(confusion, data.classes, folder / "confusion_matrix.png", title)
    with parser.reporting_errors():
        for text in args.text:
            print_class(model, tokenizer, data.classes, text)
    print(f"results in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    return accuracy


def add_options(parser: OneLineParser, name: str, pool: str) -> None:
    text = parser.add_argument_group("texts")
    text.add_argument(
        "--corpus", choices=("sotu", "ag_news"), default="sotu", help="presidents by era, or news by topic"
    )
    text.add_argument("--train-file", metavar="FILE", help="for ag_news, a file of that form in place of the canonical")
    text.add_argument("--test-file", metavar="FILE", help="the same, to test on")
    text.add_argument(
        "--vocab-size", type=positive_int, default=10_000, help="words to keep, four special ones included"
    )
    text.add_argument("--max-texts", type=positive_int, help="use only so many texts, evenly spread, of each split")

    size = parser.add_argument_group("model")
    size.add_argument("--wordvec-size", type=positive_int, default=64, help="size of a word's vector, D")
    size.add_argument("--hidden-size", type=positive_int, default=32, help="size of the recurrent state, H")
    size.add_argument("--layers", type=positive_int, default=1, help="recurrent layers, one on the other")
    size.add_argument("--bidirectional", action="store_true", help="read each text from both ends")
    size.add_argument("--pool", choices=POOLS, default=pool, help="what a text becomes: its last state, or their mean")
    size.add_argument("--dropout", type=fraction, default=0.0, help="probability that an element is dropped")
    size.add_argument("--embeddings", metavar="FILE", help="start from these word vectors: a word and numbers a line")
    size.add_argument("--fixed-embedding", action="store_true", help="leave the word vectors as they are")

    train = parser.add_argument_group("training, with Adam")
    train.add_argument("--epochs", type=positive_int, default=1, help="times through the texts")
    train.add_argument("--batch-size", type=positive_int, default=16, help="texts side by side, N")
    train.add_argument("--padded", action="store_true", help="fill batches up, not pack them: the same, but more work")
    train.add_argument("--lr", type=positive_float, default=0.001, help="learning rate")
    train.add_argument("--max-grad", type=positive_float, default=1.0, help="longest gradient, over all weights")
    train.add_argument("--seed", type=non_negative_int, default=0, help="seed of all random numbers")
    add_gpu_option(train)

    out = parser.add_argument_group("output")
    out.add_argument("--name", help=f"results go to runs/NAME, in place of an earlier run's [{name}-CORPUS]")
    out.add_argument(
        "--text", type=utf8_text, action="append", default=[], help="a text to find the class of; may be repeated"
    )
    out.add_argument("--quick", action="store_true", help="few texts, to see it run in seconds")
    # What other trainings have options for.
    parser.set_defaults(lr_decay=1.0, decay_after=None, eval_interval=RECORD_EVERY)
    add_resuming_options(parser)


def load_texts(args: argparse.Namespace) -> LabelledTexts:
    if args.corpus == "sotu" and (args.train_file or args.test_file):
        raise ValueError("--train-file and --test-file go with --corpus ag_news")
    data = sotu.load_eras() if args.corpus == "sotu" else ag_news.load(args.train_file, args.test_file)
    for split in ("train", "valid", "test"):
        part = getattr(data, split)
        if args.max_texts and args.max_texts < len(part):
            spread = np.arange(args.max_texts) * len(part) // args.max_texts
            setattr(data, split, [part[k] for k in spread])
    return data


def encode(tokenizer: WordTokenizer, part: list[LabelledText]) -> tuple[Texts, np.ndarray]:
    """Word ids of the texts, and their classes, (n,). A text without a word is an unknown word."""
    texts = [np.array(tokenizer.encode(text) or [tokenizer.unk_id], np.int32) for text, _ in part]
    return texts, np.array([label for _, label in part])


def start_from_vectors(model: RecurrentClassifier, tokenizer: WordTokenizer, path: str) -> None:
    """Put the vectors of a file in the place of those of the words that it has."""
    words = tokenizer.tokens[len(SPECIAL) :]
    vectors, D = load_vectors(path, words)
    if model.embedding.shape[1] != D:
        raise ValueError(f"{path} has vectors of {D} numbers: --wordvec-size must be {D}")
    for i, word in enumerate(words, start=len(SPECIAL)):
        if word in vectors:
            model.embedding[i] = vectors[word]
    print(f"word vectors: {path} has {len(vectors):,} of {len(words):,} words of the vocabulary")


def print_class(model: RecurrentClassifier, tokenizer: WordTokenizer, classes: list[str], text: str) -> None:
    """Print a text, the class that the model finds likeliest, and the probabilities of all."""
    words = tokenizer.encode(text)
    if not words:
        raise ValueError("there is no word in the text whose class is asked for")
    [p] = model.probabilities([np.array(words, np.int32)])
    print(f"> {text}")
    print(f"  {classes[p.argmax()]}: {', '.join(f'{name} {p_:.3f}' for name, p_ in zip(classes, p))}")
