"""MixNet. Tan and Le, "MixConv: mixed depthwise convolutional kernels", arXiv 1907.09595."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from zoo.blocks import Net, Tensor, concatenate, round_channels, split
from zoo.blocks.mobile import Stage, Stages, attend, expanded, network, scaled, separable


def mixnet_s(net: Net, images: Tensor) -> Tensor:
    """Images, normalised -> feature map [N, H/32, W/32, 1536]."""
    return network(net, images, 16, SMALL, 1536)


def mixnet_m(net: Net, images: Tensor, *, width: float, depth: int = 3) -> Tensor:
    """M, L and XL: depth is how often a stage repeats its second kind of block.

    Images, normalised -> feature map [N, H/32, W/32, 1536].
    """
    return network(net, images, round_channels(24 * width), scaled(medium(depth), width), 1536)


def mixed_residual(
    net: Net, x: Tensor, stage: Stage, name: str, *, kernels: Sequence[int], parts: tuple[int, int]
) -> Tensor:
    """An inverted residual whose depthwise convolution has kernels of several sizes, each for a part of the
    channels; expansion and projection may be made in parts, too.
    """
    expansion, projection = parts
    y = mixed(x, expanded(x, stage), [1] * expansion, net.conv, f"{name}.conv_pw")
    y = net.norm_act(y, f"{name}.bn1")
    y = mixed(y, y.shape[-1], kernels, partial(depthwise, net, stride=stage.stride), f"{name}.conv_dw")
    y = attend(net, net.norm_act(y, f"{name}.bn2"), x, stage, name)
    y = mixed(y, stage.channels, [1] * projection, net.conv, f"{name}.conv_pwl")
    return net.norm(y, f"{name}.bn3")


def mixed(x: Tensor, filters: int, kernels: Sequence[int], conv: Callable[..., Tensor], name: str) -> Tensor:
    """conv(part, filters, kernel, name) of each part of the channels."""
    count = len(kernels)
    if count == 1:
        return conv(x, filters, kernels[0], name)
    pieces = split(x, shares(x.shape[-1], count), f"{name}.split")
    convolved = zip(pieces, shares(filters, count), kernels, strict=True)
    return concatenate([conv(*each, f"{name}.{i}") for i, each in enumerate(convolved)], name)


def depthwise(net: Net, x: Tensor, _: int, kernel: int, name: str, *, stride: int) -> Tensor:
    return net.depthwise(x, kernel, name, stride)


def shares(count: int, parts: int) -> list[int]:
    """Equal ones; what is left over is the first one's."""
    rest = [count // parts] * (parts - 1)
    return [count - sum(rest), *rest]


def row(
    kernels: Sequence[int],
    channels: int,
    depth: int,
    stride: int,
    expand: int,
    squeeze: float = 0,
    parts: tuple[int, int] = (1, 1),
) -> Stage:
    """`squeeze`: the attention's part of the channels that enter; with it, the block is of swish."""

    def attention(net: Net, y: Tensor, entering: int, name: str) -> Tensor:
        return net.squeeze_excite(y, int(entering * squeeze), name)

    block = partial(mixed_residual, kernels=kernels, parts=parts)
    stage = Stage(block, max(kernels), channels, depth, stride, expand)
    return replace(stage, attention=attention, activation="silu") if squeeze else stage


SMALL: Stages = [
    Stage(separable, 3, 16),
    (row([3], 24, 1, 2, 6, parts=(2, 2)), row([3], 24, 1, 1, 3, parts=(2, 2))),
    (row([3, 5, 7], 40, 1, 2, 6, 0.5), row([3, 5], 40, 3, 1, 6, 0.5, (2, 2))),
    (row([3, 5, 7], 80, 1, 2, 6, 0.25, (1, 2)), row([3, 5], 80, 2, 1, 6, 0.25, (1, 2))),
    (row([3, 5, 7], 120, 1, 1, 6, 0.5, (2, 2)), row([3, 5, 7, 9], 120, 2, 1, 3, 0.5, (2, 2))),
    (row([3, 5, 7, 9, 11], 200, 1, 2, 6, 0.5), row([3, 5, 7, 9], 200, 2, 1, 6, 0.5, (1, 2))),
]


def medium(depth: int) -> Stages:
    return [
        Stage(separable, 3, 24),
        (row([3, 5, 7], 32, 1, 2, 6, parts=(2, 2)), row([3], 32, 1, 1, 3, parts=(2, 2))),
        (row([3, 5, 7, 9], 40, 1, 2, 6, 0.5), row([3, 5], 40, depth, 1, 6, 0.5, (2, 2))),
        (row([3, 5, 7], 80, 1, 2, 6, 0.25), row([3, 5, 7, 9], 80, depth, 1, 6, 0.25, (2, 2))),
        (row([3], 120, 1, 1, 6, 0.5), row([3, 5, 7, 9], 120, depth, 1, 3, 0.5, (2, 2))),
        (row([3, 5, 7, 9], 200, 1, 2, 6, 0.5), row([3, 5, 7, 9], 200, depth, 1, 6, 0.5, (1, 2))),
    ]
