"""HarDNet. Chao et al., "HarDNet: a low memory traffic network", arXiv 1909.00948."""

from collections.abc import Sequence
from dataclasses import replace

from keras import layers

from zoo.blocks import Net, Tensor, concatenate, max_pool


def hardnet(
    net: Net,
    images: Tensor,
    *,
    stem: int,
    depths: Sequence[Sequence[int]],
    widths: Sequence[Sequence[int]],
    growths: Sequence[Sequence[int]],
    factor: float,
    depthwise: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C].

    depths, widths, growths: layers, output channels and growth rate of every harmonic block, by stages; a
    layer of k links is factor**(k - 1) as wide as the growth rate. dropout: before the last width.
    """
    net = replace(net, activation="relu6")
    x = net.unit(images, stem // 2, 3, "features.init_block.conv1", 2)
    x = net.unit(x, stem, 1 if depthwise else 3, "features.init_block.conv2")
    x = halved(net, x, depthwise, 3, "features.init_block.downsample")
    for stage, blocks in enumerate(zip(depths, widths, growths, strict=True), start=1):
        for unit, (depth, width, growth) in enumerate(zip(*blocks, strict=True), start=1):
            name = f"features.stage{stage}.unit{unit}"
            x = harmonic_block(net, x, depth, growth, factor, depthwise, name)
            last = (stage, unit) == (len(depths), len(depths[-1]))
            x = layers.Dropout(dropout, name=f"{name}.dropout")(x) if dropout and last else x
            x = net.unit(x, width, 1, f"{name}.conv")
        x = halved(net, x, depthwise, 2, f"{name}.downsample") if stage < len(depths) else x
    return x


def harmonic_block(
    net: Net, x: Tensor, depth: int, growth: int, factor: float, depthwise: bool, name: str
) -> Tensor:
    """Layer n sees layers n - 1, n - 2, n - 4, ... as far as these steps divide n: figure 1. What leaves are
    the odd layers and the last.
    """
    layer = pointwise_depthwise if depthwise else convolved
    maps = [x]
    for number in range(1, depth + 1):
        linked = [number - step for step in (1, 2, 4, 8, 16) if number % step == 0]
        width = int(int(growth * factor ** (len(linked) - 1) + 1) / 2) * 2
        sources = [maps[i] for i in linked]
        y = concatenate(sources, f"{name}.blocks.block{number}") if len(sources) > 1 else sources[0]
        maps.append(layer(net, y, width, f"{name}.blocks.block{number}"))
    return concatenate([y for i, y in enumerate(maps) if i % 2 == 1 or i == depth], name)


def convolved(net: Net, x: Tensor, filters: int, name: str) -> Tensor:
    return replace(net, activation="relu").unit(x, filters, 3, name)


def pointwise_depthwise(net: Net, x: Tensor, filters: int, name: str) -> Tensor:
    x = net.unit(x, filters, 1, f"{name}.pw_conv")
    return net.norm(net.depthwise(x, 3, f"{name}.dw_conv.conv"), f"{name}.dw_conv.bn")


def halved(net: Net, x: Tensor, depthwise: bool, kernel: int, name: str) -> Tensor:
    if depthwise:
        return net.norm(net.depthwise(x, 3, f"{name}.conv", 2), f"{name}.bn")
    return max_pool(x, kernel, 2, name, pad=kernel // 2 if kernel > 2 else 0)
