"""Depthwise convolutions as LiteRT is fast at. For tracing alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import tensorflow as tf
from keras import layers

from exporters.plain_layers import plain
from zoo.outputs import Borrowed

# XNNPACK's depthwise kernels take no more, and wider ones a convolution per channel: of 56 x 56 x 96, 5 x 5
# takes 0.4 ms and 7 x 7 takes 6.3, on one core of an AMD EPYC.
MOST_TAPS = 25


def swift(layer: Any) -> Any:
    return DepthwiseInPieces(layer) if _is_slow(layer) else plain(layer)


def _is_slow(layer: Any) -> bool:
    """A depthwise convolution with more taps, or with holes: TensorFlow has one by four operations more."""
    if type(layer) is not layers.DepthwiseConv2D or layer.data_format != "channels_last":
        return False
    (height, width), (down, across) = layer.kernel_size, layer.dilation_rate
    return down == across and (height * width > MOST_TAPS or down > 1)


class DepthwiseInPieces(Borrowed):
    """The sum of depthwise convolutions by parts of the kernel, each of the places that they reach."""

    def call(self, x: Any) -> Any:
        if None in x.shape[1:3]:
            return self.layer(x)
        conv, (_, *sides, _) = self.layer, self.layer.compute_output_shape(x.shape)
        stride, step, kernel = conv.strides[0], conv.dilation_rate[0], tf.convert_to_tensor(conv.kernel)

        def reached(taps: slice, side: int) -> slice:
            return slice(step * taps.start, step * (taps.stop - 1) + stride * (side - 1) + 1)

        whole = [slice(0, length) for length in conv.kernel_size]
        x = _with_border(x, [reached(*each).stop for each in zip(whole, sides, strict=True)])
        y = 0.0 if conv.bias is None else conv.bias
        for rows, columns in parts(*conv.kernel_size):
            y += tf.raw_ops.DepthwiseConv2dNative(
                input=x[:, reached(rows, sides[0]), reached(columns, sides[1])],
                filter=kernel[rows, columns],
                strides=[1, stride, stride, 1],
                dilations=[1, step, step, 1],
                padding="VALID",
            )
        return conv.activation(y)


def _with_border(x: Any, sides: Sequence[int]) -> Any:
    """With the zeros around that it lacks to be so large."""
    missing = [max(side - own, 0) for side, own in zip(sides, x.shape[1:3], strict=True)]
    border = [(0, 0), *((each // 2, each - each // 2) for each in missing), (0, 0)]
    return tf.pad(x, border) if any(missing) else x


def parts(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of a kernel's parts, MOST_TAPS or fewer taps each: as few as can be, and as wide."""

    def cost(columns: int) -> tuple[int, int]:
        return -(-width // columns) * -(-height // (MOST_TAPS // columns)), -columns

    columns = min(range(1, min(width, MOST_TAPS) + 1), key=cost)
    return product(_by(MOST_TAPS // columns, height), _by(columns, width))


def _by(step: int, length: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
