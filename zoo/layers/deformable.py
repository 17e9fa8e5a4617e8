"""Kernels whose places the picture chooses."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

BEFORE, BEHIND = 1, 2  # rows and columns of zeros, of which a place on the border takes its part


@keras.saving.register_keras_serializable("zoo")
class DeformableAggregation(layers.Layer):
    """A map [N, H, W, C], where each place looks, [N, H, W, G * size**2 * 2], and how much of that counts,
    [N, H, W, G, size**2] -> weighted sums [N, H, W, C]: the core of deformable convolution, version 3. Wang
    et al., arXiv 2211.05778.

    Each of the G groups of channels has steps of its own, pairs of x and y, in places of the map; they are
    added to those of a window of size x size, column by column, and all are `reach` times as long. Between
    places is interpolated; beyond the border are zeros.
    """

    def __init__(self, size: int = 3, reach: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.size, self.reach = size, reach

    def call(self, inputs: Any) -> Any:
        x, steps, shares = inputs
        batch, height, width, channels = ops.shape(x)
        groups, seen = shares.shape[3], self.size**2
        steps = ops.reshape(ops.cast(steps, "float32"), (-1, height, width, groups, seen, 2))
        columns, rows = (
            self._places(steps[..., axis], axis, side) for axis, side in enumerate((width, height))
        )
        (left, right), (above, below) = map(_neighbours, (columns, rows))
        wide = ops.pad(x, [(0, 0), (BEFORE, BEHIND), (BEFORE, BEHIND), (0, 0)])
        _, tall, long, _ = ops.shape(wide)
        table = ops.reshape(wide, (-1, channels // groups))
        first = ops.reshape(ops.arange(batch, dtype="int32") * (tall * long), (-1, 1, 1, 1, 1))
        group = ops.reshape(ops.arange(groups, dtype="int32"), (groups, 1))
        corners = [
            (row_share * column_share, (first + row * long + column) * groups + group)
            for row, row_share in (above, below)
            for column, column_share in (left, right)
        ]
        parts = ops.concatenate([part * ops.cast(shares, "float32") for part, _ in corners], axis=-1)
        values = ops.take(table, ops.concatenate([place for _, place in corners], axis=-1), axis=0)
        total = ops.matmul(ops.cast(parts, x.dtype)[..., None, :], values)
        return ops.reshape(total, (-1, height, width, channels))

    def _places(self, steps: Any, axis: int, side: Any) -> Any:
        """[N, H, W, G, size**2], along columns (axis 0) or rows (1) of the map with its zeros."""
        window = np.arange(self.size, dtype=np.float32) - self.size // 2
        of_window = np.repeat(window, self.size) if axis == 0 else np.tile(window, self.size)
        own = ops.reshape(ops.cast(ops.arange(side), "float32"), (-1, 1, 1) if axis == 0 else (-1, 1, 1, 1))
        places = own + self.reach * (of_window + steps)
        return ops.clip(places, -1.0, ops.cast(side, "float32")) + BEFORE

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "reach": self.reach}


def _neighbours(places: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """The whole places before and behind, with the share of each."""
    before = ops.floor(places)
    share = places - before
    index = ops.cast(before, "int32")
    return (index, 1 - share), (index + 1, share)
