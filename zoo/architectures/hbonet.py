"""HBONet. Li et al., "HBONet: Harmonious bottleneck on two orthogonal dimensions", arXiv 1908.03888: places
get fewer before channels get more, and both go back. Layers are named as in the authors' release.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor, concatenate, round_channels, whole_steps
from zoo.blocks.channelwise import channels

# Channels, how many blocks, and the stride of the first one.
HARMONIOUS = ((36, 1, 1), (72, 3, 2), (96, 4, 2), (192, 4, 2), (288, 1, 1))
INVERTED = ((200, 2, 2), (400, 1, 1))
HEAD = 1600


def hbonet(
    net: Net, images: Tensor, *, width: float, divisor: int = 8, halvings: Sequence[int] = (1, 1, 1, 1, 1)
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 1600]. divisor: of all channels;
    halvings: of the sides, within the blocks of each harmonious stage. Raises ZooError unless H and W are
    multiples of 32.
    """

    def wide(base: int) -> int:
        return round_channels(base * width, divisor)

    net = replace(net, activation="relu6")
    images = whole_steps(images, 32)
    names = (f"features.{i}" for i in count())
    name = next(names)
    x = net.act(net.conv_norm(images, wide(32), 3, f"{name}.0", f"{name}.1", 2), f"{name}.2")
    x = inverted_residual(net, x, wide(20), 1, 1, next(names))
    for (base, depth, stride), halved in zip(HARMONIOUS, halvings, strict=True):
        for i in range(depth):
            x = harmonious(net, x, wide(base), 1 if i else stride, halved, next(names))
    x = pointwise(net, x, wide(144), next(names), 0)
    for base, depth, stride in INVERTED:
        for i in range(depth):
            x = inverted_residual(net, x, wide(base), 1 if i else stride, 6, next(names))
    return net.act(pointwise(net, x, HEAD, "conv", 0), "conv.2")


def harmonious(net: Net, x: Tensor, width: int, stride: int, halvings: int, name: str) -> Tensor:
    """Half of the output is made by a bottleneck of places around an inverted one of channels; the other half
    are the last channels that come in.
    """
    inside, inner, half = f"{name}.conv", 2 * x.shape[-1], width // 2
    i, y = 0, x
    for _ in range(halvings):
        y = depthwise(net, y, 5, inside, i, 2)
        y = net.act(pointwise(net, y, inner, inside, i + 2), f"{inside}.{i + 4}")
        i += 5
    y = depthwise(net, y, 3, inside, i)
    if halvings == 1:
        y = net.act(y, f"{inside}.{i + 2}")
        i += 1
    y = pointwise(net, y, half, inside, i + 2)
    first = channels(x, 0, half, f"{name}.first")
    last = channels(x, x.shape[-1] - (width - half), x.shape[-1], f"{name}.last")
    if stride == 2:
        last = layers.AveragePooling2D(2, name=f"{name}.last.pool")(last)
    if stride == 1 or halvings > 1:
        if stride == 2:
            first = layers.AveragePooling2D(2, name=f"{name}.first.pool")(first)
        y = layers.UpSampling2D(2 ** (halvings + 1 - stride), name=f"{name}.upsample")(y)
        y = depthwise(net, layers.Add(name=f"{name}.add")([first, y]), 5, f"{name}.upconv", 0)
    return concatenate([last, y], name)


def inverted_residual(net: Net, x: Tensor, width: int, stride: int, expansion: int, name: str) -> Tensor:
    """MobileNetV2's."""
    inside, i, y = f"{name}.conv", 0, x
    if expansion > 1:
        y = net.act(pointwise(net, x, expansion * x.shape[-1], inside, 0), f"{inside}.2")
        i = 3
    y = net.act(depthwise(net, y, 3, inside, i, stride), f"{inside}.{i + 2}")
    y = pointwise(net, y, width, inside, i + 3)
    return layers.Add(name=name)([x, y]) if stride == 1 and x.shape[-1] == width else y


def pointwise(net: Net, x: Tensor, width: int, name: str, i: int) -> Tensor:
    return net.conv_norm(x, width, 1, f"{name}.{i}", f"{name}.{i + 1}")


def depthwise(net: Net, x: Tensor, kernel: int, name: str, i: int, stride: int = 1) -> Tensor:
    return net.norm(net.depthwise(x, kernel, f"{name}.{i}", stride), f"{name}.{i + 1}")
