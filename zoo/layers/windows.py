"""Attention within square windows of a map, and convolutions that see no further. Liu et al., arXiv
2305.07027.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import layers, ops

from zoo.layers.relative import JoinedSelfAttention, addends_of, flat, joined


@keras.saving.register_keras_serializable("zoo")
class WholeWindows(layers.Layer):
    """The zeros behind a map [N, H, W, C] that its last windows of window x window places lack."""

    def __init__(self, window: int, **options: Any) -> None:
        super().__init__(**options)
        self.window = window

    def call(self, x: Any) -> Any:
        return ops.pad(x, ((0, 0), *((0, self._missing(side)) for side in ops.shape(x)[1:3]), (0, 0)))

    def _missing(self, side: Any) -> Any:
        return (self.window - side % self.window) % self.window

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, *sides, channels = input_shape
        return (batch, *(side and side + self._missing(side) for side in sides), channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "window": self.window}


@keras.saving.register_keras_serializable("zoo")
class WindowDepthwiseConv2D(layers.DepthwiseConv2D):
    """A depthwise convolution of a map of whole windows, for which all beyond a place's window is 0."""

    def __init__(self, *args: Any, window: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.window = window

    def call(self, x: Any) -> Any:
        return as_map(super().call(as_windows(x, self.window)), x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "window": self.window}


@keras.saving.register_keras_serializable("zoo")
class WindowAddends(layers.Layer):
    """A learned addend of each head for how many rows and columns two places of a window are apart: any map
    -> [heads, places, places].
    """

    reference_names: ClassVar[dict[str, str]] = {"biases": "attention_biases"}

    def __init__(self, heads: int, window: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads, self.window = heads, window

    def build(self, input_shape: Any) -> None:
        shape = (self.heads, self.window**2)
        self.biases = self.add_weight(shape=shape, initializer="zeros", name="biases")

    def call(self, x: Any) -> Any:
        sides = (self.window, self.window)
        return addends_of(self.biases, sides, sides, 1, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (self.heads, self.window**2, self.window**2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "window": self.window}


@keras.saving.register_keras_serializable("zoo")
class WindowAttention(layers.Layer):
    """What one head sees of each window: queries and keys [N, H, W, K], values [N, H, W, C], maps of whole
    windows, and the addends of all heads -> [N, H, W, C].
    """

    def __init__(self, head: int, window: int, **options: Any) -> None:
        super().__init__(**options)
        self.head, self.window = head, window

    def call(self, inputs: Any) -> Any:
        *maps, addends = inputs
        queries, keys, values = (as_windows(x, self.window) for x in maps)
        scores = ops.matmul(flat(queries), ops.swapaxes(flat(keys), 1, 2)) * queries.shape[-1] ** -0.5
        y = ops.matmul(ops.softmax(scores + addends[self.head]), flat(values))
        return as_map(ops.reshape(y, (-1, *values.shape[1:])), maps[0])

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[2]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "head": self.head, "window": self.window}


@keras.saving.register_keras_serializable("zoo")
class WindowSelfAttention(JoinedSelfAttention):
    """JoinedSelfAttention within each window of a map of whole ones, `grid` being their side. Wu et al.,
    arXiv 2207.10666.
    """

    def call(self, x: Any) -> Any:
        return as_map(super().call(as_windows(x, self.grid)), x)


def as_windows(x: Any, window: int) -> Any:
    """[N, rows * window, columns * window, C] -> [N * rows * columns, window, window, C]."""
    _, _, width, channels = ops.shape(x)
    x = ops.reshape(x, (-1, window, width // window, window * channels))
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, window, window, channels))


def as_map(x: Any, of: Any) -> Any:
    """The inverse, as many rows and columns of windows as the map `of` has."""
    _, height, width, _ = ops.shape(of)
    return joined(x, height // x.shape[1], width // x.shape[1])
