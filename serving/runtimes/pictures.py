"""The signatures of a zoo model's directory, one with card.json, on whatever engine runs its network.

Pictures are decoded and resized here.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from serving.errors import Code, ServingError, invalid
from serving.runtimes.base import CLASSIFY, Arrays, Call, Signature, TensorSpec, check_shapes
from serving.wire.protos import Example
from serving.wire.tensors import by_name
from zoo.classifier import SINGLE_LABEL, named
from zoo.errors import DataError
from zoo.preprocessing import Preprocessing, evaluate, load_image

FILE = "card.json"
Answer = Callable[[Arrays, Sequence[str]], Arrays]


@dataclass(frozen=True)
class Card:
    """What serving needs of card.json: a label per class, how pictures become the network's input, and how
    many labels are named for one.
    """

    labels: np.ndarray
    preprocessing: Preprocessing
    named: int

    @classmethod
    def read(cls, file: Path) -> "Card":
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            labels = np.array([label.encode() for label in facts["labels"]], object)
            task = facts.get("card", {}).get("task", SINGLE_LABEL)
            return cls(labels, Preprocessing.from_dict(facts["preprocessing"]), named(len(labels), task))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServingError(Code.DATA_LOSS, f"{file} is no model card: {error!r}") from error


def of_directory(version_dir: Path, file: str, plain: Mapping[str, Call]) -> Mapping[str, Call]:
    """The signatures of a model's file: the zoo's with card.json beside it, else the file's own, `plain`."""
    card = version_dir / FILE
    return picture_calls(plain["serving_default"], Card.read(card), file) if card.is_file() else plain


def picture_calls(network: Call, card: Card, file: str) -> dict[str, Call]:
    """The signatures of an exported classifier: bytes, pixels or tf.Examples in; probabilities, classes,
    scores, features out. `network`: `images` float [N, h, w, 3] -> `probabilities` [N, C] and, where it has
    them, `features` [N, D].
    """
    widths = {alias: _width(spec) for alias, spec in network.signature.outputs.items()}
    if "probabilities" not in widths:
        raise ServingError(
            Code.FAILED_PRECONDITION, f"{file} has a card.json but no output named probabilities"
        )
    if widths["probabilities"] not in (-1, len(card.labels)):
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"card.json names {len(card.labels)} labels, {file} has {widths['probabilities']} classes",
        )
    pictures = Pictures(_of_any_number(network), card, widths)
    sorted_ones = {
        "classes": _output("classes", "string", card.named),
        "scores": _output("scores", "float", card.named),
    }
    every = {"probabilities": _output("probabilities", "float", len(card.labels))} | sorted_ones
    images = {"images": _input("images", "float", (-1, -1, -1, 3))}
    encoded, examples = (
        {"image_bytes": _input("image_bytes", "string", (-1,))},
        _input("inputs", "string", (-1,)),
    )
    calls = {
        "serving_default": _call(Signature(encoded, every), pictures.from_bytes),
        "predict_images": _call(Signature(images, every), pictures.from_pixels),
        "classify": _call(Signature({"inputs": examples}, sorted_ones, CLASSIFY), pictures.from_examples),
    }
    if "features" in widths:
        features = {"features": _output("features", "float", widths["features"])}
        calls["features"] = _call(Signature(images, features), pictures.features)
    return calls


def _of_any_number(network: Call) -> Callable[[Arrays, Sequence[str]], Arrays]:
    """A file that takes `count` pictures at a time is given that many; the last repeats where some lack."""
    spec = network.signature.inputs.get("images")
    count = spec.shape[0] if spec and spec.shape else -1
    if count < 1:
        return network.function

    def run(inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        images = inputs["images"]
        whole = np.pad(images, [(0, -len(images) % count), (0, 0), (0, 0), (0, 0)], mode="edge")
        parts = [network.function({"images": part}, outputs) for part in np.split(whole, len(whole) // count)]
        return {name: np.concatenate([part[name] for part in parts])[: len(images)] for name in outputs}

    return run


def _call(signature: Signature, answer: Answer) -> Call:
    return Call(signature, partial(_answer, signature, answer))


def _answer(signature: Signature, answer: Answer, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
    check_shapes(signature, inputs)
    return answer(inputs, outputs)


def _width(spec: TensorSpec) -> int:
    return spec.shape[-1] if spec.shape else -1


def _input(alias: str, dtype: str, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(f"{alias}:0", by_name(dtype), shape)


def _output(alias: str, dtype: str, width: int) -> TensorSpec:
    return TensorSpec(f"{alias}:0", by_name(dtype), (-1, width))


@dataclass(frozen=True)
class Pictures:
    """The functions of a zoo model's signatures; `widths`: the numbers in a row of the network's outputs."""

    network: Callable[[Arrays, Sequence[str]], Arrays]
    card: Card
    widths: Mapping[str, int]

    def from_bytes(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """`image_bytes` [N] encoded pictures -> probabilities, classes, scores."""
        return self._classified(self._decode("image_bytes", inputs["image_bytes"].tolist()), outputs)

    def from_pixels(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """`images` float [N, H, W, 3], 0..255, any H and W -> probabilities, classes, scores."""
        return self._classified(self._resized(inputs["images"]), outputs)

    def from_examples(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """`inputs` [N] serialised tf.Examples with image/encoded -> classes, scores."""
        encoded = [_encoded(i, example) for i, example in enumerate(inputs["inputs"].tolist())]
        return self._classified(self._decode("inputs", encoded), outputs)

    def features(self, inputs: Arrays, _: Sequence[str]) -> Arrays:
        """`images` float [N, H, W, 3], 0..255, any H and W -> features."""
        return {"features": self._run(self._resized(inputs["images"]), "features")}

    def _classified(self, images: np.ndarray, outputs: Sequence[str]) -> Arrays:
        """At least `outputs`: no classes are sorted for who asks for probabilities alone."""
        probabilities = self._run(images, "probabilities")
        if list(outputs) == ["probabilities"]:
            return {"probabilities": probabilities}
        best = np.argsort(-probabilities, axis=-1, kind="stable")[:, : self.card.named]
        return {
            "probabilities": probabilities,
            "classes": self.card.labels[best],
            "scores": np.take_along_axis(probabilities, best, axis=-1),
        }

    def _run(self, images: np.ndarray, output: str) -> np.ndarray:
        """No pictures are asked of no engine: some fail."""
        if not len(images):
            return np.zeros((0, max(0, self.widths[output])), np.float32)
        return self.network({"images": images}, [output])[output]

    def _decode(self, alias: str, encoded: list[bytes]) -> np.ndarray:
        return self._stack(self._decode_one(f"{alias}[{i}]", data) for i, data in enumerate(encoded))

    def _decode_one(self, where: str, data: bytes) -> np.ndarray:
        try:
            return load_image(self.card.preprocessing, data)
        except DataError as error:
            raise invalid(f"{where}: {error}") from error

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
