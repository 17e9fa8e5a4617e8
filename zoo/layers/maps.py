"""Other sizes of a map: smoothed and halved, dealt to channels, stretched; and a map of its channels."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import layers, ops

from zoo.errors import ZooError


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
class WholeSteps(layers.Layer):
    """Pictures [N, H, W, C] as they are. Raises ZooError where a side is known and is no multiple of the
    step.
    """

    def __init__(self, step: int, **options: Any) -> None:
        super().__init__(**options)
        self.step = step

    def call(self, x: Any) -> Any:
        self.require(x)
        return x

    def require(self, x: Any) -> None:
        height, width = x.shape[1:3]
        if (height or 0) % self.step or (width or 0) % self.step:
            raise ZooError(
                f"the network needs pictures whose sides are multiples of {self.step} pixels, not "
                f"{(height, width)}; resize or pad them"
            )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "step": self.step}


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
    """Stretches a map [N, h, w, C] to the size of another [N, H, W, D], of any sides: row i repeats row
    i * h // H, as PyTorch counts; tf.image looks at the places' middles instead.
    """

    sides_of = 1

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
class FirstPlaces(layers.Layer):
    """The first rows and columns of a map [N, h, w, C], as many as another [N, H, W, D] has."""

    sides_of = 1

    def call(self, inputs: Any) -> Any:
        x, other = inputs
        _, height, width, _ = ops.shape(other)
        return x[:, :height, :width]

    def compute_output_shape(self, input_shape: Any) -> Any:
        x, other = input_shape
        return (*other[:-1], x[-1])


@keras.saving.register_keras_serializable("zoo")
class AdaptiveAverage(layers.Layer):
    """The means of a map's parts, as many as size = (h, w) says and cut as PyTorch cuts them, so that a small
    map is stretched: [N, H, W, C], of any sides, -> [N, h, w, C]. Keras's own needs to know the sides.

    at_least: sides that are longer stay as they are.
    """

    def __init__(self, size: tuple[int, int], at_least: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.size, self.at_least = tuple(size), at_least

    def call(self, x: Any) -> Any:
        if None not in x.shape[1:3] and tuple(x.shape) == self.compute_output_shape(tuple(x.shape)):
            return x
        pairs = zip(self.size, ops.shape(x)[1:3], strict=True)
        rows, columns = (_shares(self._count(parts, side), side, x.dtype) for parts, side in pairs)
        return ops.swapaxes(ops.matmul(rows, ops.swapaxes(ops.matmul(columns, x), 1, 2)), 1, 2)

    def _count(self, parts: int, side: Any) -> Any:
        if not self.at_least:
            return parts
        return side and max(parts, side) if isinstance(side, int | None) else ops.maximum(parts, side)

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, *sides, channels = input_shape
        return (batch, *map(self._count, self.size, sides), channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "at_least": self.at_least}


def _shares(parts: Any, side: Any, dtype: Any) -> Any:
    """[parts, side]: what each place adds to the mean of each part."""
    part, place = ops.arange(parts)[:, None], ops.arange(side)
    # Nothing negative is divided: ONNX rounds that up.
    first, end = part * side // parts, ((part + 1) * side + parts - 1) // parts
    return ops.cast((place >= first) & (place < end), dtype) / ops.cast(end - first, dtype)


@keras.saving.register_keras_serializable("zoo")
class Regroup(layers.Layer):
    """Another order of what each place has, a Reshape of all but the sides, which may be any: [N, H, W, ...]
    -> [N, H, W, *groups].
    """

    def __init__(self, groups: tuple[int, ...], **options: Any) -> None:
        super().__init__(**options)
        self.groups = tuple(groups)

    def call(self, x: Any) -> Any:
        height, width = ops.shape(x)[1:3]
        return ops.reshape(x, (-1, height, width, *self.groups))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:3], *self.groups)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups}


@keras.saving.register_keras_serializable("zoo")
class LastWindow(layers.Layer):
    """The zeros behind a map [N, H, W, C] that its last windows lack, of kernel x kernel at every stride-th
    place. Where the sides are not known, as many as could be: windows that are complete do not see them.
    """

    def __init__(self, kernel: int, stride: int, **options: Any) -> None:
        super().__init__(**options)
        self.kernel, self.stride = kernel, stride

    def call(self, x: Any) -> Any:
        ends = [self.stride - 1 if side is None else self._missing(side) for side in x.shape[1:3]]
        return ops.pad(x, ((0, 0), *((0, end) for end in ends), (0, 0))) if any(ends) else x

    def _missing(self, side: int) -> int:
        return (self.kernel - side) % self.stride

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, *sides, channels = input_shape
        return (batch, *(side and side + self._missing(side) for side in sides), channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel": self.kernel, "stride": self.stride}


@keras.saving.register_keras_serializable("zoo")
class HalvingBorder(layers.Layer):
    """The zeros that windows of 3x3 at every other place need around a map [N, H, W, C] to see all of it, as
    TensorFlow lays them: one behind each side, and one before it where it is odd.
    """

    def call(self, x: Any) -> Any:
        sides = ops.shape(x)[1:3]
        return ops.pad(x, ((0, 0), *((side % 2, 1) for side in sides), (0, 0)))

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, *sides, channels = input_shape
        return (batch, *(side and side + side % 2 + 1 for side in sides), channels)


@keras.saving.register_keras_serializable("zoo")
class AcrossChannels(layers.Layer):
    """The greatest value of every place and their mean: maps [N, H, W, C] -> [N, H, W, 2]. Woo et al., arXiv
    1807.06521, section 3.
    """

    def call(self, x: Any) -> Any:
        return ops.concatenate(
            [ops.max(x, axis=-1, keepdims=True), ops.mean(x, axis=-1, keepdims=True)], axis=-1
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], 2)


@keras.saving.register_keras_serializable("zoo")
class Grey(layers.Layer):
    """The luminance of ITU-R BT.601: maps [N, H, W, 3] of red, green and blue -> [N, H, W, 1]."""

    def call(self, x: Any) -> Any:
        return ops.sum(x * ops.array((0.299, 0.587, 0.114), x.dtype), axis=-1, keepdims=True)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], 1)


@keras.saving.register_keras_serializable("zoo")
class PairSum(layers.Layer):
    """Sums of neighbouring channels: maps [N, H, W, C] -> [N, H, W, C / 2]. Sun et al., arXiv 1901.03495."""

    def call(self, x: Any) -> Any:
        return x[..., ::2] + x[..., 1::2]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] // 2)


@keras.saving.register_keras_serializable("zoo")
class SelectChannels(layers.Layer):
    """Some of the channels, in an order that was learned: maps [N, H, W, C] -> [N, H, W, count]. A fresh one
    takes the first. Huang et al., arXiv 1711.09224, figure 4.
    """

    reference_names: ClassVar[dict[str, str]] = {"index": "index"}

    def __init__(self, count: int, **options: Any) -> None:
        super().__init__(**options)
        self.count = count

    def build(self, input_shape: Any) -> None:
        self.index = self.add_weight(
            shape=(self.count,), initializer=_in_order, dtype="int32", trainable=False, name="index"
        )

    def call(self, x: Any) -> Any:
        return ops.take(x, self.index, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.count)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.count}


def _in_order(shape: Any, dtype: Any) -> Any:
    return ops.arange(shape[0], dtype=dtype)
