"""RegNet. Radosavovic et al., "Designing network design spaces", arXiv 2003.13678.

Five numbers make a network: the width of block j is quantised from `initial + slope * j` to powers of `mult`.
"""

from itertools import count, groupby

import numpy as np

from zoo.blocks import Net, Tensor

STEM = 32


def regnet(
    net: Net,
    images: Tensor,
    *,
    initial: int,
    slope: float,
    mult: float,
    depth: int,
    group: int,
    attention: bool = False,
) -> Tensor:
    """RegNetX, and Y with `attention`. Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C].

    `group`: channels of each group in a 3x3 convolution.
    """
    x = net.conv_norm_act(images, STEM, 3, "stem.conv", "stem.bn", stride=2)
    done = count()
    for stage, (width, blocks) in enumerate(groupby(block_widths(initial, slope, mult, depth)), start=1):
        channels, size = compatible(width, group)
        for i, _ in enumerate(blocks, start=1):
            stride = 2 if i == 1 else 1
            position = next(done) / (depth - 1)
            x = block(net, x, channels, size, stride, attention, f"s{stage}.b{i}", position)
    return x


def block(
    net: Net, x: Tensor, width: int, group: int, stride: int, attention: bool, name: str, position: float
) -> Tensor:
    """A bottleneck that is not narrower inside. The squeeze is a fraction of the channels that come in."""
    y = net.conv_norm_act(x, width, 1, f"{name}.conv1.conv", f"{name}.conv1.bn")
    y = net.conv(y, width, 3, f"{name}.conv2.conv", stride, groups=width // group)
    y = net.norm_act(y, f"{name}.conv2.bn")
    if attention:
        y = net.squeeze_excite(y, round(x.shape[-1] / 4), f"{name}.se", convs=("fc1", "fc2"))
    y = net.conv_norm(y, width, 1, f"{name}.conv3.conv", f"{name}.conv3.bn")
    if stride > 1 or x.shape[-1] != width:
        x = net.conv_norm(x, width, 1, f"{name}.downsample.conv", f"{name}.downsample.bn", stride)
    return net.act(net.add(x, y, name, position), f"{name}.act3")


def block_widths(initial: int, slope: float, mult: float, depth: int) -> list[int]:
    """Equations 2 to 4 of the paper, then to multiples of 8."""
    linear = initial + slope * np.arange(depth)
    powers = np.round(np.log(linear / initial) / np.log(mult))
    quantised = np.round(initial * mult**powers / 8) * 8
    return [int(width) for width in quantised]


def compatible(width: int, group: int) -> tuple[int, int]:
    """The nearest width that groups divide, and the channels of a group."""
    group = min(group, width)
    return round(width / group) * group, group
