"""Convolutions: in groups, of few channels, with standardised filters, with filters for each picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, ClassVar

import keras
from keras import layers, ops
from keras.distribution import list_devices


@keras.saving.register_keras_serializable("zoo")
class GroupedConv2D(layers.Conv2D):
    """A convolution in groups, as one plain operation of TensorFlow.

    Keras compiles every grouped Conv2D by XLA: the SavedModel then carries `_XlaMustCompile`, which a stock
    model server refuses, and training on a CPU is 50 times slower than dense. Where TensorFlow cannot
    differentiate the operation, nor fuse a bias into it (on a CPU without oneDNN, or in float16), it is a
    few dense convolutions, each over some of the groups.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # On a CPU, `compile` would choose XLA unasked.
        self.supports_jit = keras.backend.backend() != "tensorflow" or bool(list_devices("gpu"))

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        if keras.backend.backend() != "tensorflow":
            return super().convolution_op(inputs, kernel)
        import tensorflow as tf

        kernel = ops.convert_to_tensor(kernel)
        options = {"strides": self.strides, "padding": self.padding.upper(), "dilations": self.dilation_rate}
        if _converted.get() or has_grouped_gradient(inputs.dtype):
            return tf.nn.conv2d(inputs, kernel, **options)
        return in_super_groups(inputs, kernel, self.groups, **options)


@keras.saving.register_keras_serializable("zoo")
class PointwiseConv2D(layers.Conv2D):
    """A strided 1x1 convolution of few channels, which first drops the pixels that it passes over.

    On a CPU, oneDNN's own gradient of such a kernel writes past its workspace where C < 16, and training
    crashes (uxlfoundation/oneDNN issue 6035).
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        rows, columns = self.strides
        return ops.conv(inputs[:, ::rows, ::columns], kernel, padding="valid", data_format="channels_last")


@keras.saving.register_keras_serializable("zoo")
class StandardizedConv2D(GroupedConv2D):
    """A convolution whose filters are brought to mean 0 and variance 1 before use. Qiao et al., arXiv
    1903.10520.

    With `gamma`, the filters are then scaled by gamma / sqrt(fan-in) and a learned gain each, so that the
    variance of the map stays 1 without norms. Brock et al., arXiv 2101.08692.
    """

    reference_names: ClassVar[dict[str, str]] = {"gain": "gain"}

    def __init__(self, *args: Any, epsilon: float = 1e-5, gamma: float | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.epsilon, self.gamma = epsilon, gamma

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        if self.gamma is not None:
            self.gain = self.add_weight(shape=(self.filters, 1, 1, 1), initializer="ones", name="gain")

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        kernel = ops.cast(kernel, "float32")
        mean, variance = ops.moments(kernel, (0, 1, 2), keepdims=True)
        scale = ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            gain = ops.reshape(ops.cast(self.gain, "float32"), (1, 1, 1, -1))
            scale = scale * gain * (self.gamma / math.sqrt(math.prod(self.kernel.shape[:3])))
        standardized = (kernel - mean) * scale
        return super().convolution_op(inputs, ops.cast(standardized, inputs.dtype))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon, "gamma": self.gamma}

    # Keras's convolution stores its kernel and bias alone.
    def save_own_variables(self, store: Any) -> None:
        layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        layers.Layer.load_own_variables(self, store)


@keras.saving.register_keras_serializable("zoo")
class ConditionalConv2D(layers.Layer):
    """A 1x1 or a depthwise convolution whose kernel is mixed for each picture from those of some experts, by
    a weight each: [N, H, W, C] and [N, experts] -> [N, H, W, filters]. Yang et al., arXiv 1904.04971.

    filters: of a 1x1 convolution; None for a depthwise one of `size` x `size` pixels, padded as TensorFlow
    does. `weight` has a row for each expert, its kernel flattened from [filters, C, 1, 1] or [C, 1, size,
    size].
    """

    reference_names: ClassVar[dict[str, str]] = {"experts": "weight"}

    def __init__(
        self, experts: int, filters: int | None = None, size: int = 1, stride: int = 1, **options: Any
    ) -> None:
        super().__init__(**options)
        self.count, self.filters, self.size, self.stride = experts, filters, size, stride
        self.strides = (stride, stride)

    def build(self, input_shape: Any) -> None:
        channels = input_shape[0][-1]
        fan_in = channels if self.filters else self.size**2
        kernel = channels * (self.filters or self.size**2)
        limit = math.sqrt(6 / fan_in)
        start = keras.initializers.RandomUniform(-limit, limit)
        self.experts = self.add_weight(shape=(self.count, kernel), initializer=start, name="experts")

    def call(self, inputs: Any) -> Any:
        x, weights = inputs
        return self._mix_kernels(x, weights) if self.filters else self._mix_maps(x, weights)

    def _mix_kernels(self, x: Any, weights: Any) -> Any:
        _, height, width, channels = ops.shape(x)
        kernels = ops.reshape(ops.matmul(weights, self.experts), (-1, self.filters, channels))
        places = ops.reshape(x, (-1, height * width, channels))
        y = ops.matmul(places, ops.swapaxes(kernels, 1, 2))
        return ops.reshape(y, (-1, height, width, self.filters))

    def _mix_maps(self, x: Any, weights: Any) -> Any:
        """By linearity the same; no runtime has depthwise convolutions with kernels for each picture."""
        channels = x.shape[-1]
        experts = ops.reshape(self.experts, (self.count, channels, self.size, self.size))
        kernel = ops.transpose(experts, (2, 3, 1, 0))
        maps = ops.depthwise_conv(x, kernel, self.strides, "same", data_format="channels_last")
        _, height, width, _ = ops.shape(maps)
        maps = ops.reshape(maps, (-1, height, width, channels, self.count))
        return ops.sum(maps * weights[:, None, None, None], -1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, height, width, channels = input_shape[0]
        sides = (side if side is None else -(-side // self.stride) for side in (height, width))
        return (batch, *sides, self.filters or channels)

    def get_config(self) -> dict[str, Any]:
        own = {"experts": self.count, "filters": self.filters, "size": self.size, "stride": self.stride}
        return {**super().get_config(), **own}


_converted: ContextVar[bool] = ContextVar("converted", default=False)


@contextmanager
def for_conversion() -> Iterator[None]:
    """Within, a convolution in groups is traced as one operation, whatever this TensorFlow can run: for
    graphs that become another runtime's.
    """
    token = _converted.set(True)
    try:
        yield
    finally:
        _converted.reset(token)


@cache
def has_grouped_gradient(dtype: str) -> bool:
    """Whether this TensorFlow differentiates a convolution in groups, found out by doing so once."""
    import tensorflow as tf

    # Outside of the graph that is being traced; tapes record nothing there.
    with tf.init_scope():
        maps, kernel = tf.ones((1, 4, 4, 4), dtype), tf.ones((3, 3, 2, 4), dtype)
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=maps.shape, filter=kernel, out_backprop=maps, strides=[1] * 4, padding="SAME"
            )
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True


def in_super_groups(x: Any, kernel: Any, groups: int, **options: Any) -> Any:
    """A convolution in groups as 8 dense ones, or as few more as divide the groups: each takes
    neighbouring groups, with zeros in its kernel between them. More are slower to start than to run.
    """
    import tensorflow as tf

    count = next(n for n in range(min(8, groups), groups + 1) if groups % n == 0)
    size = groups // count
    height, width, inputs, _ = kernel.shape
    diagonal = tf.reshape(tf.eye(size, dtype=kernel.dtype), (size, 1, size, 1))
    maps = []
    for part, own in zip(tf.split(x, count, -1), tf.split(kernel, count, -1), strict=True):
        blocks = tf.reshape(own, (height, width, 1, inputs, size, -1)) * diagonal
        dense = tf.reshape(blocks, (height, width, size * inputs, -1))
        maps.append(tf.nn.convolution(part, dense, **options))
    return tf.concat(maps, -1)
