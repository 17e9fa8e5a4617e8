"""Layers of Keras's as their definitions have them, a few operations each where TensorFlow's graph has a
dozen: the converters know what they mean, and batches of any number need no shapes that are worked out while
a file runs. For tracing alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from zoo.outputs import Borrowed, called_anew


def swapped(model: keras.Model, swap: Callable[[Any], Any]) -> keras.Model:
    """The same function over the same variables; swap: layer -> the one in its place."""
    swap = cache(swap)  # a layer that is called twice is one

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return swap(layer)(*args, **kwargs)

    return called_anew(model, call)


def plain(layer: Any) -> Any:
    if type(layer) is layers.LayerNormalization and _over_channels(layer):
        return PlainNorm(layer)
    if type(layer) is layers.GroupNormalization and _in_groups(layer):
        return PlainGroupNorm(layer)
    if type(layer) is layers.UpSampling2D and layer.interpolation == "nearest":
        return PlainUpSampling(layer)
    if type(layer) is layers.Dense and _of_places(layer):
        return PlainLinear(layer)
    return layer


def _in_groups(layer: Any) -> bool:
    """A group norm of maps, its groups of neighbouring channels."""
    shape = layer.input.shape
    return layer.axis in (-1, 3) and len(shape) == 4 and layer.compute_dtype == "float32"


def _over_channels(layer: Any) -> bool:
    single = len(layer.axis) == 1 and layer.axis[0] in (-1, len(layer.input.shape) - 1)
    return single and layer.compute_dtype == "float32" and not getattr(layer, "rms_scaling", False)


def _of_places(layer: Any) -> bool:
    """A Dense layer of more than vectors, whose kernel is neither computed nor quantized."""
    kernel = layer.kernel
    plain = isinstance(kernel, keras.Variable) and kernel.dtype == layer.compute_dtype == "float32"
    return plain and len(layer.input.shape) > 2


class PlainLinear(Borrowed):
    """A Dense layer as one product; Keras's takes the map apart and puts it together again."""

    def call(self, x: Any) -> Any:
        y = tf.matmul(x, tf.convert_to_tensor(self.layer.kernel))
        y = y if self.layer.bias is None else y + self.layer.bias
        return self.layer.activation(y)


class PlainNorm(Borrowed):
    """A norm over the channels as it is defined and Grappler orders it, which `norms_as_one` knows again."""

    def call(self, x: Any) -> Any:
        centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        factor = tf.math.rsqrt(variance + self.layer.epsilon)
        factor = factor if self.layer.gamma is None else self.layer.gamma * factor
        y = centred * factor
        return y if self.layer.beta is None else y + self.layer.beta


class PlainGroupNorm(Borrowed):
    """A group norm as it is defined, which `group_norms_as_one` knows again."""

    def call(self, x: Any) -> Any:
        groups, shape, free = self.layer.groups, x.shape, tf.shape(x)
        places = -1 if None in shape[1:3] else shape[1] * shape[2]
        batch = free[0] if places == -1 else -1
        y = tf.reshape(x, [batch, places, groups, shape[3] // groups])
        centred = y - tf.reduce_mean(y, axis=[1, 3], keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=[1, 3], keepdims=True)
        y = centred * tf.math.rsqrt(variance + self.layer.epsilon)
        y = tf.reshape(y, free if places == -1 else [-1, *shape[1:]])
        y = y if self.layer.gamma is None else y * self.layer.gamma
        return y if self.layer.beta is None else y + self.layer.beta


class PlainUpSampling(Borrowed):
    """Every place repeated, as one operation; Keras's takes each axis apart and puts it together again."""

    def call(self, x: Any) -> Any:
        free = tf.shape(x)
        sides = [x.shape[axis] or free[axis] for axis in (1, 2)]
        size = [side * factor for side, factor in zip(sides, self.layer.size, strict=True)]
        return tf.compat.v1.image.resize_nearest_neighbor(x, size)
