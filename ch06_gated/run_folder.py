"""A trained model out of the folder that its training left, with the words that it knows."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dataset
from ch05_rnn.simple_rnnlm import SimpleRnnlm
from ch06_gated.better_lstm_lm import BetterLstmLm
from ch06_gated.gru_lm import GruLm
from ch06_gated.lstm_lm import LstmLm
from common.recurrent_lm import RecurrentLm
from dataset.corpus import EOS, UNK, split_characters

MODELS = {model.__name__: model for model in (SimpleRnnlm, LstmLm, GruLm, BetterLstmLm)}


@dataclass
class Run:
    """A trained model and its vocabulary.

    Attributes
    ----------
    model : RecurrentLm
    id_to_word : list of str
    corpus, unit : str
        What it was trained on: ``--corpus`` and ``--unit``.
    """

    model: RecurrentLm
    id_to_word: list[str]
    corpus: str
    unit: str

    def __post_init__(self) -> None:
        self.word_to_id = {word: i for i, word in enumerate(self.id_to_word)}
        self.eos_id = self.word_to_id[EOS]
        self.unk_id = self.word_to_id.get(UNK)
        self.separator = "" if dataset.splitter(self.corpus, self.unit) is split_characters else " "

    def words(self, line: str) -> list[str]:
        """Split a line as the text of the training was split."""
        return dataset.splitter(self.corpus, self.unit)(line)

    def ids(self, words: Sequence[str]) -> list[int]:
        """Return the ids of words. One that the model does not know is read as ``<unk>``, and a line says so.

        Raises
        ------
        ValueError
            If there is such a word, but no ``<unk>`` in the vocabulary.
        """
        unknown = [word for word in dict.fromkeys(words) if word not in self.word_to_id]
        if unknown and self.unk_id is None:
            raise ValueError(f"not in the vocabulary: {' '.join(unknown)}")
        if unknown:
            print(f"not in the vocabulary, read as {UNK}: {' '.join(unknown)}", file=sys.stderr)
        return [self.word_to_id.get(word, self.unk_id) for word in words]


def load_run(folder: str | Path) -> Run:
    """Load what ``train_rnnlm.py``, ``train_lstm_lm.py`` and the like have written to runs/NAME.

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If the folder is not one of a run, or its files do not belong together.
    """
    folder = Path(folder)
    if not (folder / "options.json").is_file():
        raise ValueError(f"{folder} is not the folder of a training: it has no options.json")
    options, id_to_word = read_json(folder / "options.json"), read_json(folder / "vocabulary.json")
    if not isinstance(id_to_word, list) or not all(isinstance(word, str) for word in id_to_word):
        raise ValueError(f"{folder / 'vocabulary.json'} is not a list of words")
    if len(set(id_to_word)) != len(id_to_word):
        raise ValueError(f"{folder / 'vocabulary.json'} has a word twice")
    if EOS not in id_to_word:
        raise ValueError(f"{folder / 'vocabulary.json'} has no {EOS}")
    try:
        arguments = dict(options["arguments"])
        if forbidden := {"rng", "dtype"} & set(arguments):  # arguments, but none that a file can hold
            raise ValueError(f"{', '.join(sorted(forbidden))} among the arguments")
        model = MODELS[options["model"]](**arguments)
        corpus, unit = str(options["corpus"]), options["unit"]
        dataset.splitter(corpus, unit)
    except (KeyError, TypeError, ValueError, MemoryError) as error:
        raise ValueError(f"{folder / 'options.json'} does not describe a model: {error!r}") from None
    if arguments["vocab_size"] != len(id_to_word):
        raise ValueError(f"{folder}: options.json and vocabulary.json differ in the number of words")
    model.load(folder / "best_weights.npz")
    return Run(model, id_to_word, corpus, unit)


def read_json(path: Path) -> object:
    """Read a JSON file, or say that it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or too deeply nested
        raise ValueError(f"{path} is damaged: {error}") from None
