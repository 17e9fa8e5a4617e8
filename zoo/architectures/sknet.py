"""Selective kernel networks. Li et al., "Selective kernel networks", arXiv 1903.06586.

SK-ResNeXt-50 32x4d is the paper's SKNet-50. The 5x5 kernel is a 3x3 one of dilation 2, as in the paper.
"""

from collections.abc import Sequence
from functools import partial

from keras import layers

from zoo.architectures.resnet import entry, projected, residual_stages
from zoo.blocks import Net, Tensor, parts, round_channels, select

DILATIONS = (1, 2)


def skresnet(net: Net, images: Tensor, *, depths: Sequence[int]) -> Tensor:
    """timm's smaller networks: each kernel sees half of the channels. Images [N, H, W, 3], normalised ->
    feature map [N, H/32, W/32, 512].
    """
    x = entry(net, images)
    return residual_stages(net, x, depths, basic, projected)


def skresnext(net: Net, images: Tensor, *, depths: Sequence[int], cardinality: int, width: int) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048]."""
    x = entry(net, images)
    block = partial(bottleneck, cardinality=cardinality, width=width)
    return residual_stages(net, x, depths, block, projected)


def basic(net: Net, x: Tensor, planes: int, stride: int, name: str) -> Tensor:
    halves = parts(x, len(DILATIONS), f"{name}.conv1.split")
    y = selective_kernel(net, halves, planes, round_channels(planes / 8, 16), stride, f"{name}.conv1")
    return net.conv_norm(y, planes, 3, f"{name}.conv2.conv", f"{name}.conv2.bn")


def bottleneck(
    net: Net, x: Tensor, planes: int, stride: int, name: str, *, cardinality: int, width: int
) -> Tensor:
    inner = planes * width // 64 * cardinality
    y = net.conv_norm_act(x, inner, 1, f"{name}.conv1.conv", f"{name}.conv1.bn")
    squeezed = round_channels(inner / 16, 32)
    y = selective_kernel(net, [y, y], inner, squeezed, stride, f"{name}.conv2", cardinality)
    return net.conv_norm(y, 4 * planes, 1, f"{name}.conv3.conv", f"{name}.conv3.bn")


def selective_kernel(
    net: Net, inputs: list[Tensor], filters: int, squeezed: int, stride: int, name: str, groups: int = 1
) -> Tensor:
    """One kernel size for each input; each channel chooses softly between them by the mean of their sum."""
    paths = [
        path(net, x, filters, stride, dilation, groups, f"{name}.paths.{i}")
        for i, (x, dilation) in enumerate(zip(inputs, DILATIONS, strict=True))
    ]
    s = layers.Add(name=f"{name}.attn.total")(paths)
    s = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.attn.pool")(s)
    s = net.conv_norm_act(s, squeezed, 1, f"{name}.attn.fc_reduce", f"{name}.attn.bn")
    s = net.conv(s, filters * len(paths), 1, f"{name}.attn.fc_select")
    return select(paths, s, f"{name}.attn.select")


def path(net: Net, x: Tensor, filters: int, stride: int, dilation: int, groups: int, name: str) -> Tensor:
    """Where the dilation equals the stride, the kernel sees only every other pixel: they are taken first."""
    if stride > 1 and dilation == stride:
        x = layers.MaxPooling2D(1, stride, name=f"{name}.every_other")(x)
        stride = dilation = 1
    y = net.conv(x, filters, 3, f"{name}.conv", stride, groups=groups, dilation=dilation)
    return net.norm_act(y, f"{name}.bn")
