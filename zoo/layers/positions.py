"""Where the places of a map are."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import keras
import numpy as np
from keras import layers, ops

from zoo.layers.resampling import bicubic, resampled


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
    -> [N, H, W, 2 * waves]. Maaz et al., arXiv 2206.10589, as released.
    """

    def __init__(self, waves: int = 32, **options: Any) -> None:
        super().__init__(**options)
        self.waves = waves

    def call(self, x: Any) -> Any:
        batch, height, width, _ = ops.shape(x)
        rows = ops.broadcast_to(self._waves(height)[:, None], (height, width, self.waves))
        columns = ops.broadcast_to(self._waves(width)[None], (height, width, self.waves))
        places = ops.cast(ops.concatenate([rows, columns], axis=-1)[None], self.compute_dtype)
        return ops.repeat(places, batch, axis=0)

    def _waves(self, side: Any) -> Any:
        """[side] -> [side, waves]: sine and cosine by turns, each pair slower than the one before."""
        places = ops.cast(ops.arange(1, side + 1), "float32")
        angles = places / ops.cast(side, "float32") * (2 * math.pi)
        periods = 10000 ** (2 * np.arange(self.waves // 2, dtype=np.float32) / self.waves)
        angles = angles[:, None] / periods
        return ops.reshape(ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1), (-1, self.waves))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:3], 2 * self.waves)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "waves": self.waves}


@keras.saving.register_keras_serializable("zoo")
class LearnedPositions(layers.Layer):
    """A learned addend for every place of a map of `side` rows and columns, [N, H, W, C] -> the same;
    for other sides they are resampled.
    """

    reference_names: ClassVar[dict[str, str]] = {"addends": ""}

    def __init__(self, side: int, **options: Any) -> None:
        super().__init__(**options)
        self.side = side

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.TruncatedNormal(stddev=0.02)
        shape = (1, input_shape[-1], self.side, self.side)
        self.addends = self.add_weight(shape=shape, initializer=start, name="addends")

    def call(self, x: Any) -> Any:
        addends = ops.transpose(ops.cast(self.addends, x.dtype), (0, 2, 3, 1))
        return x + resampled(addends, ops.shape(x)[1:3], bicubic)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "side": self.side}
