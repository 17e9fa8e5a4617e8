"""A web server with the publishers' addresses, and writers of PyTorch's two file formats."""

import hashlib
import io
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from pickle import encode_long
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

TYPES = {
    "<f8": "DoubleStorage",
    "<f4": "FloatStorage",
    "<f2": "HalfStorage",
    "<i8": "LongStorage",
    "<i4": "IntStorage",
    "<i2": "ShortStorage",
    "|i1": "CharStorage",
    "|u1": "ByteStorage",
    "|b1": "BoolStorage",
}


@dataclass(frozen=True)
class Name:
    """A global in a pickle: "module name"."""

    text: str


@dataclass(frozen=True)
class Call:
    """A function of the pickle applied to arguments."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Reference:
    """A persistent id."""

    value: Any


@dataclass(frozen=True)
class State:
    """An object and the attributes that BUILD gives it."""

    target: Any
    value: Any


def opcodes(value: Any) -> bytes:
    """The pickle, protocol 2, of a value; without frame and STOP."""
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            number = encode_long(value)
            return b"\x8a" + bytes([len(number)]) + number
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case bytes():
            return value
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(opcodes(k) + opcodes(v) for k, v in value.items()) + b"u"
        case Name():
            return b"c" + value.text.replace(" ", "\n").encode() + b"\n"
        case Call():
            return opcodes(Name(value.name)) + opcodes(value.arguments) + b"R"
        case Reference():
            return opcodes(value.value) + b"Q"
        case State():
            return opcodes(value.target) + opcodes(value.value) + b"b"
    raise TypeError(value)


def pickled(value: Any) -> bytes:
    return b"\x80\x02" + opcodes(value) + b"."


def storage(key: str, kind: str, numel: int, *view: Any) -> Reference:
    return Reference(("storage", Name(f"torch {kind}"), key, "cpu", numel, *view))


def tensor(stored: Reference, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Call:
    hooks = Call("collections OrderedDict", ())
    return Call("torch._utils _rebuild_tensor_v2", (stored, offset, size, stride, False, hooks))


def state_dict(arrays: dict[str, np.ndarray]) -> tuple[Any, dict[str, bytes]]:
    """What torch.save makes of named arrays, each in a storage of its own, and the bytes of the storages."""
    tensors, storages = {}, {}
    for index, (name, array) in enumerate(arrays.items()):
        key = str(index)
        base = array if array.base is None else array.base
        strides = tuple(step // array.itemsize for step in array.strides)
        offset = (array.ctypes.data - base.ctypes.data) // array.itemsize
        tensors[name] = tensor(storage(key, TYPES[array.dtype.str], base.size), offset, array.shape, strides)
        storages[key] = base.tobytes()
    return State(tensors, {"_metadata": {"": {"version": 1}}}), storages


def zip_file(value: Any, storages: dict[str, bytes], extra: dict[str, bytes] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", value if isinstance(value, bytes) else pickled(value))
        archive.writestr("archive/byteorder", "little")
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
        for name, data in (extra or {}).items():
            archive.writestr(name, data)
    return buffer.getvalue()


def legacy_file(value: Any, storages: dict[str, tuple[int, bytes]]) -> bytes:
    """storages: key -> number of items, bytes."""
    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    head = [pickled(v) for v in (0x1950A86A20F9469CFC6C, 1001, system)]
    body = value if isinstance(value, bytes) else pickled(value)
    blocks = [struct.pack("<q", numel) + data for numel, data in storages.values()]
    return b"".join([*head, body, pickled(list(storages)), *blocks])


@pytest.fixture(scope="session")
def torch_format() -> SimpleNamespace:
    """The writers above: PyTorch is no dependency, so the tests write its formats byte by byte."""
    return SimpleNamespace(
        Name=Name, Call=Call, Reference=Reference, State=State, opcodes=opcodes, pickled=pickled,
        storage=storage, tensor=tensor, state_dict=state_dict, zip_file=zip_file, legacy_file=legacy_file,
    )  # fmt: skip


@dataclass
class Site:
    """A web server on loopback. `files` by path; `redirects` by path, with the headers of the redirect."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    states: dict[str, list[int]] = field(default_factory=dict)  # states to answer with first
    cuts: dict[str, list[int]] = field(
        default_factory=dict
    )  # bytes of the body after which to hang up, in turn
    ranges: bool = True
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    while_sending: Callable[[], None] = lambda: None

    def asked(self, path: str) -> list[dict[str, str]]:
        return [headers for asked, headers in self.requests if asked == path]

    def publish_on_hub(
        self,
        repository: str,
        data: bytes,
        stated: str | None = None,
        *,
        file: str = "model.safetensors",
        revision: str = "main",
        store_url: str = "",
    ) -> str:
        """As the hub does: /REPO/resolve/REVISION/FILE redirects to a store and states the sha256."""
        path = f"/{repository}/resolve/{revision}/{file}"
        store = f"/store/{repository}" if file == "model.safetensors" else f"/store/{repository}/{file}"
        linked = stated if stated is not None else hashlib.sha256(data).hexdigest()
        target = f"{store_url or self.url}{store}?signature=secret"
        self.redirects[path] = (target, {"X-Linked-ETag": f'"{linked}"'})
        self.files[store] = data
        return path


def serve(site: Site) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            site.requests.append((path, dict(self.headers)))
            if site.states.get(path):
                self.answer(site.states[path].pop(0), {}, b"")
            elif path in site.redirects:
                target, headers = site.redirects[path]
                self.answer(302, {"Location": target, **headers}, b"")
            elif path in site.files:
                self.send(path, site.files[path])
            else:
                self.answer(404, {}, b"Not here")

        def send(self, path: str, data: bytes) -> None:
            tag = f'"{hashlib.md5(data).hexdigest()}"'
            headers = {"ETag": tag, "Content-Type": site.types.get(path, "application/octet-stream")}
            asked = self.headers.get("Range", "")
            if not asked or not site.ranges or self.headers.get("If-Range") != tag:
                return self.answer(200, headers, data, path)
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                return self.answer(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return self.answer(206, headers, data[start:], path)

        def answer(self, status: int, headers: dict[str, str], body: bytes, path: str = "") -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            site.while_sending()
            cuts = site.cuts.get(path)
            if cuts:
                self.wfile.write(body[: cuts.pop(0)])
                self.close_connection = True
            else:
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    server = serve(site)
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own, and no proxies or switches from outside."""
    for name in ("ZOO_OFFLINE", "ZOO_HUB_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
