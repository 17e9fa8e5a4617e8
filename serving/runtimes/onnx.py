"""model.onnx by ONNX Runtime; with card.json beside it, the zoo's signatures, pictures decoded here."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from serving.errors import Code, ServingError, invalid
from serving.machine import cores
from serving.protos import Example
from serving.runtimes.base import CLASSIFY, Signature, TensorSpec, check_shape, conform
from serving.tensors import DTYPES, DType
from zoo.errors import DataError
from zoo.preprocessing import Preprocessing, evaluate, read_image

TOP = 5
_DTYPES = {dtype.name: dtype for dtype in DTYPES}
_ORT_NAMES = {"float16": "half"}


@dataclass(frozen=True)
class Card:
    """What serving needs of card.json: a label per class, and how pictures become the network's input."""

    labels: np.ndarray
    preprocessing: Preprocessing

    @classmethod
    def read(cls, file: Path) -> "Card":
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            labels = np.array([label.encode() for label in facts["labels"]], object)
            return cls(labels, Preprocessing.from_dict(facts["preprocessing"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServingError(Code.DATA_LOSS, f"{file} is no model card: {error!r}") from error


class OnnxRuntime:
    """An ONNX file as a Runtime: `serving_default` from the file's own inputs and outputs, or a zoo model's
    signatures.
    """

    name = "onnx"

    def __init__(self, version_dir: Path) -> None:
        self._session = _session(version_dir / "model.onnx")
        card = version_dir / "card.json"
        self._calls: dict[str, Call] = (
            picture_calls(self._session, Card.read(card)) if card.is_file() else plain_calls(self._session)
        )
        self.signatures: Mapping[str, Signature] = {
            name: call.signature for name, call in self._calls.items()
        }

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        call = self._calls[signature]
        fitted = {
            alias: conform(alias, array, call.signature.inputs[alias]) for alias, array in inputs.items()
        }
        for alias, array in fitted.items():
            check_shape(alias, array, call.signature.inputs[alias])
        results = call.function(fitted, outputs)
        return {alias: results[alias] for alias in outputs}


@dataclass(frozen=True)
class Call:
    """A signature and the function behind it; the function may give more outputs than it was asked for."""

    signature: Signature
    function: Callable[[Mapping[str, np.ndarray], Sequence[str]], Mapping[str, np.ndarray]]


def _session(file: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = cores()
    options.inter_op_num_threads = 1
    # Spinning threads steal the cores from decoding and from the other requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ServingError(Code.DATA_LOSS, f"{file} cannot be loaded by ONNX Runtime: {error}") from error


def _run(
    session: ort.InferenceSession, outputs: Sequence[str], feeds: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    try:
        return session.run(list(outputs), dict(feeds))
    except ort.capi.onnxruntime_pybind11_state.InvalidArgument as error:
        raise invalid(str(error)) from error
    except Exception as error:
        described = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
        raise invalid(f"The model failed on {described}: {error}") from error


# --- any ONNX file ------------------------------------------------------------------------------------------


def plain_calls(session: ort.InferenceSession) -> dict[str, Call]:
    """serving_default with the file's own names."""
    signature = Signature(
        {node.name: _spec(node) for node in session.get_inputs()},
        {node.name: _spec(node) for node in session.get_outputs()},
    )
    return {"serving_default": Call(signature, partial(_plain, session))}


def _spec(node: ort.NodeArg) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return TensorSpec(node.name, _ort_dtype(node), shape)


def _ort_dtype(node: ort.NodeArg) -> DType:
    name = node.type.removeprefix("tensor(").removesuffix(")")
    name = _ORT_NAMES.get(name, name)
    if name not in _DTYPES:
        raise ServingError(Code.UNIMPLEMENTED, f'"{node.name}" is a {node.type}: only tensors are served')
    return _DTYPES[name]


def _plain(
    session: ort.InferenceSession, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
) -> dict[str, np.ndarray]:
    feeds = {alias: _as_text(alias, array) for alias, array in inputs.items()}
    return dict(zip(outputs, _run(session, outputs, feeds), strict=True))


def _as_text(alias: str, array: np.ndarray) -> np.ndarray:
    """ONNX strings are text, TensorFlow's are bytes."""
    if array.dtype != object:
        return array
    try:
        text = [value.decode() for value in array.reshape(-1)]
    except UnicodeDecodeError as error:
        raise invalid(f'Input "{alias}" is not UTF-8: {error}') from error
    return np.array(text, object).reshape(array.shape)


# --- a model of the zoo -------------------------------------------------------------------------------------


def picture_calls(session: ort.InferenceSession, card: Card) -> dict[str, Call]:
    """The signatures of an exported classifier: bytes, pixels or tf.Examples in; probabilities, classes,
    scores, features out.
    """
    widths = {node.name: _width(node) for node in session.get_outputs()}
    if "probabilities" not in widths:
        raise ServingError(
            Code.FAILED_PRECONDITION, "model.onnx has a card.json but no output named probabilities"
        )
    if widths["probabilities"] not in (-1, len(card.labels)):
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"card.json names {len(card.labels)} labels, model.onnx has {widths['probabilities']} classes",
        )
    pictures = Pictures(session, card)
    top = min(TOP, len(card.labels))
    named = {"classes": _output("classes", "string", top), "scores": _output("scores", "float", top)}
    every = {"probabilities": _output("probabilities", "float", len(card.labels))} | named
    images = _input("images", "float", (-1, -1, -1, 3))
    calls = {
        "serving_default": Call(
            Signature({"image_bytes": _input("image_bytes", "string", (-1,))}, every), pictures.from_bytes
        ),
        "predict_images": Call(Signature({"images": images}, every), pictures.from_pixels),
        "classify": Call(
            Signature({"inputs": _input("inputs", "string", (-1,))}, named, CLASSIFY), pictures.from_examples
        ),
    }
    if "features" in widths:
        features = {"features": _output("features", "float", widths["features"])}
        calls["features"] = Call(Signature({"images": images}, features), pictures.features)
    return calls


def _width(node: ort.NodeArg) -> int:
    size = node.shape[-1] if node.shape else -1
    return size if isinstance(size, int) else -1


def _input(alias: str, dtype: str, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(f"{alias}:0", _DTYPES[dtype], shape)


def _output(alias: str, dtype: str, width: int) -> TensorSpec:
    return TensorSpec(f"{alias}:0", _DTYPES[dtype], (-1, width))


@dataclass(frozen=True)
class Pictures:
    """The functions of a zoo model's signatures; `outputs` is unused because one run gives them all."""

    session: ort.InferenceSession
    card: Card

    def from_bytes(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """`image_bytes` [N] encoded pictures -> probabilities, classes, scores."""
        return self._classified(self._decode("image_bytes", inputs["image_bytes"].tolist()))

    def from_pixels(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """`images` float [N, H, W, 3], 0..255, any H and W -> probabilities, classes, scores."""
        return self._classified(self._resized(inputs["images"]))

    def from_examples(
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """`inputs` [N] serialised tf.Examples with image/encoded -> classes, scores."""
        encoded = [_encoded(i, example) for i, example in enumerate(inputs["inputs"].tolist())]
        return self._classified(self._decode("inputs", encoded))

    def features(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """`images` float [N, H, W, 3], 0..255, any H and W -> features."""
        (features,) = _run(self.session, ["features"], {"images": self._resized(inputs["images"])})
        return {"features": features}

    def _classified(self, images: np.ndarray) -> dict[str, np.ndarray]:
        (probabilities,) = _run(self.session, ["probabilities"], {"images": images})
        best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :TOP]
        return {
            "probabilities": probabilities,
            "classes": self.card.labels[best],
            "scores": np.take_along_axis(probabilities, best, axis=-1),
        }

    def _decode(self, alias: str, encoded: list[bytes]) -> np.ndarray:
        return self._stack(self._decode_one(f"{alias}[{i}]", data) for i, data in enumerate(encoded))

    def _decode_one(self, where: str, data: bytes) -> np.ndarray:
        try:
            image = read_image(data)
        except DataError as error:
            raise invalid(f"{where}: {error}") from error
        return self._fit(where, image)

    def _resized(self, images: np.ndarray) -> np.ndarray:
        """Pictures of another size are resized as uint8, as decoded ones are; at the input size they pass
        untouched.
        """
        if images.shape[1:3] == self.card.preprocessing.input_size:
            return images
        pixels = np.rint(np.clip(np.nan_to_num(images), 0, 255)).astype(np.uint8)
        return self._stack(self._fit(f"images[{i}]", image) for i, image in enumerate(pixels))

    def _fit(self, where: str, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        if min(height, width) == 0:
            raise invalid(f"{where}: a picture of {width} x {height} pixels")
        try:
            return evaluate(self.card.preprocessing, image)
        except DataError as error:
            raise invalid(f"{where}: {error}") from error

    def _stack(self, images: Iterable[np.ndarray]) -> np.ndarray:
        height, width = self.card.preprocessing.input_size
        rows = list(images)
        return np.stack(rows).astype(np.float32) if rows else np.zeros((0, height, width, 3), np.float32)


def _encoded(i: int, serialised: bytes) -> bytes:
    try:
        features = Example.FromString(serialised).features.feature
    except Exception as error:
        raise invalid(f"inputs[{i}]: not a serialised tf.Example") from error
    values = features["image/encoded"].bytes_list.value if "image/encoded" in features else []
    if len(values) != 1:
        raise invalid(
            f'inputs[{i}]: feature "image/encoded" must hold one encoded picture, it holds {len(values)}'
        )
    return values[0]
