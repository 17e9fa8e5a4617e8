"""Attention among the places of a map."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import keras
import numpy as np
from keras import layers, ops


@keras.saving.register_keras_serializable("zoo")
class Attention(layers.Layer):
    """Self-attention of all places: queries, keys and values, [N, H, W, 3 * C] -> [N, H, W, C]. Vaswani et
    al., arXiv 1706.03762.
    """

    def __init__(self, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads

    def call(self, x: Any) -> Any:
        _, height, width, channels = ops.shape(x)
        size = channels // (3 * self.heads)
        tokens = ops.reshape(x, (-1, height * width, 3, self.heads, size))
        parts = ops.transpose(tokens, (2, 0, 3, 1, 4))
        queries, keys, values = parts[0], parts[1], parts[2]
        scores = ops.matmul(queries, ops.swapaxes(keys, 2, 3)) * size**-0.5
        y = ops.swapaxes(ops.matmul(ops.softmax(scores), values), 1, 2)
        return ops.reshape(y, (-1, height, width, channels // 3))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] // 3)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("zoo")
class SpacedAttention(Attention):
    """The same among the places that are `step` or a multiple of it apart, in rows and in columns. The sides
    are multiples of the step. Mehta and Rastegari, arXiv 2110.02178, section 3.1.
    """

    def __init__(self, heads: int, step: int, **options: Any) -> None:
        super().__init__(heads, **options)
        self.step = step

    def call(self, x: Any) -> Any:
        return interleaved(super().call(apart(x, self.step)), self.step)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "step": self.step}


@keras.saving.register_keras_serializable("zoo")
class SeparableAttention(layers.Layer):
    """The sum of all places' keys by the softmax of their one query, times every place's rectified value, all
    of places `step` or a multiple of it apart: query, keys and values, [N, H, W, 1 + 2 * C] -> [N, H, W, C].
    Mehta and Rastegari, arXiv 2206.02680, section 3.2.
    """

    def __init__(self, step: int, **options: Any) -> None:
        super().__init__(**options)
        self.step = step

    def call(self, x: Any) -> Any:
        channels = x.shape[-1] // 2
        x = apart(x, self.step)
        queries, keys, values = x[..., :1], x[..., 1 : 1 + channels], x[..., 1 + channels :]
        shares = ops.exp(queries - ops.max(queries, axis=(1, 2), keepdims=True))
        shares = shares / ops.sum(shares, axis=(1, 2), keepdims=True)
        context = ops.sum(keys * shares, axis=(1, 2), keepdims=True)
        return interleaved(ops.relu(values) * context, self.step)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] // 2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "step": self.step}


@keras.saving.register_keras_serializable("zoo")
class LinearAttention(layers.Layer):
    """Attention by products of rectified queries and keys in place of a softmax, in float32 at any policy:
    [N, H, W, heads * 3 * size], of each head queries, keys and values -> [N, H, W, heads * size].
    Katharopoulos et al., arXiv 2006.16236.
    """

    def __init__(self, size: int, epsilon: float = 1e-5, **options: Any) -> None:
        super().__init__(**options)
        self.size, self.epsilon = size, epsilon

    def call(self, x: Any) -> Any:
        _, height, width, channels = ops.shape(x)
        heads = channels // (3 * self.size)
        tokens = ops.reshape(ops.cast(x, "float32"), (-1, height * width, heads, 3, self.size))
        parts = ops.transpose(tokens, (3, 0, 2, 1, 4))
        queries, keys, values = ops.relu(parts[0]), ops.relu(parts[1]), parts[2]
        y = ops.matmul(queries, ops.matmul(ops.swapaxes(keys, 2, 3), values))
        shares = ops.sum(queries * ops.sum(keys, axis=2, keepdims=True), axis=-1, keepdims=True)
        y = ops.transpose(y / (shares + self.epsilon), (0, 2, 1, 3))
        return ops.cast(ops.reshape(y, (-1, height, width, channels // 3)), x.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] // 3)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("zoo")
class MultiQueryAttention(layers.Layer):
    """Attention whose heads share keys and values: queries [N, H, W, heads * D], keys and values
    [N, h, w, D] -> [N, H, W, heads * D]. Shazeer, arXiv 1911.02150.
    """

    def __init__(self, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads

    def call(self, inputs: Any) -> Any:
        queries, keys, values = inputs
        _, height, width, channels = ops.shape(queries)
        _, rows, columns, size = ops.shape(keys)
        queries = ops.reshape(queries, (-1, height * width, self.heads, size))
        keys, values = (ops.reshape(x, (-1, 1, rows * columns, size)) for x in (keys, values))
        scores = ops.matmul(ops.swapaxes(queries, 1, 2), ops.swapaxes(keys, 2, 3)) * size**-0.5
        y = ops.swapaxes(ops.matmul(ops.softmax(scores), values), 1, 2)
        return ops.reshape(y, (-1, height, width, channels))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("zoo")
class Tokens(layers.Layer):
    """The mean of a map's places, then the places, [N, H, W, C] -> [N, 1 + H * W, C], each with a learned
    addend for where it is on a grid x grid map, resampled for maps of other sides.
    """

    reference_names: ClassVar[dict[str, str]] = {"positions": "pos_embed"}

    def __init__(self, grid: int, **options: Any) -> None:
        super().__init__(**options)
        self.grid = grid

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        start = keras.initializers.RandomNormal(stddev=channels**-0.5)
        shape = (1 + self.grid**2, channels)
        self.positions = self.add_weight(shape=shape, initializer=start, name="positions")

    def call(self, x: Any) -> Any:
        height, width, channels = x.shape[1:]
        places = ops.reshape(x, (-1, height * width, channels))
        tokens = ops.concatenate([ops.mean(places, axis=1, keepdims=True), places], axis=1)
        return tokens + ops.cast(self._positions(height, width), x.dtype)

    def _positions(self, height: int, width: int) -> Any:
        if (height, width) == (self.grid, self.grid):
            return self.positions
        grid = ops.reshape(self.positions[1:], (1, self.grid, self.grid, -1))
        grid = ops.image.resize(
            ops.cast(grid, "float32"),
            (height, width),
            interpolation="bicubic",
            antialias=True,
            data_format="channels_last",
        )
        return ops.concatenate([self.positions[:1], ops.reshape(grid, (height * width, -1))], axis=0)

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, height, width, channels = input_shape
        return (batch, 1 + height * width, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grid": self.grid}


@keras.saving.register_keras_serializable("zoo")
class FirstTokenAttention(layers.Layer):
    """What the first token attends to: its query [N, 1, C], keys and values [N, T, C] -> [N, C]."""

    def __init__(self, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads

    def call(self, inputs: Any) -> Any:
        size = inputs[0].shape[-1] // self.heads
        queries, keys, values = (
            ops.transpose(ops.reshape(x, (-1, x.shape[1], self.heads, size)), (0, 2, 1, 3)) for x in inputs
        )
        scores = ops.matmul(queries, ops.swapaxes(keys, 2, 3)) * size**-0.5
        return ops.reshape(ops.matmul(ops.softmax(scores), values), (-1, self.heads * size))

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, _, channels = input_shape[0]
        return (batch, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("zoo")
class CrossCovariance(layers.Layer):
    """Attention among the channels of each head, by the covariance of queries and keys over all places and a
    learned factor: queries, keys and values, [N, H, W, 3 * C] -> [N, H, W, C]. El-Nouby et al., arXiv
    2106.09681.
    """

    reference_names: ClassVar[dict[str, str]] = {"temperature": "temperature"}

    def __init__(self, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads

    def build(self, input_shape: Any) -> None:
        self.temperature = self.add_weight(shape=(self.heads, 1, 1), initializer="ones", name="temperature")

    def call(self, x: Any) -> Any:
        _, height, width, channels = ops.shape(x)
        size = channels // (3 * self.heads)
        tokens = ops.reshape(x, (-1, height * width, 3, self.heads, size))
        parts = ops.transpose(tokens, (2, 0, 3, 4, 1))
        queries, keys, values = parts[0], parts[1], parts[2]
        covariance = ops.matmul(queries, ops.swapaxes(keys, 2, 3))
        # Divisions: OpenVINO 2026.4 stumbles over a factor that is a reciprocal root.
        scores = covariance / length(queries) / ops.swapaxes(length(keys), 2, 3) * self.temperature
        y = ops.transpose(ops.matmul(ops.softmax(scores), values), (0, 3, 1, 2))
        return ops.reshape(y, (-1, height, width, channels // 3))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] // 3)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("zoo")
class Neighbours(layers.Layer):
    """The size x size places around every place, row by row, the border mirrored: [N, H, W, C] -> [N, H, W,
    size * size, C]. The map must be larger than size // 2.
    """

    def __init__(self, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.size = size

    def call(self, x: Any) -> Any:
        return ops.stack(shifted(x, self.size), axis=3)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.size**2, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("zoo")
class WeighNeighbours(layers.Layer):
    """Weights [N, H, W, size * size, G] and a map [N, H, W, C] -> weighted sums [N, H, W, C] over the
    places around every place; channel c takes weight c modulo G.
    """

    def __init__(self, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.size = size

    def call(self, inputs: Any) -> Any:
        weights, x = inputs
        _, height, width, channels = ops.shape(x)
        groups = weights.shape[-1]
        total = 0
        for place, values in enumerate(shifted(x, self.size)):
            shares = ops.reshape(values, (-1, height, width, channels // groups, groups))
            total = total + shares * ops.expand_dims(weights[:, :, :, place], 3)
        return ops.reshape(total, (-1, height, width, channels))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("zoo")
class Coordinates(layers.Layer):
    """Where every place of a map is, from -1 to 1: [N, H, W, C] -> x and y, [N, H, W, 2]."""

    def call(self, x: Any) -> Any:
        batch, height, width, _ = ops.shape(x)
        rows, columns = (
            2 * ops.cast(ops.arange(side), x.dtype) / ops.cast(side - 1, x.dtype) - 1
            for side in (height, width)
        )
        places = ops.stack(ops.meshgrid(columns, rows), axis=-1)[None]
        return ops.repeat(places, batch, axis=0)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], 2)


@keras.saving.register_keras_serializable("zoo")
class FourierPositions(layers.Layer):
    """Sines and cosines of where every place of a map is, rows first, the sides being 2 pi long: [N, H, W, C]
    -> [1, H, W, 2 * waves]. Maaz et al., arXiv 2206.10589, as released.
    """

    def __init__(self, waves: int = 32, **options: Any) -> None:
        super().__init__(**options)
        self.waves = waves

    def call(self, x: Any) -> Any:
        _, height, width, _ = ops.shape(x)
        rows = ops.broadcast_to(self._waves(height)[:, None], (height, width, self.waves))
        columns = ops.broadcast_to(self._waves(width)[None], (height, width, self.waves))
        return ops.cast(ops.concatenate([rows, columns], axis=-1)[None], self.compute_dtype)

    def _waves(self, side: Any) -> Any:
        """[side] -> [side, waves]: sine and cosine by turns, each pair slower than the one before."""
        places = ops.cast(ops.arange(1, side + 1), "float32")
        angles = places / ops.cast(side, "float32") * (2 * math.pi)
        periods = 10000 ** (2 * np.arange(self.waves // 2, dtype=np.float32) / self.waves)
        angles = angles[:, None] / periods
        return ops.reshape(ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1), (-1, self.waves))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (1, *input_shape[1:3], 2 * self.waves)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "waves": self.waves}


def length(x: Any) -> Any:
    """Of the vectors along the last axis, which is kept."""
    return ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-12))


def apart(x: Any, step: int) -> Any:
    """Every step-th place of every step-th row as a map of its own: [N, H, W, C] -> [step * step * N, H /
    step, W / step, C].
    """
    _, height, width, channels = ops.shape(x)
    x = ops.reshape(x, (-1, height // step, step, width // step, step, channels))
    x = ops.transpose(x, (2, 4, 0, 1, 3, 5))
    return ops.reshape(x, (-1, height // step, width // step, channels))


def interleaved(x: Any, step: int) -> Any:
    """The inverse of `apart`."""
    _, rows, columns, channels = ops.shape(x)
    x = ops.reshape(x, (step, step, -1, rows, columns, channels))
    x = ops.transpose(x, (2, 3, 0, 4, 1, 5))
    return ops.reshape(x, (-1, rows * step, columns * step, channels))


def shifted(x: Any, size: int) -> list[Any]:
    """The map moved to each place of a size x size window, mirrored at the border."""
    _, height, width, _ = ops.shape(x)
    reach = size // 2
    wide = ops.pad(x, [(0, 0), (reach, reach), (reach, reach), (0, 0)], mode="reflect")
    offsets = [(i, j) for i in range(size) for j in range(size)]
    return [wide[:, i : i + height, j : j + width] for i, j in offsets]
