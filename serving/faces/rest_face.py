"""The service over REST, as TensorFlow Serving's HTTP API: predict, classify, regress, status and metadata
under /v1/models.
"""

import asyncio
import gzip
import json
import logging
import re
import socket
import threading
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import uvicorn
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from google.protobuf.json_format import MessageToDict
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from serving.errors import Code, ServingError, UnknownSignatureError, invalid
from serving.faces import operations
from serving.faces.tls import Tls
from serving.models.service import ModelSpec, PredictionService
from serving.models.turns import CALLERS
from serving.watching import calls
from serving.watching.observing import observed
from serving.wire import json_examples, json_tensors, replies
from serving.wire.protos import POOL

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
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_WORTH_PACKING = 16 << 10  # bytes of a reply, where gzip at its fastest saves more than it costs
_CLOSING = {"Connection": "close"}  # what is still to come of the request is not read
_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(_MODEL + r"(?::(?P<verb>classify|regress|predict))?", re.IGNORECASE | re.ASCII)
_GET = re.compile(_MODEL + r"(?P<metadata>/metadata)?", re.IGNORECASE | re.ASCII)


class BodyTooLargeError(Exception):
    """The request's body exceeds the limit; HTTP has a code for it, gRPC's table has not."""

    code = Code.INVALID_ARGUMENT  # as which it is counted


class SlowRequestError(Exception):
    """The request's body took too long to arrive."""

    code = Code.DEADLINE_EXCEEDED  # as which it is counted


@dataclass(frozen=True)
class RestOptions:
    """Where to listen and how. `port` 0 is any free one; `timeout` of a run and `body_timeout`, in which a
    request must have arrived, are in seconds, `body_limit` in bytes; `metrics_path` None shows no metrics;
    `shared`: other processes listen on the port, too.
    """

    host: str = "127.0.0.1"
    port: int = 0
    body_limit: int = BODY_LIMIT
    timeout: float = 30.0
    cors: bool = False
    threads: int = CALLERS
    body_timeout: float = 60.0
    metrics_path: str | None = None
    tls: Tls | None = None
    shared: bool = False


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


def start(service: PredictionService, options: RestOptions, grace: int = 30) -> RestServer:
    """Listens and serves in a thread; OSError when the port is taken."""
    try:
        listener = _listen(options.host, options.port, options.shared)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"cannot listen for REST on {options.host}:{options.port}: {reason}") from error
    tls = options.tls
    config = uvicorn.Config(
        application(service, options),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=grace,
        ssl_context_factory=(lambda *_: tls.context()) if tls else None,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="rest", daemon=True)
    thread.start()
    return RestServer(listener.getsockname()[1], server, thread)


def _listen(host: str, port: int, shared: bool) -> socket.socket:
    """All addresses means IPv6 as well, as TensorFlow Serving's REST does."""
    every = host == "0.0.0.0" and socket.has_dualstack_ipv6()  # noqa: S104 - asked for
    listener = socket.create_server(
        ("" if every else host, port),
        family=socket.AF_INET6 if every or ":" in host else socket.AF_INET,
        dualstack_ipv6=every,
        backlog=2048,
        reuse_port=shared,
    )
    # Connections inherit it. asyncio does not see that these are TCP's, and a reply's body would wait for the
    # client to acknowledge its head: 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def application(
    service: PredictionService, options: RestOptions
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The REST face as an ASGI application."""
    workers = CapacityLimiter(options.threads)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await answer(service, request, options, workers)
        except ClientDisconnect:
            return
        await _pack(response, request)
        await response(scope, receive, send)

    return app


async def _pack(response: Response, request: Request) -> None:
    """Gzips the reply where the client takes that and it is worth it."""
    wanted = "gzip" in request.headers.get("accept-encoding", "")
    if wanted and len(response.body) >= _WORTH_PACKING:
        response.body = await run_sync(gzip.compress, response.body, 1)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(response.body))


async def answer(
    service: PredictionService, request: Request, options: RestOptions, workers: CapacityLimiter
) -> Response:
    """The reply to one request; every failure becomes {"error": message} with its code's HTTP status."""
    path = request.scope.get("raw_path", b"").split(b"?")[0].decode("latin-1")
    query = request.scope.get("query_string", b"").decode("latin-1")
    page = operations.page(service.models, request.method, path, query, options.metrics_path)
    if page:
        return page
    if not path.lower().startswith("/v1/"):
        return HTMLResponse("<html><body><h1>Not Found</h1></body></html>", 404)
    if request.method == "OPTIONS":
        response = Response(status_code=200 if _has_origin(request) else 400)
    else:
        response = await _guarded(service, request, path, options, workers)
    if options.cors:
        response.headers.update(_CORS)
    return response


def _has_origin(request: Request) -> bool:
    origin = request.headers.get("origin", "")
    return "http://" in origin or "https://" in origin


async def _guarded(
    service: PredictionService, request: Request, path: str, options: RestOptions, workers: CapacityLimiter
) -> Response:
    try:
        with observed("REST", "", "", None, service.models.known, request.headers.items()):
            return await _routed(service, request, path, options, workers)
    except SlowRequestError as error:
        return failure(408, str(error), **_CLOSING)
    except BodyTooLargeError as error:
        return failure(413, str(error), **_CLOSING)
    except UnknownSignatureError as error:
        return failure(400, f'Serving signature name: "{error.signature}" not found in signature def')
    except ServingError as error:
        return failure(_STATUS.get(error.code, 500), error.message)
    except ClientDisconnect:
        raise
    except Exception as error:
        log.exception("A REST request failed")
        return failure(500, f"{type(error).__name__}: {error}")


async def _routed(
    service: PredictionService, request: Request, path: str, options: RestOptions, workers: CapacityLimiter
) -> Response:
    if request.method != "POST":
        return await run_sync(_get, service, request.method, path, limiter=workers)
    try:
        async with asyncio.timeout(options.body_timeout):
            body = await read_body(request, options.body_limit)
    except TimeoutError as error:
        limit = f"{options.body_timeout:g} seconds"
        raise SlowRequestError(f"The request did not arrive within {limit}") from error
    return await run_sync(_post, service, path, body, options.timeout, limiter=workers)


def failure(status: int, message: str, **headers: str) -> Response:
    """An error reply."""
    response = _json(json.dumps({"error": message}, indent=4).encode(), status)
    response.headers.update(headers)
    return response


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
        inflated = await run_sync(inflate.decompress, body, limit)
    except zlib.error:
        return b""
    if inflate.unconsumed_tail:
        raise BodyTooLargeError(f"The inflated request body is larger than {limit} bytes")
    return inflated if inflate.eof else b""


def _post(service: PredictionService, path: str, body: bytes, timeout: float) -> Response:
    match = _POST.fullmatch(path)
    verb = (match and match["verb"]) or "predict"
    if match is None or verb != verb.lower():
        raise invalid(f"Malformed request: POST {path}")
    spec = _spec(match)
    call = calls.current()
    call.model, call.api = spec.name, verb
    request = json_tensors.parse_body(body)
    call.limit(timeout)
    spec = replace(spec, signature=json_tensors.signature_name(request))
    return _json(_INFERENCE[verb](service, spec, request))


def _predict(service: PredictionService, spec: ModelSpec, request: dict[str, Any]) -> bytes:
    answer = service.predict(spec, lambda signature: json_tensors.to_arrays(request, signature))
    write = json_tensors.row_reply if json_tensors.is_row(request) else json_tensors.column_reply
    return write(answer.outputs)


def _classify(service: PredictionService, spec: ModelSpec, request: dict[str, Any]) -> bytes:
    examples = json_examples.examples(request, "classify")
    return json_examples.classes_reply(service.classify(spec, examples).outputs)


def _regress(service: PredictionService, spec: ModelSpec, request: dict[str, Any]) -> bytes:
    examples = json_examples.examples(request, "regress")
    return json_examples.values_reply(service.regress(spec, examples).outputs)


_INFERENCE = {"predict": _predict, "classify": _classify, "regress": _regress}


def _get(service: PredictionService, method: str, path: str) -> Response:
    match = _GET.fullmatch(path)
    if match is None or method != "GET":
        raise invalid(f"Malformed request: {method} {path}")
    spec = _spec(match)
    calls.current().model = spec.name
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
