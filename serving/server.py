"""A server process: loads the models, opens gRPC and REST, says so in one line, and drains on SIGTERM or
SIGINT.
"""

import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from serving import machine, runtimes, workers
from serving.errors import Code, DeployError
from serving.faces import grpc_face, rest_face
from serving.faces.grpc_face import GrpcOptions
from serving.faces.operations import METRICS_PATH
from serving.faces.rest_face import RestOptions
from serving.folders import by_name
from serving.models import choosing, config
from serving.models.batching import scheduled
from serving.models.lifecycle import Models, why
from serving.models.service import PredictionService
from serving.models.versions import DEFAULT_TIMING, Load, ModelConfig, Timing
from serving.models.warmup import warmed
from serving.runtimes.base import Engines
from serving.watching import observing
from serving.watching.request_log import RequestLog

log = logging.getLogger("serving")

GRACE = 30  # seconds that requests under way may take once the server is told to stop


@dataclass(frozen=True)
class Ready:
    """What a server that answers requests says of itself."""

    grpc_port: int
    rest_port: int
    models: list[str]


@dataclass(frozen=True)
class Options:
    """A server: its models, how they are loaded and when, and its faces; `rest` None means no REST.

    `patient` waits for a first model as long as one may still come; otherwise the first try decides.
    `config_file` is read anew every `config_poll` seconds, when that is positive; `access_log` writes a line
    per request. `workers` processes share the ports.
    """

    models: Sequence[ModelConfig]
    load: Load
    grpc: GrpcOptions
    rest: RestOptions | None
    timing: Timing = DEFAULT_TIMING
    free_labels: bool = False
    strict: bool = False
    patient: bool = False
    config_file: Path | None = None
    config_poll: float = 0.0
    access_log: bool = False
    workers: int = 1


def serve(
    base_paths: Sequence[str | Path],
    host: str = "127.0.0.1",
    grpc_port: int = 0,
    rest_port: int = 0,
    runtime: str | None = None,
    fidelity: str = "exact",
    body_limit: int = rest_face.BODY_LIMIT,
    access_log: bool = False,
    workers: int = 1,
    announce: Callable[[Ready], None] = lambda ready: None,
    stopping: threading.Event | None = None,
) -> None:
    """Serves each BASE/NAME folder under the name NAME until SIGTERM, SIGINT or `stopping`, then drains and
    returns.

    Each version is served by the fastest of its files whose numbers agree with the model's within `fidelity`
    ("exact", "bf16", "int8"), or by the engine that `runtime` names. Ports open only once the models are
    loaded; port 0 takes any free one, and `announce` hears which. A model that cannot be loaded does not hold
    up the others: its status tells why. With several `workers`, processes of their own share the ports and
    the processors. Raises DeployError when no model can be served, OSError when a port is taken. Call it from
    the main thread, which is where signals arrive.
    """
    arguments: dict[str, Any] = {
        "base_paths": [os.fspath(path) for path in base_paths],
        "host": host,
        "grpc_port": grpc_port,
        "rest_port": rest_port,
        "runtime": runtime,
        "fidelity": fidelity,
        "body_limit": body_limit,
        "access_log": access_log,
        "workers": workers,
    }
    launch("serving.server", arguments, options(**arguments), announce, stopping)


def options(
    base_paths: Sequence[str],
    host: str,
    grpc_port: int,
    rest_port: int,
    runtime: str | None,
    fidelity: str,
    body_limit: int,
    access_log: bool,
    workers: int,
) -> Options:
    """What `serve` asks for; DeployError for folders or workers that make no server."""
    if workers < 1:
        raise DeployError(f"A server has at least one worker; {workers} were asked for")
    return Options(
        models=configs(base_paths),
        load=fastest(runtime, fidelity),
        grpc=GrpcOptions(host, grpc_port),
        rest=RestOptions(host, rest_port, body_limit=body_limit, metrics_path=METRICS_PATH),
        access_log=access_log,
        workers=workers,
    )


def configs(base_paths: Sequence[str | Path]) -> list[ModelConfig]:
    """Each BASE/NAME folder as the model NAME; DeployError as `by_name`."""
    return [ModelConfig(name, path) for name, path in by_name(base_paths).items()]


def fastest(runtime: str | None, fidelity: str) -> Load:
    """Loads a version by the engine that `serve` says, warms it up, and queues the calls of it."""
    return scheduled(warmed(partial(choosing.load, runtime=runtime, engines=Engines(fidelity=fidelity))))


def launch(
    module: str,
    arguments: Mapping[str, Any],
    options: Options,
    announce: Callable[[Ready], None] = lambda ready: None,
    stopping: threading.Event | None = None,
) -> None:
    """Serves in this process, or in several where the options say so: each then makes its own options by
    `options(**arguments)` of `module`. Returns and raises as `serve` does.
    """
    stopping = stopping or threading.Event()

    def told(ready: Ready) -> None:
        _say_where(options, ready)
        announce(ready)

    if options.workers == 1:
        run(options, told, stopping)
        return
    stop_on_signals(stopping)
    with _ports(options) as (grpc_port, rest_port):
        job = workers.Job(module, arguments, options.workers, grpc_port, rest_port)
        workers.serve(job, lambda ready: told(Ready(**ready)), stopping)


@contextmanager
def _ports(options: Options) -> Iterator[tuple[int, int]]:
    """Those that the workers share."""
    grpc, rest = options.grpc, options.rest
    with workers.reserved("gRPC", grpc.host, grpc.port or 0) as grpc_port:
        if rest is None:
            yield grpc_port, 0
            return
        if rest.port == grpc_port:
            raise OSError(f"cannot listen for REST on {rest.host}:{rest.port}: it is the port for gRPC")
        with workers.reserved("REST", rest.host, rest.port) as rest_port:
            yield grpc_port, rest_port


def run(
    options: Options,
    announce: Callable[[Ready], None] = lambda ready: None,
    stopping: threading.Event | None = None,
    loaded: Callable[[], None] = lambda: None,
) -> None:
    """Serves in this process until SIGTERM, SIGINT or `stopping`, then drains and returns; raises as `serve`
    does. The ports open once the models are loaded and `loaded` has returned.
    """
    machine.keep_freed_memory()
    stopping = stopping or threading.Event()
    stop_on_signals(stopping)
    if options.access_log:
        observing.log_requests()
    models = Models(options.models, options.load, options.timing, options.free_labels)
    models.start()
    wait_for_models(models, stopping, options.patient)
    loaded()
    if stopping.is_set():
        return
    models.serving_begins()
    _serve_until(stopping, options, models, announce)
    models.stop()


def stop_on_signals(stopping: threading.Event) -> None:
    """SIGTERM and SIGINT set the event, by a thread that C's handler wakes. Python's runs in the main thread
    alone, once it runs at all: a signal that comes while that is about to wait for the event, or that another
    thread is given, would not wake it.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    told, heard = socket.socketpair()

    def listen() -> None:
        while True:
            if heard.recv(1)[0] in numbers:
                stopping.set()

    told.setblocking(False)
    signal.set_wakeup_fd(told.detach(), warn_on_full_buffer=False)
    threading.Thread(target=listen, name="signals", daemon=True).start()
    for number in numbers:
        signal.signal(number, lambda *_: None)


def _serve_until(
    stopping: threading.Event, options: Options, models: Models, announce: Callable[[Ready], None]
) -> None:
    request_log = RequestLog(models.logging)
    service = PredictionService(models, options.strict, request_log.hear, options.workers)
    grpc_server = grpc_face.start(service, options.grpc)
    rest_server = rest_face.start(service, options.rest, GRACE) if options.rest else None
    announce(Ready(grpc_server.port, rest_server.port if rest_server else 0, list(models.all())))
    _follow_config(options, models, stopping)
    stopping.wait()
    log.info("Stopping: new requests are refused, those under way are finished")
    rest_stop = threading.Thread(target=rest_server.stop if rest_server else lambda: None)
    rest_stop.start()
    grpc_server.stop(GRACE)
    rest_stop.join()
    request_log.close()


def _say_where(options: Options, ready: Ready) -> None:
    """Scripts wait for these lines, word for word."""
    host, socket_path = options.grpc.host, options.grpc.socket_path
    if ready.grpc_port:
        log.info("Running gRPC ModelServer at %s:%d ...", host, ready.grpc_port)
    if socket_path:
        log.info("Running gRPC ModelServer at UNIX socket %s ...", socket_path)
    if options.rest:
        shown = "localhost" if options.rest.host == "0.0.0.0" else options.rest.host  # noqa: S104 - shown
        log.info("Exporting HTTP/REST API at:%s:%d ...", shown, ready.rest_port)


def wait_for_models(models: Models, stopping: threading.Event, patient: bool = False) -> None:
    """Returns once there is something to serve, or on `stopping`; DeployError when there will be nothing."""
    while not models.tried(0.1):
        if stopping.is_set():
            return
    served = models.all().values()
    while patient and not any(m.ready() for m in served) and not all(m.settled() for m in served):
        if stopping.wait(0.1):
            return
    if served and not any(model.ready() for model in served):
        raise DeployError(
            f"{Code.UNKNOWN.name}: {len(served)} servable(s) did not become available: {why(list(served))}"
        )


def _follow_config(options: Options, models: Models, stopping: threading.Event) -> None:
    """Reads the config file again and again in a thread; a broken one is logged and changes nothing."""
    file = options.config_file
    if file is None or options.config_poll <= 0:
        return

    def follow() -> None:
        trouble = ""
        while not stopping.wait(options.config_poll):
            known, trouble = trouble, _reloaded(models, file)
            if trouble and trouble != known:
                log.error("%s is not followed: %s", file, trouble)

    threading.Thread(target=follow, name="config", daemon=True).start()


def _reloaded(models: Models, file: Path) -> str:
    """Serves what a config file asks for; what is wrong with it, "" when nothing is."""
    try:
        models.reload(config.models(config.read_model_config(file)))
    except Exception as error:
        return str(error)
    return ""


def stop_at_end_of_input(stopping: threading.Event, told: threading.Event | None = None) -> None:
    """The parent holds the other end of standard input, which ends when the parent does, however that is.
    Whatever it writes sets `told`, as the end does.
    """
    told = told or threading.Event()

    def watch() -> None:
        # Not by sys.stdin: a thread waiting in a buffered read would abort the interpreter's exit.
        while os.read(0, 4096):
            told.set()
        stopping.set()
        told.set()

    threading.Thread(target=watch, daemon=True).start()


def log_to_stderr(who: str = "") -> None:
    """What a server says of itself, after `who` says it, and only the warnings of what it stands on."""
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s %(levelname).1s {who}%(message)s", stream=sys.stderr
    )
    for library in ("uvicorn", "absl", "tensorflow"):
        logging.getLogger(library).setLevel(logging.WARNING)


@click.command(context_settings={"show_default": True})
@click.option(
    "--model-base-path",
    "base_paths",
    multiple=True,
    required=True,
    help="A model's folder, BASE/NAME, which holds its versions; repeat it to serve several.",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--grpc-port", default=0, help="0 = any free port.")
@click.option("--rest-port", default=0, help="0 = any free port.")
@click.option(
    "--runtime",
    type=click.Choice(runtimes.NAMES),
    help="Engine to use instead of the fastest faithful one.",
)
@click.option(
    "--fidelity",
    type=click.Choice(list(runtimes.FIDELITIES)),
    default="exact",
    help="How near to the model's own the numbers must be; bf16 and int8 admit faster files.",
)
@click.option("--body-limit", default=rest_face.BODY_LIMIT, help="Largest REST request, in bytes.")
@click.option("--access-log", is_flag=True, help="A line of JSON per request, on standard error.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, help="Processes that share the ports and processors."
)
@click.option("--exit-with-parent", is_flag=True, help="Stop when standard input ends.")
def main(exit_with_parent: bool, **options: Any) -> None:
    """Serves model folders over TensorFlow Serving's gRPC and REST; prints one JSON line with the ports when
    ready.
    """
    log_to_stderr()
    stopping = threading.Event()
    if exit_with_parent:
        stop_at_end_of_input(stopping)
    try:
        serve(**options, stopping=stopping, announce=lambda ready: click.echo(json.dumps(asdict(ready))))
    except (DeployError, OSError) as error:
        click.echo(f"Failed to start server. Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
