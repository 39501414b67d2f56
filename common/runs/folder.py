"""The folder of a run: making it for a training, and loading the trained model out of it.

A ``Run`` was trained on one long text, a ``SentenceRun`` on documents. Both have the same interface: a text begins
after ``start_ids`` and ends with ``eos_id``; ``words`` splits it and ``join`` is the inverse; ``ids`` and ``word`` go
from words to ids and back; ``knows`` tells whether a word is in the vocabulary. When the model writes, ``skip_ids`` are
never drawn, and ``stop_id`` ends the text.

A model writes, scores and is looked into from a state that it knows from its training. A SentenceRun was trained to
begin with a state of zeros. A Run was not: its state was carried through the whole text, so it reads some of that text
first, the warm-up that is kept in its folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dataset
from common.model import Model
from common.npz import atomic_write
from common.recurrent_lm import RecurrentLm
from dataset.corpus import EOS, UNK, split_characters
from dataset.decoding import decode_utf8
from dataset.text_file import read_json
from dataset.tokenizer import CharTokenizer, SentencePieceTokenizer, Tokenizer, load_tokenizer

# What a run leaves in its folder; what is needed to use the weights is the options and a vocabulary or a tokenizer.
RESULTS = (
    "options.json",
    *("best_weights.npz", "checkpoint.npz", "history.csv", "learning_curve.png", "confusion_matrix.png"),
    *("vocabulary.json", "warm_up.json", SentencePieceTokenizer.file_name, CharTokenizer.file_name),
)

Models = dict[str, type[Model]]  # by the names of their classes


def make_run_folder(name: str | None, default: str, overwrite: bool) -> Path:
    """Make the folder of a new training: runs/NAME or, without a name, the first of runs/DEFAULT, runs/DEFAULT-2, ...

    With ``overwrite``, what an earlier training has left there is deleted. Otherwise a ValueError is raised if a
    training is in runs/NAME, and one in runs/DEFAULT is passed by.
    """
    k = 1
    while True:
        folder = Path("runs") / (name or (default if k == 1 else f"{default}-{k}"))
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for result in RESULTS:
                (folder / result).unlink(missing_ok=True)
            return folder
        if not any((folder / result).exists() for result in RESULTS):
            with (
                suppress(FileExistsError),
                open(folder / "options.json", "x"),
            ):  # of two that start at once, one gets it
                return folder
        if name is not None:
            raise ValueError(
                f"{folder} holds a training: give this one another --name, replace that one with --overwrite, or go on "
                f"with it: --resume {folder}"
            )
        k += 1


def check_resumed(
    folder: Path, options: dict[str, object], began_with: dict[str, object], changeable: list[str]
) -> None:
    """Raise ValueError unless the options are those with which the training began, but for changeable ones."""
    for key in sorted(began_with, key=lambda key: key != "model"):  # of another model, all is different
        if key not in changeable and options.get(key) != began_with[key]:
            raise ValueError(
                f"the training in {folder} began with {key} = {began_with[key]}, "
                f"and cannot go on with {key} = {options.get(key)}"
            )


def weights_file(path: str | Path) -> Path:
    """The file of the best weights, given it or the folder of its run."""
    path = Path(path)
    return path / "best_weights.npz" if path.is_dir() else path


def write_options(folder: Path, options: dict[str, object]) -> None:
    with atomic_write(folder / "options.json") as file:  # a kill leaves the old options whole
        file.write((json.dumps(options, indent=2) + "\n").encode())


@dataclass
class Run:
    """A trained model and its vocabulary; ``corpus`` and ``unit`` are options of the training.

    ``warm_up`` are words that the model reads before a text begins: some of its training text, up to a line end.
    """

    model: RecurrentLm
    id_to_word: list[str]
    corpus: str
    unit: str
    warm_up: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.word_to_id = {word: i for i, word in enumerate(self.id_to_word)}
        self.eos_id = self.word_to_id[EOS]
        self.start_ids = [*(self.word_to_id[word] for word in self.warm_up), self.eos_id]  # a line begins after another
        self.unk_id = self.word_to_id.get(UNK)
        self.skip_ids = [] if self.unk_id is None else [self.unk_id]
        self.split = dataset.splitter(self.corpus, self.unit)
        self.separator = "" if self.split is split_characters else " "
        self.stop_id = None if self.separator == "" else self.eos_id  # characters are written line after line

    def words(self, line: str) -> list[str]:
        """Split a line as the text of the training was split. Between lines of characters, there is an <eos>."""
        # Of the last line end nothing is left.
        return [EOS if word == "\n" else word for word in self.split(line + "\n")]

    def ids(self, words: Sequence[str]) -> list[int]:
        """Return the ids of words; unknown ones are read as ``<unk>``. Raises ValueError if the vocabulary has none."""
        unknown = [word for word in words if word not in self.word_to_id]
        if unknown and self.unk_id is None:
            raise ValueError(f"not in the vocabulary: {' '.join(dict.fromkeys(unknown))}")
        report_unknown(unknown)
        return [self.word_to_id.get(word, self.unk_id) for word in words]

    def word(self, i: int) -> str:
        return self.id_to_word[i]

    def knows(self, word: str) -> bool:
        return word in self.word_to_id

    def join(self, words: Sequence[str]) -> str:
        """Return the text of words; ``<eos>`` ends a line."""
        lines: list[list[str]] = [[]]
        for word in words:
            if word == EOS:
                lines.append([])
            else:
                lines[-1].append(word)
        return "\n".join(self.separator.join(line) for line in lines)


@dataclass
class SentenceRun:
    """A model that was trained on documents from ``<s>`` to ``</s>``, and its tokenizer. Its words are tokens."""

    model: RecurrentLm
    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        t = self.tokenizer
        self.start_ids, self.eos_id, self.unk_id = [t.bos_id], t.eos_id, t.unk_id
        self.stop_id = self.eos_id
        self.skip_ids = [t.unk_id, t.bos_id, t.pad_id]

    def words(self, line: str) -> list[str]:
        return self.tokenizer.split(line)

    def ids(self, words: Sequence[str]) -> list[int]:
        ids = [self.tokenizer.token_to_id(word) for word in words]
        report_unknown([word for word, i in zip(words, ids) if i == self.unk_id])
        return ids

    def word(self, i: int) -> str:
        return self.tokenizer.id_to_token(i)

    def knows(self, word: str) -> bool:
        return self.tokenizer.token_to_id(word) != self.unk_id

    def join(self, words: Sequence[str]) -> str:
        return self.tokenizer.join(words)


def report_unknown(words: list[str]) -> None:
    if words:
        print(f"not in the vocabulary, read as {UNK}: {' '.join(dict.fromkeys(words))}", file=sys.stderr)


def load_run(folder: str | Path, models: Models) -> Run | SentenceRun:
    """Load what a script that trains a language model, one of ``models``, has written to runs/NAME.

    Raises OSError if a file cannot be read, ValueError if the folder is not one of a run, or its files do not belong
    together.
    """
    folder = Path(folder)
    with described(folder, "model") as options:
        model = make_model(options, models, folder / "best_weights.npz")
        if "tokenizer_sha256" not in options:
            corpus, unit = str(options["corpus"]), options["unit"]
            dataset.splitter(corpus, unit)
    if "tokenizer_sha256" in options:
        tokenizer = load_tokenizer(folder)
        if tokenizer.sha256 != options["tokenizer_sha256"]:
            raise ValueError(f"{folder} has another tokenizer than that of the training")
        vocab_size = tokenizer.vocab_size
    else:
        id_to_word = read_vocabulary(folder / "vocabulary.json")
        vocab_size = len(id_to_word)
    if options["arguments"]["vocab_size"] != vocab_size:
        raise ValueError(f"{folder}: options.json and the vocabulary differ in the number of words")
    model.load(folder / "best_weights.npz")
    if "tokenizer_sha256" in options:
        return SentenceRun(model, tokenizer)
    return Run(model, id_to_word, corpus, unit, _read_warm_up(folder / "warm_up.json", id_to_word))


@contextmanager
def described(folder: Path, kind: str) -> Iterator[dict[str, object]]:
    """Hand out the options of a training; if they are not what the ``with`` block needs, a ValueError says so."""
    path = folder / "options.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not the folder of a training: it has no options.json")
    options = read_json(path)
    try:
        yield options
    except (KeyError, TypeError, ValueError, MemoryError) as error:
        raise ValueError(f"{path} does not describe a {kind}: {error!r}") from None


def make_model(options: dict[str, object], models: Models, weights: Path) -> Model:
    """Make the model that options name, if its weights, which are still to be loaded, have room in the file."""
    arguments = options["arguments"]
    if forbidden := {"rng", "dtype"} & set(arguments):  # arguments, but none that a file can hold
        raise ValueError(f"{', '.join(sorted(forbidden))} among the arguments")
    V, D, H = (arguments[name] for name in ("vocab_size", "wordvec_size", "hidden_size"))
    layers = arguments.get("layers", 1)
    C = 0 if arguments.get("tie_weights") else arguments.get("classes", V)
    if not all(isinstance(size, int) for size in (V, D, H, C, layers)):
        raise TypeError(f"sizes must be whole numbers, got {str([V, D, H, C, layers])[:100]}")
    least = V * D + D * H + (2 * layers - 1) * H * H + H * C  # of a simple RNN without biases, float32
    if 4 * least > max(weights.stat().st_size, 2**20):  # a small model costs nothing, and gets a better message
        raise ValueError(f"it would have {least:,} weights or more, for which {weights} is too small")
    return models[options["model"]](**arguments)


def read_vocabulary(path: Path) -> list[str]:
    id_to_word = read_json(path)
    if not isinstance(id_to_word, list) or not all(isinstance(word, str) for word in id_to_word):
        raise ValueError(f"{path} is not a list of words")
    if len(set(id_to_word)) != len(id_to_word):
        raise ValueError(f"{path} has a word twice")
    if EOS not in id_to_word:
        raise ValueError(f"{path} has no {EOS}")
    return id_to_word


def _read_warm_up(path: Path, id_to_word: list[str]) -> list[str]:
    words = read_json(path)
    if not isinstance(words, list) or not set(map(str, words)) <= set(id_to_word):
        raise ValueError(f"{path} is not a list of words of the vocabulary")
    return words


def read_lines(path: str | None) -> list[str]:
    """The lines of a UTF-8 file, or of standard input, but empty ones. Raises OSError or DatasetError if it is none."""
    data = sys.stdin.buffer.read() if path is None else Path(path).read_bytes()
    return [line for line in decode_utf8(data, path).split("\n") if line.strip()]
