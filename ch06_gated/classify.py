"""Find the classes of texts with a trained classifier.

python ch06_gated/train_classifier.py --corpus ag_news                    # leaves runs/lstm-classifier-ag_news
python ch06_gated/classify.py runs/lstm-classifier-ag_news texts.txt      # one text per line; or from standard input
"""

from __future__ import annotations

from pathlib import Path

from ch05_rnn.rnn_classifier import RnnClassifier
from ch06_gated.lstm_classifier import LstmClassifier
from common.classifier import RecurrentClassifier
from common.runs.cli import OneLineParser, run, use_utf8
from common.runs.folder import described, make_model, read_lines
from common.runs.tasks import print_class
from dataset.tokenizer import Tokenizer, load_tokenizer

MODELS = {model.__name__: model for model in (RnnClassifier, LstmClassifier)}


def load_classifier(folder: str | Path) -> tuple[RecurrentClassifier, Tokenizer, list[str]]:
    """Load what ``train_classifier.py`` has written to runs/NAME: model, tokenizer, and names of the classes.

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If the folder is not one of a classifier, or its files do not belong together.
    """
    folder = Path(folder)
    with described(folder, "classifier") as options:
        model, classes = make_model(options, MODELS, folder / "best_weights.npz"), list(options["classes"])
        " ".join(classes)  # a TypeError if they are not text
    tokenizer, arguments = load_tokenizer(folder), options["arguments"]
    if (arguments["vocab_size"], arguments["classes"]) != (tokenizer.vocab_size, len(classes)):
        raise ValueError(f"{folder}: options.json and the tokenizer differ in the number of words or classes")
    model.load(folder / "best_weights.npz")
    return model, tokenizer, classes


def main(argv: list[str] | None = None) -> None:
    """Print each text, its class, and the probabilities of all classes."""
    use_utf8()
    parser = OneLineParser(description=__doc__)
    parser.add_argument("folder", help="of a training: runs/NAME")
    parser.add_argument("file", nargs="?", help="UTF-8 text, one text per line (default: standard input)")
    args = parser.parse_args(argv)
    with parser.reporting_errors():
        model, tokenizer, classes = load_classifier(args.folder)
        for line in read_lines(args.file):
            print_class(model, tokenizer, classes, line.strip())


if __name__ == "__main__":
    run(main)
