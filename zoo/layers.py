"""Layers that Keras lacks, or has in a form that neither exports nor trains well. Registered under "zoo".

`reference_names` maps a variable to its name in the reference's state dict where that is not the usual one.
"""

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

if keras.backend.backend() == "torch":
    from zoo.torch_names import allow_dots

    allow_dots()


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
class Scale(layers.Layer):
    """Multiplies each channel by a learned factor: layer scale. Touvron et al., arXiv 2103.17239.

    rank: the factors are kept as [C], or with 3 as [C, 1, 1], as the reference does.
    """

    reference_names: ClassVar[dict[str, str]] = {"scale": "gamma"}

    def __init__(self, initial: float = 1e-6, rank: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.initial, self.rank = initial, rank

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.Constant(self.initial)
        shape = (input_shape[-1], *(1,) * (self.rank - 1))
        self.scale = self.add_weight(shape=shape, initializer=start, name="scale")

    def call(self, x: Any) -> Any:
        return x * ops.reshape(self.scale, (-1,))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial": self.initial, "rank": self.rank}


@keras.saving.register_keras_serializable("zoo")
class ChannelScale(Scale):
    """The same as the references of MetaFormer name it."""

    reference_names: ClassVar[dict[str, str]] = {"scale": "scale"}


@keras.saving.register_keras_serializable("zoo")
class ResponseNormalization(layers.Layer):
    """Channels compete: each is scaled by its norm over the map [N, H, W, C] against the mean of all
    channels' norms, and learns how much of that to add. Woo et al., arXiv 2301.00808.
    """

    reference_names: ClassVar[dict[str, str]] = {"scale": "weight"}

    def build(self, input_shape: Any) -> None:
        channels = (input_shape[-1],)
        self.scale = self.add_weight(shape=channels, initializer="zeros", name="scale")
        self.bias = self.add_weight(shape=channels, initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        energy = ops.sum(ops.square(ops.cast(x, "float32")), (1, 2), keepdims=True)
        # The gradient of the root is infinite at 0, where a channel is dead.
        norm = ops.sqrt(ops.maximum(energy, 1e-12))
        relative = ops.cast(norm / (ops.mean(norm, -1, keepdims=True) + 1e-6), x.dtype)
        return x + self.bias + self.scale * (x * relative)


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


@keras.saving.register_keras_serializable("zoo")
class TwinDense(layers.Layer):
    """The mean of two linear classifiers, one taught by the labels and one by another network: two vectors
    joined, [N, 2 * D] -> [N, units]. Touvron et al., arXiv 2012.12877.
    """

    reference_names: ClassVar[dict[str, str]] = {
        "kernel": "head.l.weight",
        "bias": "head.l.bias",
        "second_kernel": "head_dist.l.weight",
        "second_bias": "head_dist.l.bias",
    }

    def __init__(self, units: int, kernel_initializer: Any = "glorot_uniform", **options: Any) -> None:
        super().__init__(**options)
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Any) -> None:
        shape, start = (input_shape[-1] // 2, self.units), self.kernel_initializer
        self.kernel = self.add_weight(shape=shape, initializer=start, name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.second_kernel = self.add_weight(shape=shape, initializer=start.clone(), name="second_kernel")
        self.second_bias = self.add_weight(shape=(self.units,), initializer="zeros", name="second_bias")

    def call(self, x: Any) -> Any:
        kernel = ops.concatenate([self.kernel, self.second_kernel])
        return ops.matmul(x, ops.cast(kernel, x.dtype)) / 2 + (self.bias + self.second_bias) / 2

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        start = keras.initializers.serialize(self.kernel_initializer)
        return {**super().get_config(), "units": self.units, "kernel_initializer": start}


@keras.saving.register_keras_serializable("zoo")
class SkipGain(layers.Layer):
    """Multiplies a residual by one learned number, 0 at first. De and Smith, arXiv 2002.10444."""

    reference_names: ClassVar[dict[str, str]] = {"gain": "skipinit_gain"}

    def build(self, input_shape: Any) -> None:
        self.gain = self.add_weight(shape=(), initializer="zeros", name="gain")

    def call(self, x: Any) -> Any:
        return x * self.gain


@keras.saving.register_keras_serializable("zoo")
class Affine(layers.Layer):
    """One learned factor and one learned addend for a whole map, of these values at first: PP-HGNetV2's, and
    StarReLU's (Yu et al., arXiv 2210.13452).
    """

    reference_names: ClassVar[dict[str, str]] = {"scale": "scale"}

    def __init__(self, factor: float = 1.0, addend: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.factor, self.addend = factor, addend

    def build(self, input_shape: Any) -> None:
        factor, addend = map(keras.initializers.Constant, (self.factor, self.addend))
        self.scale = self.add_weight(shape=(1,), initializer=factor, name="scale")
        self.bias = self.add_weight(shape=(1,), initializer=addend, name="bias")

    def call(self, x: Any) -> Any:
        return x * self.scale + self.bias

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor, "addend": self.addend}


@keras.saving.register_keras_serializable("zoo")
class EvoNormalization(layers.Layer):
    """Normalises by the deviation of a picture's groups of channels and, where it is active, activates by
    x * sigmoid(v * x), in one: [N, H, W, C]. Liu et al., arXiv 2004.02967, S0.
    """

    reference_names: ClassVar[dict[str, str]] = {"scale": "weight", "slope": "v"}

    def __init__(self, groups: int = 32, epsilon: float = 1e-5, active: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.groups, self.epsilon, self.active = groups, epsilon, active

    def build(self, input_shape: Any) -> None:
        channels = (input_shape[-1],)
        self.scale = self.add_weight(shape=channels, initializer="ones", name="scale")
        self.bias = self.add_weight(shape=channels, initializer="zeros", name="bias")
        if self.active:
            self.slope = self.add_weight(shape=channels, initializer="ones", name="slope")

    def call(self, x: Any) -> Any:
        _, height, width, channels = ops.shape(x)
        split = ops.reshape(x, (-1, height, width, self.groups, channels // self.groups))
        variance = ops.var(ops.cast(split, "float32"), (1, 2, 4), keepdims=True)
        inverse = ops.cast(ops.rsqrt(variance + self.epsilon), x.dtype)
        y = ops.reshape(split * inverse, (-1, height, width, channels))
        y = y * ops.sigmoid(x * self.slope) if self.active else y
        return y * self.scale + self.bias

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon, "active": self.active}


@keras.saving.register_keras_serializable("zoo")
class Attention(layers.Layer):
    """Self-attention of all places: queries, keys and values, [N, H, W, 3 * C] -> [N, H, W, C]. Vaswani et
    al., arXiv 1706.03762.
    """

    def __init__(self, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads

    def call(self, x: Any) -> Any:
        _, height, width, channels = ops.shape(x)
        size = channels // (3 * self.heads)
        tokens = ops.reshape(x, (-1, height * width, 3, self.heads, size))
        parts = ops.transpose(tokens, (2, 0, 3, 1, 4))
        queries, keys, values = parts[0], parts[1], parts[2]
        scores = ops.matmul(queries, ops.swapaxes(keys, 2, 3)) * size**-0.5
        y = ops.swapaxes(ops.matmul(ops.softmax(scores), values), 1, 2)
        return ops.reshape(y, (-1, height, width, channels // 3))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] // 3)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("zoo")
class MultiQueryAttention(layers.Layer):
    """Attention whose heads share keys and values: queries [N, H, W, heads * D], keys and values
    [N, h, w, D] -> [N, H, W, heads * D]. Shazeer, arXiv 1911.02150.
    """

    def __init__(self, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads

    def call(self, inputs: Any) -> Any:
        queries, keys, values = inputs
        _, height, width, channels = ops.shape(queries)
        _, rows, columns, size = ops.shape(keys)
        queries = ops.reshape(queries, (-1, height * width, self.heads, size))
        keys, values = (ops.reshape(x, (-1, 1, rows * columns, size)) for x in (keys, values))
        scores = ops.matmul(ops.swapaxes(queries, 1, 2), ops.swapaxes(keys, 2, 3)) * size**-0.5
        y = ops.swapaxes(ops.matmul(ops.softmax(scores), values), 1, 2)
        return ops.reshape(y, (-1, height, width, channels))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("zoo")
class GeneralizedMeanPooling2D(layers.Layer):
    """The mean over all places of x ** p, to the power 1 / p, with p learned: [N, H, W, C] -> [N, C]. At
    p = 1 it is the average, towards infinity the maximum. Values below `epsilon` count as it. Radenovic et
    al., arXiv 1711.02512.
    """

    reference_names: ClassVar[dict[str, str]] = {"power": "p"}

    def __init__(
        self, power: float = 3.0, epsilon: float = 1e-6, keepdims: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self.initial, self.epsilon, self.keepdims = power, epsilon, keepdims

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.Constant(self.initial)
        self.power = self.add_weight(shape=(1,), initializer=start, name="power")

    def call(self, x: Any) -> Any:
        power = ops.cast(self.power, "float32")
        raised = ops.power(ops.maximum(ops.cast(x, "float32"), self.epsilon), power)
        mean = ops.mean(raised, (1, 2), keepdims=self.keepdims)
        return ops.cast(ops.power(mean, 1 / power), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        own = {"power": self.initial, "epsilon": self.epsilon, "keepdims": self.keepdims}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("zoo")
class LocalResponseNormalization(layers.Layer):
    """x / (bias + alpha * sum of squares over the `size` nearest channels) ** beta. AlexNet, section 3.3."""

    def __init__(
        self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, bias: float = 2.0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.size, self.alpha, self.beta, self.bias = size, alpha, beta, bias

    def call(self, x: Any) -> Any:
        channels, reach = x.shape[-1], self.size // 2
        squares = ops.pad(ops.square(x), (*[(0, 0)] * (len(x.shape) - 1), (reach, reach)))
        near = sum(squares[..., i : i + channels] for i in range(self.size))
        return x / ops.power(self.bias + self.alpha * near, self.beta)

    def get_config(self) -> dict[str, Any]:
        own = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "bias": self.bias}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("zoo")
class Blur(layers.Layer):
    """Halves a map [N, H, W, C] after smoothing it by the binomial kernel of 3x3. Zhang, arXiv 1904.11486.

    border: what lies beyond the map, "reflect" or "constant" (zeros).
    """

    strides = (2, 2)

    def __init__(self, border: str = "reflect", **options: Any) -> None:
        super().__init__(**options)
        self.border = border

    def call(self, x: Any) -> Any:
        row = ops.convert_to_tensor([0.25, 0.5, 0.25], x.dtype)
        kernel = ops.broadcast_to(ops.outer(row, row)[:, :, None, None], (3, 3, x.shape[-1], 1))
        wide = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=self.border)
        return ops.depthwise_conv(wide, kernel, self.strides, "valid", data_format="channels_last")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "border": self.border}


@keras.saving.register_keras_serializable("zoo")
class SpaceToDepth(layers.Layer):
    """Patches of size x size pixels become places: [N, H, W, C] -> [N, H / size, W / size, size * size * C].
    H and W must be multiples of the size.
    """

    def __init__(self, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.size = size
        self.strides = (size, size)

    def call(self, x: Any) -> Any:
        _, height, width, channels = ops.shape(x)
        rows, columns = height // self.size, width // self.size
        x = ops.reshape(x, (-1, rows, self.size, columns, self.size * channels))
        return ops.reshape(ops.swapaxes(x, 2, 3), (-1, rows, columns, self.size**2 * channels))

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, height, width, channels = input_shape
        sides = (side if side is None else side // self.size for side in (height, width))
        return (batch, *sides, self.size**2 * channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("zoo")
class Nearest(layers.Layer):
    """Doubles a map [N, h, w, C] to the size of another [N, H, W, D], whose sides may be odd: row i repeats
    row i * h // H, as PyTorch counts; tf.image looks at the places' middles instead.
    """

    strides = (0.5, 0.5)

    def call(self, inputs: Any) -> Any:
        x, other = inputs
        for axis in (1, 2):
            old, new = ops.shape(x)[axis], ops.shape(other)[axis]
            x = ops.take(x, ops.arange(new) * old // new, axis=axis)
        return x

    def compute_output_shape(self, input_shape: Any) -> Any:
        x, other = input_shape
        return (*other[:-1], x[-1])


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

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("zoo")
class WeighNeighbours(layers.Layer):
    """Weights [N, H, W, size * size, G] and a map [N, H, W, C] -> weighted sums [N, H, W, C] over the
    places around every place; channel c takes weight c modulo G.
    """

    def __init__(self, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.size = size

    def call(self, inputs: Any) -> Any:
        weights, x = inputs
        _, height, width, channels = ops.shape(x)
        groups = weights.shape[-1]
        total = 0
        for place, values in enumerate(shifted(x, self.size)):
            shares = ops.reshape(values, (-1, height, width, channels // groups, groups))
            total = total + shares * ops.expand_dims(weights[:, :, :, place], 3)
        return ops.reshape(total, (-1, height, width, channels))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


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


def shifted(x: Any, size: int) -> list[Any]:
    """The map moved to each place of a size x size window, mirrored at the border."""
    _, height, width, _ = ops.shape(x)
    reach = size // 2
    wide = ops.pad(x, [(0, 0), (reach, reach), (reach, reach), (0, 0)], mode="reflect")
    offsets = [(i, j) for i in range(size) for j in range(size)]
    return [wide[:, i : i + height, j : j + width] for i, j in offsets]


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
