"""A server process on this machine, started, watched over and stopped by the caller."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from serving.addresses import address
from serving.errors import DeployError
from serving.folders import by_name

_TAIL = 4000  # characters of the log that an error carries


@dataclass(frozen=True)
class Endpoint:
    """A running server: where it listens and what it serves. Leaving its context, or stop(), ends it."""

    grpc_address: str
    rest_url: str
    models: tuple[str, ...]
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def model(self) -> str:
        """The name of the (first) model."""
        return self.models[0]

    def stop(self) -> int:
        """Tells the server to finish what is under way and waits until it has; its exit code, 0 when all went
        well.
        """
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait()
        _close(self.process)
        self.log.unlink(missing_ok=True)
        return code

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def deploy(
    models: str | Path | Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    grpc_port: int = 0,
    rest_port: int = 0,
    runtime: str | None = None,
    fidelity: str = "exact",
    workers: int = 1,
    timeout: float = 120.0,
) -> Endpoint:
    """Starts a server for a BASE/NAME folder of versions (or several) and returns once it answers.

    Each folder is served under its own name. Ports are free ones unless given. `runtime` is "onnx",
    "tensorflow", "litert" or "openvino" instead of the fastest whose numbers agree with the model's within
    `fidelity`: "exact", "bf16" or "int8". With several `workers`, that many processes share the ports and the
    processors; their parent is the endpoint's process. The server ends with this process, however that ends.
    Raises DeployError, with the end of the server's log, when a folder holds no version, none can be
    loaded, a port is taken, or `timeout` seconds pass.
    """
    paths = [models] if isinstance(models, str | Path) else list(models)
    arguments = [f"--model-base-path={path}" for path in by_name(paths).values()]
    arguments += [f"--host={host}", f"--grpc-port={grpc_port}", f"--rest-port={rest_port}"]
    arguments += [f"--fidelity={fidelity}", f"--workers={workers}"]
    return start([*arguments, *([f"--runtime={runtime}"] if runtime else [])], host, timeout)


def start(arguments: Sequence[str], host: str = "127.0.0.1", timeout: float = 120.0) -> Endpoint:
    """Runs `python -m serving.server` with these arguments and waits for its line of ports."""
    with tempfile.NamedTemporaryFile(prefix="serving-", suffix=".log", delete=False) as log_file:
        log = Path(log_file.name)
        process = _spawn(arguments, log_file)
    watchdog = threading.Timer(timeout, process.kill)
    watchdog.start()
    try:
        # Whatever a library may print before is not the line of ports.
        line = next((line for line in process.stdout or () if line.startswith(b'{"grpc_port"')), b"")
    except BaseException:
        process.kill()
        raise
    finally:
        timed_out = not watchdog.is_alive()
        watchdog.cancel()
    if not line.endswith(b"\n"):
        raise _failure(
            process, log, f"did not answer within {timeout:g} s" if timed_out else "could not start"
        )
    ready = json.loads(line)
    return Endpoint(
        address(host, ready["grpc_port"]),
        f"http://{address(host, ready['rest_port'])}",
        tuple(ready["models"]),
        log,
        process,
    )


def _spawn(arguments: Sequence[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - our own module, arguments as a list
        [sys.executable, "-m", "serving.server", "--exit-with-parent", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def _failure(process: "subprocess.Popen[bytes]", log: Path, what: str) -> DeployError:
    process.kill()
    process.wait()
    _close(process)
    tail = log.read_text(encoding="utf-8", errors="replace")[-_TAIL:].strip()
    log.unlink(missing_ok=True)
    return DeployError(f"The server {what}. The end of its log:\n{tail}")


def _close(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
