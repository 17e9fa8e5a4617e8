"""Residual networks. He et al., "Deep residual learning for image recognition", arXiv 1512.03385.

The stride of a bottleneck is in its 3x3 convolution, as in most public releases since 2016. The D stem and
shortcut are He et al., "Bag of tricks", arXiv 1812.01187; wide bottlenecks Zagoruyko and Komodakis, arXiv
1605.07146; pre-activation He et al., arXiv 1603.05027.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor, max_pool, max_pool_signed

PLANES = (64, 128, 256, 512)


def resnet(
    net: Net,
    images: Tensor,
    *,
    block: str,
    depths: Sequence[int],
    deep_stem: int = 0,
    width: int = 64,
    stride_in: str = "conv2",
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]. `deep_stem` is how many channels D's
    stem begins with, 0 the plain one. `width` is the bottleneck's in the first stage, stride_in its
    convolution that halves the map: "conv2", or "conv1" as in the paper.
    """
    residual = basic if block == "basic" else partial(bottleneck, width=width, stride_in=stride_in)
    x = stem_deep(net, images, first=deep_stem) if deep_stem else stem(net, images)
    x = max_pool(x, 3, 2, "maxpool", pad=1)
    return residual_stages(net, x, depths, residual, averaged if deep_stem else projected)


def residual_stages(
    net: Net, x: Tensor, depths: Sequence[int], block: Callable[..., Tensor], shortcut: Callable[..., Tensor]
) -> Tensor:
    """Four stages of blocks; every stage but the first halves the map.

    block(net, x, planes, stride, name) gives the residual, shortcut(net, x, channels, stride, name) brings
    the block's input to the residual's shape where they differ.
    """
    done = count()
    for stage, (depth, planes) in enumerate(zip(depths, PLANES, strict=True), start=1):
        for i in range(depth):
            stride = 2 if i == 0 and stage > 1 else 1
            name = f"layer{stage}.{i}"
            y = block(net, x, planes, stride, name)
            if stride > 1 or x.shape[-1] != y.shape[-1]:
                x = shortcut(net, x, y.shape[-1], stride, f"{name}.downsample")
            x = net.act(net.add(x, y, name, position=next(done) / (sum(depths) - 1)), f"{name}.act")
    return x


def stem(net: Net, x: Tensor) -> Tensor:
    x = net.conv_norm(x, 64, 7, "conv1", "bn1", stride=2)
    return net.act(x, "act1")


def stem_deep(net: Net, x: Tensor, width: int = 32, first: int | None = None) -> Tensor:
    x = net.conv_norm_act(x, first or width, 3, "conv1.0", "conv1.1", stride=2)
    x = net.conv_norm_act(x, width, 3, "conv1.3", "conv1.4")
    x = net.conv_norm(x, 2 * width, 3, "conv1.6", "bn1")
    return net.act(x, "act1")


def basic(net: Net, x: Tensor, planes: int, stride: int, name: str) -> Tensor:
    y = net.conv_norm_act(x, planes, 3, f"{name}.conv1", f"{name}.bn1", stride)
    return net.conv_norm(y, planes, 3, f"{name}.conv2", f"{name}.bn2")


def bottleneck(
    net: Net,
    x: Tensor,
    planes: int,
    stride: int,
    name: str,
    *,
    width: int = 64,
    groups: int = 1,
    stride_in: str = "conv2",
) -> Tensor:
    """`width` channels in each group of the first stage's 3x3 convolution."""
    inner = planes * width // 64 * groups
    first, second = (stride, 1) if stride_in == "conv1" else (1, stride)
    y = net.conv_norm_act(x, inner, 1, f"{name}.conv1", f"{name}.bn1", first)
    y = net.norm_act(net.conv(y, inner, 3, f"{name}.conv2", second, groups=groups), f"{name}.bn2")
    return net.conv_norm(y, 4 * planes, 1, f"{name}.conv3", f"{name}.bn3")


def projected(net: Net, x: Tensor, channels: int, stride: int, name: str) -> Tensor:
    return net.conv_norm(x, channels, 1, f"{name}.0", f"{name}.1", stride)


def averaged(net: Net, x: Tensor, channels: int, stride: int, name: str) -> Tensor:
    """The D shortcut: no pixel is skipped."""
    if stride > 1:
        x = layers.AveragePooling2D(stride, stride, "same", name=f"{name}.0")(x)
    return net.conv_norm(x, channels, 1, f"{name}.1", f"{name}.2")


def resnetv2(net: Net, images: Tensor, *, depths: Sequence[int]) -> Tensor:
    """Pre-activation: images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048], normalised and
    activated once more.
    """
    x = stem_bare(net, images)
    return preactivated_stages(net, x, depths)


def stem_bare(net: Net, x: Tensor, bias: bool = False) -> Tensor:
    """Neither normalised nor activated."""
    return max_pool_signed(net.conv(x, 64, 7, "stem.conv", stride=2, bias=bias), "stem.pool")


def preactivated_stages(net: Net, x: Tensor, depths: Sequence[int], width: int = 1) -> Tensor:
    done = count()
    for stage, (depth, planes) in enumerate(zip(depths, PLANES, strict=True)):
        for i in range(depth):
            stride = 2 if i == 0 and stage > 0 else 1
            position = next(done) / (sum(depths) - 1)
            x = preactivated_bottleneck(
                net, x, planes * width, stride, f"stages.{stage}.blocks.{i}", position
            )
    return net.norm_act(x, "norm")


def preactivated_bottleneck(
    net: Net, x: Tensor, planes: int, stride: int, name: str, position: float
) -> Tensor:
    y = net.norm_act(x, f"{name}.norm1")
    if stride > 1 or x.shape[-1] != 4 * planes:
        x = net.conv(y, 4 * planes, 1, f"{name}.downsample.conv", stride)
    y = net.norm_act(net.conv(y, planes, 1, f"{name}.conv1"), f"{name}.norm2")
    y = net.norm_act(net.conv(y, planes, 3, f"{name}.conv2", stride), f"{name}.norm3")
    y = net.conv(y, 4 * planes, 1, f"{name}.conv3")
    return net.add(x, y, name, position)
