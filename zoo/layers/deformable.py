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
        _, height, width, channels = ops.shape(x)
        groups = shares.shape[3]
        square, parts = self._looked_at(steps, shares)
        values = ops.take(_squares(x, groups), square, axis=0)
        values = ops.reshape(values, (-1, 4 * self.size**2, channels // groups))
        parts = ops.reshape(ops.cast(parts, x.dtype), (-1, 1, 4 * self.size**2))
        return ops.reshape(ops.matmul(parts, values), (-1, height, width, channels))

    def _looked_at(self, steps: Any, shares: Any) -> tuple[Any, Any]:
        """The row of _squares that each step leads to, [N, H, W, G, size**2], and how much each of the four
        places in it counts, [N, H, W, G, size**2, 4].
        """
        batch, height, width, groups, seen = ops.shape(shares)
        steps = ops.reshape(ops.cast(steps, "float32"), (-1, height, width, groups, seen, 2))
        columns, rows = ops.unstack(ops.moveaxis(steps, -1, 0), 2)
        column, right = self._place(columns, 0, width)
        row, below = self._place(rows, 1, height)
        shares = ops.cast(shares, "float32")
        above, below = (1 - below) * shares, below * shares
        parts = ops.stack([above * (1 - right), above * right, below * (1 - right), below * right])
        long, tall = width + BEFORE + BEHIND - 1, height + BEFORE + BEHIND - 1
        first = ops.reshape(ops.arange(batch, dtype="int32") * (tall * long), (-1, 1, 1, 1, 1))
        square = (first + row * long + column) * groups + np.arange(groups, dtype=np.int32)[:, None]
        return square, ops.moveaxis(parts, 0, -1)

    def _place(self, steps: Any, axis: int, side: Any) -> tuple[Any, Any]:
        """Steps along x (axis 0) or y (1), [N, H, W, G, size**2] -> the column or row before, in the map with
        its zeros, and how far behind that, 0 to 1.
        """
        window = np.arange(self.size, dtype=np.float32) - self.size // 2
        window = np.repeat(window, self.size) if axis == 0 else np.tile(window, self.size)
        own = ops.reshape(ops.cast(ops.arange(side), "float32"), (-1, 1, 1) if axis == 0 else (-1, 1, 1, 1))
        places = own + self.reach * (window + steps)
        places = ops.clip(places, -1.0, ops.cast(side, "float32")) + BEFORE
        before = ops.floor(places)
        return ops.cast(before, "int32"), places - before

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "reach": self.reach}


def _squares(x: Any, groups: int) -> Any:
    """The four places that any one between them is interpolated from, a group's channels together, which are
    then fetched at once: [N * (H + 2) * (W + 2) * G, 4 * C / G].
    """
    wide = ops.pad(x, [(0, 0), (BEFORE, BEHIND), (BEFORE, BEHIND), (0, 0)])
    _, tall, long, channels = ops.shape(wide)
    wide = ops.reshape(wide, (-1, tall, long, groups, channels // groups))
    four = [wide[:, :-1, :-1], wide[:, :-1, 1:], wide[:, 1:, :-1], wide[:, 1:, 1:]]
    return ops.reshape(ops.concatenate(four, axis=-1), (-1, 4 * channels // groups))
