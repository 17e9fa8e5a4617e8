"""Attention within the parts of a map, which knows where places lie to one another. Tu et al., arXiv
2204.01697.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import layers, ops

from zoo.layers.relative import of_pairs
from zoo.layers.resampling import bicubic, resampled


class _OfParts(layers.Layer):
    """What knows that a map's sides are divided by `parts`."""

    def __init__(self, parts: int, **options: Any) -> None:
        super().__init__(**options)
        self.parts = parts

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "parts": self.parts}

    def displacements(self, shape: Any) -> list[Any]:
        """How many rows, and columns, two places of a part can be apart, -h + 1 to h - 1; None if unknown."""
        return [None if side is None else 2 * (side // self.parts) - 1 for side in shape[1:3]]


@keras.saving.register_keras_serializable("zoo")
class DisplacementAddends(_OfParts):
    """A learned addend of each head for each displacement within parts of `side` rows and columns: any map
    [N, H, W, C] -> [2 * H / parts - 1, 2 * W / parts - 1, heads]; for other sides they are resampled. Liu et
    al., arXiv 2103.14030.
    """

    reference_names: ClassVar[dict[str, str]] = {"biases": "relative_position_bias_table"}

    def __init__(self, heads: int, side: int, parts: int, **options: Any) -> None:
        super().__init__(parts, **options)
        self.heads, self.side = heads, side

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.TruncatedNormal(stddev=0.02)
        self.biases = self.add_weight(shape=self._shape(2 * self.side - 1), initializer=start, name="biases")

    def _shape(self, span: int) -> tuple[int, ...]:
        return (span * span, self.heads)

    def _table(self, span: int) -> Any:
        return ops.reshape(self.biases, (span, span, self.heads))

    def call(self, x: Any) -> Any:
        table = ops.cast(self._table(2 * self.side - 1), self.compute_dtype)
        return resampled(table[None], self.displacements(ops.shape(x)), bicubic)[0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*self.displacements(input_shape), self.heads)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "side": self.side}


@keras.saving.register_keras_serializable("zoo")
class KeyDisplacementAddends(DisplacementAddends):
    """The same where the reference keeps them head by head, for a key seen from a query."""

    def _shape(self, span: int) -> tuple[int, ...]:
        return (self.heads, span, span)

    def _table(self, span: int) -> Any:
        return ops.flip(ops.transpose(self.biases, (1, 2, 0)), (0, 1))


@keras.saving.register_keras_serializable("zoo")
class LogDisplacements(_OfParts):
    """The displacements themselves, rows and columns, as sign(d) * log(1 + |d|): any map [N, H, W, C] -> [2 *
    H / parts - 1, 2 * W / parts - 1, 2]. Liu et al., arXiv 2111.09883.
    """

    def call(self, x: Any) -> Any:
        rows, columns = (
            ops.cast(ops.arange(count) - count // 2, "float32") for count in self.displacements(ops.shape(x))
        )
        apart = ops.stack(ops.meshgrid(rows, columns, indexing="ij"), axis=-1)
        return ops.cast(ops.sign(apart) * ops.log(1 + ops.abs(apart)), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*self.displacements(input_shape), 2)


@keras.saving.register_keras_serializable("zoo")
class PartAttention(_OfParts):
    """Attention among the places of each part of a map whose sides are multiples of `parts`: parts * parts
    windows, or, spread, as many grids of places that lie `parts` apart. Of heads of `size` channels queries,
    keys and values [N, H, W, 3 * heads * size], and addends for displacements [2 * H / parts - 1, 2 * W /
    parts - 1, heads] -> [N, H, W, heads * size].

    joined: queries, keys and values follow one another head by head, not each of all heads. factor: of the
    scores, by default 1 / sqrt(size).
    """

    sides_of = 0

    def __init__(
        self,
        size: int,
        parts: int,
        spread: bool = False,
        joined: bool = True,
        factor: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(parts, **options)
        self.size, self.spread, self.joined = size, spread, joined
        self.factor = factor or size**-0.5

    def call(self, inputs: Any) -> Any:
        x, addends = inputs
        height, width = (side // self.parts for side in ops.shape(x)[1:3])
        queries, keys, values = self._by_head(self._apart(x, height, width), addends.shape[-1])
        rows, columns = (ops.arange(n)[:, None] - ops.arange(n) + n - 1 for n in (height, width))
        scores = ops.matmul(queries * self.factor, ops.swapaxes(keys, 2, 3))
        y = ops.matmul(ops.softmax(scores + of_pairs(addends, rows, columns)), values)
        return self._together(ops.swapaxes(y, 1, 2), height, width, addends.shape[-1] * self.size)

    def _by_head(self, x: Any, heads: int) -> list[Any]:
        """[B, places, 3 * heads * size] -> three of [B, heads, places, size]."""
        _, places, _ = ops.shape(x)
        if self.joined:
            x = ops.swapaxes(ops.reshape(x, (-1, places, heads, 3 * self.size)), 1, 2)
            return [x[..., i * self.size : (i + 1) * self.size] for i in range(3)]
        x = ops.transpose(ops.reshape(x, (-1, places, 3, heads, self.size)), (2, 0, 3, 1, 4))
        return [x[i] for i in range(3)]

    def _apart(self, x: Any, height: Any, width: Any) -> Any:
        """[N, H, W, C] -> [N * parts * parts, height * width, C]."""
        channels, parts = x.shape[-1], self.parts
        if self.spread:
            x = ops.reshape(x, (-1, height, parts, width, parts, channels))
            x = ops.transpose(x, (0, 2, 4, 1, 3, 5))
        else:
            x = ops.reshape(x, (-1, parts, height, parts, width * channels))
            x = ops.transpose(x, (0, 1, 3, 2, 4))
        return ops.reshape(x, (-1, height * width, channels))

    def _together(self, x: Any, height: Any, width: Any, channels: int) -> Any:
        """The inverse, of [N * parts * parts, height * width, heads, size]."""
        parts = self.parts
        if self.spread:
            x = ops.reshape(x, (-1, parts, parts, height, width, channels))
            x = ops.transpose(x, (0, 3, 1, 4, 2, 5))
        else:
            x = ops.reshape(x, (-1, parts, parts, height, width * channels))
            x = ops.transpose(x, (0, 1, 3, 2, 4))
        return ops.reshape(x, (-1, parts * height, parts * width, channels))

    def compute_output_shape(self, input_shape: Any) -> Any:
        x, _ = input_shape
        return (*x[:-1], x[-1] // 3)

    def get_config(self) -> dict[str, Any]:
        own = {"size": self.size, "spread": self.spread, "joined": self.joined, "factor": self.factor}
        return {**super().get_config(), **own}
