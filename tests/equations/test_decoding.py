"""Text that is not UTF-8 is refused in one sentence, with a command that makes UTF-8 of it."""

import gzip
import re
import shutil
import subprocess

import pytest

from dataset import ag_news, documents, text_file
from dataset.corpus import DatasetError
from dataset.decoding import decode_utf8

JAPANESE = "吾輩は猫である。名前はまだ無い。\nどこで生れたかとんと見当がつかぬ。\n"
FRENCH = "Les élèves ont été à l’école : « ça va », dit-on.\nÀ bientôt !\n"
GERMAN = "Größe\nMüller\nstraße\n"
ENGLISH = "it’s “fine” – he said…\nplain\n"
CHINESE = "我是一个学生，你好。\n今天天气很好\n"
KOREAN = "안녕하세요 저는 학생입니다.\n"
RUSSIAN = "Все счастливые семьи похожи друг на друга\n"


def refusal(data, path="my text.txt"):
    with pytest.raises(DatasetError) as error:
        decode_utf8(data, path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path or "standard input") in message
    return message


@pytest.mark.parametrize(
    ("text", "written", "named"),
    [
        # By a mark
        *((text, encoding, encoding) for text in (JAPANESE, ENGLISH, RUSSIAN) for encoding in ("UTF-16", "UTF-32")),
        ("\ufeff" + JAPANESE, "UTF-16BE", "UTF-16"),
        ("\ufeff" + CHINESE, "UTF-32BE", "UTF-32"),
        # By zero bytes, in either order
        *(
            (text, encoding, encoding)
            for text in (ENGLISH, JAPANESE, RUSSIAN, KOREAN)
            for encoding in ("UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE")
        ),
        # By escape sequences
        (JAPANESE, "ISO-2022-JP", "ISO-2022-JP"),
        (KOREAN, "ISO-2022-KR", "ISO-2022-KR"),
        (CHINESE, "ISO-2022-JP-2", "ISO-2022-JP-2"),
        # By what decodes
        (JAPANESE, "SHIFT_JIS", "CP932"),
        ("①" + JAPANESE + "\x1a", "CP932", "CP932"),
        ("ｱｲｳｴｵ カタカナ\n", "CP932", "CP932"),
        (JAPANESE, "EUC-JP", "EUC-JP"),
        (FRENCH, "CP1252", "CP1252"),
        (FRENCH.replace("’", "'"), "ISO-8859-1", "CP1252"),
        (GERMAN, "ISO-8859-1", "CP1252"),
        (ENGLISH, "CP1252", "CP1252"),
    ],
)
def test_the_encoding_is_named_and_the_command_converts_it(tmp_path, text, written, named):
    path = tmp_path / "it's my text.txt"
    path.write_bytes(text.encode(written))
    with pytest.raises(DatasetError) as error:
        text_file.load(path)
    message = str(error.value)
    assert re.search(r"iconv -f (\S+) -t UTF-8 ", message)[1] == named
    if shutil.which("iconv"):
        command = message[message.index("iconv ") :]
        subprocess.run(command, shell=True, cwd=tmp_path, check=True)
        assert text_file.read_utf8(tmp_path / "utf8.txt") == text.removeprefix("\ufeff")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(CHINESE, "GB18030"), (KOREAN, "EUC-KR"), (RUSSIAN, "CP1251"), (RUSSIAN, "KOI8-R"), (FRENCH, "CP437")],
)
def test_an_encoding_that_cannot_be_told_is_not_guessed(text, encoding):
    message = refusal(text.encode(encoding, errors="ignore"))
    assert "nor does it look like EUC-JP" in message
    assert message.endswith("iconv -f ITS_ENCODING -t UTF-8 'my text.txt' > utf8.txt")


def test_escape_sequences_that_no_encoding_explains_are_taken_for_japanese():
    assert "iconv -f ISO-2022-JP " in refusal(b"\x1b$B!")


@pytest.mark.parametrize("data", [JAPANESE.encode()[:-2], JAPANESE.encode() + b"caf\xe9\n", ENGLISH.encode() + b"\xff"])
def test_damaged_utf8_is_not_taken_for_another_encoding(data):
    message = refusal(data)
    assert "(byte " in message
    assert message.endswith("iconv -c -f UTF-8 -t UTF-8 'my text.txt' > utf8.txt")


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)),
        b"abc\0def\n",
        "日本\0語\n".encode(),
        gzip.compress(JAPANESE.encode() * 50, mtime=0),
        b"\0\n\0\n\0",
    ],
)
def test_what_is_no_text_says_so(data):
    assert f"is not UTF-8 text, nor any other: byte {data.index(0)} is zero" in refusal(data)


@pytest.mark.parametrize(
    "data", [b"", b"plain\n", b"\x1b[31mred\x1b[0m $\n", JAPANESE.encode(), "a\x1b$B é\n".encode()]
)
def test_utf8_is_text(data):
    assert decode_utf8(data, None) == data.decode()


def test_the_mark_and_other_line_ends_are_taken_out():
    assert decode_utf8(b"\xef\xbb\xbfa\r\nb\rc", "x") == "a\nb\nc"


def test_standard_input_has_no_file_to_convert():
    message = refusal(JAPANESE.encode("utf-16"), None)
    assert message.endswith("iconv -f UTF-16 -t UTF-8")


@pytest.mark.parametrize("read", [documents.load_file, ag_news.read])
@pytest.mark.parametrize("encoding", ["UTF-16", "ISO-2022-JP", "EUC-JP"])
def test_every_reader_of_texts_says_so(tmp_path, read, encoding):
    (tmp_path / "text.txt").write_bytes(JAPANESE.encode(encoding))
    with pytest.raises(DatasetError, match=f"iconv -f {encoding} "):
        read(tmp_path / "text.txt")
