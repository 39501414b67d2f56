"""The options of the scripts that train: each is declared once, with its default, range and help.

A script has five groups of options, each a dataclass: text, model, training, output, stopping. ``add_options`` adds
them to the command line, ``parse_options`` reads it. What ``--resume`` may change is marked ``changeable``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass, field, fields
from functools import partial

from common.classifier import POOLS
from common.optimizer import SGD, Adam, AdamW, Momentum
from common.runs.checkpoint import read_options
from common.runs.cli import OneLineParser, fraction, non_negative_int, number, positive_float, positive_int, utf8_text
from common.runs.distributed import launched
from common.runs.folder import weights_file
from dataset.text_file import read_json
from dataset.tokenizer import TOKENIZERS

OPTIMIZERS = {
    "sgd": SGD,
    "momentum": Momentum,
    "adam": partial(Adam, eps=1e-8, corrected=True),  # as PyTorch's, so that results can be compared
    "adamw": AdamW,
}


def option(default: object, help: str, type: object = str, changeable: bool = False, **how: object) -> object:
    """A field of a dataclass that is an option; ``how`` goes to ``add_argument``."""
    return field(default=default, metadata={"changeable": changeable, "how": {"type": type, "help": help, **how}})


def flag(help: str, changeable: bool = False) -> object:
    """An option without a value. One that ``--resume`` may change can be switched off, too, with ``--no-...``."""
    action = argparse.BooleanOptionalAction if changeable else "store_true"
    return field(default=False, metadata={"changeable": changeable, "how": {"action": action, "help": help}})


@dataclass
class TextOptions:
    corpus: str = option("sotu", "sotu, bungo, ptb, wikitext2, or the path of a UTF-8 text file")
    unit: str = option("word", "what sotu or a file is split into", choices=("word", "char"))
    vocab_size: int = option(10_000, "words to keep, for all but ptb, wikitext2", positive_int)
    encoding: str | None = option(None, "of a file that is not UTF-8, such as shift_jis, euc_jp, utf-16, cp1252")
    max_words: int | None = option(None, "use only the first so many words of each split", positive_int)


@dataclass
class DocumentOptions:
    corpus: str = option(
        "bungo",
        "bungo (classical Japanese), jawiki, sotu (paragraphs), or the path of a UTF-8 file, one document per line",
    )
    tokenizer: str = option("subword", "what a document is split into", choices=TOKENIZERS)
    vocab_size: int | None = option(
        None, "tokens, the special ones included [8000, or fewer for a small text]", positive_int
    )
    encoding: str | None = option(None, "of a file that is not UTF-8, such as shift_jis, euc_jp, utf-16, cp1252")
    max_documents: int | None = option(None, "use only the first so many documents of each split", positive_int)


@dataclass
class LabelledTextOptions:
    corpus: str = option("sotu", "presidents by era, or news by topic", choices=("sotu", "ag_news"))
    train_file: str | None = option(
        None,
        "your own texts: a table, CSV or tabs, with a class and a text in each row. The class is in the first or last "
        "column, or in one that the first row names label, class, category, ...",
        metavar="FILE",
    )
    test_file: str | None = option(
        None, "the same to test on; otherwise it is a tenth of the training file, of each class", metavar="FILE"
    )
    tokenizer: str | None = option(
        None, "what a text is split into [word or, if it has no spaces between words, char]", choices=TOKENIZERS
    )
    vocab_size: int | None = option(
        None, "words to keep, four special ones included [10,000, or fewer subwords for small texts]", positive_int
    )
    encoding: str | None = option(None, "of files that are not UTF-8, such as shift_jis, euc_jp, utf-16, cp1252")
    max_texts: int | None = option(None, "use only so many texts, evenly spread, of each split", positive_int)


@dataclass
class ModelOptions:
    wordvec_size: int = option(100, "size of a word vector, D", positive_int)
    hidden_size: int = option(100, "size of the hidden state, H", positive_int)
    layers: int = option(1, "recurrent layers, stacked", positive_int)
    dropout: float = option(0.0, "probability that an element is dropped", fraction)
    locked_dropout: bool = flag("drop the same elements at all steps of a window (variational)")
    weight_drop: float = option(0.0, "probability that a recurrent weight is dropped for a window", fraction)
    word_dropout: float = option(0.0, "probability that a word is dropped everywhere in a window", fraction)
    tie_weights: bool = flag("embedding and output layer share their weights; needs D = H")
    init_range: float | None = option(
        None,
        "draw all initial weights uniformly from -R to R; otherwise each layer has its own scale",
        positive_float,
        metavar="R",
    )


@dataclass
class LstmOptions(ModelOptions):
    forget_bias: float = option(0.0, "initial bias of the forget gate; try 1", number(float, -10, 10))
    peepholes: bool = flag("let the gates see the cell state")


@dataclass
class GruOptions(ModelOptions):
    reset_after: bool = flag("multiply by the reset gate after the product, as PyTorch does")


@dataclass
class ClassifierOptions:
    wordvec_size: int = option(64, "size of a word vector, D", positive_int)
    hidden_size: int = option(32, "size of the hidden state, H", positive_int)
    layers: int = option(1, "recurrent layers, stacked", positive_int)
    bidirectional: bool = flag("read each text from both ends")
    pool: str = option("last", "what represents a text: its last state, or the mean of all", choices=POOLS)
    dropout: float = option(0.3, "probability that an element is dropped", fraction)
    fixed_embedding: bool = flag("do not train the word vectors")


@dataclass
class TrainingOptions:
    # Those without help, at the end, are no options, unless a subclass makes them so.
    epochs: int | None = option(
        None, "passes through the texts [as many as the size of the texts asks for]", positive_int, changeable=True
    )
    batch_size: int = option(20, "sequences in a batch, N", positive_int)
    lr: float = option(0.002, "learning rate; SGD wants one above 1", positive_float, changeable=True)
    max_grad: float = option(1.0, "maximum gradient norm, over all weights", positive_float, changeable=True)
    patience: int = option(
        5,
        "end after so many epochs (more if they are short) in which the valid figure has not improved; 0: never",
        non_negative_int,
        changeable=True,
    )
    seed: int = option(0, "seed of all random numbers", non_negative_int)
    gpu: bool = flag("train on an NVIDIA GPU with CuPy", changeable=True)
    optimizer: str = "adam"
    weights: str | None = None
    lr_decay: float = 1.0
    decay_after: int | None = None
    schedule: str = "plateau"
    warmup: int = 0
    eval_interval: int | None = None
    mpi: bool = False
    steps: int = (
        2500  # of a training whose epochs are not given, about: a small text is read more often than a large one
    )


@dataclass
class LanguageModelTrainingOptions(TrainingOptions):
    epochs: int | None = option(
        None,
        "passes through the text; 0 only measures [as many as the size of the text asks for]",
        non_negative_int,
        changeable=True,
    )
    time_size: int = option(35, "words that gradients reach back, T", positive_int)
    optimizer: str = option("adam", "rule that updates the weights", choices=OPTIMIZERS)
    lr_decay: float = option(
        4.0,
        "divide the learning rate by this after an epoch in which the valid perplexity has not fallen, down to a "
        "thousandth of --lr at the least",
        number(float, 1, low_included=True),
        changeable=True,
    )
    schedule: str = option(
        "plateau",
        "when the learning rate falls: as --lr-decay says or, as half a cosine, at each step down to 0 at the last",
        choices=("plateau", "cosine"),
    )
    warmup: int = option(0, "steps in which a cosine schedule first rises to --lr", non_negative_int)
    decay_after: int | None = option(
        None, "divide it instead after this epoch and each later one", positive_int, changeable=True, metavar="EPOCH"
    )
    eval_interval: int = option(100, "steps between two records", positive_int)
    mpi: bool = flag(
        "share each batch with the other processes that mpiexec has started: mpiexec -n 4 python SCRIPT --mpi",
        changeable=True,
    )
    weights: str | None = option(
        None,
        "start from the best weights of this run, with its vocabulary and sizes, on its text or another: to train "
        "further or, with --epochs 0, to measure",
        metavar="FOLDER",
    )


@dataclass
class TextTrainingOptions(LanguageModelTrainingOptions):
    loss: str = option(
        "mean",
        "follow the gradient of the mean loss of a word or, as many papers do, of the sum over the T words of a "
        "window, which is T times as large: for T = 20, SGD with lr 1 and max-grad 5 on the sum is SGD with lr 20 and "
        "max-grad 0.25 on the mean. What is printed is the mean either way",
        choices=("mean", "sum"),
    )
    restart: bool = flag(
        "start each epoch at the same places with a state of zeros; otherwise it starts where the last one stopped, so "
        "that windows are cut differently"
    )


@dataclass
class DocumentTrainingOptions(LanguageModelTrainingOptions):
    padded: bool = flag("pad batches instead of packing them: slower")
    bucketed: bool = flag("batches of documents of similar length: faster, and fewer updates per epoch")


@dataclass
class ClassifierTrainingOptions(TrainingOptions):
    batch_size: int = option(16, "texts in a batch, N", positive_int)
    steps: int = 3300
    lr: float = option(0.001, "learning rate of Adam", positive_float, changeable=True)
    padded: bool = flag("pad batches instead of packing them: the same result, but more work")
    embeddings: str | None = option(
        None, "start from these word vectors: on each line, a word and its numbers", metavar="FILE"
    )
    eval_interval: int = 100


@dataclass
class OutputOptions:
    name: str | None = option(
        None, "results go to runs/NAME [{name}-CORPUS or, if that is taken, {name}-CORPUS-2, ...]"
    )
    overwrite: bool = flag("replace an earlier training of that name")
    quick: bool = flag("a tiny model on a little text, to see it run in seconds")


@dataclass
class SampleOptions(OutputOptions):
    samples: int = option(3, "sentences to write at the end", non_negative_int, changeable=True)
    sample_words: int = option(40, "longest sentence, in words", positive_int, changeable=True)
    temperature: float = option(0.8, "below 1: likelier words; above: rarer", positive_float, changeable=True)
    watch: bool = flag("print each record of the training, and a sentence that the model writes then", changeable=True)


@dataclass
class ClassifierOutputOptions(OutputOptions):
    text: tuple[str, ...] = option(
        (), "a text to find the class of; may be repeated", utf8_text, changeable=True, action="append"
    )


@dataclass
class StoppingOptions:
    resume: str | None = option(
        None,
        "continue the training whose checkpoint is in this folder, with its options, of which some may be changed",
        metavar="FOLDER",
    )
    checkpoint_seconds: float = option(
        300.0,
        "seconds between two checkpoints; there is also one after each epoch and at Ctrl-C",
        number(float, 0, low_included=True),
        changeable=True,
        metavar="S",
    )
    skip_bad_steps: bool = flag(
        "skip a step whose loss or gradient is not finite, instead of ending with an error; the line of each epoch "
        "counts such steps",
        changeable=True,
    )


@dataclass
class Options:
    """The options of a training, by group; those with which it began, if it is resumed."""

    text: TextOptions | DocumentOptions | LabelledTextOptions
    model: ModelOptions | ClassifierOptions
    training: TrainingOptions
    output: OutputOptions
    stopping: StoppingOptions
    began_with: dict[str, object] | None = None

    def as_dict(self) -> dict[str, object]:
        """All but ``--resume``, by name."""
        groups = (self.text, self.model, self.training, self.output, self.stopping)
        return {name: x for group in groups for name, x in asdict(group).items() if name != "resume"}


# The options that ``--help`` shows; the rest are for ``--help-all``.
_USUAL = {
    *(
        "corpus",
        "unit",
        "tokenizer",
        "encoding",
        "train_file",
        "test_file",
        "vocab_size",
        "wordvec_size",
        "hidden_size",
        "layers",
    ),
    *("dropout", "epochs", "batch_size", "lr", "seed", "gpu", "weights", "name", "quick", "samples", "text", "resume"),
    *("bidirectional", "texts"),
}

# What weights that exist already say of a text and a model. All else, such as dropout, may be another than theirs was.
_FIXED_BY_WEIGHTS = {
    *("unit", "tokenizer", "vocab_size", "wordvec_size", "hidden_size", "layers", "tie_weights"),
    *("peepholes", "reset_after"),
}

Groups = tuple[type, ...]  # the dataclasses of text, model, training, output, stopping
Values = dict[str, object]  # of options, by name


def add_options(parser: OneLineParser, groups: Groups, name: str) -> None:
    """Add the options of all groups; results of the training go to runs/NAME-CORPUS."""
    rare = []
    for title, group in zip(("text", "model", "training", "output", "stopping and resuming"), groups):
        place = parser.add_argument_group(title)
        for each in fields(group):
            if "how" in each.metadata:
                how = dict(each.metadata["how"])
                how["help"] = how["help"].replace("{name}", name)
                default = [] if each.default == () else each.default
                action = place.add_argument("--" + each.name.replace("_", "-"), default=default, **how)
                if each.name not in _USUAL:
                    rare.append(action)
            else:
                parser.set_defaults(**{each.name: each.default})
    parser.hide(rare)


def changeable_options(groups: Groups) -> list[str]:
    return [f.name for group in groups for f in fields(group) if f.metadata.get("changeable")]


def parse_options(parser: OneLineParser, groups: Groups, argv: list[str] | None, quick: dict[str, object]) -> Options:
    """Parse the command line. It overrides the values of ``--quick``, and the options of ``--resume``."""
    argv = sys.argv[1:] if argv is None else argv
    began_with = None
    args = parser.parse_args(argv)
    if args.resume is not None:
        with parser.reporting_errors():
            began_with = read_options(args.resume)
            args = parser.parse_args([*command_line(parser, began_with), *argv])
    else:
        if args.quick:
            parser.set_defaults(**quick)
        found = {}
        if args.weights is not None:
            with parser.reporting_errors():
                found = options_of_weights(args.weights, groups)
            parser.set_defaults(**found)
        args = parser.parse_args(argv)
        for name in _FIXED_BY_WEIGHTS & found.keys():
            if getattr(args, name) != found[name]:
                option = f"--{name.replace('_', '-')}"
                parser.error(
                    f"{option} must be that of {args.weights}, {found[name]}: leave out this option, or --weights"
                )
    if launched() > 1 and not args.mpi:
        together = "let them train together with --mpi, or start one"
        parser.error(
            f"mpiexec has started {launched()} processes, which would each train by itself and write the same files: "
            + (together if "mpi" in changeable_options(groups) else "start this script without it")
        )
    text, model, training, output, stopping = (
        group(**{each.name: getattr(args, each.name) for each in fields(group)}) for group in groups
    )
    return Options(text, model, training, output, stopping, began_with)


def options_of_weights(weights: str, groups: Groups) -> Values:
    """What the run that has left these weights says of the model, and of how it splits a text."""
    if not weights_file(weights).is_file():
        raise ValueError(f"--weights takes the folder of a training, or a file: there is no {weights_file(weights)}")
    path = weights_file(weights).parent / "options.json"
    if not path.exists():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: it has no options")
    _, model, *_ = groups
    names = {each.name for each in fields(model)} | {"unit", "tokenizer", "vocab_size"}
    return {name: value for name, value in found.items() if name in names}


def command_line(parser: OneLineParser, options: dict[str, object]) -> list[str]:
    """The command line that gives these options, so that what a file says is checked as what a user says."""
    words = []
    for action in parser._actions:
        value = options.get(action.dest)
        if action.dest == "resume" or value is None or value is False:
            continue
        option = action.option_strings[0]
        if isinstance(action.default, list) and isinstance(value, list):  # an option that may be repeated
            words += [f"{option}={each}" for each in value]
        else:
            words.append(option if value is True else f"{option}={value}")
    return words
