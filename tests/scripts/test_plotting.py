"""Pictures show the words of any language, or a line says which font does."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.image import imread

from ch06_gated import gradient_through_time, show_gates, train_sine
from common.runs import plotting, tasks


@pytest.fixture
def no_fonts(monkeypatch):
    """No font but those of Matplotlib."""
    own = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    monkeypatch.setattr(plotting.importlib.util, "find_spec", lambda name: None)


CJK = 'the Japanese one of pip install -e ".[ja]", or Noto Sans CJK JP (Debian: fonts-noto-cjk)'
PLOTS = {
    "maps": lambda word, path: show_gates.plot_maps({"state": np.eye(2)}, [1, 2], ["the", word], path, "title"),
    "title": lambda word, path: show_gates.plot_maps({"state": np.eye(2)}, [1, 2], ["the", "cat"], path, word),
    "confusion": lambda word, path: tasks.plot_confusion(np.eye(2, dtype=int), ["the", word], path, "title"),
    "curve": lambda word, path: plotting.plot_learning_curve(
        [{"epoch": 1, "train_perplexity": 9.0, "valid_perplexity": 8.0}], path, word
    ),
    "gradients": lambda word, path: gradient_through_time.plot_gradient_norms({word: {"RNN": [1.0, 0.5]}}, path),
    "waves": lambda word, path: train_sine.plot_waves({word: (np.zeros(4), np.zeros(2))}, path),
}


@pytest.mark.usefixtures("no_fonts")
@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("猫は", f"は猫: install one that has them, such as {CJK}"),
        ("안녕", f"녕안: install one that has them, such as {CJK}"),
        ("हि", "हि: install one that has them, such as Noto Sans Devanagari (Debian: fonts-noto-core)"),
        ("🐈", "🐈: install one that has them, such as Symbola"),
        ("Größe été λόγος", None),
        ("$x^2 _", None),
    ],
)
def test_a_character_that_no_font_has_is_one_line(tmp_path, capsys, plot, word, line):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        PLOTS[plot](word, tmp_path / "picture.png")
    assert not caught
    expected = "" if line is None else f"no font here has the characters {line}\n"
    assert capsys.readouterr() == ("", expected)
    assert imread(tmp_path / "picture.png").size


@pytest.mark.usefixtures("no_fonts")
@pytest.mark.parametrize("family", ["IPAGothic", "Noto Sans Cjk", "Symbola"])
def test_a_font_that_was_installed_meanwhile_is_found(tmp_path, capsys, monkeypatch, family):
    manager = font_manager.fontManager
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: ["broken.ttf", "new.ttf"])

    def add(path):
        if path == "broken.ttf":
            raise RuntimeError("cannot open face")
        manager.ttflist.append(font_manager.FontEntry(fname=manager.ttflist[0].fname, name=family))

    monkeypatch.setattr(manager, "addfont", add)
    names = plotting._characters
    monkeypatch.setattr(plotting, "_characters", lambda name: {"猫"} if name == family else names(name))
    assert plotting._fonts({"a", "猫", "\n"}) == (["DejaVu Sans", family], set())
    PLOTS["maps"]("猫", tmp_path / "picture.png")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("word", "shown"), [(" ", "␣"), ("\t", "\\t"), ("\u3000", "\\u3000"), ("a b", "a b"), ("猫", "猫"), ("", "")]
)
def test_spaces_can_be_seen(word, shown):
    assert show_gates.visible(word) == shown


def test_matplotlib_is_imported_when_a_picture_is_drawn():
    code = "import sys, common.runs.course, ch06_gated.show_gates; print('matplotlib' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"


def test_the_japanese_extra_brings_a_font(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib_fontja", reason='the Japanese font is not installed: pip install -e ".[ja]"')
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    PLOTS["maps"]("猫", tmp_path / "picture.png")
    assert capsys.readouterr().err == ""
