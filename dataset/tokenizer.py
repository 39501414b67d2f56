"""From a document to token ids and back: subwords, words or characters, with one interface.

Every tokenizer has the same four special tokens:

    0  <unk>   a token that is not in the vocabulary
    1  <s>     beginning of a document
    2  </s>    end of a document
    3  <pad>   padding of a batch
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from dataset.corpus import DatasetError, split_words
from dataset.text_file import read_json

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")


class Tokenizer:
    """What all tokenizers share. Ids are 0, ..., vocab_size - 1."""

    unk_id, bos_id, eos_id, pad_id = range(4)
    file_name: str
    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """Return the ids of the tokens of ``text``, without those of ``<s>`` and ``</s>``."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids, without ``<s>``, ``</s>`` and ``<pad>``.

        ``decode(encode(text))`` is the text after the tokenizer's normalisation, with marks for unknown tokens.
        """
        raise NotImplementedError

    def split(self, text: str) -> list[str]:
        """Return the tokens of ``text`` as strings."""
        raise NotImplementedError

    def join(self, tokens: Iterable[str]) -> str:
        """Return the text of tokens; inverse of ``split``, except for normalisation."""
        raise NotImplementedError

    def token_to_id(self, token: str) -> int:
        """Return the id of a token, or that of ``<unk>``."""
        raise NotImplementedError

    def id_to_token(self, i: int) -> str:
        """Return the token of an id."""
        raise NotImplementedError

    def to_bytes(self) -> bytes:
        """Return what ``save`` writes."""
        raise NotImplementedError

    @property
    def sha256(self) -> str:
        """A checksum: the same for equal tokenizers."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def save(self, folder: str | Path) -> Path:
        """Write the tokenizer to ``file_name`` in ``folder``, unless it is there already, and return the path."""
        path, content = Path(folder) / self.file_name, self.to_bytes()
        if not path.exists() or path.read_bytes() != content:  # a kill while rewriting would lose it
            path.write_bytes(content)
        return path


class SentencePieceTokenizer(Tokenizer):
    """Subwords: frequent strings of characters, chosen by a unigram language model. ``model`` is a trained one.

    References
    ----------
    Kudo and Richardson, "SentencePiece: a simple and language independent subword tokenizer and detokenizer for neural
    text processing", 2018; Kudo, "Subword regularization", 2018, for the unigram model.
    """

    file_name = "tokenizer.model"

    def __init__(self, model: bytes) -> None:
        import sentencepiece

        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError:
            raise DatasetError("this is not a SentencePiece model, or it is damaged") from None
        p = self._processor
        if (p.unk_id(), p.bos_id(), p.eos_id(), p.pad_id()) != (self.unk_id, self.bos_id, self.eos_id, self.pad_id):
            raise DatasetError("this SentencePiece model has other ids for <unk>, <s>, </s> and <pad> than 0, 1, 2, 3")
        self.vocab_size = p.get_piece_size()
        try:
            p.decode(list(range(self.vocab_size)))
        except UnicodeDecodeError:
            raise DatasetError("this SentencePiece model has tokens that are not UTF-8") from None

    @classmethod
    def train(cls, documents: Sequence[str], vocab_size: int | None = 8000) -> SentencePieceTokenizer:
        """Train a unigram model. The same documents give the same model, byte for byte.

        A ``vocab_size`` of None is that of ``fitting_size``, or less if there are not so many subwords.

        Raises DatasetError, with a size that would do, if ``vocab_size`` is too large or too small for these documents.
        """
        import sentencepiece

        model, how = io.BytesIO(), {}
        if vocab_size is None:
            vocab_size = fitting_size(documents)
            if vocab_size < 8000:
                how = {"hard_vocab_limit": False}
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(documents),
                model_writer=model,
                model_type="unigram",
                vocab_size=vocab_size,
                unk_id=cls.unk_id,
                bos_id=cls.bos_id,
                eos_id=cls.eos_id,
                pad_id=cls.pad_id,
                max_sentence_length=2**24,  # bytes; longer documents would be skipped without a message
                num_threads=16,  # always, because the rounding of sums depends on it
                minloglevel=2,
                **how,
            )
        except RuntimeError as error:
            raise DatasetError(_explain(str(error), vocab_size)) from None
        return cls(model.getvalue())

    def encode(self, text: str) -> list[int]:
        return self._processor.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        # SentencePiece drops <s>, </s> and <pad>, and marks <unk>.
        return self._processor.decode([int(i) for i in ids])

    def split(self, text: str) -> list[str]:
        return self._processor.encode(text, out_type=str)

    def join(self, tokens: Iterable[str]) -> str:
        return self._processor.decode_pieces(list(tokens))

    def token_to_id(self, token: str) -> int:
        return self._processor.piece_to_id(token)

    def id_to_token(self, i: int) -> str:
        return self._processor.id_to_piece(i)

    def to_bytes(self) -> bytes:
        return self._model


class _ListTokenizer(Tokenizer):
    """A vocabulary that is a list: SPECIAL, and then the most frequent tokens."""

    file_name = "tokenizer.json"
    unit: str
    separator: str

    def __init__(self, tokens: list[str]) -> None:
        if tuple(tokens[:4]) != SPECIAL or len(set(tokens)) != len(tokens):
            raise DatasetError(f"this is not a list of different tokens that begins with {', '.join(SPECIAL)}")
        self.tokens = tokens
        self.vocab_size = len(tokens)
        self._ids = {token: i for i, token in enumerate(tokens)}

    @classmethod
    def train(cls, documents: Sequence[str], vocab_size: int | None = 8000) -> _ListTokenizer:
        """Take the ``vocab_size`` - 4 most frequent tokens; ties go to the token that comes first."""
        if vocab_size is None:
            vocab_size = fitting_size(documents)
        if vocab_size <= len(SPECIAL):
            raise DatasetError(f"a vocabulary needs more than {len(SPECIAL)} tokens, got {vocab_size}")
        counts = Counter(token for document in documents for token in cls.split(document))
        for token in SPECIAL:
            counts.pop(token, None)
        return cls([*SPECIAL, *(token for token, _ in counts.most_common(vocab_size - len(SPECIAL)))])

    def encode(self, text: str) -> list[int]:
        return [self.token_to_id(token) for token in self.split(text)]

    def decode(self, ids: Iterable[int]) -> str:
        silent = (self.bos_id, self.eos_id, self.pad_id)
        return self.join(self.tokens[i] for i in ids if i not in silent)

    def join(self, tokens: Iterable[str]) -> str:
        return self.separator.join(tokens)

    def token_to_id(self, token: str) -> int:
        # A text that contains "<s>" does not contain the special token.
        return self.unk_id if token in SPECIAL else self._ids.get(token, self.unk_id)

    def id_to_token(self, i: int) -> str:
        return self.tokens[i]

    def to_bytes(self) -> bytes:
        return (json.dumps({"unit": self.unit, "tokens": self.tokens}, ensure_ascii=False, indent=0) + "\n").encode()


class WordTokenizer(_ListTokenizer):
    """Words in lower case; a punctuation mark is a word."""

    unit = "word"
    separator = " "
    split = staticmethod(split_words)


class CharTokenizer(_ListTokenizer):
    """Characters."""

    unit = "char"
    separator = ""
    split = staticmethod(list)


TOKENIZERS = {"subword": SentencePieceTokenizer, "word": WordTokenizer, "char": CharTokenizer}


def fitting_size(documents: Sequence[str]) -> int:
    """A size of the vocabulary that fits the text: one token to 100 characters, with room for all that differ.

    It is at most 8000. With more tokens, most would be too rare to learn what follows them.
    """
    characters, different = sum(map(len, documents)), len(set().union(*documents))
    return min(8000, max(characters // 100, 2 * different + 100))


# Characters of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, kana, Chinese characters.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


def is_unspaced(texts: Iterable[str]) -> bool:
    """Whether most of the characters of texts are of a script that puts no spaces between words."""
    return sum(len(_UNSPACED.findall(text)) - len(text.replace(" ", "")) / 2 for text in texts) > 0


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Read the tokenizer that ``save`` has written to ``folder``; raises DatasetError if it is missing or damaged."""
    folder = Path(folder)
    subwords, tokens = folder / SentencePieceTokenizer.file_name, folder / _ListTokenizer.file_name
    try:
        if subwords.exists():
            return SentencePieceTokenizer(subwords.read_bytes())
        saved = read_json(tokens)
        cls = {"word": WordTokenizer, "char": CharTokenizer}[saved["unit"]]
        if not isinstance(saved["tokens"], list):
            raise TypeError
        "".join(saved["tokens"]).encode()  # fails if they are not strings, or hold lone surrogates
        return cls(saved["tokens"])
    except FileNotFoundError:
        raise DatasetError(f"{folder} has no tokenizer: {subwords.name} or {tokens.name}") from None
    except DatasetError as error:
        raise DatasetError(f"{folder}: {error}") from None
    except (ValueError, KeyError, TypeError):
        raise DatasetError(f"{tokens} is not a tokenizer, or is damaged") from None


def _explain(message: str, vocab_size: int) -> str:
    """Translate SentencePiece's error into a sentence."""
    if match := re.search(r"too high .*value <= (\d+)", message):
        return f"a vocabulary of {vocab_size:,} is too large for this text: at most {int(match[1]):,} will do"
    if match := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return (
            f"a vocabulary of {vocab_size:,} is too small for this text: it needs {int(match[1]):,} for its characters"
        )
    if "sentences_.empty()" in message:
        return "there is no text to train a tokenizer on"
    return f"SentencePiece cannot be trained on this text: {message}"
