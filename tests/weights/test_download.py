"""Downloads from a real server: cuts, resumption, hashes, redirects, proxies, two processes at once."""

import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from zoo.errors import DownloadError, WeightsError
from zoo.weights import download as module
from zoo.weights.download import CHUNK, download

DATA = os.urandom(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
PATH = "/releases/download/v1/net-1234.pth"


@pytest.fixture(autouse=True)
def surroundings(cache_folder, monkeypatch):
    monkeypatch.setattr(module, "PAUSES", (0.0,) * 4)


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "files" / "net.pth"


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_and_its_hash_appear(site, target):
    site.files[PATH] = DATA
    assert download(site.url + PATH, target, sha256=SHA256) == target
    assert target.read_bytes() == DATA
    assert (target.parent / "net.pth.sha256").read_text() == f"{SHA256}  net.pth\n"
    assert left(target) == ["net.pth", "net.pth.sha256"]


def test_an_existing_file_is_not_asked_for(site, target):
    target.parent.mkdir()
    target.write_bytes(b"mine")
    download(site.url + PATH, target)
    assert target.read_bytes() == b"mine"
    assert site.requests == []
    assert left(target) == ["net.pth"]


def test_cuts_are_resumed_within_a_call(site, target):
    site.files[PATH] = DATA
    site.cuts[PATH] = [20 * CHUNK, 10 * CHUNK, 0]
    download(site.url + PATH, target, sha256=SHA256[:8])
    assert target.read_bytes() == DATA
    tag = f'"{hashlib.md5(DATA).hexdigest()}"'
    ranges = [(headers.get("Range"), headers.get("If-Range")) for headers in site.asked(PATH)]
    assert ranges == [
        (None, None),
        (f"bytes={20 * CHUNK}-", tag),
        (f"bytes={30 * CHUNK}-", tag),
        (f"bytes={30 * CHUNK}-", tag),
    ]


def test_cuts_are_resumed_by_a_later_call(site, target):
    site.files[PATH] = DATA
    site.cuts[PATH] = [2 * CHUNK] * 5
    with pytest.raises(DownloadError) as caught:
        download(site.url + PATH, target, sha256=SHA256)
    assert f"put the file at {target}" in str(caught.value)
    assert site.url + PATH in str(caught.value)
    assert (target.parent / "net.pth.part").stat().st_size == 10 * CHUNK
    download(site.url + PATH, target, sha256=SHA256)
    assert site.asked(PATH)[-1]["Range"] == f"bytes={10 * CHUNK}-"
    assert target.read_bytes() == DATA


def test_a_file_changed_in_between_starts_over(site, target):
    site.files[PATH] = DATA
    site.cuts[PATH] = [2 * CHUNK] * 5
    with pytest.raises(DownloadError):
        download(site.url + PATH, target)
    site.files[PATH] = DATA[::-1]
    download(site.url + PATH, target)
    assert "If-Range" in site.asked(PATH)[-1]
    assert target.read_bytes() == DATA[::-1]


def test_another_address_starts_over(site, target):
    site.files |= {PATH: DATA, "/other": DATA[::-1]}
    site.cuts[PATH] = [2 * CHUNK] * 5
    with pytest.raises(DownloadError):
        download(site.url + PATH, target)
    download(site.url + "/other", target)
    assert "Range" not in site.asked("/other")[0]
    assert target.read_bytes() == DATA[::-1]


def test_a_server_without_ranges_starts_over(site, target):
    site.files[PATH] = DATA
    site.ranges = False
    site.cuts[PATH] = [20 * CHUNK, 30 * CHUNK]
    download(site.url + PATH, target, sha256=SHA256)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("extra", [0, 10])
def test_a_partial_file_as_long_as_the_whole_or_longer(site, target, extra):
    site.files[PATH] = DATA
    target.parent.mkdir()
    (target.parent / "net.pth.part").write_bytes(DATA + bytes(extra))
    tag = f'"{hashlib.md5(DATA).hexdigest()}"'
    (target.parent / "net.pth.part.etag").write_text(f"{site.url}{PATH}\n{tag}")
    download(site.url + PATH, target, sha256=SHA256)
    assert target.read_bytes() == DATA
    assert len(site.requests) == (1 if extra == 0 else 2)
    assert left(target) == ["net.pth", "net.pth.sha256"]


@pytest.mark.parametrize("wrong", ["00000000", "0" * 64])
def test_a_wrong_hash_leaves_nothing(site, target, wrong):
    site.files[PATH] = DATA
    with pytest.raises(
        WeightsError, match=f"the sha256 of what came is {SHA256}, not {wrong}; it was removed"
    ):
        download(site.url + PATH, target, sha256=wrong)
    assert left(target) == []


def test_redirects_are_followed_and_named(site, target):
    site.files["/store/a"] = DATA
    site.redirects[PATH] = (f"{site.url}/store/a?signature=secret", {})
    download(site.url + PATH, target, sha256=SHA256)
    assert target.read_bytes() == DATA
    site.redirects[PATH] = (f"{site.url}/store/b?signature=secret", {})
    target.unlink()
    with pytest.raises(DownloadError) as caught:
        download(site.url + PATH, target)
    assert f"404 Not Found (after a redirect to {site.url}/store/b)" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_circle_of_redirects(site, target):
    site.redirects[PATH] = (site.url + PATH, {})
    with pytest.raises(DownloadError, match="Exceeded 30 redirects"):
        download(site.url + PATH, target)


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (401, 1), (503, 5), (429, 5), (500, 5)])
def test_states_that_pass_are_tried_again(site, target, status, attempts):
    site.states[PATH] = [status] * 9
    with pytest.raises(DownloadError, match=f"the server answered {status}"):
        download(site.url + PATH, target)
    assert len(site.requests) == attempts
    assert left(target) == []


def test_a_server_that_recovers(site, target):
    site.files[PATH] = DATA
    site.states[PATH] = [503, 502]
    download(site.url + PATH, target, sha256=SHA256)
    assert target.read_bytes() == DATA


def test_an_html_page_instead_of_weights(site, target):
    site.files[PATH] = b"<html>Sign in</html>"
    site.types[PATH] = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="the server sent an HTML page, not weights"):
        download(site.url + PATH, target)
    assert left(target) == []


def test_the_limit(site, target):
    site.files[PATH] = DATA
    with pytest.raises(DownloadError, match="3000000 bytes are more than the limit of 2999999"):
        download(site.url + PATH, target, limit=len(DATA) - 1)
    download(site.url + PATH, target, limit=len(DATA))


def test_no_server(target):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match=f"127.0.0.1:{port}.*Connection refused, 5 times"):
        download(f"http://127.0.0.1:{port}/net.pth", target)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/net.pth", "http://", "net.pth"])
def test_an_address_that_is_none(target, url):
    with pytest.raises(DownloadError, match="put the file at"):
        download(url, target)


def test_offline(site, target, monkeypatch):
    site.files[PATH] = DATA
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(DownloadError, match=f"not asked for, because ZOO_OFFLINE is set.*{target}"):
        download(site.url + PATH, target)
    assert site.requests == []
    monkeypatch.setenv("ZOO_OFFLINE", "0")
    download(site.url + PATH, target)


def test_a_folder_that_cannot_be_written(site, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    site.files[PATH] = DATA
    with pytest.raises(DownloadError, match=f"cannot be written to {tmp_path / 'file'}"):
        download(site.url + PATH, tmp_path / "file" / "net.pth")


def test_proxies_of_the_environment(site, target, monkeypatch):
    seen = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            answer = requests.get(site.url + urlsplit(self.path).path, timeout=10)
            self.send_response(answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    site.files[PATH] = DATA
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.01,)).start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
        download(f"http://weights.example{PATH}", target, sha256=SHA256)
        proxy.shutdown()
    assert seen == [f"http://weights.example{PATH}"]
    assert target.read_bytes() == DATA


def test_two_processes_fetch_one_file_once(site, target):
    site.files[PATH] = DATA
    script = "import sys, pathlib; from zoo.weights.download import download; input(); "
    script += "download(sys.argv[1], pathlib.Path(sys.argv[2]))"
    command = [sys.executable, "-c", script, site.url + PATH, str(target)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(2)]
    for process in both:
        process.stdin.write(b"go\n")
        process.stdin.flush()
    assert [process.wait(60) for process in both] == [0, 0]
    for process in both:
        process.stdin.close()
    assert target.read_bytes() == DATA
    assert len(site.asked(PATH)) == 1
    assert left(target) == ["net.pth", "net.pth.sha256"]


def test_a_second_caller_waits_for_the_first(site, target):
    """The first download is held in mid-body until the second has been started."""
    site.files[PATH] = DATA
    started, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        go_on.wait(30)

    site.while_sending = hold
    callers = [threading.Thread(target=download, args=(site.url + PATH, target)) for _ in range(2)]
    callers[0].start()
    assert started.wait(30)
    callers[1].start()
    go_on.set()
    for caller in callers:
        caller.join(30)
    assert len(site.requests) == 1
    assert target.read_bytes() == DATA


def test_what_the_server_states_is_verified(site, target):
    site.files[PATH] = DATA
    site.redirects["/named"] = (site.url + PATH, {"X-Sum": "0" * 64})
    with pytest.raises(WeightsError, match="not 0000"):
        download(f"{site.url}/named", target, published=lambda answer: answer.history[0].headers["X-Sum"])
