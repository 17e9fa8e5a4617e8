"""Attention as a product of a map with a matrix from each side. Chi et al., "Non-local neural networks with
grouped bilinear attentional transforms", CVPR 2020.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("zoo")
class Strips(layers.Layer):
    """The greatest of each of `count` strips: of rows (axis 1), [N, H, W, C] -> [N, count, 1, C], or columns
    (axis 2), -> [N, 1, count, C]. The side must be a multiple of the count.
    """

    def __init__(self, count: int, axis: int, **options: Any) -> None:
        super().__init__(**options)
        self.count, self.axis = count, axis

    def call(self, x: Any) -> Any:
        along = ops.swapaxes(x, 1, self.axis)
        _, height, width, channels = ops.shape(along)
        strips = ops.reshape(along, (-1, self.count, height // self.count * width, channels))
        return ops.swapaxes(ops.max(strips, axis=2, keepdims=True), 1, self.axis)

    def compute_output_shape(self, input_shape: Any) -> Any:
        sides = (self.count, 1) if self.axis == 1 else (1, self.count)
        return (input_shape[0], *sides, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.count, "axis": self.axis}


@keras.saving.register_keras_serializable("zoo")
class BilinearTransform(layers.Layer):
    """A map [N, H, W, C] in blocks x blocks parts, each a mix of those above and below it, and then of those
    beside it: by two matrices of each group of channels, [N, 1, 1, groups * blocks * blocks], before their
    sigmoid. H and W must be multiples of the blocks.
    """

    sides_of = 0

    def __init__(self, groups: int, blocks: int, **options: Any) -> None:
        super().__init__(**options)
        self.groups, self.blocks = groups, blocks

    def call(self, inputs: Any) -> Any:
        x, rows, columns = inputs
        rows, columns = (self._matrices(x) for x in (rows, columns))
        x = self._mixed(x, rows / ops.sum(rows, axis=3, keepdims=True))
        columns = ops.swapaxes(columns / ops.sum(columns, axis=2, keepdims=True), 2, 3)
        return ops.swapaxes(self._mixed(ops.swapaxes(x, 1, 2), columns), 1, 2)

    def _matrices(self, x: Any) -> Any:
        return ops.sigmoid(ops.reshape(x, (-1, self.groups, self.blocks, self.blocks)))

    def _mixed(self, x: Any, shares: Any) -> Any:
        """Along the first side; shares: [N, groups, new block, old block]."""
        _, height, width, channels = ops.shape(x)
        parts, size = height // self.blocks * width, channels // self.groups
        x = ops.transpose(ops.reshape(x, (-1, self.blocks, parts, self.groups, size)), (0, 3, 1, 2, 4))
        x = ops.matmul(shares, ops.reshape(x, (-1, self.groups, self.blocks, parts * size)))
        x = ops.transpose(ops.reshape(x, (-1, self.groups, self.blocks, parts, size)), (0, 2, 3, 1, 4))
        return ops.reshape(x, (-1, height, width, channels))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups, "blocks": self.blocks}
