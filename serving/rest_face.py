"""The service over REST, as TensorFlow Serving's HTTP API: predict, status and metadata under /v1/models."""

import json
import logging
import re
import socket
import threading
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import uvicorn
from google.protobuf.json_format import MessageToDict
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from serving import json_tensors, replies
from serving.errors import Code, ServingError, UnknownSignatureError, invalid
from serving.protos import POOL
from serving.service import ModelSpec, PredictionService

log = logging.getLogger("serving")

BODY_LIMIT = 256 << 20  # bytes of a request, and of what a gzipped one may inflate to

_STATUS = {
    Code.OK: 200,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.CANCELLED: 499,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(_MODEL + r":(?P<verb>classify|regress|predict)", re.IGNORECASE | re.ASCII)
_GET = re.compile(_MODEL + r"(?P<metadata>/metadata)?", re.IGNORECASE | re.ASCII)


class BodyTooLargeError(Exception):
    """The request's body exceeds the limit; HTTP has a code for it, gRPC's table has not."""


@dataclass(frozen=True)
class RestServer:
    """A running REST face; `port` is the one it listens on."""

    port: int
    server: uvicorn.Server
    thread: threading.Thread

    def stop(self) -> None:
        """Refuses new connections and waits for the requests under way."""
        self.server.should_exit = True
        self.thread.join()


def start(
    service: PredictionService, host: str, port: int, *, body_limit: int = BODY_LIMIT, grace: int = 30
) -> RestServer:
    """Listens on host:port (0 = any free port) and serves in a thread; OSError when the port is taken."""
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except OSError as error:
        raise OSError(f"cannot listen for REST on {host}:{port}: {error.strerror}") from error
    config = uvicorn.Config(
        application(service, body_limit),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=grace,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="rest", daemon=True)
    thread.start()
    return RestServer(listener.getsockname()[1], server, thread)


def application(
    service: PredictionService, body_limit: int
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The REST face as an ASGI application."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await answer(service, request, body_limit)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    return app


async def answer(service: PredictionService, request: Request, body_limit: int) -> Response:
    """The reply to one request; every failure becomes {"error": message} with its code's HTTP status."""
    path = request.scope.get("raw_path", b"").split(b"?")[0].decode("latin-1")
    if not path.lower().startswith("/v1/"):
        return HTMLResponse("<html><body><h1>Not Found</h1></body></html>", 404)
    try:
        if request.method == "OPTIONS":
            return Response(status_code=200 if "://" in request.headers.get("origin", "") else 400)
        if request.method == "POST":
            body = await read_body(request, body_limit)
            return await run_in_threadpool(_post, service, path, body)
        return await run_in_threadpool(_get, service, request.method, path)
    except BodyTooLargeError as error:
        return failure(413, str(error))
    except UnknownSignatureError as error:
        return failure(400, f'Serving signature name: "{error.signature}" not found in signature def')
    except ServingError as error:
        return failure(_STATUS.get(error.code, 500), error.message)
    except ClientDisconnect:
        raise
    except Exception as error:
        log.exception("A REST request failed")
        return failure(500, f"{type(error).__name__}: {error}")


def failure(status: int, message: str) -> Response:
    """An error reply."""
    return _json(json.dumps({"error": message}, indent=4).encode(), status)


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


async def read_body(request: Request, limit: int) -> bytes:
    """The body, inflated when it is gzipped (empty when that fails); BodyTooLargeError as soon as it exceeds
    the limit.
    """
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise BodyTooLargeError(f"The request body is larger than {limit} bytes")
        chunks.append(chunk)
    body = b"".join(chunks)
    if request.headers.get("content-encoding", "").lower() != "gzip":
        return body
    inflate = zlib.decompressobj(wbits=31)
    try:
        inflated = await run_in_threadpool(inflate.decompress, body, limit)
    except zlib.error:
        return b""
    if inflate.unconsumed_tail:
        raise BodyTooLargeError(f"The inflated request body is larger than {limit} bytes")
    return inflated


def _post(service: PredictionService, path: str, body: bytes) -> Response:
    match = _POST.fullmatch(path)
    if match is None or match["verb"] != match["verb"].lower():
        raise invalid(f"Malformed request: POST {path}")
    spec = _spec(match)
    if match["verb"] != "predict":
        raise ServingError(
            Code.UNIMPLEMENTED, f"{match['verb']} is not served; use predict with a signature_name"
        )
    request = json_tensors.parse_body(body)
    spec = ModelSpec(spec.name, spec.version, spec.label, json_tensors.signature_name(request))
    prediction = service.predict(spec, lambda signature: json_tensors.to_arrays(request, signature))
    write = json_tensors.row_reply if json_tensors.is_row(request) else json_tensors.column_reply
    return _json(write(prediction.outputs))


def _get(service: PredictionService, method: str, path: str) -> Response:
    if method == "GET" and path.rstrip("/").lower() == "/v1/models":
        raise invalid("Missing model name in request.")
    match = _GET.fullmatch(path)
    if match is None or method != "GET":
        raise invalid(f"Malformed request: {method} {path}")
    spec = _spec(match)
    reply = _metadata(service, spec) if match["metadata"] else _status(service, spec)
    return _json(json.dumps(reply, indent=1).encode())


def _spec(match: re.Match[str]) -> ModelSpec:
    digits = match["version"] and (match["version"].lstrip("0") or "0")
    # Python itself refuses to read numbers of thousands of digits.
    if digits and (len(digits) > 19 or int(digits) >= 2**63):
        raise invalid(f"Failed to convert version: {match['version']} to numeric.")
    label = unquote(match["label"]) if match["label"] else None
    return ModelSpec(unquote(match["name"]), int(digits) if digits else None, label)


def _status(service: PredictionService, spec: ModelSpec) -> dict[str, Any]:
    return _to_dict(replies.status_response(service.status(spec.name, spec.version)))


def _metadata(service: PredictionService, spec: ModelSpec) -> dict[str, Any]:
    version, signatures = service.metadata(spec, ["signature_def"])
    return {
        "model_spec": {"name": spec.name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": _to_dict(replies.signature_def_map(signatures))},
    }


def _to_dict(message: Any) -> dict[str, Any]:
    return MessageToDict(
        message,
        always_print_fields_with_no_presence=True,
        preserving_proto_field_name=True,
        descriptor_pool=POOL,
    )
