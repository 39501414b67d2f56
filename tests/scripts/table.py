"""The table of all scripts: their options, the smallest run of each, what --quick leaves, and bad values of options."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from helpers import NOT_POSITIVE, RESULTS

import common

ROOT = Path(common.__file__).parents[1]


@dataclass
class Script:
    """A script. Its runs are in a folder that has text.txt, made by ``write_text``, in it."""

    options: str  # all that --help names
    small: list[object] | None = None  # the smallest run, with --quick; None: the script reads a trained model
    quick: list[object] = field(default_factory=list)  # besides --quick, to see what it prints and leaves
    folder: str | None = None  # of the results of the quick run
    results: list[str] = field(default_factory=list)
    figure: tuple[str, float, float] | None = None  # how the line with the last figure begins; and its bounds
    good: str = ""  # options that have bad values elsewhere, with a value that is good here: epochs=0


SIZE = ["--wordvec-size", 8, "--hidden-size", 8]
BATCH = ["--corpus", "text.txt", *SIZE, "--batch-size", 4, "--time-size", 5, "--dropout", 0.2, "--eval-interval", 7]
TEXT = [*BATCH, "--max-words", 400]
DOCUMENTS = [*BATCH, "--max-documents", 40, "--tokenizer", "word"]
LABELLED = [*SIZE, "--max-texts", 20, "--epochs", 1, "--dropout", 0.2, "--text", "the state of the union"]
LABELLED += ["--checkpoint-seconds", 0]  # after each step

MODEL = "wordvec-size hidden-size layers dropout locked-dropout weight-drop word-dropout tie-weights init-range "
LSTM, GRU = "forget-bias peepholes ", "reset-after "
STOPPING = "resume checkpoint-seconds skip-bad-steps "
TRAINING = "epochs batch-size time-size optimizer lr lr-decay decay-after patience max-grad eval-interval seed gpu "
TRAINING += "schedule warmup mpi weights overwrite name samples sample-words temperature watch quick " + STOPPING
ONE_TEXT = "corpus unit encoding vocab-size max-words loss restart " + MODEL + TRAINING
MANY = "corpus tokenizer encoding vocab-size max-documents padded bucketed " + MODEL + TRAINING
CLASSES = "corpus train-file test-file tokenizer encoding vocab-size max-texts wordvec-size hidden-size layers "
CLASSES += "bidirectional pool dropout "
CLASSES += (
    "embeddings fixed-embedding epochs batch-size padded lr max-grad patience seed gpu name overwrite text quick "
)
CLASSES += STOPPING

TOKENIZED = sorted(({*RESULTS} - {"vocabulary.json", "warm_up.json"}) | {"tokenizer.json"})
CLASSIFIED = sorted(({*TOKENIZED} - {"learning_curve.png"}) | {"confusion_matrix.png"})
WORD = ["--corpus", "text.txt", "--tokenizer", "word"]
TEST, VALID, ACCURACY = "test perplexity ", "valid perplexity ", "test accuracy "

SCRIPTS = {
    "ch05_rnn/sentence_rnn.py": Script(
        "corpus vocab-size sentences form update-every wordvec-size hidden-size epochs lr max-grad show-every text "
        "seed gpu quick",
        ["--corpus", "text.txt", *SIZE, "--form", "stream", "--sentences", 40],
    ),
    "ch05_rnn/train_classifier.py": Script(
        CLASSES, LABELLED, folder="rnn-classifier-sotu", results=CLASSIFIED, figure=(ACCURACY, 0.45, 0.9)
    ),
    "ch05_rnn/train_custom_loop.py": Script(
        "corpus seed quick plot",
        ["--corpus", "text.txt"],
        figure=("epoch +10  perplexity ", 100, 200),
    ),
    "ch05_rnn/train_rnnlm.py": Script(
        ONE_TEXT,
        [*TEXT, "--tie-weights", "--watch"],
        folder="rnnlm-sotu",
        results=RESULTS,
        figure=(TEST, 30, 300),
        good="epochs=0",
    ),
    "ch05_rnn/train_sentence_rnnlm.py": Script(
        MANY,
        [*DOCUMENTS, "--locked-dropout"],
        WORD,
        folder="sentence-rnnlm-text",
        results=TOKENIZED,
        figure=(VALID, 2, 5),
        good="epochs=0",
    ),
    "ch06_gated/classify.py": Script(""),
    "ch06_gated/generate_text.py": Script("prompt length texts temperature top-k top-p keep-going seed"),
    "ch06_gated/gradient_through_time.py": Script(
        "corpus vocab-size wordvec-size hidden-size forget-bias time-size windows epochs train-words lr seed seeds "
        "output show quick",
        ["--corpus", "text.txt", *SIZE, "--time-size", 4],
    ),
    "ch06_gated/colour_text.py": Script("text by unit output"),
    "ch06_gated/compare_runs.py": Script("output"),
    "ch06_gated/word_map.py": Script("top output"),
    "ch06_gated/memorize.py": Script(
        "corpus texts longest tokenizer vocab-size wordvec-size hidden-size batch-size epochs lr max-grad patience "
        "close interval seed gpu name overwrite quick " + STOPPING,
        ["--corpus", "text.txt", *SIZE, "--texts", 9, "--epochs", 4, "--interval", 2],
        [*WORD, "--texts", 9],
        folder="memorize-text",
        results=TOKENIZED,
        figure=("in the end  loss ", 0.2, 0.5),
    ),
    "ch06_gated/sentence_probability.py": Script(""),
    "ch06_gated/show_gates.py": Script("sentence layer units output show"),
    "ch06_gated/train_series.py": Script("column encoding season hidden-size steps lr seed output"),
    "ch06_gated/train_better_lstm_lm.py": Script(
        ONE_TEXT + LSTM,
        [*TEXT, "--optimizer", "adam"],
        folder="better-lstm-sotu",
        results=RESULTS,
        figure=(TEST, 30, 300),
        good="epochs=0",
    ),
    "ch06_gated/train_char_lm.py": Script(
        ONE_TEXT + LSTM,
        [*TEXT, "--time-size", 20],
        ["--corpus", "sotu"],
        folder="char-sotu",
        results=RESULTS,
        figure=(TEST, 2, 40),  # of some 120 characters
        good="epochs=0",
    ),
    "ch06_gated/train_classifier.py": Script(
        CLASSES,
        [*LABELLED, "--bidirectional"],
        folder="lstm-classifier-sotu",
        results=CLASSIFIED,
        figure=(ACCURACY, 0.45, 0.9),
    ),
    "ch06_gated/train_gru_lm.py": Script(
        ONE_TEXT + GRU,
        [*TEXT, "--layers", 2, "--reset-after"],
        folder="gru-sotu",
        results=RESULTS,
        figure=(TEST, 30, 300),
        good="epochs=0",
    ),
    "ch06_gated/train_lstm_lm.py": Script(
        ONE_TEXT + LSTM,
        [*TEXT, "--peepholes", "--optimizer", "momentum"],
        folder="lstm-sotu",
        results=RESULTS,
        figure=(TEST, 30, 300),
        good="epochs=0",
    ),
    "ch06_gated/train_sentence_lstm_lm.py": Script(
        MANY + LSTM,
        [*DOCUMENTS, "--padded", "--bucketed"],
        WORD,
        folder="sentence-lstm-text",
        results=TOKENIZED,
        figure=(VALID, 2, 18),
        good="epochs=0",
    ),
    "ch06_gated/train_sequences.py": Script(
        "sequences wordvec-size hidden-size lr max-steps show-every seed gpu quick", ["--show-every", 5]
    ),
    "ch06_gated/train_sine.py": Script(
        "cycles batch-size time-size epochs lr init-range free-cycles seed gpu output quick",
        ["--cycles", 11, "--free-cycles", 1, "--epochs", 5],
        folder="sine",
        results=["sine.png"],
    ),
}

# Values that no script takes for an option, whatever it is an option of.
POSITIVE = [*NOT_POSITIVE, "nan", "inf"]
BAD_VALUES = {
    **dict.fromkeys(
        ["batch-size", "time-size", "wordvec-size", "hidden-size", "layers", "eval-interval"], NOT_POSITIVE
    ),
    **dict.fromkeys(["vocab-size", "max-words", "max-documents", "max-texts", "decay-after"], NOT_POSITIVE),
    **dict.fromkeys(
        ["sample-words", "length", "texts", "top-k", "units", "layer", "windows", "train-words"], NOT_POSITIVE
    ),
    **dict.fromkeys(
        [
            "sentences",
            "update-every",
            "show-every",
            "max-steps",
            "longest",
            "interval",
            "free-cycles",
            "season",
            "seeds",
            "steps",
            "top",
        ],
        NOT_POSITIVE,
    ),
    "epochs": [*NOT_POSITIVE, "1.5"],
    **dict.fromkeys(["lr", "max-grad", "temperature", "init-range", "close"], POSITIVE),
    "cycles": ["0", "1", "some"],
    "dropout": ["1", "-0.1", "nan", "some"],
    "lr-decay": ["0.5", "-2", "inf", "fast"],
    "forget-bias": ["-11", "11", "nan", "much"],
    "top-p": [*NOT_POSITIVE, "1.01", "nan"],
    "checkpoint-seconds": ["-1", "nan", "often"],
    "seed": ["-1", "luck", ""],
    "samples": ["-1", "some"],
    "patience": ["-1", "some"],
    "by": ["colour", ""],
    "warmup": ["-1", "some"],
    "schedule": ["steps", ""],
    "weight-drop": ["1", "-0.1", "nan", "some"],
    "word-dropout": ["1", "-0.1", "nan", "some"],
    "unit": ["sentence", ""],
    "optimizer": ["rmsprop", ""],
    "loss": ["median", ""],
    "tokenizer": ["bytes", ""],
    "pool": ["max", ""],
    "form": ["circle", ""],
}


def main_of(script: str) -> Callable:
    """The ``main`` of a script of the table."""
    return importlib.import_module(script.removesuffix(".py").replace("/", ".")).main


def id_of(script: str) -> str:
    return script.removesuffix(".py").replace("ch05_rnn/", "5-").replace("ch06_gated/", "6-")


def call(capsys, script, *options, name="x"):
    """Run a script small; return its value, what it prints besides figures of the machine, and the best weights."""
    capsys.readouterr()
    options = ["--quick", *SCRIPTS[script].small, *options]
    if "name" in SCRIPTS[script].options.split():
        options += ["--name", name, "--overwrite"]
    value = main_of(script)(list(map(str, options)))
    out = re.sub(r"  [\d,]+ tokens/s|  GPU memory [^\n]*held", "", capsys.readouterr().out)
    return value, out.replace(f"runs/{name}", "runs/NAME"), weights(name)


def weights(name):
    """The best weights in runs/NAME, if there are any."""
    arrays = {}
    for path in sorted(Path("runs", name).glob("best_weights.npz")):
        with np.load(path) as file:
            arrays |= {key: file[key] for key in file.files}
    return arrays
