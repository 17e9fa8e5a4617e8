"""A Keras model as one flat graph that TensorFlow's converters can trace, sharing all variables with it.

Models inside the model are opened, and Keras's convolutions in groups, which it compiles by XLA, become plain
operations. For pictures of any size, a Reshape that only divides or joins channels, as in a channel shuffle,
keeps whatever height and width the map has. The result is for tracing and running; only the model itself is
saved.
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


class Channels(Borrowed):
    """A Reshape of the channels of maps [N, H, W, ...] of any height and width."""

    def call(self, x: Any) -> Any:
        return keras.ops.reshape(x, (*keras.ops.shape(x)[:3], *self.layer.target_shape[2:]))


def classifier(model: keras.Model) -> keras.Model:
    """The same graph without optimizer and loss, and without the heads that help in training alone."""
    return keras.Model(model.inputs[0], predictions_of(model), name=model.name)


def traceable(model: keras.Model, images: Any = None) -> keras.Model:
    """The flat graph of what `classifier` gives; from `images`, where these symbolic pictures are not those
    of the model.
    """
    return flat(model, images, _plain if images is None else _of_any_size)


def _plain(layer: Any) -> Any:
    return PlainGroups(layer) if _is_grouped(layer) else layer


def _of_any_size(layer: Any) -> Any:
    return Channels(layer) if _keeps_places(layer) else _plain(layer)


def _is_grouped(layer: Any) -> bool:
    return type(layer) is layers.Conv2D and layer.groups > 1 and layer.data_format == "channels_last"


def _keeps_places(layer: Any) -> bool:
    """Whether it is a Reshape from and to maps of the same height and width."""
    return isinstance(layer, layers.Reshape) and layer.input.shape[1:3] == tuple(layer.target_shape[:2])
