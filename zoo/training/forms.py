"""The same layers in the forms that a device trains fastest: the same numbers, up to rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial, reduce
from typing import Any

import keras
from keras import layers, ops

from zoo.training.device import has, on_tensorflow_cpu

# The method that a form stands for, and what makes the form of a layer: None where it does not fit.
Form = tuple[str, Callable[[keras.layers.Layer], Callable[..., Any] | None]]


def fastest_forms() -> tuple[Form, ...]:
    if on_tensorflow_cpu():
        return (POINTWISE_PRODUCTS, SUMMED_BIASES, FUSED_NORMS, COPIED_CUTS)
    if keras.backend.backend() == "jax" and has("gpu"):
        return (ONE_PASS_STATISTICS, FOLDED_STEM, POOLS_OF_MAXIMA)
    return ()


@contextmanager
def computed_as(model: keras.Model, forms: Iterable[Form]) -> Iterator[None]:
    """The model with its layers in these forms; afterwards it is a plain one again."""
    changed = [
        (layer, method, made)
        for method, form in forms
        for layer in model.layers
        if (made := form(layer)) is not None
    ]
    for layer, method, made in changed:
        setattr(layer, method, made)
    try:
        yield
    finally:
        for layer, method, _ in changed:
            delattr(layer, method)


def pointwise_product(layer: keras.layers.Layer) -> Callable[..., Any] | None:
    """A 1x1 convolution as a matrix product: TensorFlow's gradient of such a convolution goes picture by
    picture on a CPU, and takes up to nine times as long where maps are small.
    """
    plain = type(layer) is layers.Conv2D and layer.groups == 1
    return _product if plain and {*layer.kernel_size, *layer.strides} == {1} else None


def _product(inputs: Any, kernel: Any) -> Any:
    pixels = ops.reshape(inputs, (-1, inputs.shape[-1]))
    shape = (*ops.shape(inputs)[:-1], kernel.shape[-1])
    return ops.reshape(ops.matmul(pixels, kernel[0, 0]), shape)


def summed_bias(layer: keras.layers.Layer) -> Callable[..., Any] | None:
    """A bias, of a layer that computes in half precision, as the first of two numbers to add: Keras makes of
    the second a BiasAdd, whose gradient TensorFlow adds up in half precision on a CPU, up to a half too
    little on maps of 56 x 56. That of a plain sum is right.
    """
    biased = type(layer) in (layers.Dense, layers.Conv2D, layers.DepthwiseConv2D) and layer.use_bias
    fits = biased and getattr(layer, "data_format", "channels_last") == "channels_last"
    return partial(_summed_bias, layer) if fits and layer.compute_dtype != "float32" else None


def _summed_bias(layer: Any, inputs: Any, training: bool | None = None) -> Any:
    """inputs: [..., C], of the layer's type."""
    if type(layer) is layers.Dense:
        x = ops.matmul(inputs, layer.kernel)
    elif type(layer) is layers.DepthwiseConv2D:
        how = (layer.strides, layer.padding, layer.data_format, layer.dilation_rate)
        x = ops.depthwise_conv(inputs, layer.kernel, *how)
    else:
        x = layer.convolution_op(inputs, layer.kernel)
    return layer.activation(ops.add(layer.bias, x))


def fused_norm(layer: keras.layers.Layer) -> Callable[..., Any] | None:
    """A norm over the batch as TensorFlow's one operation, and its gradient as another: Keras has a dozen
    that read the map each, which is a fifth of ResNet-50's step on a CPU.
    """
    plain = type(layer) is layers.BatchNormalization and not (layer.renorm or layer.synchronized)
    fits = plain and len(layer.input.shape) == 4 and layer.axis in (-1, 3)
    return partial(_fused_norm, layer) if fits else None


def _fused_norm(layer: Any, inputs: Any, training: bool | None = None, mask: None = None) -> Any:
    """inputs: [N, H, W, C]; masks are for sequences."""
    if not (training and layer.trainable):
        return type(layer).call(layer, inputs, training=training)
    import tensorflow as tf

    channels, momentum = inputs.shape[-1], layer.momentum
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=ops.cast(inputs, "float32"),
        scale=ops.cast(layer.gamma, "float32") if layer.scale else tf.ones(channels),
        offset=ops.cast(layer.beta, "float32") if layer.center else tf.zeros(channels),
        mean=[],
        variance=[],
        epsilon=layer.epsilon,
    )
    count = ops.cast(ops.size(inputs) // channels, "float32")
    biased = variance * (count - 1) / count  # as Keras has it; TensorFlow divides by one less
    layer.moving_mean.assign(layer.moving_mean * momentum + mean * (1 - momentum))
    layer.moving_variance.assign(layer.moving_variance * momentum + biased * (1 - momentum))
    return ops.cast(y, layer.compute_dtype)


def copied_cut(layer: keras.layers.Layer) -> Callable[..., Any] | None:
    """Some of the channels as a slice, whose gradient is padded; that of a crop is assigned a number at a
    time, which is two fifths of MixNet-S's step on a CPU.
    """
    of_channels = type(layer) is layers.Cropping2D and layer.data_format == "channels_first"
    fits = of_channels and layer.cropping[0] == (0, 0)
    return partial(_copied_cut, crop=layer.cropping[1]) if fits else None


def _copied_cut(x: Any, crop: tuple[int, int]) -> Any:
    before, after = crop
    return ops.slice(x, (0, 0, 0, before), (-1, -1, -1, x.shape[-1] - before - after))


def one_pass_statistics(layer: keras.layers.Layer) -> Callable[..., Any] | None:
    """Mean and variance of a batch from the sums of x and of its squares: Keras's variance on JAX waits for
    the mean and reads the map once more, which is a tenth of ResNet-50's step on an H100.
    """
    fits = type(layer) is layers.BatchNormalization and layer.axis in (-1, len(layer.input.shape) - 1)
    return _mean_and_variance if fits else None


def _mean_and_variance(x: Any, mask: None) -> tuple[Any, Any]:
    """x: float32 [..., C], as the layer has cast it; masks are for sequences."""
    places = list(range(len(x.shape) - 1))
    mean = ops.mean(x, places)
    return mean, ops.maximum(ops.mean(ops.square(x), places) - ops.square(mean), 0)


def folded_stem(layer: keras.layers.Layer) -> Callable[..., Any] | None:
    """A strided first convolution over squares of 2 x 2 pixels, whose colours are 12 channels beside 4 empty
    ones: cuDNN is slow on maps of three channels.
    """
    fits = (
        type(layer) is layers.Conv2D
        and (layer.strides, layer.padding, layer.groups, layer.dilation_rate) == ((2, 2), "valid", 1, (1, 1))
        and layer.input.shape[-1] == 3
        and None not in layer.input.shape[1:]
    )
    return _folded_convolution if fits else None


def _folded_convolution(inputs: Any, kernel: Any) -> Any:
    """inputs: [N, H, W, 3]; kernel: [h, w, 3, C], already of their type."""
    across = [-(-size // 2) for size in kernel.shape[:2]]
    sides = zip(inputs.shape[1:3], kernel.shape[:2], across, strict=True)
    covered = [(side - size) // 2 + squares for side, size, squares in sides]
    filters = _squares(ops.transpose(kernel, (3, 0, 1, 2)), across)
    kernel = ops.transpose(filters, (1, 2, 3, 0))
    return ops.conv(_squares(inputs, covered), kernel, padding="valid", data_format="channels_last")


def _squares(x: Any, counts: list[int]) -> Any:
    """[N, H, W, 3] -> [N, rows, columns, 16]; pixels beyond the counts are left out, missing ones are 0."""
    rows, columns = counts
    missing = [(0, max(2 * count - side, 0)) for count, side in zip(counts, x.shape[1:3], strict=True)]
    x = ops.pad(x[:, : 2 * rows, : 2 * columns], [(0, 0), *missing, (0, 0)])
    x = ops.transpose(ops.reshape(x, (-1, rows, 2, columns, 2, 3)), (0, 1, 3, 2, 4, 5))
    return ops.pad(ops.reshape(x, (-1, rows, columns, 12)), [(0, 0), (0, 0), (0, 0), (0, 4)])


def pool_of_maxima(layer: keras.layers.Layer) -> Callable[..., Any] | None:
    """A max pool as the maximum of shifted maps, over rows and then over columns: XLA's gradient of its own
    is a scatter. Where two pixels are both the greatest, each gets half of the gradient.
    """
    fits = type(layer) is layers.MaxPooling2D and layer.padding == "valid"
    return partial(_maxima, sizes=layer.pool_size, strides=layer.strides) if fits else None


def _maxima(x: Any, sizes: tuple[int, int], strides: tuple[int, int]) -> Any:
    for axis, size, stride in zip((1, 2), sizes, strides, strict=True):
        end = x.shape[axis] - size + 1
        x = reduce(ops.maximum, (_every(x, axis, i, i + end, stride) for i in range(size)))
    return x


def _every(x: Any, axis: int, start: int, stop: int, step: int) -> Any:
    return x[:, start:stop:step] if axis == 1 else x[:, :, start:stop:step]


POINTWISE_PRODUCTS: Form = ("convolution_op", pointwise_product)
SUMMED_BIASES: Form = ("call", summed_bias)
FUSED_NORMS: Form = ("call", fused_norm)
COPIED_CUTS: Form = ("call", copied_cut)
ONE_PASS_STATISTICS: Form = ("_moments", one_pass_statistics)
FOLDED_STEM: Form = ("convolution_op", folded_stem)
POOLS_OF_MAXIMA: Form = ("call", pool_of_maxima)
