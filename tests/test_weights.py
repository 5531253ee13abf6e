"""Downloads from a server on this machine: only the pinned file is ever taken."""

import contextlib
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from blemish.backbones import weights as weights_module
from blemish.backbones.weights import (
    ALIASES,
    PINNED,
    PinnedWeights,
    cache_folder,
    cached_path,
    fetch_weights,
    is_cached,
    sha256_of,
)
from blemish.errors import BackboneError

CONTENT = bytes(range(256)) * 10_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one answer, and counts how often it was asked."""

    daemon_threads = False
    asked = 0
    status = 200
    body = CONTENT
    length = len(CONTENT)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(self.server.length))
        self.end_headers()
        with contextlib.suppress(OSError):  # the client hangs up when the file is too long
            self.wfile.write(self.server.body)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving():
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("BLEMISH_CACHE", str(folder))
    return folder


def pinned(server, sha256=SHA256):
    url = f"http://127.0.0.1:{server.server_port}/net-12345678.pth"
    return PinnedWeights("net.tag", url, sha256, len(CONTENT), "made up", "CC0-1.0")


def by_hand(weights):
    return (
        f"Without a connection: get {weights.url} on another machine and put it at "
        f"{cached_path(weights)}, or name the file with --weights."
    )


def refused(weights):
    with pytest.raises(BackboneError) as caught:
        fetch_weights(weights)
    return str(caught.value)


def test_a_download_is_checked_and_kept(server, cache, capfd):
    weights = pinned(server)
    assert not is_cached(weights)
    path = fetch_weights(weights)
    assert path == cache / "net-12345678.pth"
    assert path.read_bytes() == CONTENT
    assert is_cached(weights)
    assert fetch_weights(weights) == path
    assert server.asked == 1  # the second time it came from the cache
    assert [file.name for file in cache.iterdir()] == [path.name]
    assert capfd.readouterr() == ("", "")  # no bar where nobody looks


def test_a_terminal_sees_a_bar(server, capfd, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    fetch_weights(pinned(server))
    assert "net-12345678.pth: 100%" in capfd.readouterr().err


def test_a_damaged_file_in_the_cache_is_downloaded_again(server, cache):
    weights = pinned(server)
    cache.mkdir()
    cached_path(weights).write_bytes(CONTENT[:-1])
    assert fetch_weights(weights).read_bytes() == CONTENT


def test_another_file_is_thrown_away(server, cache):
    weights = pinned(server, sha256="0" * 64)
    assert refused(weights) == (
        f"The download must have sha256 {'0' * 64}, but {weights.url} gave {SHA256}. "
        f"It was thrown away. {by_hand(weights)}"
    )
    assert list(cache.iterdir()) == []


def test_a_longer_file_is_not_read_to_its_end(server, cache):
    server.body = CONTENT * 20
    server.length = len(server.body)
    text = refused(pinned(server))
    assert text.startswith(f"The download must have sha256 {SHA256}, but ")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("announced", [len(CONTENT), 1000])
def test_a_truncated_download_is_thrown_away(server, cache, announced):
    server.body, server.length = CONTENT[:1000], announced
    weights = pinned(server)
    assert refused(weights) == (
        f"The download must have {len(CONTENT)} bytes, but {weights.url} gave 1000. "
        f"Try again: it was thrown away. {by_hand(weights)}"
    )
    assert list(cache.iterdir()) == []


def test_a_missing_page_says_what_to_do(server, cache):
    server.status = 404
    weights = pinned(server)
    assert refused(weights) == (
        f"The weights of net.tag are needed, but {weights.url} could not be downloaded "
        f"(HTTP status 404 Not Found). {by_hand(weights)}"
    )
    assert list(cache.iterdir()) == []


def test_without_a_connection_the_error_says_which_file_to_put_where(cache, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    url = f"http://127.0.0.1:{port}/net-12345678.pth"
    weights = PinnedWeights("net.tag", url, SHA256, len(CONTENT), "made up", "CC0-1.0")
    assert refused(weights) == (
        f"The weights of net.tag are needed, but {url} could not be downloaded (Connection "
        f"refused). Without a connection: get {url} on another machine and put it at "
        f"{cache / 'net-12345678.pth'}, or name the file with --weights."
    )
    cached_path(weights).write_bytes(b"half of it")
    assert f"{cache / 'net-12345678.pth'} (the file there now is damaged), or" in refused(weights)
    cached_path(weights).write_bytes(CONTENT)
    assert fetch_weights(weights) == cache / "net-12345678.pth"


def test_a_cache_that_cannot_be_made_is_an_error(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "cache"
    monkeypatch.setenv("BLEMISH_CACHE", str(folder))
    assert refused(pinned(server)) == (
        f"The cache must be a folder that can be written to, but {folder} is not (Not a "
        "directory). Set BLEMISH_CACHE to another folder, or give the file with --weights."
    )


def test_a_full_disk_leaves_nothing(server, cache, monkeypatch):
    class FullDisk:
        def __init__(self):
            self.total = 0

        def update(self, count):
            raise OSError(28, "No space left on device")

        def __enter__(self):
            return self

        def __exit__(self, *arguments):
            return None

    monkeypatch.setattr(weights_module, "_progress", lambda weights: FullDisk())
    weights = pinned(server)
    assert refused(weights) == (
        f"The weights of net.tag are needed, but {weights.url} could not be downloaded "
        f"(No space left on device). {by_hand(weights)}"
    )
    assert list(cache.iterdir()) == []


def test_several_downloads_at_once_leave_one_good_file(server, cache):
    weights = pinned(server)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch_weights(weights))) for _ in "1234"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cached_path(weights)] * 4
    assert sha256_of(cached_path(weights)) == SHA256
    assert len(list(cache.iterdir())) == 1


def test_the_cache_is_the_users_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv("BLEMISH_CACHE")
    assert cache_folder().name == "blemish"


@pytest.mark.parametrize("weights", PINNED.values(), ids=PINNED.keys())
def test_pinned_hashes_agree_with_the_published_file_names(weights):
    assert len(weights.sha256) == 64
    assert weights.file_name == f"{weights.architecture}-{weights.sha256[:8]}.pth"
    assert weights.url == f"https://download.pytorch.org/models/{weights.file_name}"
    assert ALIASES[weights.architecture] == weights.name


PUBLISHED = [
    "resnet18-f37072fd.pth",
    "resnet34-b627a593.pth",
    "resnet50-0676ba61.pth",
    "wide_resnet50_2-95faca4d.pth",
]


def test_golden_published_file_names():
    assert [weights.file_name for weights in PINNED.values()] == PUBLISHED
