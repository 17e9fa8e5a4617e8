"""Maps of other sides, by products with matrices, which every runtime has for sides that vary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from zoo.layers.maps import FirstPlaces


@keras.saving.register_keras_serializable("zoo")
class Stretch(layers.Layer):
    """A map [N, H, W, C], its sides stretched to the next multiples of `step` by bilinear resampling;
    corners: such that the corners stay. With `back`, two maps: the first, stretched before, to the sides of
    the second.
    """

    def __init__(self, step: int, corners: bool = False, back: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.step, self.corners, self.back = step, corners, back
        self.sides_of = 1 if back else None

    def call(self, inputs: Any) -> Any:
        x, goal = inputs if self.back else (inputs, None)
        sides = ops.shape(goal)[1:3] if self.back else [self._rounded(side) for side in ops.shape(x)[1:3]]
        return resampled(x, sides, bilinear_with_corners if self.corners else bilinear)

    def _rounded(self, side: Any) -> Any:
        # Not by a negative numerator: ONNX rounds its quotient towards zero.
        return (side + self.step - 1) // self.step * self.step

    def compute_output_shape(self, input_shape: Any) -> Any:
        if self.back:
            return (*input_shape[1][:3], input_shape[0][-1])
        batch, *sides, channels = input_shape
        return (batch, *(side and self._rounded(side) for side in sides), channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "step": self.step, "corners": self.corners, "back": self.back}


@keras.saving.register_keras_serializable("zoo")
class ToGrid(layers.Layer):
    """A map [N, H, W, C] -> [N, size, size, C]: the means of its cells where both sides are multiples of the
    size, else by bilinear resampling.
    """

    def __init__(self, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.size = size

    def call(self, x: Any) -> Any:
        height, width = ops.shape(x)[1:3]
        whole = ops.logical_and(height % self.size == 0, width % self.size == 0)

        def shares(old: Any, new: Any) -> Any:
            return ops.where(whole, means(old, new), bilinear(old, new))

        return resampled(x, (self.size, self.size), shares)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.size, self.size, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("zoo")
class Double(FirstPlaces):
    """A map [N, h, w, C] at twice its sides by bilinear resampling, and of that the first rows and columns,
    as many as another [N, H, W, D] has. Keras's UpSampling2D takes no sides that are not known.
    """

    def call(self, inputs: Any) -> Any:
        x, other = inputs
        _, height, width, _ = ops.shape(x)
        return super().call([resampled(x, (2 * height, 2 * width), bilinear), other])


def resampled(x: Any, sides: Any, shares: Callable[[Any, Any], Any]) -> Any:
    """[N, H, W, C] -> [N, *sides, C]. shares(old, new) -> [new, old]: what a new row has of an old one."""
    pairs = list(zip(ops.shape(x)[1:3], sides, strict=True))
    if all(isinstance(side, int) for pair in pairs for side in pair) and all(
        old == new for old, new in pairs
    ):
        return x
    rows, columns = (ops.cast(shares(old, new), x.dtype) for old, new in pairs)
    return ops.einsum("ih,nhwc,jw->nijc", rows, x, columns)


def means(old: Any, new: Any) -> Any:
    """Of old / new pixels each."""
    cell = ops.maximum(old // new, 1)
    of_cell = ops.arange(old) // cell == ops.arange(new)[:, None]
    return ops.cast(of_cell, "float32") / _real(cell)


def bilinear(old: Any, new: Any) -> Any:
    """Of the pixels' centres that are next, even where it shrinks."""
    return ops.maximum(1 - ops.abs(_distances(ops.clip(_centres(old, new), 0, _real(old) - 1), old)), 0)


def bilinear_with_corners(old: Any, new: Any) -> Any:
    """The first and the last stay where they are; for enlarging."""
    places = ops.arange(new, dtype="float32") * (_real(old) - 1) / ops.maximum(_real(new) - 1, 1)
    return ops.maximum(1 - ops.abs(_distances(places, old)), 0)


def bicubic(old: Any, new: Any) -> Any:
    """Wide enough to average where it shrinks. Keys, IEEE ASSP 29(6), 1981, with a = -1/2."""
    t = ops.abs(_distances(_centres(old, new), old) / ops.maximum(_real(old) / _real(new), 1))
    near, far = (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
    weights = ops.where(t < 1, near, ops.where(t < 2, far, 0.0))
    return weights / ops.sum(weights, axis=1, keepdims=True)


def _centres(old: Any, new: Any) -> Any:
    return (ops.arange(new, dtype="float32") + 0.5) * _real(old) / _real(new) - 0.5


def _distances(places: Any, old: Any) -> Any:
    return places[:, None] - ops.arange(old, dtype="float32")


def _real(side: Any) -> Any:
    return ops.cast(side, "float32")
