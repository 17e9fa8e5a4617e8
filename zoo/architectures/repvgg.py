"""RepVGG. Ding et al., "Making VGG-style ConvNets great again", arXiv 2101.03697.

This is the network in training; zoo.fuse makes one 3x3 convolution of every block.
"""

from collections.abc import Sequence
from itertools import count

from keras import layers

from zoo.architectures.mobileone import finish
from zoo.blocks import Net, Tensor


def repvgg(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    widths: Sequence[int],
    groups: int = 1,
    attention: bool = False,
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C].

    widths: of the stem, then of each stage. groups: of every second block's convolutions.
    attention: squeeze-and-excitation in front of every activation.
    """
    x = block(net, images, widths[0], 2, "stem", attention=attention)
    number = count(1)
    for stage, (depth, channels) in enumerate(zip(depths, widths[1:], strict=True)):
        for i in range(depth):
            parted = groups if next(number) % 2 == 0 else 1
            stride, name = 2 if i == 0 else 1, f"stages.{stage}.{i}"
            x = block(net, x, channels, stride, name, parted, attention=attention)
    return x


def block(
    net: Net, x: Tensor, channels: int, stride: int, name: str, groups: int = 1, *, attention: bool
) -> Tensor:
    """3x3 + 1x1 + identity, each normalised on its own."""
    branches = [
        net.norm(net.conv(x, channels, kernel, f"{name}.{branch}.conv", stride, groups=groups), norm)
        for kernel, branch, norm in (
            (3, "conv_kxk", f"{name}.conv_kxk.bn"),
            (1, "conv_1x1", f"{name}.conv_1x1.bn"),
        )
    ]
    if stride == 1 and x.shape[-1] == channels:
        branches.append(net.norm(x, f"{name}.identity"))
    x = layers.Add(name=f"{name}.sum")(branches)
    return finish(net, x, name, attention)
