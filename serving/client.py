"""What a user calls: a served model's labels, outputs, embeddings and state, over gRPC, without TensorFlow.

Client waits for its answers, AsyncClient is awaited.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import numpy as np

from serving import fetching
from serving.errors import Code, ServingError
from serving.wire import tensors
from serving.wire.protos import (
    MODEL_SERVICE,
    PREDICTION_SERVICE,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    PredictRequest,
    SignatureDefMap,
    methods,
)
from zoo.errors import DataError
from zoo.preprocessing import Picture, coloured, in_range, is_one, listed, read_image

Read = Callable[[str | PathLike[str] | bytes], bytes]

# Of a call that the server refuses with UNAVAILABLE, 0.1 s after the first, twice as long each time.
ATTEMPTS = 4
BATCH = 32  # pictures of a request


@dataclass(frozen=True)
class ClientTls:
    """How a client trusts a server, and shows who it is itself: PEM files or their contents.

    Without `roots` the authorities that gRPC comes with count. `certificate` and `key` are for servers that
    ask for them. `server_name` is the name in the server's certificate, where the address is another.
    """

    roots: str | PathLike[str] | bytes | None = None
    certificate: str | PathLike[str] | bytes | None = None
    key: str | PathLike[str] | bytes | None = field(default=None, repr=False)
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel; DataError when a file cannot be read."""
        texts = [item and _encoded(item) for item in (self.roots, self.key, self.certificate)]
        return grpc.ssl_channel_credentials(*texts)


def _options(attempts: int, tls: ClientTls | None) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # A connection of its own: several clients of one process reach several workers.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if tls and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    if attempts > 1:
        options.append(("grpc.service_config", json.dumps(_retrying(attempts))))
    return options


def _retrying(attempts: int) -> dict[str, Any]:
    """gRPC's service config; the throttling keeps clients from adding to a server's overload."""
    policy = {
        "maxAttempts": attempts,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return {
        "methodConfig": [{"name": [{}], "retryPolicy": policy}],
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    }


class _Connection:
    """What both clients are made of."""

    _grpc: Any

    def __init__(
        self,
        address: str,
        timeout: float = 30.0,
        *,
        attempts: int = ATTEMPTS,
        tls: ClientTls | None = None,
        urls: bool = False,
    ) -> None:
        self.address = _checked(address)
        self.timeout = timeout
        self._read = partial(_encoded, urls=urls, seconds=timeout)
        self._channel = _channel(self._grpc, address, attempts, tls)
        self._calls = _calls(self._channel)


class Client(_Connection):
    """A connection to a server that speaks TensorFlow Serving's gRPC, ours or another; a context manager.

    `address` is HOST:PORT or unix:PATH, `timeout` the seconds that one call may take, all its `attempts`
    (1 to 5) together: a call that the server refuses with UNAVAILABLE is made again after 0.1 s, then after
    twice as long. Calls raise ServingError with the server's code and message; UNAVAILABLE when nothing
    answers there, DataError for an address that is none of gRPC's.

    A picture is a file's path, its bytes, an image of Pillow's, or an array [H, W, 3] or [H, W] of 0..255;
    with `urls` also an http:// or https:// address, fetched by this client (64 MB at most, in `timeout`
    seconds). An array [N, H, W, 3] counts as a list. Lists are sent in requests of 32 pictures. DataError
    for what cannot be read.
    """

    _grpc = grpc

    def classify(
        self, model: str, image: Picture | Iterable[Picture], top: int = 5, *, version: int | None = None
    ) -> Any:
        """[(label, score), ...] of a picture, best first; a list of these for a list of pictures. A model
        names at most its own best five, whatever `top` is; one of several labels all of them, and those above
        0.5 are there.
        """
        requests = _picture_requests(model, self._read, image, version, ("classes", "scores"))
        rows = [row for request in requests for row in _labelled(self._call("Predict", request), top)]
        return rows[0] if is_one(image) else rows

    def embed(
        self, model: str, image: Picture | Iterable[Picture], *, version: int | None = None
    ) -> np.ndarray:
        """float32 [D] of a picture, what the network sees before it decides; [N, D] for a list."""
        requests = _embed_requests(model, self._read, image, version)
        return _joined([self._call("Predict", request) for request in requests], "features", image)

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any] | Picture | Iterable[Picture],
        *,
        signature: str = "",
        version: int | None = None,
        outputs: str | Sequence[str] = (),
    ) -> Any:
        """Of a picture the probabilities, float32 [C], and [N, C] of a list. Of inputs by name a dict: the
        outputs of any signature ("" is serving_default); `outputs` asks for some only.

        Inputs are arrays, or nested lists: lists of Python floats are sent as float32. Strings come back as
        bytes.
        """
        if isinstance(inputs, Mapping):
            request = _predict_request(model, inputs, signature, version, outputs)
            return _arrays(self._call("Predict", request))
        requests = _picture_requests(model, self._read, inputs, version, ("probabilities",))
        return _joined([self._call("Predict", request) for request in requests], "probabilities", inputs)

    def metadata(self, model: str, *, version: int | None = None) -> Any:
        """The model's signatures, a SignatureDefMap message: `.signature_def["serving_default"].inputs` and
        so on.
        """
        return _signatures(self._call("GetModelMetadata", _metadata_request(model, version)))

    def status(self, model: str, *, version: int | None = None) -> dict[int, str]:
        """The state of every version, newest first, as {3: "AVAILABLE", 2: "END"}; a failed one adds its
        reason.
        """
        return _states(self._call("GetModelStatus", _status_request(model, version)))

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, name: str, request: Any) -> Any:
        try:
            return self._calls[name](request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise _refused(error, self.address, request) from error


class AsyncClient(_Connection):
    """Client for asyncio: made and used inside an event loop; an asynchronous context manager."""

    _grpc = grpc.aio

    async def classify(
        self, model: str, image: Picture | Iterable[Picture], top: int = 5, *, version: int | None = None
    ) -> Any:
        """As Client.classify."""
        wanted = ("classes", "scores")
        requests = await asyncio.to_thread(_picture_requests, model, self._read, image, version, wanted)
        rows = [row for request in requests for row in _labelled(await self._call("Predict", request), top)]
        return rows[0] if is_one(image) else rows

    async def embed(
        self, model: str, image: Picture | Iterable[Picture], *, version: int | None = None
    ) -> np.ndarray:
        """As Client.embed."""
        requests = await asyncio.to_thread(_embed_requests, model, self._read, image, version)
        return _joined([await self._call("Predict", request) for request in requests], "features", image)

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, Any] | Picture | Iterable[Picture],
        *,
        signature: str = "",
        version: int | None = None,
        outputs: str | Sequence[str] = (),
    ) -> Any:
        """As Client.predict."""
        if isinstance(inputs, Mapping):
            request = _predict_request(model, inputs, signature, version, outputs)
            return _arrays(await self._call("Predict", request))
        wanted = ("probabilities",)
        requests = await asyncio.to_thread(_picture_requests, model, self._read, inputs, version, wanted)
        answers = [await self._call("Predict", request) for request in requests]
        return _joined(answers, "probabilities", inputs)

    async def metadata(self, model: str, *, version: int | None = None) -> Any:
        """As Client.metadata."""
        return _signatures(await self._call("GetModelMetadata", _metadata_request(model, version)))

    async def status(self, model: str, *, version: int | None = None) -> dict[int, str]:
        """As Client.status."""
        return _states(await self._call("GetModelStatus", _status_request(model, version)))

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, name: str, request: Any) -> Any:
        try:
            return await self._calls[name](request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise _refused(error, self.address, request) from error


def _checked(address: str) -> str:
    """The address, if it is one of gRPC's."""
    if address.startswith(("http://", "https://")):
        raise DataError(f'"{address}" is no gRPC address: give HOST:PORT, the server\'s gRPC port')
    if ":" not in address:
        raise DataError(f'"{address}" names no port: give HOST:PORT, as 127.0.0.1:8500')
    return address


def _channel(kind: Any, address: str, attempts: int, tls: ClientTls | None) -> Any:
    """kind: grpc, or grpc.aio for an asynchronous one."""
    options = _options(attempts, tls)
    if tls:
        return kind.secure_channel(address, tls.credentials(), options=options)
    return kind.insecure_channel(address, options=options)


def _calls(channel: Any) -> dict[str, Any]:
    """The calls of both services on a channel, by name."""
    return {
        name: channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        for service in (PREDICTION_SERVICE, MODEL_SERVICE)
        for name, method in methods(service).items()
    }


def _refused(error: Any, address: str, request: Any) -> ServingError:
    code = Code(error.code().value[0])
    message = error.details() or code.name
    # gRPC's own words for a connection that failed; a server's refusal is passed on as it is.
    if code == Code.UNAVAILABLE and "failed to connect" in message:
        message = f"no server answers at {address}: {message}"
        if "http1" in message:
            message += "; is it the REST port? The client calls the gRPC port"
    if isinstance(request, PredictRequest) and "signature" in message.lower():
        message += f'; client.metadata("{request.model_spec.name}") lists what the model takes'
    return ServingError(code, message)


def _predict_request(
    model: str, inputs: Mapping[str, Any], signature: str, version: int | None, outputs: str | Sequence[str]
) -> Any:
    request = PredictRequest(output_filter=[outputs] if isinstance(outputs, str) else outputs)
    _fill_spec(request.model_spec, model, version)
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tensors.to_proto(_array(value)))
    return request


def _picture_requests(
    model: str, read: Read, image: Picture | Iterable[Picture], version: int | None, outputs: Sequence[str]
) -> list[Any]:
    requests = []
    for batch in _batches(listed(image), read):
        alias, signature = ("image_bytes", "") if batch.dtype == object else ("images", "predict_images")
        requests.append(_predict_request(model, {alias: batch}, signature, version, outputs))
    return requests


def _embed_requests(
    model: str, read: Read, image: Picture | Iterable[Picture], version: int | None
) -> list[Any]:
    pixels = [_pixels(picture, read) for picture in listed(image)]
    return [
        _predict_request(model, {"images": batch}, "features", version, ())
        for batch in _batches(pixels, read)
    ]


def _metadata_request(model: str, version: int | None) -> Any:
    request = GetModelMetadataRequest(metadata_field=["signature_def"])
    _fill_spec(request.model_spec, model, version)
    return request


def _signatures(response: Any) -> Any:
    signatures = SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return signatures


def _status_request(model: str, version: int | None) -> Any:
    request = GetModelStatusRequest()
    _fill_spec(request.model_spec, model, version)
    return request


def _states(response: Any) -> dict[int, str]:
    return {row.version: _state(row) for row in response.model_version_status}


def _joined(responses: Sequence[Any], output: str, image: Picture | Iterable[Picture]) -> np.ndarray:
    """A row for each picture; the row itself for one alone."""
    rows = [_arrays(response)[output] for response in responses]
    joined = np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)
    return joined[0] if is_one(image) else joined


def _arrays(response: Any) -> dict[str, np.ndarray]:
    return {alias: tensors.to_array(proto, alias) for alias, proto in response.outputs.items()}


def _labelled(response: Any, top: int) -> list[list[tuple[str, float]]]:
    found = _arrays(response)
    return [
        [(label.decode(), float(score)) for label, score in zip(labels[:top], scores[:top], strict=True)]
        for labels, scores in zip(found["classes"], found["scores"], strict=True)
    ]


def _fill_spec(spec: Any, model: str, version: int | None) -> None:
    spec.name = model
    if version is not None:
        spec.version.value = version


def _state(row: Any) -> str:
    name = type(row).State.Name(row.state)
    return f"{name}: {row.status.error_message}" if row.status.error_message else name


def _batches(pictures: Sequence[Any], read: Read) -> list[np.ndarray]:
    """Neighbours that fit one request together: encoded pictures, or arrays of one shape and type, in the
    order given, at most BATCH.
    """
    batches: list[list[Any]] = []
    kind: object = None
    for picture in pictures:
        item = _given(picture, read)
        this = (item.shape, item.dtype) if isinstance(item, np.ndarray) else bytes
        if this != kind or len(batches[-1]) == BATCH:
            batches.append([])
            kind = this
        batches[-1].append(item)
    return [np.array(batch, object) if isinstance(batch[0], bytes) else np.stack(batch) for batch in batches]


def _encoded(picture: str | PathLike[str] | bytes, urls: bool = False, seconds: float = 30.0) -> bytes:
    if isinstance(picture, bytes):
        return picture
    if fetching.is_address(picture):
        if not urls:
            raise DataError(f'"{picture}" is not fetched: only a client made with urls=True fetches pictures')
        return fetching.fetch(str(picture), seconds)
    try:
        return Path(picture).read_bytes()
    except OSError as error:
        raise DataError(f'"{picture}" cannot be read: {error.strerror}') from error


def _given(picture: Picture, read: Read) -> bytes | np.ndarray:
    """What of a picture is sent: its file, or pixels [H, W, 3], uint8 or float32."""
    if isinstance(picture, str | PathLike | bytes):
        return read(picture)
    is_array = hasattr(picture, "__array__")
    array = in_range(coloured(np.asarray(picture))) if is_array else read_image(picture)
    return array if array.dtype == np.uint8 else array.astype(np.float32)


def _pixels(picture: Picture, read: Read) -> np.ndarray:
    if isinstance(picture, str | PathLike) and not fetching.is_address(picture):
        return read_image(picture)
    given = _given(picture, read)
    return read_image(given) if isinstance(given, bytes) else given


def _array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "US":
        # NumPy's own text and bytes types drop trailing zero bytes.
        return np.array(value, object)
    return array.astype(np.float32) if array.dtype == np.float64 else array
