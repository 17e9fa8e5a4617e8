"""Attention among the places of a map, or among its channels."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import layers, ops

from zoo.layers.resampling import bicubic, resampled


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
        parts = self.by_part(x)
        y = ops.swapaxes(attended(parts[0], parts[1], parts[2]), 1, 2)
        return ops.reshape(y, (-1, height, width, channels // 3))

    def by_part(self, x: Any) -> Any:
        """[3, N, heads, H * W, C / heads]."""
        return ops.transpose(by_head(x, self.heads), (2, 0, 3, 1, 4))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] // 3)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("zoo")
class HeadwiseAttention(Attention):
    """The same of queries, keys and values of the first head, then of the next."""

    def by_part(self, x: Any) -> Any:
        return by_part_of_heads(x, self.heads)


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
class MultiQueryAttention(layers.Layer):
    """Attention whose heads share keys and values: queries [N, H, W, heads * D], keys and values
    [N, h, w, D] -> [N, H, W, heads * D]. Shazeer, arXiv 1911.02150.
    """

    sides_of = 0

    def __init__(self, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads

    def call(self, inputs: Any) -> Any:
        queries, keys, values = inputs
        _, height, width, channels = ops.shape(queries)
        _, rows, columns, size = ops.shape(keys)
        queries = ops.reshape(queries, (-1, height * width, self.heads, size))
        keys, values = (ops.reshape(x, (-1, 1, rows * columns, size)) for x in (keys, values))
        y = ops.swapaxes(attended(ops.swapaxes(queries, 1, 2), keys, values), 1, 2)
        return ops.reshape(y, (-1, height, width, channels))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("zoo")
class CrossAttention(layers.Layer):
    """What places attend to: queries [N, H, W, K], keys [N, T, K], values [N, T, C] -> [N, H, W, C]. Vaswani
    et al., arXiv 1706.03762.
    """

    sides_of = 0

    def __init__(self, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads

    def call(self, inputs: Any) -> Any:
        height, width = ops.shape(inputs[0])[1:3]
        places = ops.shape(inputs[1])[1]
        queries, keys, values = (
            ops.swapaxes(ops.reshape(x, (-1, count, self.heads, x.shape[-1] // self.heads)), 1, 2)
            for x, count in zip(inputs, (height * width, places, places), strict=True)
        )
        y = ops.swapaxes(attended(queries, keys, values), 1, 2)
        return ops.reshape(y, (-1, height, width, inputs[2].shape[-1]))

    def compute_output_shape(self, input_shape: Any) -> Any:
        queries, _, values = input_shape
        return (*queries[:3], values[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("zoo")
class Tokens(layers.Layer):
    """A map [N, H, W, C] -> the mean of its places, [N, 1, C], and that and all places, [N, 1 + H * W, C],
    each with a learned addend for where it is on a grid x grid map, resampled for maps of other sides.
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

    def call(self, x: Any) -> tuple[Any, Any]:
        _, height, width, channels = ops.shape(x)
        grid = ops.reshape(self.positions[1:], (1, self.grid, self.grid, channels))
        places = ops.cast(resampled(grid, (height, width), bicubic), x.dtype) + x
        mean = ops.mean(x, axis=(1, 2))[:, None] + ops.cast(self.positions[:1], x.dtype)
        return mean, ops.concatenate([mean, ops.reshape(places, (-1, height * width, channels))], axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, height, width, channels = input_shape
        count = 1 + height * width if height and width else None
        return (batch, 1, channels), (batch, count, channels)

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
            ops.transpose(ops.reshape(x, (-1, ops.shape(x)[1], self.heads, size)), (0, 2, 1, 3))
            for x in inputs
        )
        return ops.reshape(attended(queries, keys, values), (-1, self.heads * size))

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, _, channels = input_shape[0]
        return (batch, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


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
        parts = by_part_of_heads(ops.cast(x, "float32"), channels // (3 * self.size))
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
class AdditiveAttention(layers.Layer):
    """Queries and keys, both [N, H, W, C] -> the queries brought to length 1, and the keys so brought times
    the one query that all of them make, by learned weights. Shaker et al., arXiv 2303.15446, section 3.2.
    """

    reference_names: ClassVar[dict[str, str]] = {"weights": "w_g"}

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[0][-1], 1)
        self.weighing = self.add_weight(shape=shape, initializer="random_normal", name="weights")

    def call(self, inputs: Any) -> tuple[Any, Any]:
        queries, keys = (x / length(x) for x in inputs)
        scores = ops.matmul(queries, ops.cast(self.weighing, queries.dtype)) * queries.shape[-1] ** -0.5
        shares = scores / length(scores, axis=(1, 2))
        return queries, keys * ops.sum(shares * queries, axis=(1, 2), keepdims=True)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape[0]), tuple(input_shape[1])


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
        parts = ops.transpose(by_head(x, self.heads), (2, 0, 3, 4, 1))
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


def by_head(x: Any, heads: int) -> Any:
    """Queries, keys and values of a map, [N, H, W, 3 * C] -> [N, H * W, 3, heads, C / heads]."""
    _, height, width, channels = ops.shape(x)
    return ops.reshape(x, (-1, height * width, 3, heads, channels // (3 * heads)))


def by_part_of_heads(x: Any, heads: int) -> Any:
    """Queries, keys and values of the first head, then of the next, [N, H, W, heads * 3 * size] -> [3, N,
    heads, H * W, size].
    """
    _, height, width, channels = ops.shape(x)
    tokens = ops.reshape(x, (-1, height * width, heads, 3, channels // (3 * heads)))
    return ops.transpose(tokens, (3, 0, 2, 1, 4))


def attended(queries: Any, keys: Any, values: Any) -> Any:
    """Scaled products through a softmax: queries [N, heads, Q, D], keys and values [N, heads or 1, T, D] ->
    [N, heads, Q, D].
    """
    scores = ops.matmul(queries, ops.swapaxes(keys, 2, 3)) * queries.shape[-1] ** -0.5
    return ops.matmul(ops.softmax(scores), values)


def length(x: Any, axis: int | tuple[int, int] = -1) -> Any:
    """Of the vectors along the axis or axes, which are kept."""
    return ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=axis, keepdims=True), 1e-12))


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
