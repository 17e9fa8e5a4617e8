"""Attention that knows how far apart places are, and what LambdaNetworks have in its stead."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import keras
import numpy as np
from keras import layers, ops

from zoo.layers.resampling import bicubic, resampled


class Distances(layers.Layer):
    """Two learned tables: what a query thinks of a key that is so many rows away, and so many columns. `size`
    channels of a query in each of the heads; span: the most places between two, and one more.
    """

    reference_names: ClassVar[dict[str, str]] = {
        "rows": "pos_embed.height_rel",
        "columns": "pos_embed.width_rel",
    }

    def __init__(self, heads: int, size: int, span: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads, self.size, self.span = heads, size, span

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.TruncatedNormal(stddev=self.size**-0.5)
        shape = (2 * self.span - 1, self.size)
        self.rows = self.add_weight(shape=shape, initializer=start, name="rows")
        self.columns = self.add_weight(shape=shape, initializer=start, name="columns")

    def attended(self, queries: Any, keys: Any, values: Any) -> Any:
        """queries [B, H, W, size], keys [B, h, w, size], values [B, h, w, D] -> [B, H * W, D]."""
        _, height, width, _ = ops.shape(keys)
        scores = ops.matmul(flat(queries), ops.swapaxes(flat(keys), 1, 2)) * self.size**-0.5
        of_rows = ops.matmul(queries, self._by_distance(self.rows, ops.shape(queries)[1], height))
        by_column = self._by_distance(self.columns, ops.shape(queries)[2], width)
        of_columns = ops.swapaxes(ops.matmul(ops.swapaxes(queries, 1, 2), by_column), 1, 2)
        placed = of_rows[..., :, None] + of_columns[..., None, :]
        shares = ops.softmax(scores + ops.reshape(placed, ops.shape(scores)))
        return ops.matmul(shares, flat(values))

    def _by_distance(self, table: Any, queries: Any, keys: Any) -> Any:
        """[2 * span - 1, size] -> [queries, size, keys]; the table is resampled for more or fewer keys."""
        table = resampled(table[None, :, None], (2 * keys - 1, 1), bicubic)[0, :, 0]
        apart = ops.arange(keys)[None, :] - ops.arange(queries)[:, None] + keys - 1
        return ops.transpose(ops.take(ops.cast(table, self.compute_dtype), apart, axis=0), (0, 2, 1))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "size": self.size, "span": self.span}


@keras.saving.register_keras_serializable("zoo")
class RelativeAttention(Distances):
    """Attention among all places of a map of `span` rows and columns, or others: queries, keys and values,
    [N, H, W, 2 * heads * size + C] -> [N, H, W, C]. Srinivas et al., arXiv 2101.11605.
    """

    def call(self, x: Any) -> Any:
        height, width = ops.shape(x)[1:3]
        end = self.heads * self.size
        parts = (x[..., :end], x[..., end : 2 * end], x[..., 2 * end :])
        y = self.attended(*(heads_apart(part, self.heads) for part in parts))
        return heads_together(y, self.heads, height, width)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] - 2 * self.heads * self.size)


@keras.saving.register_keras_serializable("zoo")
class HaloAttention(Distances):
    """Attention within blocks of places that also see a halo of `halo` places around: queries
    [N, H / stride, W / stride, heads * size], keys and values by heads [N, H, W, heads * size + C] ->
    [N, H / stride, W / stride, C]. Beyond the map all is 0. Vaswani et al., arXiv 2103.12731.
    """

    sides_of = 0

    def __init__(self, heads: int, size: int, block: int, halo: int, stride: int = 1, **options: Any) -> None:
        super().__init__(heads, size, block + 2 * halo, **options)
        self.block, self.halo, self.stride = block, halo, stride

    def call(self, inputs: Any) -> Any:
        queries, keys = inputs
        height, width = ops.shape(queries)[1:3]
        own = self.block // self.stride
        rows, columns = (height + own - 1) // own, (width + own - 1) // own
        queries = heads_apart(blocks(queries, rows, columns, own, own, 0), self.heads)
        around = blocks(keys, rows, columns, self.block, self.span, self.halo)
        around = heads_apart(around, self.heads)
        y = self.attended(queries, around[..., : self.size], around[..., self.size :])
        y = heads_together(y, self.heads, own, own)
        return joined(y, rows, columns)[:, :height, :width]

    def compute_output_shape(self, input_shape: Any) -> Any:
        queries, keys = input_shape
        return (*queries[:3], keys[-1] - self.heads * self.size)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["span"]  # follows from block and halo
        return {**config, "block": self.block, "halo": self.halo, "stride": self.stride}


@keras.saving.register_keras_serializable("zoo")
class CommonLambda(layers.Layer):
    """One linear function for all places, the values summed by the softmax of the keys over them, applied to
    queries: [N, H, W, heads * K], keys [N, H, W, K], values [N, H, W, C] -> [N, H, W, heads * C]. Bello,
    arXiv 2102.08602.
    """

    def call(self, inputs: Any) -> Any:
        queries, keys, values = inputs
        _, height, width, size = ops.shape(keys)
        function = ops.matmul(ops.swapaxes(ops.softmax(flat(keys), axis=1), 1, 2), flat(values))
        heads, channels = queries.shape[-1] // size, values.shape[-1]
        y = ops.matmul(ops.reshape(queries, (-1, height * width * heads, size)), function)
        return ops.reshape(y, (-1, height, width, heads * channels))

    def compute_output_shape(self, input_shape: Any) -> Any:
        queries, keys, values = input_shape
        return (*values[:3], queries[-1] // keys[-1] * values[-1])


@keras.saving.register_keras_serializable("zoo")
class LocalLambdas(layers.Layer):
    """A linear function for each place, by a convolution of the values around it, applied to its queries:
    queries [N, H, W, heads * size], values [N, H, W, C] -> [N, H, W, heads * C]. Bello, arXiv 2102.08602,
    section 3.2.
    """

    reference_names: ClassVar[dict[str, str]] = {
        "filters": "conv_lambda.weight",
        "shifts": "conv_lambda.bias",
    }

    def __init__(self, size: int, reach: int, **options: Any) -> None:
        super().__init__(**options)
        self.size, self.reach = size, reach

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.TruncatedNormal(stddev=self.size**-0.5)
        shape = (self.size, 1, self.reach, self.reach, 1)
        self.filters = self.add_weight(shape=shape, initializer=start, name="filters")
        self.shifts = self.add_weight(shape=(self.size,), initializer="zeros", name="shifts")

    def lambdas(self, values: Any) -> Any:
        """[B, H, W, 1] -> [B, H, W, size]."""
        kernel = ops.transpose(self.filters[:, 0, :, :, 0], (1, 2, 0))[:, :, None]
        return ops.conv(values, kernel, padding="same", data_format="channels_last") + self.shifts

    def call(self, inputs: Any) -> Any:
        queries, values = inputs
        _, height, width, channels = ops.shape(values)
        heads = queries.shape[-1] // self.size
        alone = ops.reshape(ops.transpose(values, (0, 3, 1, 2)), (-1, height, width, 1))
        lambdas = ops.reshape(self.lambdas(alone), (-1, channels, height * width, self.size))
        queries = ops.reshape(queries, (-1, height * width, heads, self.size))
        y = ops.matmul(queries, ops.transpose(lambdas, (0, 2, 3, 1)))
        return ops.reshape(y, (-1, height, width, heads * channels))

    def compute_output_shape(self, input_shape: Any) -> Any:
        queries, values = input_shape
        return (*values[:3], queries[-1] // self.size * values[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "reach": self.reach}


@keras.saving.register_keras_serializable("zoo")
class GlobalLambdas(LocalLambdas):
    """The same of all places of a map of (reach + 1) / 2 rows and columns, by how far they are apart: a
    convolution as wide as the map, without a bias.
    """

    reference_names: ClassVar[dict[str, str]] = {"filters": "pos_emb"}

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.TruncatedNormal(stddev=0.02)
        shape = (self.reach, self.reach, self.size)
        self.filters = self.add_weight(shape=shape, initializer=start, name="filters")

    def lambdas(self, values: Any) -> Any:
        return ops.conv(values, self.filters[:, :, None], padding="same", data_format="channels_last")


def flat(x: Any) -> Any:
    """[B, H, W, C] -> [B, H * W, C]."""
    _, height, width, channels = ops.shape(x)
    return ops.reshape(x, (-1, height * width, channels))


def heads_apart(x: Any, heads: int) -> Any:
    """[N, H, W, heads * C] -> [N * heads, H, W, C]."""
    _, height, width, channels = ops.shape(x)
    x = ops.reshape(x, (-1, height, width, heads, channels // heads))
    return ops.reshape(ops.transpose(x, (0, 3, 1, 2, 4)), (-1, height, width, channels // heads))


def heads_together(x: Any, heads: int, height: Any, width: Any) -> Any:
    """[N * heads, H * W, C] -> [N, H, W, heads * C]."""
    channels = x.shape[-1]
    x = ops.transpose(ops.reshape(x, (-1, heads, height * width, channels)), (0, 2, 1, 3))
    return ops.reshape(x, (-1, height, width, heads * channels))


def blocks(x: Any, rows: Any, columns: Any, block: int, side: int, before: int) -> Any:
    """[N, H, W, C] -> [N * rows * columns, side, side, C]: what is around each block of block x block places,
    from `before` places above it and left of it; 0 beyond the map.
    """
    channels, after = x.shape[-1], side - before + block
    x = ops.pad(x, [[0, 0], [before, after], [before, after], [0, 0]])
    for axis, count in ((1, rows), (2, columns)):
        places = block * ops.arange(count)[:, None] + ops.arange(side)[None]
        x = ops.take(x, ops.reshape(places, (-1,)), axis=axis)
    x = ops.transpose(ops.reshape(x, (-1, side, columns, side * channels)), (0, 2, 1, 3))
    return ops.reshape(x, (-1, side, side, channels))


def joined(x: Any, rows: Any, columns: Any) -> Any:
    """[N * rows * columns, side, side, C] -> [N, rows * side, columns * side, C]."""
    _, side, _, channels = ops.shape(x)
    x = ops.transpose(ops.reshape(x, (-1, columns, side, side * channels)), (0, 2, 1, 3))
    return ops.reshape(x, (-1, rows * side, columns * side, channels))


def addends_of(biases: Any, sides: Any, key_sides: Any, step: int, dtype: Any) -> Any:
    """Learned for how many rows and columns two places are apart, [heads, grid * grid] -> [heads, places of
    queries, places of keys]; for other sides of the keys than the grid's they are resampled.
    """
    heads, grid = biases.shape[0], math.isqrt(biases.shape[1])
    table = ops.reshape(ops.transpose(biases), (1, grid, grid, heads))
    table = resampled(ops.cast(table, dtype), key_sides, bicubic)
    rows, columns = (
        ops.abs(ops.arange(query)[:, None] * step - ops.arange(key)[None, :])
        for query, key in zip(sides, key_sides, strict=True)
    )
    return of_pairs(table[0], rows, columns)


def of_pairs(table: Any, rows: Any, columns: Any) -> Any:
    """What a table [R, C, heads] has for each two places, of which one is a query: rows [h, H] and columns
    [w, W] are where it stands there -> [heads, h * w, H * W].
    """
    _, width, heads = ops.shape(table)
    places = rows[:, None, :, None] * width + columns[None, :, None, :]
    (height, keys), (queries, others) = ops.shape(rows), ops.shape(columns)
    places = ops.reshape(places, (height * queries, keys * others))
    return ops.transpose(ops.take(ops.reshape(table, (-1, heads)), places, axis=0), (2, 0, 1))


@keras.saving.register_keras_serializable("zoo")
class BiasedAttention(layers.Layer):
    """Attention with a learned addend of each head for how many rows and columns two places are apart:
    queries [N, h, w, heads * K] at every `step`-th place of keys [N, H, W, heads * K] and values [N, H, W,
    heads * D] -> [N, h, w, heads * D]. Graham et al., arXiv 2104.01136.

    grid: the sides H and W that the addends are learned for; for others they are resampled. talking: heads
    are mixed by learned weights before and behind the softmax. Shazeer et al., arXiv 2003.02436.
    """

    sides_of = 0

    reference_names: ClassVar[dict[str, str]] = {
        "biases": "attention_biases",
        "first_kernel": "talking_head1.weight",
        "first_bias": "talking_head1.bias",
        "second_kernel": "talking_head2.weight",
        "second_bias": "talking_head2.bias",
    }

    def __init__(self, heads: int, grid: int, step: int = 1, talking: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.heads, self.grid, self.step, self.talking = heads, grid, step, talking

    def build(self, input_shape: Any) -> None:
        heads = self.heads
        self.biases = self.add_weight(shape=(heads, self.grid**2), initializer="zeros", name="biases")
        if self.talking:
            self.mixers = [
                (
                    self.add_weight(shape=(1, 1, heads, heads), name=f"{which}_kernel"),
                    self.add_weight(shape=(heads,), initializer="zeros", name=f"{which}_bias"),
                )
                for which in ("first", "second")
            ]

    def call(self, inputs: Any) -> Any:
        sides, key_sides, _ = (ops.shape(x)[1:3] for x in inputs)
        queries, keys, values = (self._by_head(x) for x in inputs)
        return self.attended(queries, keys, values, sides, key_sides)

    def _by_head(self, x: Any) -> Any:
        """[N, H, W, heads * size] -> [N, heads, H * W, size]."""
        _, height, width, channels = ops.shape(x)
        places = ops.reshape(x, (-1, height * width, self.heads, channels // self.heads))
        return ops.swapaxes(places, 1, 2)

    def attended(self, queries: Any, keys: Any, values: Any, sides: Any, key_sides: Any) -> Any:
        """[N, heads, places, size] each -> [N, *sides, heads * size of values]."""
        scores = ops.matmul(queries, ops.swapaxes(keys, 2, 3)) * queries.shape[-1] ** -0.5
        scores = scores + addends_of(self.biases, sides, key_sides, self.step, self.compute_dtype)
        if self.talking:
            scores = self._mixed(ops.softmax(self._mixed(scores, *self.mixers[0])), *self.mixers[1])
        else:
            scores = ops.softmax(scores)
        y = ops.swapaxes(ops.matmul(scores, values), 1, 2)
        return ops.reshape(y, (-1, *sides, self.heads * values.shape[-1]))

    def _mixed(self, scores: Any, kernel: Any, bias: Any) -> Any:
        """[N, heads, Q, T] -> the same, of all heads."""
        _, heads, queries, places = ops.shape(scores)
        rows = ops.reshape(scores, (-1, heads, queries * places))
        mixed = ops.matmul(ops.cast(ops.transpose(kernel[0, 0]), scores.dtype), rows)
        mixed = mixed + ops.cast(bias, scores.dtype)[:, None]
        return ops.reshape(mixed, (-1, heads, queries, places))

    def compute_output_shape(self, input_shape: Any) -> Any:
        queries, _, values = input_shape
        return (*queries[:-1], values[-1])

    def get_config(self) -> dict[str, Any]:
        own = {"heads": self.heads, "grid": self.grid, "step": self.step, "talking": self.talking}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("zoo")
class JoinedAttention(BiasedAttention):
    """The same, keys and values joined head by head: queries [N, h, w, heads * K], the others [N, H, W, heads
    * (K + D)] -> [N, h, w, heads * D].
    """

    def call(self, inputs: Any) -> Any:
        sides, key_sides = (ops.shape(x)[1:3] for x in inputs)
        queries, others = (self._by_head(x) for x in inputs)
        size = queries.shape[-1]
        return self.attended(queries, others[..., :size], others[..., size:], sides, key_sides)

    def compute_output_shape(self, input_shape: Any) -> Any:
        queries, others = input_shape
        return (*queries[:-1], others[-1] - queries[-1])


@keras.saving.register_keras_serializable("zoo")
class JoinedSelfAttention(BiasedAttention):
    """The same among all places: of each head queries and keys of `size` channels and values, [N, H, W, heads
    * (2 * size + D)] -> [N, H, W, heads * D].
    """

    def __init__(self, heads: int, grid: int, size: int, **options: Any) -> None:
        super().__init__(heads, grid, **options)
        self.size = size

    def call(self, x: Any) -> Any:
        sides = ops.shape(x)[1:3]
        x, size = self._by_head(x), self.size
        return self.attended(x[..., :size], x[..., size : 2 * size], x[..., 2 * size :], sides, sides)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] - 2 * self.heads * self.size)

    def get_config(self) -> dict[str, Any]:
        return {**_of_all_places(super().get_config()), "size": self.size}


class _Indexed(BiasedAttention):
    """What keeps, as its reference does, which addend is whose beside them."""

    reference_names: ClassVar[dict[str, str]] = {
        "biases": "attention_biases",
        "index": "attention_bias_idxs",
    }

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        places = (self.grid**2, self.grid**2)
        self.index = self.add_weight(
            shape=places, initializer=_places_apart, dtype="int32", trainable=False, name="index"
        )


@keras.saving.register_keras_serializable("zoo")
class IndexedAttention(_Indexed):
    """BiasedAttention among all places, with its index."""

    def __init__(self, heads: int, grid: int, **options: Any) -> None:
        super().__init__(heads, grid, **options)

    def get_config(self) -> dict[str, Any]:
        return _of_all_places(super().get_config())


@keras.saving.register_keras_serializable("zoo")
class BiasedSelfAttention(_Indexed, JoinedSelfAttention):
    """JoinedSelfAttention with its index."""


def _of_all_places(config: dict[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in config if name not in ("step", "talking")}


def _places_apart(shape: Any, dtype: Any) -> Any:
    """[P, P]: for the places of a square how many rows, times its side, and columns they are apart."""
    side = math.isqrt(shape[0])
    apart = abs(np.arange(side)[:, None] - np.arange(side))
    places = apart[:, None, :, None] * side + apart[None, :, None, :]
    return ops.convert_to_tensor(places.reshape(shape), dtype)
