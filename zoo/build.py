"""From a name's facts to a keras.Model: normalisation, the family's network, the classifier."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import keras
from keras import layers

from zoo.blocks import Net
from zoo.errors import ZooError
from zoo.preprocessing import Preprocessing
from zoo.registry import Architecture, Weights

SMALLEST = 32


def build(
    architecture: Architecture,
    weights: Weights,
    *,
    classes: int,
    input_size: tuple[int, int],
    classifier_activation: str | None = "softmax",
    dropout: float | None = None,
    drop_path: float | None = None,
) -> keras.Model:
    """Images float32 [N, H, W, 3], RGB 0..255 -> probabilities [N, classes], or logits with activation None.

    The weights' conventions (padding, epsilon, mean, std) are built in; the variables are freshly
    initialised. dropout and drop_path default to the paper's. Raises ZooError for an input size that the
    network cannot take.
    """
    if min(input_size) < SMALLEST:
        raise ZooError(
            f"{architecture.name} needs pictures of at least {SMALLEST} x {SMALLEST} pixels, not {input_size}"
        )
    path = architecture.drop_path if drop_path is None else drop_path
    net = Net(padding=weights.padding, epsilon=weights.epsilon, drop_path=path)
    images = keras.Input((*input_size, 3), name="images")
    family = import_module(f"zoo.architectures.{architecture.family}")
    maps = getattr(family, architecture.builder)(
        net, normalise(images, weights.preprocessing), **architecture.build
    )
    rate = architecture.dropout if dropout is None else dropout
    outputs = classify(maps, classes, architecture.classifier, rate, classifier_activation)
    return keras.Model(images, outputs, name=architecture.name)


def normalise(images: Any, preprocessing: Preprocessing) -> Any:
    """(images / 255 - mean) / std, as one multiplication and one addition."""
    pairs = list(zip(preprocessing.mean, preprocessing.std, strict=True))
    scale = [1 / (255 * std) for _, std in pairs]
    return layers.Rescaling(scale, [-mean / std for mean, std in pairs], name="normalise")(images)


def classify(maps: Any, classes: int, name: str, dropout: float, activation: str | None) -> Any:
    """The head of almost every network since 2013: global average pooling, dropout, one linear layer."""
    x = layers.GlobalAveragePooling2D(name="global_pool")(maps)
    if dropout:
        x = layers.Dropout(dropout, name="drop")(x)
    x = layers.Dense(classes, name=name)(x)
    if activation:
        x = layers.Activation(activation, dtype="float32", name="predictions")(x)
    return x


def count_macs(model: keras.Model) -> int:
    """Multiply-adds of convolutions and linear layers for one image, as the papers count them."""
    return sum(_macs(layer) for layer in model.layers if isinstance(layer, COUNTED))


COUNTED = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)


def _macs(layer: Any) -> int:
    places = 1 if isinstance(layer, layers.Dense) else layer.output.shape[1] * layer.output.shape[2]
    size = 1
    for side in layer.kernel.shape:
        size *= side
    return size * places
