"""Res2Net. Gao et al., "Res2Net: a new multi-scale backbone architecture", arXiv 1904.01169.

The 3x3 convolution of a bottleneck is split by scale: each part of the channels is convolved together with
what the part before it gave, and so sees farther than that.
"""

from collections.abc import Sequence
from functools import partial

from keras import layers

from zoo.architectures.resnet import SHORTCUTS, entry, residual_stages
from zoo.blocks import Net, Tensor, average_around, concatenate, parts


def res2net(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    width: int,
    scale: int,
    cardinality: int = 1,
    deep_stem: Sequence[int] = (),
    shortcut: str = "projected",
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048].

    `scale` parts of `width` channels in the first stage, for each of `cardinality` groups.
    """
    residual = partial(bottle2neck, width=width, scale=scale, cardinality=cardinality)
    return residual_stages(net, entry(net, images, deep_stem), depths, residual, SHORTCUTS[shortcut])


def bottle2neck(
    net: Net, x: Tensor, planes: int, stride: int, name: str, *, width: int, scale: int, cardinality: int
) -> Tensor:
    part = planes * width // 64 * cardinality
    apart = stride > 1 or x.shape[-1] != 4 * planes
    return multiscale(net, x, [part] * scale, 4 * planes, stride, name, groups=cardinality, apart=apart)


def multiscale(
    net: Net,
    x: Tensor,
    widths: Sequence[int],
    channels: int,
    stride: int,
    name: str,
    *,
    groups: int,
    apart: bool,
) -> Tensor:
    """A bottleneck to `channels`, its middle in parts of these widths."""
    y = net.conv_norm_act(x, sum(widths), 1, f"{name}.conv1", f"{name}.bn1")
    y = hierarchy(net, y, len(widths), stride, name, groups=groups, apart=apart)
    return net.conv_norm(y, channels, 1, f"{name}.conv3", f"{name}.bn3")


def hierarchy(net: Net, x: Tensor, scale: int, stride: int, name: str, *, groups: int, apart: bool) -> Tensor:
    """The last part is handed on, by a pool where the others are convolved apart: in a stage's first
    block.
    """
    *convolved, last = parts(x, scale, f"{name}.split")
    out: list[Tensor] = []
    for i, part in enumerate(convolved):
        if out and not apart:
            part = layers.Add(name=f"{name}.convs.{i}.add")([out[-1], part])
        y = net.conv(part, part.shape[-1], 3, f"{name}.convs.{i}", stride, groups=groups)
        out.append(net.norm_act(y, f"{name}.bns.{i}"))
    if apart:
        last = average_around(last, f"{name}.pool", stride, count_border=True)
    return concatenate([*out, last], name)
