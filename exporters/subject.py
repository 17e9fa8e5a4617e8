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
from zoo.classifier import Facts, attach, check_graph
from zoo.errors import ZooError
from zoo.fusing import fuse, has_parallel_convolutions
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

    @cached_property
    def in_onnx(self) -> Subject:
        """The same with layers as ONNX has operations for, for all formats made from its graph."""
        from exporters.plain_layers import plain, swapped

        return replace(self, heads=swapped(self.heads, plain))

    @cached_property
    def in_tflite(self) -> Subject:
        """The same with layers as LiteRT is fast at, for the formats that compute in float32."""
        from exporters.plain_layers import swapped
        from exporters.tflite_layers import swift

        return replace(self, heads=swapped(self.heads, swift))

    @cached_property
    def deployed(self) -> Subject:
        """With every sum of convolutions of one map as one convolution, for formats that nobody trains. Those
        in whole numbers keep the sum: its terms round better than it does (Chu et al., arXiv 2212.01593).
        """
        if not has_parallel_convolutions(self.model):
            return self
        try:
            model = fuse(self.model)
        except ZooError:  # a layer that is used twice
            return self
        network = graph.traceable(attach(model, self.facts))
        return replace(self, model=model, network=network, heads=heads(network))

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
    try:
        check_graph(model)
        model = in_float32(model)
        bare = graph.classifier(model)
        known = _known(bare, getattr(model, "zoo", None), labels, preprocessing)
        _check_labels(known.labels)
        network = graph.traceable(attach(bare, known))
        return Subject(bare, network, heads(network), known)
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


def _check_labels(labels: Sequence[str]) -> None:
    if not labels:
        raise ExportError("the model has no labels; give one label per class")
    unfit: list[Any] = [label for label in labels if not label or "\n" in label or "\r" in label]
    if unfit:
        raise ExportError(f"the label {unfit[0]!r} cannot be written as a line of text; rename it")
