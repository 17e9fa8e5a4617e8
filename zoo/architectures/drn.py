"""Dilated residual networks. Yu et al., "Dilated residual networks", arXiv 1705.09914: maps stay at an eighth
of the picture, dilation sees as far as strides did; layers without shortcuts at the end smooth the grid that
dilation leaves (DRN-C), and plain ones at the start leave less of it (DRN-D).
"""

from collections.abc import Sequence

from keras import layers

from zoo.blocks import Net, Tensor

PLANES = (16, 32, 64, 128, 256, 512, 512, 512)
STRIDES = (1, 2, 2, 2, 1, 1, 1, 1)
DILATIONS = (1, 1, 1, 1, 2, 4, 2, 1)
MIDDLE = range(2, 6)  # the levels with bottlenecks, where there are any


def drn(net: Net, images: Tensor, *, depths: Sequence[int], bottlenecks: bool, plain: bool) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/8, W/8, 512].

    depths: blocks of the eight levels; plain: DRN-D, whose first and last levels are single convolutions.
    """
    x = net.unit(images, PLANES[0], 7, "features.init_block")
    stage, unit = 1, 0
    for level, depth in enumerate(depths):
        for i in range(depth):
            stride = STRIDES[level] if i == 0 else 1
            stage, unit = (stage + 1, 1) if stride > 1 else (stage, unit + 1)
            name = f"features.stage{stage}.unit{unit}"
            block = single if plain and level not in MIDDLE else basic
            block = bottleneck if bottlenecks and level in MIDDLE else block
            y = block(net, x, PLANES[level], stride, DILATIONS[level], f"{name}.body")
            if level in MIDDLE or (level < MIDDLE.start and not plain):
                y = layers.Add(name=f"{name}.add")([shortcut(net, x, y, stride, name), y])
            x = net.act(y, f"{name}.act")
    return x


def shortcut(net: Net, x: Tensor, y: Tensor, stride: int, name: str) -> Tensor:
    if stride == 1 and x.shape[-1] == y.shape[-1]:
        return x
    name = f"{name}.identity_conv"
    return net.conv_norm(x, y.shape[-1], 1, f"{name}.conv", f"{name}.bn", stride)


def single(net: Net, x: Tensor, planes: int, stride: int, dilation: int, name: str) -> Tensor:
    return net.norm(net.conv(x, planes, 3, f"{name}.conv", stride, dilation=dilation), f"{name}.bn")


def basic(net: Net, x: Tensor, planes: int, stride: int, dilation: int, name: str) -> Tensor:
    y = net.act(single(net, x, planes, stride, dilation, f"{name}.conv1"), f"{name}.conv1.act")
    return single(net, y, planes, 1, dilation, f"{name}.conv2")


def bottleneck(net: Net, x: Tensor, planes: int, stride: int, dilation: int, name: str) -> Tensor:
    y = net.unit(x, planes, 1, f"{name}.conv1")
    y = net.act(single(net, y, planes, stride, dilation, f"{name}.conv2"), f"{name}.conv2.act")
    return net.conv_norm(y, 4 * planes, 1, f"{name}.conv3.conv", f"{name}.conv3.bn")
