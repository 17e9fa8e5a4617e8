"""Other servers of the same ONNX file, each set up as its documentation does, in an environment of its own.

The tensor goes by the leanest way that the server offers: a raw body to Ray Serve and BentoML, gRPC to
MLServer, base64 in JSON to LitServe.
"""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build" / "peers"
ALL = ("onnxruntime==1.32.0", "numpy==2.4.6")
PATIENCE = 120.0  # seconds until a server must listen


@dataclass(frozen=True)
class Peer:
    """`command` starts the server with a program of its environment; `body` is a request of an array; `path`
    where it goes, for gRPC a method.
    """

    name: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    path: str
    body: Callable[[Any], bytes]
    kind: str = "http"
    content: str = "application/octet-stream"

    @property
    def folder(self) -> Path:
        return BUILD / self.packages[0]


def raw(array: Any) -> bytes:
    return array.tobytes()


def base64_in_json(array: Any) -> bytes:
    return json.dumps({"array": base64.b64encode(array.tobytes()).decode()}).encode()


def infer_request(array: Any) -> bytes:
    """inference.ModelInferRequest, written by MLServer's own messages."""
    program = str(MLSERVER.folder / "bin" / "python")
    command = [program, str(HERE / "mlserver_request.py"), ",".join(map(str, array.shape))]
    return subprocess.run(command, input=array.tobytes(), check=True, capture_output=True).stdout


MLSERVER = Peer(
    "MLServer",
    # Newer ones of uvloop end its workers: "There is no current event loop".
    ("mlserver==1.7.1", "uvloop==0.21.0"),
    ("mlserver", "start", str(HERE / "mlserver_model")),
    "/inference.GRPCInferenceService/ModelInfer",
    infer_request,
    "grpc",
)
PEERS = (
    # It needs Jinja2 and does not say so.
    Peer(
        "Ray Serve", ("ray[serve]==2.58.0", "jinja2==3.1.6"), ("python", str(HERE / "ray_app.py")), "/", raw
    ),
    Peer(
        "BentoML",
        ("bentoml==1.4.40",),
        ("bentoml", "serve", "bento_service:Network", "--working-dir", str(HERE)),
        "/predict",
        raw,
    ),
    MLSERVER,
    Peer(
        "LitServe",
        ("litserve==0.2.19",),
        ("python", str(HERE / "lit_server.py")),
        "/predict",
        base64_in_json,
        content="application/json",
    ),
)


@contextmanager
def running(peer: Peer, model: Path, array: Any) -> Iterator[tuple[str, ...]]:
    """Starts a server of the file; the context's value are the arguments of benchmarks/contenders.py."""
    install(peer)
    file = peer.folder / "request"
    file.write_bytes(peer.body(array))
    port = free_port()
    programs = peer.folder / "bin"
    with (peer.folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(programs / peer.command[0]), *peer.command[1:]],
            env={**os.environ, **settings(model, port), "PATH": f"{programs}:{os.environ['PATH']}"},
            cwd=peer.folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(peer, process, port)
        content = (peer.content,) if peer.kind == "http" else ()
        yield (peer.kind, f"127.0.0.1:{port}", peer.path, str(file), *content)
    finally:
        stop(process)


def install(peer: Peer) -> None:
    done, wanted = peer.folder / "installed", "\n".join((*peer.packages, *ALL))
    if done.exists() and done.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(peer.folder)], check=True)
    pip = str(peer.folder / "bin" / "pip")
    command = [pip, "install", "-q", "--disable-pip-version-check", *wanted.split("\n")]
    subprocess.run(command, check=True, timeout=900)
    done.write_text(wanted)


def settings(model: Path, port: int) -> Mapping[str, str]:
    """What the servers' files here, and the servers themselves, read."""
    return {
        "PEER_MODEL": str(model.resolve()),
        "PEER_PORT": str(port),
        "BENTOML_PORT": str(port),
        "BENTOML_DO_NOT_TRACK": "1",
        "MLSERVER_GRPC_PORT": str(port),
        "MLSERVER_HTTP_PORT": str(free_port()),
        "MLSERVER_METRICS_PORT": str(free_port()),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(peer: Peer, process: "subprocess.Popen[bytes]", port: int) -> None:
    """Until it answers a first request as it should."""
    contender = HERE.parent / "contenders.py"
    content = (peer.content,) if peer.kind == "http" else ()
    file = str(peer.folder / "request")
    once = [sys.executable, str(contender), peer.kind, f"127.0.0.1:{port}", peer.path, file, *content]
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        if not subprocess.run(once, stdin=subprocess.DEVNULL, capture_output=True).returncode:
            return
        time.sleep(1)
    raise RuntimeError(f"{peer.name} does not answer: {(peer.folder / 'log').read_text()[-300:]}")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """With all that it started, some of which may outlive it."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
