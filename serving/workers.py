"""Several processes that share the ports of one server (SO_REUSEPORT), and the one that looks after them.

The kernel deals out the connections. The first worker loads the models alone, so that they are measured once
and an error is told once; the ports open when all have loaded. A worker that dies is started again. Workers
end when their standard input does: none outlives the process that started it, however that ends.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serving import machine
from serving.errors import DeployError
from serving.watching import metrics

log = logging.getLogger("serving")

# Seconds until a worker is started again: doubled each time, unless the last one lived long.
FIRST_PAUSE, LONGEST_PAUSE, LONG_LIFE = 0.5, 30.0, 60.0


@dataclass(frozen=True)
class Job:
    """What each worker is to do: serve the Options that `options(**arguments)` of `module` gives, on ports
    that it shares.
    """

    module: str
    arguments: Mapping[str, Any]
    workers: int
    grpc_port: int
    rest_port: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        return cls(**json.loads(text))


def serve(job: Job, announce: Callable[[dict[str, Any]], None], stopping: threading.Event) -> None:
    """Serves until `stopping`, then drains and returns; `announce` hears what a worker says of itself once
    all answer. Raises DeployError, when all have ended, if one of them cannot start.
    """
    if job.workers > machine.cores():
        log.warning("%d workers share %d processor(s): fewer would do", job.workers, machine.cores())
    with tempfile.TemporaryDirectory(prefix="serving-", ignore_cleanup_errors=True) as folder:
        crew = Crew(job, Path(folder), stopping)
        ending = threading.Thread(target=crew.end_when_told, name="ending")
        ending.start()
        try:
            announce(crew.start())
            crew.keep()
        except DeployError:
            # A worker that was told to end before it was ready is none that could not start.
            if not stopping.is_set():
                raise
        finally:
            stopping.set()
            ending.join()
            crew.wait()


class Crew:
    """The worker processes by their numbers."""

    def __init__(self, job: Job, folder: Path, stopping: threading.Event) -> None:
        self._job = job
        self._folder = folder
        self._stopping = stopping
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()

    def start(self) -> dict[str, Any]:
        """Returns what the first one says of itself once all answer requests."""
        numbers = range(self._job.workers)
        self._load(numbers[:1])
        self._load(numbers[1:])
        return self._open(numbers)[0]

    def keep(self) -> None:
        """Starts those that die again, until told to stop."""
        keepers = [threading.Thread(target=self._keep, args=(number,)) for number in self._processes]
        for keeper in keepers:
            keeper.start()
        for keeper in keepers:
            keeper.join()

    def end_when_told(self) -> None:
        """Tells all to end as soon as the crew is stopping."""
        self._stopping.wait()
        with self._lock:
            for process in self._processes.values():
                _tell_to_end(process)

    def wait(self) -> None:
        """Until all have ended."""
        for process in self._processes.values():
            process.wait()
            _close(process)

    def _load(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._spawn(number)
        for number in numbers:
            self._heard(number)

    def _open(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        for number in numbers:
            # Of one that has died, or was told to end, nothing will be heard.
            with suppress(OSError, ValueError):
                print("open", file=self._processes[number].stdin, flush=True)
        return [self._heard(number) for number in numbers]

    def _spawn(self, number: int) -> None:
        with self._lock:
            if self._stopping.is_set():
                raise DeployError("The server is stopping")
            self._processes[number] = subprocess.Popen(  # noqa: S603 - our own module, arguments as a list
                [sys.executable, "-m", "serving.worker", str(number), self._job.to_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **self._environment()},
                # Ctrl-C is for the process that looks after them.
                process_group=0,
            )
            alive = {n: process.pid for n, process in self._processes.items() if process.poll() is None}
            metrics.write_workers(self._folder, alive)

    def _environment(self) -> dict[str, str]:
        share = max(1, machine.cores() // self._job.workers)
        return {machine.SHARE: str(share), metrics.SHARED_FOLDER: os.fspath(self._folder)}

    def _heard(self, number: int) -> dict[str, Any]:
        """The next thing that a worker says; DeployError when it has failed."""
        process = self._processes[number]
        line = process.stdout.readline() if process.stdout else ""
        if not line.endswith("\n"):
            raise DeployError(f"Worker {number} {_ending(process.wait())} before it was ready")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise DeployError(said["error"])
        return said

    def _keep(self, number: int) -> None:
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            code = self._processes[number].wait()
            if self._stopping.is_set():
                if code:
                    log.error("Worker %d %s", number, _ending(code))
                return
            pause = FIRST_PAUSE if time.monotonic() - began > LONG_LIFE else pause
            log.error("Worker %d %s; it is started again in %g s", number, _ending(code), pause)
            self._forget(number)
            if self._stopping.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                self._load([number])
                self._open([number])
            except (DeployError, OSError) as error:
                log.error("Worker %d cannot start: %s", number, error)
                _tell_to_end(self._processes[number])

    def _forget(self, number: int) -> None:
        process = self._processes[number]
        _close(process)
        metrics.forget_worker(self._folder, process.pid)


def _tell_to_end(process: "subprocess.Popen[str]") -> None:
    if process.stdin:
        with suppress(OSError):
            process.stdin.close()


def _close(process: "subprocess.Popen[str]") -> None:
    _tell_to_end(process)
    if process.stdout:
        process.stdout.close()


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


@contextmanager
def reserved(face: str, host: str, port: int) -> Iterator[int]:
    """A port that nobody else listens on, kept for workers to share while the context lasts; 0 is any free
    one. OSError when it is taken.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise DeployError("Processes cannot share a port on this system: start the server with one worker")
    try:
        # Shared from the start, it would be shared with strangers, too.
        with _bound(host, port, share=False) as alone:
            port = alone.getsockname()[1]
        held = _bound(host, port, share=True)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"cannot listen for {face} on {host}:{port}: {reason}") from error
    with held:
        yield port


def _bound(host: str, port: int, share: bool) -> socket.socket:
    """All addresses means IPv6 as well, as it does for both faces."""
    every = host == "0.0.0.0" and socket.has_dualstack_ipv6()  # noqa: S104 - asked for
    bound = socket.socket(socket.AF_INET6 if every or ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, share)
        if every:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(("" if every else host, port))
    except BaseException:
        bound.close()
        raise
    return bound
