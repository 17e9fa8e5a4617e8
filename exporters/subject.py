"""What every format is made from: the network, its three outputs, and the facts that travel with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import keras
import numpy as np

from exporters import graph
from exporters.errors import ExportError
from zoo.classifier import Facts, attach
from zoo.errors import ZooError
from zoo.outputs import heads
from zoo.precision import in_float32
from zoo.preprocessing import Preprocessing

OUTPUTS = ("features", "logits", "probabilities")

# Images float32 [N, h, w, 3] at the input size -> some of OUTPUTS by name.
Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Subject:
    """model: without optimizer and loss, for Keras's own files; network: the same function over the same
    variables, as TensorFlow's converters can trace it; heads: images [N, h, w, 3] -> the tensors of OUTPUTS;
    calibration: float32 [N, h, w, 3], for the formats that compute in whole numbers; batch: how many pictures
    ONNX, TFLite and OpenVINO take at a time, None for any number.
    """

    model: keras.Model
    network: keras.Model
    heads: keras.Model
    facts: Facts
    calibration: np.ndarray = field(default_factory=partial(np.zeros, (0, 0, 0, 3), np.float32))
    batch: int | None = None

    @cached_property
    def traced(self) -> Any:
        """A concrete function of TensorFlow, traced once for all formats: images float32 [N, *image_shape] ->
        the tensors of OUTPUTS, float32.
        """
        import tensorflow as tf

        spec = tf.TensorSpec((None, *self.image_shape), tf.float32, name="images")

        @tf.function(input_signature=[spec], autograph=False)
        def network(images: Any) -> dict[str, Any]:
            outputs = self.heads(images, training=False)
            return {name: tf.cast(outputs[name], tf.float32) for name in OUTPUTS}

        return network.get_concrete_function()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (*self.facts.preprocessing.input_size, 3)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The Keras model's own answer, which all exports must give."""
        return {name: np.asarray(tensor) for name, tensor in self.heads(images, training=False).items()}


def subject(
    model: keras.Model, labels: Sequence[str] | None = None, preprocessing: Preprocessing | None = None
) -> Subject:
    """labels, preprocessing: for a model that has no facts, or instead of its own.

    Raises ExportError for a model that is no classifier of pictures, has no facts, or facts that do not fit.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError("exports need Keras on TensorFlow; set KERAS_BACKEND=tensorflow")
    _check_graph(model)
    model = in_float32(model)
    bare = graph.classifier(model)
    _check_output(bare)
    known = _known(bare, getattr(model, "zoo", None), labels, preprocessing)
    _check_labels(bare, known)
    _check_input(bare, known)
    network = graph.traceable(bare)
    try:
        return Subject(attach(bare, known), network, heads(network), known)
    except ZooError as error:
        raise ExportError(str(error)) from error


def _known(
    model: keras.Model, own: Facts | None, labels: Sequence[str] | None, preprocessing: Preprocessing | None
) -> Facts:
    if own is None and preprocessing is None:
        raise ExportError(
            f'model "{model.name}" does not know its labels and preprocessing; give them: '
            "exporters.export(..., labels=[...], preprocessing=zoo.Preprocessing((height, width)))"
        )
    if own is None:
        own = Facts(model.name, tuple(str(i) for i in range(model.outputs[0].shape[-1])), Preprocessing())
    return replace(
        own,
        labels=own.labels if labels is None else tuple(labels),
        preprocessing=own.preprocessing if preprocessing is None else preprocessing,
    )


def _check_graph(model: keras.Model) -> None:
    if not getattr(model, "inputs", None):
        raise ExportError(
            f"{model.name} is no graph of layers, or was never built: make it keras.Model(inputs, outputs) "
            "or a Sequential model with an Input"
        )
    if len(model.inputs) != 1:
        raise ExportError(f"{model.name} has {len(model.inputs)} inputs; a classifier of pictures has one")


def _check_output(model: keras.Model) -> None:
    if len(model.outputs[0].shape) != 2:
        shape = list(model.outputs[0].shape)
        raise ExportError(f"{model.name} gives {shape}; a classifier of pictures gives [None, classes]")


def _check_labels(model: keras.Model, known: Facts) -> None:
    classes = model.outputs[0].shape[-1]
    if len(known.labels) != classes:
        raise ExportError(
            f"{model.name} has {classes} classes and {len(known.labels)} labels; give one label per class"
        )
    unfit: list[Any] = [label for label in known.labels if not label or "\n" in label or "\r" in label]
    if unfit:
        raise ExportError(f"the label {unfit[0]!r} cannot be written as a line of text; rename it")


def _check_input(model: keras.Model, known: Facts) -> None:
    shape, size = model.inputs[0].shape, known.preprocessing.input_size
    if (
        len(shape) != 4
        or shape[3] != 3
        or any(s not in (None, n) for s, n in zip(shape[1:3], size, strict=True))
    ):
        raise ExportError(
            f"{model.name} takes {list(shape)}, its preprocessing gives [None, {size[0]}, {size[1]}, 3]"
        )
