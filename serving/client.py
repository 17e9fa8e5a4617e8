"""What a user calls: a served model's labels, outputs and state, over gRPC, without TensorFlow.

Client waits for its answers, AsyncClient is awaited.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import numpy as np

from serving import tensors
from serving.errors import Code, ServingError
from serving.protos import (
    MODEL_SERVICE,
    PREDICTION_SERVICE,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    PredictRequest,
    SignatureDefMap,
    methods,
)
from zoo.errors import DataError

Image = str | PathLike[str] | bytes | np.ndarray

ATTEMPTS = (
    4  # of a call that the server refuses with UNAVAILABLE, 0.1 s after the first, twice as long each time
)


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


class Client:
    """A connection to a server that speaks TensorFlow Serving's gRPC, ours or another; a context manager.

    `address` is HOST:PORT or unix:PATH, `timeout` the seconds that one call may take, all its `attempts`
    (1 to 5) together: a call that the server refuses with UNAVAILABLE is made again after 0.1 s, then after
    twice as long. Calls raise ServingError with the server's code and message; UNAVAILABLE when nothing
    answers there.
    """

    def __init__(
        self, address: str, timeout: float = 30.0, *, attempts: int = ATTEMPTS, tls: ClientTls | None = None
    ) -> None:
        self.address = address
        self.timeout = timeout
        self._channel = _channel(grpc, address, attempts, tls)
        self._calls = _calls(self._channel)

    def classify(
        self, model: str, image: Image | Sequence[Image], top: int = 5, *, version: int | None = None
    ) -> Any:
        """[(label, score), ...] of a picture, best first; a list of these for a list of pictures.

        A picture is a file's path, its bytes, or an array [H, W, 3] of 0..255 (an array [N, H, W, 3] counts
        as a list). A model names at most its own best five, whatever `top` is.
        """
        requests = _classify_requests(model, _listed(image), version)
        rows = [row for request in requests for row in _labelled(self._call("Predict", request), top)]
        return rows[0] if _alone(image) else rows

    def features(
        self, model: str, image: Image | Sequence[Image], *, version: int | None = None
    ) -> np.ndarray:
        """float32 [D] of a picture, what the network sees before it decides; [N, D] for a list. Pictures as
        for classify.
        """
        requests = _features_requests(model, _listed(image), version)
        rows = [_arrays(self._call("Predict", request))["features"] for request in requests]
        return rows[0][0] if _alone(image) else np.concatenate(rows)

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        signature: str = "",
        version: int | None = None,
        outputs: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """The outputs of any signature ("" is serving_default) for inputs by name; `outputs` asks for some
        only.

        Inputs are arrays, or nested lists: lists of Python floats are sent as float32. Strings come back as
        bytes.
        """
        request = _predict_request(model, inputs, signature, version, outputs)
        return _arrays(self._call("Predict", request))

    def metadata(self, model: str, *, version: int | None = None) -> Any:
        """The model's signatures, a SignatureDefMap message: `.signature_def["serving_default"].inputs` and
        so on.
        """
        request = GetModelMetadataRequest(metadata_field=["signature_def"])
        _fill_spec(request.model_spec, model, version)
        signatures = SignatureDefMap()
        self._call("GetModelMetadata", request).metadata["signature_def"].Unpack(signatures)
        return signatures

    def status(self, model: str, *, version: int | None = None) -> dict[int, str]:
        """The state of every version, newest first, as {3: "AVAILABLE", 2: "END"}; a failed one adds its
        reason.
        """
        request = GetModelStatusRequest()
        _fill_spec(request.model_spec, model, version)
        return {
            row.version: _state(row) for row in self._call("GetModelStatus", request).model_version_status
        }

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, name: str, request: Any) -> Any:
        try:
            return self._calls[name](request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise _refused(error, self.address) from error


class AsyncClient:
    """Client for asyncio: made and used inside an event loop; an asynchronous context manager."""

    def __init__(
        self, address: str, timeout: float = 30.0, *, attempts: int = ATTEMPTS, tls: ClientTls | None = None
    ) -> None:
        self.address = address
        self.timeout = timeout
        self._channel = _channel(grpc.aio, address, attempts, tls)
        self._calls = _calls(self._channel)

    async def classify(
        self, model: str, image: Image | Sequence[Image], top: int = 5, *, version: int | None = None
    ) -> Any:
        """As Client.classify."""
        requests = await asyncio.to_thread(_classify_requests, model, _listed(image), version)
        rows = [row for request in requests for row in _labelled(await self._call("Predict", request), top)]
        return rows[0] if _alone(image) else rows

    async def features(
        self, model: str, image: Image | Sequence[Image], *, version: int | None = None
    ) -> np.ndarray:
        """As Client.features."""
        requests = await asyncio.to_thread(_features_requests, model, _listed(image), version)
        rows = [_arrays(await self._call("Predict", request))["features"] for request in requests]
        return rows[0][0] if _alone(image) else np.concatenate(rows)

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        signature: str = "",
        version: int | None = None,
        outputs: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """As Client.predict."""
        request = _predict_request(model, inputs, signature, version, outputs)
        return _arrays(await self._call("Predict", request))

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, name: str, request: Any) -> Any:
        try:
            return await self._calls[name](request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise _refused(error, self.address) from error


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


def _refused(error: Any, address: str) -> ServingError:
    code = Code(error.code().value[0])
    message = error.details() or code.name
    # gRPC's own words for a connection that failed; a server's refusal is passed on as it is.
    if code == Code.UNAVAILABLE and "failed to connect" in message:
        message = f"no server answers at {address}: {message}"
    return ServingError(code, message)


def _alone(image: Image | Sequence[Image]) -> bool:
    """Whether it is one picture, not a list of them."""
    return isinstance(image, str | PathLike | bytes) or (isinstance(image, np.ndarray) and image.ndim == 3)


def _listed(image: Any) -> list[Image]:
    return [image] if _alone(image) else list(image)


def _predict_request(
    model: str, inputs: Mapping[str, Any], signature: str, version: int | None, outputs: Sequence[str]
) -> Any:
    request = PredictRequest(output_filter=list(outputs))
    _fill_spec(request.model_spec, model, version)
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tensors.to_proto(_array(value)))
    return request


def _classify_requests(model: str, pictures: Sequence[Image], version: int | None) -> list[Any]:
    requests = []
    for batch in _batches(pictures):
        alias, signature = ("image_bytes", "") if batch.dtype == object else ("images", "predict_images")
        requests.append(_predict_request(model, {alias: batch}, signature, version, ("classes", "scores")))
    return requests


def _features_requests(model: str, pictures: Sequence[Image], version: int | None) -> list[Any]:
    batches = _batches([_pixels(picture) for picture in pictures])
    return [_predict_request(model, {"images": batch}, "features", version, ()) for batch in batches]


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


def _batches(pictures: Sequence[Any]) -> list[np.ndarray]:
    """Neighbours that fit one request together: encoded pictures, or arrays of one shape and type, in the
    order given.
    """
    batches: list[list[Any]] = []
    kind: object = None
    for picture in pictures:
        item = picture if isinstance(picture, np.ndarray) else _encoded(picture)
        this = (item.shape, item.dtype) if isinstance(item, np.ndarray) else bytes
        if this != kind:
            batches.append([])
            kind = this
        batches[-1].append(item)
    return [np.array(batch, object) if isinstance(batch[0], bytes) else np.stack(batch) for batch in batches]


def _encoded(picture: str | PathLike[str] | bytes) -> bytes:
    if isinstance(picture, bytes):
        return picture
    try:
        return Path(picture).read_bytes()
    except OSError as error:
        raise DataError(f'"{picture}" cannot be read: {error.strerror}') from error


def _pixels(picture: Image) -> np.ndarray:
    if isinstance(picture, np.ndarray):
        return picture
    from zoo.preprocessing import read_image

    return read_image(picture)


def _array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "US":
        # NumPy's own text and bytes types drop trailing zero bytes.
        return np.array(value, object)
    return array.astype(np.float32) if array.dtype == np.float64 else array
