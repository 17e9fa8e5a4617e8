"""ResNeSt. Zhang et al., "ResNeSt: split-attention networks", arXiv 2004.08955."""

from collections.abc import Sequence
from functools import partial

from keras import layers

from zoo.architectures.resnet import D_STEM, averaged, entry, residual_stages
from zoo.blocks import Net, Tensor, parts, round_channels, select


def resnest(net: Net, images: Tensor, *, depths: Sequence[int], deep_stem: Sequence[int] = D_STEM) -> Tensor:
    """Two splits, pooled after the attention. Images [N, H, W, 3], normalised -> feature map
    [N, H/32, W/32, 2048].
    """
    return residual_stages(net, entry(net, images, deep_stem), depths, bottleneck, averaged)


def resnest_fast(
    net: Net, images: Tensor, *, depths: Sequence[int], radix: int, cardinality: int, width: int
) -> Tensor:
    """The fast variants, RADIXsCARDINALITYxWIDTHd of the authors' ablations: pooled before the attention."""
    block = partial(fast_bottleneck, radix=radix, cardinality=cardinality, width=width)
    return residual_stages(net, entry(net, images, D_STEM), depths, block, averaged)


def bottleneck(net: Net, x: Tensor, planes: int, stride: int, name: str) -> Tensor:
    y = net.conv_norm_act(x, planes, 1, f"{name}.conv1", f"{name}.bn1")
    y = split_attention(net, y, 2, 1, f"{name}.conv2")
    y = pool(y, stride, f"{name}.avd_last")
    return net.conv_norm(y, 4 * planes, 1, f"{name}.conv3", f"{name}.bn3")


def fast_bottleneck(
    net: Net, x: Tensor, planes: int, stride: int, name: str, *, radix: int, cardinality: int, width: int
) -> Tensor:
    inner = planes * width // 64 * cardinality
    y = net.conv_norm_act(x, inner, 1, f"{name}.conv1", f"{name}.bn1")
    y = pool(y, stride, f"{name}.avd_first")
    y = split_attention(net, y, radix, cardinality, f"{name}.conv2")
    return net.conv_norm(y, 4 * planes, 1, f"{name}.conv3", f"{name}.bn3")


def split_attention(net: Net, x: Tensor, radix: int, cardinality: int, name: str) -> Tensor:
    """A grouped 3x3 convolution gives `radix` splits of the map; each channel is a weighted sum over them,
    the weights computed from the mean of their plain sum. One split alone is gated by a sigmoid.
    """
    channels = x.shape[-1]
    y = net.conv(x, channels * radix, 3, f"{name}.conv", groups=cardinality * radix)
    splits = parts(net.norm_act(y, f"{name}.bn0"), radix, f"{name}.split")
    total = layers.Add(name=f"{name}.total")(splits) if radix > 1 else splits[0]
    s = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.pool")(total)
    squeezed = max(32, round_channels(channels * radix / 4))
    s = net.conv(s, squeezed, 1, f"{name}.fc1", bias=True, groups=cardinality)
    s = net.norm_act(s, f"{name}.bn1")
    s = net.conv(s, channels * radix, 1, f"{name}.fc2", bias=True, groups=cardinality)
    if radix > 1:
        return select(splits, s, f"{name}.rsoftmax", cardinality)
    gate = layers.Activation("sigmoid", name=f"{name}.rsoftmax")(s)
    return layers.Multiply(name=f"{name}.scale")([*splits, gate])


def pool(x: Tensor, stride: int, name: str) -> Tensor:
    """Where others stride, ResNeSt averages 3x3, the zeros of the border counted."""
    if stride == 1:
        return x
    x = layers.ZeroPadding2D(1, name=f"{name}.pad")(x)
    return layers.AveragePooling2D(3, stride, name=name)(x)
