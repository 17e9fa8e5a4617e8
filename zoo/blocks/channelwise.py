"""Channels joined, split, dealt, weighed and counted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from keras import layers

from zoo.layers import Regroup

Tensor = Any


def concatenate(branches: list[Tensor], name: str) -> Tensor:
    """Their channels beside each other, in this order."""
    return layers.Concatenate(name=f"{name}.cat")(branches)


def channels(x: Tensor, start: int, stop: int, name: str) -> Tensor:
    """Some of the channels, by a stock layer: cropped as if rows and columns came last."""
    crop = ((0, 0), (start, x.shape[-1] - stop))
    return layers.Cropping2D(crop, data_format="channels_first", name=name)(x)


def split(x: Tensor, sizes: Sequence[int], name: str) -> list[Tensor]:
    """So many of the channels each, in their order."""
    ends = pairwise(accumulate(sizes, initial=0))
    return [channels(x, start, stop, f"{name}.{i}") for i, (start, stop) in enumerate(ends)]


def parts(x: Tensor, count: int, name: str) -> list[Tensor]:
    """Equal parts of the channels, in their order."""
    return split(x, [x.shape[-1] // count] * count, name) if count > 1 else [x]


def gated(x: Tensor, logits: Tensor, gate: str, name: str) -> Tensor:
    """Every channel times what the gate makes of its logit, [N, 1, 1, C]."""
    weights = layers.Activation(gate, name=f"{name}.gate")(logits)
    return layers.Multiply(name=f"{name}.scale")([x, weights])


def pad_channels(x: Tensor, count: int, name: str) -> Tensor:
    """Zeros behind the channels, up to the count, for a shortcut into a wider map."""
    missing = ((0, 0), (0, count - x.shape[-1]))
    return layers.ZeroPadding2D(missing, data_format="channels_first", name=name)(x) if missing[1][1] else x


def shuffle(x: Tensor, groups: int, name: str) -> Tensor:
    """Deal the channels of each group to all groups. Zhang et al., arXiv 1707.01083."""
    channels = x.shape[-1]
    x = Regroup((groups, channels // groups), name=f"{name}.groups")(x)
    x = layers.Permute((1, 2, 4, 3), name=f"{name}.deal")(x)
    return Regroup((channels,), name=name)(x)


def select(branches: list[Tensor], logits: Tensor, name: str, groups: int = 1) -> Tensor:
    """Maps [N, H, W, C] -> their sum, where each channel's weights are a softmax over the branches.

    logits: [N, 1, 1, groups * branches * C / groups], in that order.
    """
    count, channels = len(branches), branches[0].shape[-1]
    gates = layers.Reshape((groups, count, channels // groups), name=f"{name}.logits")(logits)
    gates = layers.Softmax(axis=2, name=f"{name}.softmax")(gates)
    gates = layers.Permute((2, 1, 3), name=f"{name}.by_branch")(gates)
    gates = layers.Reshape((1, 1, count * channels), name=f"{name}.gates")(gates)
    pairs = zip(branches, parts(gates, count, f"{name}.gate"), strict=True)
    weighted = [layers.Multiply(name=f"{name}.weighted.{i}")([x, gate]) for i, (x, gate) in enumerate(pairs)]
    return layers.Add(name=f"{name}.sum")(weighted)


def round_channels(channels: float, divisor: int = 8, limit: float = 0.9) -> int:
    """To the nearest multiple of the divisor, but never below the limit's part of the channels. Howard et
    al., arXiv 1704.04861, as released.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < limit * channels else rounded
