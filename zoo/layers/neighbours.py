"""The places around every place, and sums over them."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


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
    places around every place; channel c takes weight c modulo G. border: "reflect", or "constant" for zeros.
    """

    def __init__(self, size: int, border: str = "reflect", **options: Any) -> None:
        super().__init__(**options)
        self.size, self.border = size, border

    def call(self, inputs: Any) -> Any:
        weights, x = inputs
        _, height, width, channels = ops.shape(x)
        groups = weights.shape[-1]
        total = 0
        for place, values in enumerate(shifted(x, self.size, self.border)):
            shares = ops.reshape(values, (-1, height, width, channels // groups, groups))
            total = total + shares * ops.expand_dims(weights[:, :, :, place], 3)
        return ops.reshape(total, (-1, height, width, channels))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "border": self.border}


def shifted(x: Any, size: int, border: str = "reflect") -> list[Any]:
    """The map moved to each place of a size x size window."""
    _, height, width, _ = ops.shape(x)
    reach = size // 2
    wide = ops.pad(x, [(0, 0), (reach, reach), (reach, reach), (0, 0)], mode=border)
    offsets = [(i, j) for i in range(size) for j in range(size)]
    return [wide[:, i : i + height, j : j + width] for i, j in offsets]
