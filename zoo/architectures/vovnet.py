"""VoVNet. Lee et al., "An energy and GPU-computation efficient backbone network for real-time object
detection", arXiv 1904.09730; V2: Lee and Park, "CenterMask", arXiv 1911.06667.

One-shot aggregation: a chain of convolutions whose maps are joined once, at its end.
"""

from collections.abc import Sequence
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor, concatenate, max_pool

INNER = (128, 160, 192, 224)
CHANNELS = (256, 512, 768, 1024)


def vovnet(net: Net, images: Tensor, *, depths: Sequence[int], slim: int = 1) -> Tensor:
    """Images, normalised -> feature map [N, H/32, W/32, 1024 / slim]. slim: the divisor of all widths behind
    the stem. A block that keeps its map has a shortcut.
    """
    x = stem(net, images, separable=False)
    for stage, depth in enumerate(depths):
        name = f"stages.{stage}"
        x = max_pool(x, 3, 2, f"{name}.pool", ceil=True) if stage else x
        for i in range(depth):
            block = f"{name}.blocks.{i}"
            y = aggregation(net, x, INNER[stage] // slim, CHANNELS[stage] // slim, 5, block, separable=False)
            x = layers.Add(name=f"{block}.add")([x, y]) if i else y
    return x


def vovnetv2(
    net: Net, images: Tensor, *, depths: Sequence[int], length: int, separable: bool = False
) -> Tensor:
    """Images, normalised -> feature map [N, H/32, W/32, 1024]. `length` convolutions in a block's chain."""
    done, last = count(), sum(depths) - 1
    x = stem(net, images, separable)
    for stage, depth in enumerate(depths):
        name = f"stages.{stage}"
        x = max_pool(x, 3, 2, f"{name}.pool", ceil=True) if stage else x
        for i in range(depth):
            block = f"{name}.blocks.{i}"
            y = aggregation(net, x, INNER[stage], CHANNELS[stage], length, block, separable)
            y = net.excite(y, f"{block}.attn", gate="hard_sigmoid") if i == depth - 1 else y
            position = next(done) / last
            x = net.add(x, y, block, position) if i else y
    return x


def stem(net: Net, x: Tensor, separable: bool) -> Tensor:
    convolve = separable_unit if separable else unit
    x = unit(net, x, 64, "stem.0", 2)
    x = convolve(net, x, 64, "stem.1")
    return convolve(net, x, 64 if separable else 128, "stem.2", 2)


def unit(net: Net, x: Tensor, filters: int, name: str, stride: int = 1) -> Tensor:
    return net.unit(x, filters, 3, name, stride)


def separable_unit(net: Net, x: Tensor, filters: int, name: str, stride: int = 1) -> Tensor:
    y = net.depthwise(x, 3, f"{name}.conv_dw", stride)
    return net.norm_act(net.conv(y, filters, 1, f"{name}.conv_pw"), f"{name}.bn")


def aggregation(
    net: Net, x: Tensor, inner: int, channels: int, length: int, name: str, separable: bool
) -> Tensor:
    convolve = separable_unit if separable else unit
    maps = [x]
    y = net.unit(x, inner, 1, f"{name}.conv_reduction") if separable and x.shape[-1] != inner else x
    for i in range(length):
        y = convolve(net, y, inner, f"{name}.conv_mid.{i}")
        maps.append(y)
    return net.unit(concatenate(maps, f"{name}.conv_mid"), channels, 1, f"{name}.conv_concat")
