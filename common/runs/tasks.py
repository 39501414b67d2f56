"""What differs between trainings: a language model on one long text or on documents, a classifier of texts."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import numpy as np
from tqdm import tqdm

import dataset
from common.batching import OffsetBatches, SentenceBatches, TextBatches
from common.classifier import RecurrentClassifier
from common.evaluation import SingleProcess, evaluate, evaluate_windows, perplexity
from common.generation import generate
from common.metrics import Accuracy, MeanLoss, Perplexity, Record
from common.model import LanguageModel, Model
from common.runs import options as opt
from common.runs.folder import Run, SentenceRun, read_vocabulary, report_unknown, weights_file
from common.runs.options import Groups, Options, Values
from common.runs.plotting import new_figure, plot_learning_curve, save_figure
from common.trainer import Batches, Trainer
from dataset import ag_news, sotu, table
from dataset.corpus import EOS, UNK, Corpus
from dataset.documents import Documents
from dataset.labelled import LabelledText, LabelledTexts
from dataset.tokenizer import SPECIAL, TOKENIZERS, Tokenizer, is_unspaced, load_tokenizer
from dataset.word_vectors import load_vectors

_WARM_UP = 200  # words of training text that a model reads before it writes


class Task:
    """What ``train`` asks of a kind of training. A subclass reads its text when it is made."""

    groups: Groups  # the options of text, model, training, output; those of stopping are the same for all
    defaults: ClassVar[Values] = {}
    quick: ClassVar[Values] = {}  # values that --quick gives
    metric: MeanLoss = Perplexity()
    verbose = True  # print one line per epoch
    dout = 1.0  # factor of the gradient
    next_command = ""  # what a user may want to do with the model
    name: str  # of the text
    tokenizer: Tokenizer
    arguments: dict[str, object]  # of the model
    checksums: dict[str, object]  # what else is written to options.json, and must be the same when resumed

    def __init__(self, options: Options, parallel: SingleProcess, rng: np.random.Generator) -> None:
        self.options, self.parallel, self.rng = options, parallel, rng
        self.read_text()

    def read_text(self) -> None:
        """Read the text, print what it is, and set ``name``, ``arguments`` and ``checksums``."""
        raise NotImplementedError

    def load_weights(self, model: Model) -> None:
        """Start from what a file holds, if an option names one."""

    def make_batches(self, model: Model) -> tuple[Batches, object]:
        """The batches to train on, and the validation set."""
        raise NotImplementedError

    def save_vocabulary(self, folder: Path) -> None:
        """Write what is needed, besides the weights, to use the model."""
        self.tokenizer.save(folder)

    def summary(self, model: Model) -> str:
        """The line before training."""
        return f"model {type(model).__name__}: {sum(p.size for p in model.params):,} parameters"

    def callback(self, model: Model) -> Callable[[Record], bool | None] | None:
        """What is called with each record."""
        return None

    def report(self, model: Model, trainer: Trainer | None, folder: Path | None) -> float:
        """Measure the best weights, print, and draw into the folder, if there is one."""
        raise NotImplementedError


def draw_learning_curve(
    model: Model, trainer: Trainer | None, folder: Path | None, floor: float | None = None, test: str = ""
) -> None:
    if folder is not None and trainer.history:
        title = f"{folder.name}: {type(model).__name__}{test}"
        plot_learning_curve(trainer.history, folder / "learning_curve.png", title, floor)


def sample(run: Run | SentenceRun, output: opt.SampleOptions, rng: np.random.Generator) -> str:
    """A sentence that the model writes or, of characters, some lines."""
    how = {"skip_ids": run.skip_ids, "stop_id": run.stop_id}
    ids = generate(run.model, run.start_ids, output.sample_words, rng, output.temperature, **how)
    return run.join([run.word(i) for i in ids])


class LanguageModelTask(Task):
    """What language models of one long text and of documents share: they may start from weights, and they write."""

    next_command = "ch06_gated/generate_text.py {folder}"

    def run(self, model: LanguageModel) -> Run | SentenceRun:
        """The model with its vocabulary, ready to write."""
        raise NotImplementedError

    def load_weights(self, model: LanguageModel) -> None:
        if self.options.training.weights is not None:
            model.load(weights_file(self.options.training.weights))

    def print_unknown(self, ids: Sequence[int] | np.ndarray, unk_id: int | None) -> None:
        """Of a text in the vocabulary of weights that exist already, print how much of it is not in that."""
        share = np.mean(np.equal(ids, unk_id)) if len(ids) else 0.0
        print(f"in the vocabulary of {self.options.training.weights}, {share:.1%} of the text to measure is {UNK}")

    def callback(self, model: LanguageModel) -> Callable[[Record], None] | None:
        """Let the model write after a tenth and a third of the training or, with ``--watch``, at each record."""
        output, epochs = self.options.output, self.options.training.epochs
        rng = np.random.default_rng(self.options.training.seed)  # another one, so that the training stays the same
        run, moments = self.run(model), [epochs / 10, epochs / 3]

        def write(record: Record) -> None:
            train, inside = record["train_perplexity"], record["epoch"] % 1 > 0
            if output.watch and inside:  # after an epoch, there is the line of the epoch
                bits = self.bits_per_character(train)
                tqdm.write(f"step {record['iteration']:6d}  train perplexity {train:8.2f}{bits}")
            due = [moment for moment in moments if record["epoch"] >= moment]
            if output.samples and (output.watch or due):
                tqdm.write(f"> {sample(run, output, rng)}")
            moments[: len(due)] = []

        return write

    def bits_per_character(self, perplexity: float) -> str:
        """For a text of characters, the same figure in another unit: log2(perplexity)."""
        return ""

    def write_samples(self, model: LanguageModel) -> None:
        run = self.run(model)
        for _ in range(self.options.output.samples):
            print(">", sample(run, self.options.output, self.rng))


class TextTask(LanguageModelTask):
    """A language model on one long text."""

    groups = opt.TextOptions, opt.ModelOptions, opt.TextTrainingOptions, opt.SampleOptions
    quick: ClassVar[Values] = {
        **{"wordvec_size": 32, "hidden_size": 32, "vocab_size": 500, "max_words": 20_000},
        **{"epochs": 2, "samples": 1},
    }

    def read_text(self) -> None:
        text, training = self.options.text, self.options.training
        self.corpus = corpus = self.load_corpus()
        for split in ("train", "valid", "test"):
            setattr(corpus, split, getattr(corpus, split)[: text.max_words])
        print(
            f"corpus {corpus.name}: {len(corpus.train):,} words to train, {len(corpus.valid):,} valid, "
            f"{len(corpus.test):,} test, vocabulary {len(corpus.id_to_word):,}, sha256 {corpus.sha256[:12]}"
        )
        if corpus.note:
            print(f"{corpus.name}: {corpus.note}")
        self.name, self.checksums = corpus.name, {"corpus_sha256": corpus.sha256}
        self.arguments = {"vocab_size": len(corpus.id_to_word), **asdict(self.options.model)}
        self.dout = float(training.time_size if training.loss == "sum" else 1)

    def load_corpus(self) -> Corpus:
        """Read the text; weights that exist already need it in the vocabulary beside them."""
        text, resume, weights = self.options.text, self.options.stopping.resume, self.options.training.weights
        path = (weights_file(weights or "").parent if resume is None else Path(resume)) / "vocabulary.json"
        if weights is None or not path.exists():
            return dataset.load(text.corpus, text.vocab_size, text.unit, text.encoding)
        corpus = dataset.load(text.corpus, None, text.unit, text.encoding).in_vocabulary(read_vocabulary(path))
        self.print_unknown(corpus.test, corpus.word_to_id.get(UNK))
        return corpus

    def summary(self, model: LanguageModel) -> str:
        return f"{super().summary(model)}, optimizer {self.options.training.optimizer}"

    def make_batches(self, model: LanguageModel) -> tuple[OffsetBatches, tuple[np.ndarray, np.ndarray]]:
        training = self.options.training
        xs, ts = model.asarrays(*words_and_successors(self.corpus.train))
        sizes = training.batch_size, training.time_size
        batches = OffsetBatches(xs, ts, *sizes, training.restart, shard=self.parallel.shard)
        return batches, words_and_successors(self.corpus.valid)

    def save_vocabulary(self, folder: Path) -> None:
        for name, words in (("vocabulary.json", self.corpus.id_to_word), ("warm_up.json", warm_up(self.corpus))):
            if not (folder / name).exists():
                (folder / name).write_text(json_lines(words), encoding="utf-8")

    def report(self, model: LanguageModel, trainer: Trainer | None, folder: Path | None) -> float:
        test = perplexity(evaluate(model, *words_and_successors(self.corpus.test), parallel=self.parallel))
        draw_learning_curve(model, trainer, folder, test=f", test perplexity {test:.2f}")
        print(f"test perplexity {test:.2f}{self.bits_per_character(test)}")
        self.write_samples(model)
        return test

    def run(self, model: LanguageModel) -> Run:
        text = self.options.text
        return Run(model, self.corpus.id_to_word, text.corpus, text.unit, warm_up(self.corpus))

    def bits_per_character(self, perplexity: float) -> str:
        return f" ({math.log2(perplexity):.3f} bits per character)" if self.corpus.separator == "" else ""


def words_and_successors(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each word but the last, and the word that follows it."""
    return ids[:-1], ids[1:]


def warm_up(corpus: Corpus) -> list[str]:
    """The last words of the training text before its last line end: they bring the model into a state that it knows."""
    last = np.flatnonzero(corpus.train == corpus.word_to_id[EOS])[-1:]
    end = int(last[0]) if len(last) else len(corpus.train)
    return [corpus.id_to_word[i] for i in corpus.train[max(0, end - _WARM_UP) : end]]


def json_lines(words: list[str]) -> str:
    """Words as JSON, one per line."""
    return json.dumps(words, ensure_ascii=False, indent=0) + "\n"


class DocumentTask(LanguageModelTask):
    """A language model on documents of many lengths, each read from ``<s>`` to ``</s>``, from a state of zeros."""

    groups = opt.DocumentOptions, opt.ModelOptions, opt.DocumentTrainingOptions, opt.SampleOptions
    defaults: ClassVar[Values] = {
        **{"wordvec_size": 256, "hidden_size": 256, "dropout": 0.2, "batch_size": 32, "time_size": 100},
        **{"eval_interval": 50, "steps": 1800},
    }
    quick: ClassVar[Values] = {
        **{"wordvec_size": 32, "hidden_size": 32, "vocab_size": 2000, "max_documents": 1000},
        **{"epochs": 2, "lr": 0.01, "samples": 1},
    }

    def read_text(self) -> None:
        self.documents = documents = self.load_documents()
        self.tokenizer = tokenizer = self.make_tokenizer()
        self.name = documents.name
        self.checksums = {"corpus_sha256": documents.sha256, "tokenizer_sha256": tokenizer.sha256}
        self.arguments = {"vocab_size": tokenizer.vocab_size, **asdict(self.options.model)}

    def load_documents(self) -> Documents:
        text = self.options.text
        documents = dataset.load_documents(text.corpus, text.encoding)
        documents.train = documents.train[: text.max_documents]
        documents.valid = documents.valid[: text.max_documents]
        print(
            f"corpus {documents.name}: {len(documents.train):,} documents to train, {len(documents.valid):,} valid, "
            f"sha256 {documents.sha256[:12]}"
        )
        return documents

    def make_tokenizer(self) -> Tokenizer:
        """Train a tokenizer on the training split; for weights that exist already, load the one beside them."""
        text, resume, weights = self.options.text, self.options.stopping.resume, self.options.training.weights
        if resume is not None or weights is not None:
            tokenizer = load_tokenizer(weights_file(weights).parent if resume is None else Path(resume))
        else:
            tokenizer = TOKENIZERS[text.tokenizer].train(self.documents.train, text.vocab_size)
        print(f"tokenizer {type(tokenizer).__name__}: {tokenizer.vocab_size:,} tokens, sha256 {tokenizer.sha256[:12]}")
        if weights is not None:
            self.print_unknown([i for text in self.documents.valid for i in tokenizer.encode(text)], tokenizer.unk_id)
        return tokenizer

    def make_batches(self, model: LanguageModel) -> tuple[SentenceBatches, SentenceBatches]:
        # The validation set stays in the order of the text and is not sorted: the mean over windows depends on it.
        self.train = self.batches(model, self.documents.train, shuffled=True)
        self.valid = self.batches(model, self.documents.valid, shuffled=False)
        return self.train, self.valid

    def batches(self, model: LanguageModel, documents: Sequence[str], shuffled: bool) -> SentenceBatches:
        training = self.options.training
        batches = SentenceBatches(
            [np.array(self.encode(document), dtype=np.int32) for document in documents],
            *(training.batch_size, training.time_size),
            packed=not training.padded,
            shuffled=shuffled,
            bucketed=training.bucketed and shuffled,
            seed=training.seed,
            pad_id=self.tokenizer.pad_id,
            shard=self.parallel.shard,
        )
        (batches.text,) = model.asarrays(batches.text)
        return batches

    def encode(self, document: str) -> list[int]:
        return [self.tokenizer.bos_id, *self.tokenizer.encode(document), self.tokenizer.eos_id]

    def summary(self, model: LanguageModel) -> str:
        train, valid = (batches.lengths.sum() for batches in (self.train, self.valid))
        optimizer = self.options.training.optimizer
        return f"{train:,} tokens to train, {valid:,} valid; {super().summary(model)}, optimizer {optimizer}"

    def report(self, model: LanguageModel, trainer: Trainer | None, folder: Path | None) -> float:
        draw_learning_curve(model, trainer, folder)
        loss, window_loss = evaluate_windows(model, self.valid, self.parallel)
        print(f"valid perplexity {perplexity(loss):.2f} (mean of windows {perplexity(window_loss):.2f})")
        self.write_samples(model)
        return perplexity(loss)

    def run(self, model: LanguageModel) -> SentenceRun:
        return SentenceRun(model, self.tokenizer)


class ClassificationTask(Task):
    """A classifier of texts."""

    next_command = "ch06_gated/classify.py {folder} texts.txt"
    groups = opt.LabelledTextOptions, opt.ClassifierOptions, opt.ClassifierTrainingOptions, opt.ClassifierOutputOptions
    quick: ClassVar[Values] = {"max_texts": 1000, "vocab_size": 2000, "epochs": 2, "lr": 0.005}
    metric = Accuracy()

    def read_text(self) -> None:
        self.data = data = load_texts(self.options.text)
        self.tokenizer = self.make_tokenizer([text for text, _ in data.train])
        V, classes = self.tokenizer.vocab_size, data.classes
        print(
            f"corpus {data.name}: {len(data.train):,} texts to train, {len(data.valid):,} valid, {len(data.test):,} "
            f"test, {len(classes)} classes, vocabulary {V:,}, sha256 {data.sha256[:12]}"
        )
        for note in data.notes:
            print(f"{data.name}: {note}")
        known = {text for text, _ in data.train}
        if twice := sum(text in known for text, _ in data.test):
            print(f"{twice:,} of the {len(data.test):,} texts to test are among those to train, too")
        for example in self.options.output.text:
            words_of(self.tokenizer, example)  # an error now rather than after the training
        self.name, self.checksums = data.name, {"classes": classes, "corpus_sha256": data.sha256}
        self.arguments = {"vocab_size": V, "classes": len(classes), **asdict(self.options.model)}

    def make_tokenizer(self, texts: list[str]) -> Tokenizer:
        """Split texts into words; without spaces between them, there are none to be found, so take characters."""
        text, unit = self.options.text, self.options.text.tokenizer
        if unit is None:
            unit = "char" if is_unspaced(texts) else "word"
            if unit == "char":
                print("texts without spaces between words are split into characters; or say --tokenizer subword")
        return TOKENIZERS[unit].train(texts, text.vocab_size or (None if unit == "subword" else 10_000))

    def load_weights(self, model: RecurrentClassifier) -> None:
        """Put the vectors of a file in place of those of the words that it has."""
        path = self.options.training.embeddings
        if path is None:
            return
        words = [self.tokenizer.id_to_token(i) for i in range(len(SPECIAL), self.tokenizer.vocab_size)]
        vectors, D = load_vectors(path, words)
        if model.embedding.shape[1] != D:
            raise ValueError(f"{path} has vectors of {D} numbers: --wordvec-size must be {D}")
        for i, word in enumerate(words, start=len(SPECIAL)):
            if word in vectors:
                model.embedding[i] = vectors[word]
        print(f"word vectors: {path} has {len(vectors):,} of {len(words):,} words of the vocabulary")

    def make_batches(self, model: RecurrentClassifier) -> tuple[TextBatches, tuple[list[np.ndarray], np.ndarray]]:
        training = self.options.training
        batches = TextBatches(model, *self.encode(self.data.train), training.batch_size, self.rng, training.padded)
        return batches, self.encode(self.data.valid)

    def encode(self, part: list[LabelledText]) -> tuple[list[np.ndarray], np.ndarray]:
        """Word ids of the texts, and their classes, (n,). A text without a word becomes one unknown word."""
        texts = [np.array(self.tokenizer.encode(text) or [self.tokenizer.unk_id], np.int32) for text, _ in part]
        return texts, np.array([label for _, label in part])

    def report(self, model: RecurrentClassifier, trainer: Trainer, folder: Path) -> float:
        texts, labels = self.encode(self.data.test)
        found = model.probabilities(texts).argmax(axis=1)
        accuracy = float((found == labels).mean())
        majority = np.bincount(labels).max() / len(labels)
        print(f"test accuracy {accuracy:.4f}  (always the most frequent class: {majority:.4f})")
        confusion = np.zeros((len(self.data.classes),) * 2, int)
        np.add.at(confusion, (labels, found), 1)
        title = f"{type(model).__name__} on {self.name}: test accuracy {accuracy:.3f}"
        plot_confusion(confusion, self.data.classes, folder / "confusion_matrix.png", title)
        for text in self.options.output.text:
            print_class(model, self.tokenizer, self.data.classes, text)
        return accuracy


def load_texts(text: opt.LabelledTextOptions) -> LabelledTexts:
    if text.corpus == "ag_news":
        data = ag_news.load(text.train_file, text.test_file, text.encoding)
    elif text.train_file is not None:
        data = table.load(text.train_file, text.test_file, text.encoding)
    elif text.test_file is not None:
        raise ValueError("--test-file goes with --train-file")
    else:
        data = sotu.load_eras()
    for split in ("train", "valid", "test"):
        part = getattr(data, split)
        if text.max_texts and text.max_texts < len(part):
            spread = np.arange(text.max_texts) * len(part) // text.max_texts
            setattr(data, split, [part[k] for k in spread])
    return data


def print_class(model: RecurrentClassifier, tokenizer: Tokenizer, classes: list[str], text: str) -> None:
    """Print a text, its likeliest class, and the probabilities of all classes; say which words are not known."""
    report_unknown([word for word in tokenizer.split(text) if tokenizer.token_to_id(word) == tokenizer.unk_id])
    [p] = model.probabilities([words_of(tokenizer, text)])
    print(f"> {text}")
    print(f"  {classes[p.argmax()]}: {', '.join(f'{name} {p_:.3f}' for name, p_ in zip(classes, p))}")


def words_of(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """The ids of the words of a text. Raises ValueError if it has none."""
    words = tokenizer.encode(text)
    if not words:
        raise ValueError("there is no word in the text whose class is asked for")
    return np.array(words, np.int32)


def plot_confusion(counts: np.ndarray, classes: Sequence[str], path: Path, title: str) -> None:
    """Write a confusion matrix to a PNG file: ``counts[i, j]`` texts of class i were taken for class j.

    Of more than 15 classes, cells are small, without figures.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [name if len(name) <= 30 else name[:29] + "…" for name in classes]
    many = len(names) > 15
    longest = max(sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in name) for name in names)
    turned = many or longest > 10  # the names along the bottom
    margin = 0.1 * max(0, longest - 8)  # inches, for long names
    width, height = (0.22, 0.2) if many else (1.1, 0.9)
    figure = new_figure(1.6 + margin + width * len(names), 1.3 + turned * margin + height * len(names))
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(*(0, 0) if many else counts.shape):
        text = f"{counts[i, j]:,}\n{shares[i, j]:.1%}"
        axes.text(j, i, text, ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black", fontsize=9)
    for axis, label in ((axes.xaxis, "class that the model says"), (axes.yaxis, "class of the text")):
        axis.set_ticks(range(len(names)), names, fontsize=7 if many else None)
        axis.set_label_text(label)
    if turned:
        axes.tick_params(axis="x", rotation=90)
    figure.colorbar(image, ax=axes, label="share of the texts of a class")
    axes.set_title(title, parse_math=False)
    save_figure(figure, path)
