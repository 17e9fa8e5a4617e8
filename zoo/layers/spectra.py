"""What is done to a map by its frequencies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("zoo")
class GlobalFilter(layers.Layer):
    """A filter of each channel as large as the map: maps [N, H, W, C] times learned numbers, frequency by
    frequency. Rao et al., arXiv 2107.00645, section 3.2.

    The numbers are complex, kept as [C, height, width, 2]; for a map with other than height x 2 (width - 1)
    places they are interpolated. The Fourier transforms are products with matrices, which every format has.
    """

    reference_names: ClassVar[dict[str, str]] = {"complex_weight": "complex_weight"}

    def __init__(self, height: int, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.height, self.width = height, width

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[-1], self.height, self.width, 2)
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.complex_weight = self.add_weight(shape=shape, initializer=start, name="complex_weight")

    def call(self, x: Any) -> Any:
        _, height, width, _ = ops.shape(x)
        half = width // 2 + 1  # a real map's other frequencies are these, mirrored
        maps = ops.transpose(ops.cast(x, "float32"), (0, 3, 1, 2))
        columns, rows = _waves(width, half, width), _waves(height, height, height)
        spectrum = _product(rows, tuple(ops.matmul(maps, wave) for wave in columns), ops.matmul)
        spectrum = _product(spectrum, self._factors(height, half), ops.multiply)
        real, imaginary = _product((rows[0], -rows[1]), spectrum, ops.matmul)
        cosines, sines = _back(width, half)
        y = ops.matmul(real, cosines) + ops.matmul(imaginary, sines)
        return ops.cast(ops.transpose(y, (0, 2, 3, 1)), x.dtype)

    def _factors(self, height: Any, half: Any) -> tuple[Any, Any]:
        down, across = _interpolation(self.height, height), _interpolation(self.width, half)
        weight = ops.cast(self.complex_weight, "float32")
        real, imaginary = (
            ops.matmul(ops.matmul(down, weight[..., part]), ops.transpose(across)) for part in (0, 1)
        )
        return real, imaginary

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "height": self.height, "width": self.width}


def _waves(count: Any, frequencies: Any, period: Any) -> tuple[Any, Any]:
    """exp(-2 pi i n k / period) / sqrt(period) as [n, k], its real part and its imaginary one."""
    turns = ops.arange(count)[:, None] * ops.arange(frequencies)[None] % period
    period = ops.cast(period, "float32")
    angles = ops.cast(turns, "float32") * (2 * math.pi / period)
    return ops.cos(angles) / ops.sqrt(period), -ops.sin(angles) / ops.sqrt(period)


def _back(width: Any, half: Any) -> tuple[Any, Any]:
    """From half of the frequencies to a real row, [k, n]: all but the first and the middle count twice."""
    cosines, sines = _waves(half, width, width)
    number = ops.arange(half)[:, None]
    once = ops.logical_or(number == 0, 2 * number == width)
    times = ops.where(once, 1.0, 2.0)
    return times * cosines, times * sines


def _product(
    first: tuple[Any, Any], second: tuple[Any, Any], times: Callable[[Any, Any], Any]
) -> tuple[Any, Any]:
    """Of complex numbers or matrices, as `times` multiplies real ones."""
    (a, b), (c, d) = first, second
    return times(a, c) - times(b, d), times(b, c) + times(a, d)


def _interpolation(old: int, new: Any) -> Any:
    """[new, old]: each of the new places as a mean of two old ones, the corners on the corners."""
    step = (old - 1) / ops.maximum(ops.cast(new, "float32") - 1, 1)
    places = ops.cast(ops.arange(new), "float32") * step
    distance = ops.abs(places[:, None] - ops.cast(ops.arange(old), "float32")[None])
    return ops.maximum(1 - distance, 0)
