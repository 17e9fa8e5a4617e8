"""A Keras model as one flat graph that TensorFlow's converters can trace, sharing all variables with it.

Models inside the model are opened, and Keras's convolutions in groups, which it compiles by XLA, become plain
operations. The result is for tracing and running; only the model itself is saved.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from zoo.outputs import Borrowed, flat, predictions_of


class PlainGroups(Borrowed):
    """A convolution in groups as one operation of TensorFlow."""

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        conv = self.layer
        kernel = tf.cast(conv.kernel, x.dtype)
        y = tf.nn.conv2d(x, kernel, conv.strides, conv.padding.upper(), dilations=conv.dilation_rate)
        y = y if conv.bias is None else y + tf.cast(conv.bias, y.dtype)
        return conv.activation(y)


def classifier(model: keras.Model) -> keras.Model:
    """The same graph without optimizer and loss, and without the heads that help in training alone."""
    return keras.Model(model.inputs[0], predictions_of(model), name=model.name)


def traceable(model: keras.Model, images: Any = None) -> keras.Model:
    """The flat graph of what `classifier` gives; from `images`, where these symbolic pictures are not those
    of the model.
    """
    return flat(model, images, _plain)


def _plain(layer: Any) -> Any:
    return PlainGroups(layer) if _is_grouped(layer) else layer


def _is_grouped(layer: Any) -> bool:
    return type(layer) is layers.Conv2D and layer.groups > 1 and layer.data_format == "channels_last"
