"""A server process: loads the models, opens gRPC and REST, says so in one line, and drains on SIGTERM or
SIGINT.
"""

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from serving import grpc_face, rest_face, runtimes
from serving.errors import Code, DeployError
from serving.lifecycle import Models, ServedModel
from serving.service import PredictionService

log = logging.getLogger("serving")

GRACE = 30  # seconds that requests under way may take once the server is told to stop


@dataclass(frozen=True)
class Ready:
    """What a server that answers requests says of itself."""

    grpc_port: int
    rest_port: int
    models: list[str]


def serve(
    base_paths: Sequence[str | Path],
    host: str = "127.0.0.1",
    grpc_port: int = 0,
    rest_port: int = 0,
    runtime: str | None = None,
    body_limit: int = rest_face.BODY_LIMIT,
    announce: Callable[[Ready], None] = lambda ready: None,
    stopping: threading.Event | None = None,
) -> None:
    """Serves each BASE/NAME folder under the name NAME until SIGTERM, SIGINT or `stopping`, then drains and
    returns.

    Ports open only once the models are loaded; port 0 takes any free one, and `announce` hears which. A model
    that cannot be loaded does not hold up the others: its status tells why. Raises DeployError when no model
    can be served, OSError when a port is taken. Call it from the main thread, which is where signals arrive.
    """
    stopping = stopping or threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    models = Models(by_name(base_paths), partial(runtimes.load, runtime=runtime))
    models.start()
    _require_one(models.all())
    service = PredictionService(models)
    grpc_server, grpc_bound = grpc_face.start(service, host, grpc_port)
    rest_server = rest_face.start(service, host, rest_port, body_limit=body_limit, grace=GRACE)
    log.info("Running gRPC ModelServer at %s:%d ...", host, grpc_bound)
    log.info("Exporting HTTP/REST API at:%s:%d ...", host, rest_server.port)
    announce(Ready(grpc_bound, rest_server.port, list(models.all())))
    stopping.wait()
    log.info("Stopping: new requests are refused, those under way are finished")
    rest_stop = threading.Thread(target=rest_server.stop)
    rest_stop.start()
    grpc_face.stop(grpc_server, GRACE)
    rest_stop.join()
    models.stop()


def by_name(base_paths: Sequence[str | Path]) -> dict[str, Path]:
    """The folders by model name, which is the folder's own; DeployError for none, or for two of one name."""
    found: dict[str, Path] = {}
    for given in base_paths:
        path = Path(given).resolve()
        if path.name in found:
            raise DeployError(
                f"Two models are named {path.name}: {found[path.name]} and {path}; rename one folder"
            )
        found[path.name] = path
    if not found:
        raise DeployError("No model folder was given")
    return found


def _require_one(models: Mapping[str, ServedModel]) -> None:
    if not any(model.ready() for model in models.values()):
        raise DeployError("No model can be served.\n" + "\n".join(map(_why, models.values())))


def _why(model: ServedModel) -> str:
    failures = [f"  version {s.version}: {s.message}" for s in model.history() if s.code != Code.OK]
    return "\n".join([f"{model.name}: {model.trouble or 'cannot be loaded'}", *failures])


def _stop_at_end_of_input(stopping: threading.Event) -> None:
    """The parent holds the other end of standard input, which ends when the parent does, however that is."""

    def watch() -> None:
        # Not by sys.stdin: a thread waiting in a buffered read would abort the interpreter's exit.
        while os.read(0, 4096):
            pass
        stopping.set()

    threading.Thread(target=watch, daemon=True).start()


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
    help="Engine to use instead of the directory's first choice.",
)
@click.option("--body-limit", default=rest_face.BODY_LIMIT, help="Largest REST request, in bytes.")
@click.option("--exit-with-parent", is_flag=True, help="Stop when standard input ends.")
def main(exit_with_parent: bool, **options: Any) -> None:
    """Serves model folders over TensorFlow Serving's gRPC and REST; prints one JSON line with the ports when
    ready.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s", stream=sys.stderr
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    stopping = threading.Event()
    if exit_with_parent:
        _stop_at_end_of_input(stopping)
    try:
        serve(**options, stopping=stopping, announce=lambda ready: click.echo(json.dumps(asdict(ready))))
    except (DeployError, OSError) as error:
        click.echo(f"Failed to start server. Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
