"""What a user calls: a served model's labels, outputs and state, over gRPC, without TensorFlow."""

from collections.abc import Mapping, Sequence
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

_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Client:
    """A connection to a server that speaks TensorFlow Serving's gRPC, ours or another; a context manager.

    `address` is HOST:PORT, `timeout` the seconds that one call may take. Calls raise ServingError with the
    server's code and message; UNAVAILABLE when nothing answers there.
    """

    def __init__(self, address: str, timeout: float = 30.0) -> None:
        self.address = address
        self.timeout = timeout
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._calls = {
            name: self._channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            for service in (PREDICTION_SERVICE, MODEL_SERVICE)
            for name, method in methods(service).items()
        }

    def classify(
        self, model: str, image: Image | Sequence[Image], top: int = 5, *, version: int | None = None
    ) -> Any:
        """[(label, score), ...] of a picture, best first; a list of these for a list of pictures.

        A picture is a file's path, its bytes, or an array [H, W, 3] of 0..255 (an array [N, H, W, 3] counts
        as a list). A model names at most its own best five, whatever `top` is.
        """
        alone = isinstance(image, str | PathLike | bytes) or (
            isinstance(image, np.ndarray) and image.ndim == 3
        )
        pictures = [image] if alone else list(image)  # type: ignore[arg-type]
        rows = [row for batch in _batches(pictures) for row in self._classes(model, batch, top, version)]
        return rows[0] if alone else rows

    def features(
        self, model: str, image: Image | Sequence[Image], *, version: int | None = None
    ) -> np.ndarray:
        """float32 [D] of a picture, what the network sees before it decides; [N, D] for a list. Pictures as
        for classify.
        """
        alone = isinstance(image, str | PathLike | bytes) or (
            isinstance(image, np.ndarray) and image.ndim == 3
        )
        pictures = [_pixels(item) for item in ([image] if alone else list(image))]  # type: ignore[arg-type]
        rows = [
            self.predict(model, {"images": batch}, signature="features", version=version)["features"]
            for batch in _batches(pictures)
        ]
        return rows[0][0] if alone else np.concatenate(rows)

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
        request = PredictRequest(output_filter=list(outputs))
        _fill_spec(request.model_spec, model, version)
        request.model_spec.signature_name = signature
        for alias, value in inputs.items():
            request.inputs[alias].CopyFrom(tensors.to_proto(_array(value)))
        response = self._call("Predict", request)
        return {alias: tensors.to_array(proto, alias) for alias, proto in response.outputs.items()}

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

    def _classes(
        self, model: str, batch: np.ndarray, top: int, version: int | None
    ) -> list[list[tuple[str, float]]]:
        alias, signature = ("image_bytes", "") if batch.dtype == object else ("images", "predict_images")
        found = self.predict(
            model, {alias: batch}, signature=signature, version=version, outputs=("classes", "scores")
        )
        return [
            [(label.decode(), float(score)) for label, score in zip(labels[:top], scores[:top], strict=True)]
            for labels, scores in zip(found["classes"], found["scores"], strict=True)
        ]

    def _call(self, name: str, request: Any) -> Any:
        try:
            return self._calls[name](request, timeout=self.timeout)
        except grpc.RpcError as error:
            code = Code(error.code().value[0])
            message = error.details() or code.name
            if code == Code.UNAVAILABLE:
                message = f"no server answers at {self.address}: {message}"
            raise ServingError(code, message) from error


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
