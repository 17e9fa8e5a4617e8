"""RegNet. Radosavovic et al., "Designing network design spaces", arXiv 2003.13678.

Five numbers make a network: the width of block j is quantised from `initial + slope * j` to powers of `mult`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, groupby
from typing import Any

import numpy as np

from zoo.architectures import gernet
from zoo.architectures.resnet_tiered import tiered_stem
from zoo.blocks import EvoNet, Net, Tensor, round_channels, smoothed

STEM = 32
EXPAND = 4  # Z's


def regnet(
    net: Net, images: Tensor, *, group: int, attention: bool = False, limit: float = 0, **design: Any
) -> Tensor:
    """RegNetX, and Y with `attention`. Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C].

    group: channels of each group in a 3x3 convolution; limit: see compatible; design: see block_widths.
    """
    x = net.conv_norm_act(images, STEM, 3, "stem.conv", "stem.bn", stride=2)
    return stages(
        net, x, block_widths(**design), group, partial(bottleneck, attention=attention), limit=limit
    )


def regnetv(net: Net, images: Tensor, *, group: int, average: bool = False, **design: Any) -> Tensor:
    """timm's V: Y with pre-activation and SiLU. average: shortcuts average before they project."""
    net = replace(net, activation="silu")
    x = net.conv(images, STEM, 3, "stem", stride=2)
    x = stages(net, x, block_widths(**design), group, partial(preactivated_bottleneck, average=average))
    return net.act(x, "final_conv")


def regnetz(net: Net, images: Tensor, *, group: int, head: int = 0, **design: Any) -> Tensor:
    """Z: inverted bottlenecks without an activation behind them. Dollar et al., "Fast and accurate model
    scaling", arXiv 2103.06877. head: the channels of one more convolution, 0 for none.
    """
    net = replace(net, activation="silu")
    x = net.conv_norm_act(images, STEM, 3, "stem.conv", "stem.bn", stride=2)
    x = stages(net, x, block_widths(**design), group, inverted_bottleneck, expand=EXPAND)
    if head:
        return net.conv_norm_act(x, head, 1, "final_conv.conv", "final_conv.bn")
    return net.act(x, "final_conv")


def regnetz_timm(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    widths: Sequence[int],
    group: int,
    expand: int,
    head: int,
    tiers: Sequence[int] = (),
    evolved: bool = False,
) -> Tensor:
    """timm's B to E: widths by hand, more attention; tiers: the widths of a stem of three convolutions,
    which halves twice; evolved: with norms and activations in one. Images, normalised -> feature map
    [N, H/32, W/32, head].
    """
    net = replace(net, activation="silu")
    net = EvoNet(**vars(net), group=16) if evolved else net
    x = tiered_stem(net, images, widths=tiers) if tiers else net.unit(images, STEM, 3, "stem", 2)
    strides = (1 if tiers else 2, 2, 2, 2)
    block = partial(timm_bottleneck, group=group, expand=expand)
    x = gernet.stages(net, x, depths, widths, strides, [block] * 4)
    return net.unit(x, head, 1, "final_conv")


def timm_bottleneck(
    net: Net,
    x: Tensor,
    width: int,
    stride: int,
    name: str,
    position: float,
    *,
    group: int,
    expand: int,
) -> Tensor:
    y = gernet.inside(net, x, x.shape[-1] * expand, group, stride, name)
    y = net.squeeze_part(y, f"{name}.attn", part=1 / 4, activation="relu")
    y = net.conv_norm(y, width, 1, f"{name}.conv3_1x1.conv", f"{name}.conv3_1x1.bn")
    return y if stride > 1 or x.shape[-1] != width else net.add(x, y, name, position)


def stages(
    net: Net,
    x: Tensor,
    widths: list[int],
    group: int,
    block: Callable[..., Tensor],
    expand: int = 1,
    limit: float = 0,
) -> Tensor:
    """Each width of the design is a stage, which halves the map; expand: how much wider blocks are inside."""
    done = count()
    for stage, (width, blocks) in enumerate(groupby(widths), start=1):
        channels, size = compatible(width, group, expand, limit)
        for i, _ in enumerate(blocks, start=1):
            stride = 2 if i == 1 else 1
            position = next(done) / (len(widths) - 1)
            x = block(net, x, channels, size, stride, f"s{stage}.b{i}", position)
    return x


def bottleneck(
    net: Net, x: Tensor, width: int, group: int, stride: int, name: str, position: float, *, attention: bool
) -> Tensor:
    """A bottleneck that is not narrower inside. The squeeze is a fraction of the channels that come in."""
    y = inside(net, x, width, group, stride, name, attention)
    y = net.conv_norm(y, width, 1, f"{name}.conv3.conv", f"{name}.conv3.bn")
    if stride > 1 or x.shape[-1] != width:
        x = net.conv_norm(x, width, 1, f"{name}.downsample.conv", f"{name}.downsample.bn", stride)
    return net.act(net.add(x, y, name, position), f"{name}.act3")


def inverted_bottleneck(
    net: Net, x: Tensor, width: int, group: int, stride: int, name: str, position: float
) -> Tensor:
    """No shortcut where the shape changes."""
    y = inside(net, x, width * EXPAND, group, stride, name, True)
    y = net.conv_norm(y, width, 1, f"{name}.conv3.conv", f"{name}.conv3.bn")
    return y if stride > 1 or x.shape[-1] != width else net.add(x, y, name, position)


def inside(net: Net, x: Tensor, width: int, group: int, stride: int, name: str, attention: bool) -> Tensor:
    y = net.conv_norm_act(x, width, 1, f"{name}.conv1.conv", f"{name}.conv1.bn")
    y = net.conv(y, width, 3, f"{name}.conv2.conv", stride, groups=width // group)
    y = net.norm_act(y, f"{name}.conv2.bn")
    return squeezed(net, y, x.shape[-1], name) if attention else y


def preactivated_bottleneck(
    net: Net, x: Tensor, width: int, group: int, stride: int, name: str, position: float, *, average: bool
) -> Tensor:
    """The shortcut starts behind the first activation, always."""
    x = net.norm_act(x, f"{name}.norm1")
    y = net.norm_act(net.conv(x, width, 1, f"{name}.conv1"), f"{name}.norm2")
    y = net.conv(y, width, 3, f"{name}.conv2", stride, groups=width // group)
    y = net.norm_act(squeezed(net, y, x.shape[-1], name), f"{name}.norm3")
    y = net.conv(y, width, 1, f"{name}.conv3")
    if average and stride > 1:
        x = smoothed(x, "average", stride, f"{name}.downsample.pool")
        x = net.conv(x, width, 1, f"{name}.downsample.1")
    elif stride > 1 or x.shape[-1] != width:
        x = net.conv(x, width, 1, f"{name}.downsample", stride)
    return net.add(x, y, name, position)


def squeezed(net: Net, y: Tensor, entering: int, name: str) -> Tensor:
    return net.squeeze_excite(y, round(entering / 4), f"{name}.se", convs=("fc1", "fc2"))


def block_widths(initial: int, slope: float, mult: float, depth: int) -> list[int]:
    """Equations 2 to 4 of the paper, then to multiples of 8."""
    linear = initial + slope * np.arange(depth)
    powers = np.round(np.log(linear / initial) / np.log(mult))
    quantised = np.round(initial * mult**powers / 8) * 8
    return [int(width) for width in quantised]


def compatible(width: int, group: int, expand: int, limit: float) -> tuple[int, int]:
    """The nearest width that groups divide inside of the block, with a limit at least that part of it as in
    torchvision, and the channels of a group.
    """
    inner = width * expand
    group = min(group, inner)
    nearest = round_channels(inner, group, limit) if limit else round(inner / group) * group
    return nearest // expand, group
