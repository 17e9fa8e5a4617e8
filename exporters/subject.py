"""What every format is made from: the network, its three outputs, and the facts that travel with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from exporters.errors import ExportError
from zoo.classifier import Facts, attach, classifier_layer, facts, heads

OUTPUTS = ("features", "logits", "probabilities")

# Images float32 [N, h, w, 3] at the input size -> some of OUTPUTS by name.
Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Subject:
    """model: without optimizer and loss; heads: images [N, h, w, 3] -> the tensors of OUTPUTS."""

    model: keras.Model
    heads: keras.Model
    facts: Facts

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (*self.facts.preprocessing.input_size, 3)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The Keras model's own answer, which all exports must give."""
        return {name: np.asarray(tensor) for name, tensor in self.heads(images, training=False).items()}


def subject(model: keras.Model) -> Subject:
    """Raises ZooError for a model without facts or a Dense classifier, ExportError where the facts do not
    fit it.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError("exports need Keras on TensorFlow; set KERAS_BACKEND=tensorflow")
    known = facts(model)
    _check_labels(model, known)
    _check_input(model, known)
    classifier = classifier_layer(model)
    if getattr(classifier, "activation", keras.activations.linear) is not keras.activations.linear:
        raise ExportError(
            f'the classifier "{classifier.name}" has its activation inside; give it a layer of its own: '
            "Dense(classes), then Activation"
        )
    # A new Model over the same layers leaves the caller's optimizer and loss out of the files.
    bare = attach(keras.Model(model.inputs, model.outputs, name=model.name), known)
    return Subject(bare, heads(model), known)


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
    if len(model.inputs) != 1:
        raise ExportError(f"{model.name} has {len(model.inputs)} inputs; a classifier of pictures has one")
    shape, size = model.inputs[0].shape, known.preprocessing.input_size
    if (
        len(shape) != 4
        or shape[3] != 3
        or any(s not in (None, n) for s, n in zip(shape[1:3], size, strict=True))
    ):
        raise ExportError(
            f"{model.name} takes {list(shape)}, its preprocessing gives [None, {size[0]}, {size[1]}, 3]"
        )
