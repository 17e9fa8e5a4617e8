"""Maps of other sizes: pooled, smoothed, flattened."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from keras import layers

from zoo.blocks.channelwise import Tensor
from zoo.layers import Blur, GeneralizedMeanPooling2D, LastWindow, WholeSteps


def average_and_max(x: Tensor, name: str, keepdims: bool) -> Tensor:
    pools = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)
    both = [
        pool(keepdims=keepdims, name=f"{name}.{part}")(x)
        for pool, part in zip(pools, ("avg", "max"), strict=True)
    ]
    return layers.Average(name=name)(both)


POOLINGS: dict[str, Callable[[Tensor, str, bool], Tensor]] = {
    "avg": lambda x, name, keepdims: layers.GlobalAveragePooling2D(keepdims=keepdims, name=name)(x),
    "max": lambda x, name, keepdims: layers.GlobalMaxPooling2D(keepdims=keepdims, name=name)(x),
    "avgmax": average_and_max,
    "gem": lambda x, name, keepdims: GeneralizedMeanPooling2D(keepdims=keepdims, name=name)(x),
}


SMOOTHINGS: dict[str, Callable[..., Any]] = {
    "average": partial(layers.AveragePooling2D, 2, 2, "same"),
    "blur": Blur,
    "blur_zeros": partial(Blur, border="constant"),
}


def smoothed(x: Tensor, smooth: str, stride: int, name: str) -> Tensor:
    """What takes the place of a stride of 2, so that less depends on where an object stands: a key of
    SMOOTHINGS, or "" where the stride is taken. Zhang, arXiv 1904.11486.
    """
    return SMOOTHINGS[smooth](name=name)(x) if smooth and stride > 1 else x


def max_pool(x: Tensor, kernel: int, stride: int, name: str, pad: int = 0, ceil: bool = False) -> Tensor:
    """A max pool of a map that is nowhere negative (after a ReLU), so that its border may be zeros.

    ceil keeps the last, incomplete window, as torch's ceil_mode does.
    """
    x = layers.ZeroPadding2D(pad, name=f"{name}.pad")(x) if pad else x
    x = LastWindow(kernel, stride, name=f"{name}.pad_end")(x) if ceil else x
    return layers.MaxPooling2D(kernel, stride, name=name)(x)


def max_pool_blurred(x: Tensor, name: str) -> Tensor:
    """A 3x3 max pool at every place, blurred to every other one. Zhang, arXiv 1904.11486."""
    return Blur(name=name)(layers.MaxPooling2D(3, 1, "same", name=f"{name}.max")(x))


def max_pool_signed(x: Tensor, name: str) -> Tensor:
    """A 3x3 max pool, at every other place, of a map that may be negative: its border must not be zeros, so
    that it is taken at every place first.
    """
    x = layers.MaxPooling2D(3, 1, "same", name=f"{name}.max")(x)
    return layers.MaxPooling2D(1, 2, name=name)(x)


def flatten(x: Tensor, name: str) -> Tensor:
    """[N, H, W, C] -> [N, C * H * W]: channels first, as the linear layers of the references were trained."""
    return layers.Flatten(name=name)(layers.Permute((3, 1, 2), name=f"{name}.channels_first")(x))


def average_around(x: Tensor, name: str, stride: int = 1, *, count_border: bool = False) -> Tensor:
    """The mean of the 3x3 neighbourhood of every place, or every other one. Beyond the border are zeros,
    which count or not.
    """
    if count_border:
        x = layers.ZeroPadding2D(1, name=f"{name}.pad")(x)
    return layers.AveragePooling2D(3, stride, "valid" if count_border else "same", name=name)(x)


def whole_steps(images: Tensor, step: int) -> Tensor:
    """The pictures, for networks that join maps of several sizes: ZooError unless the sides are multiples of
    the step, now or, where they are not known yet, when a picture comes.
    """
    checked = WholeSteps(step, name="whole_steps")
    checked.require(images)
    return checked(images) if None in images.shape[1:3] else images
