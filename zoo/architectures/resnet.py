"""Residual networks. He et al., "Deep residual learning for image recognition", arXiv 1512.03385.

The stride of a bottleneck is in its 3x3 convolution, as in every public release since 2016. The D stem and
shortcut are He et al., "Bag of tricks", arXiv 1812.01187; wide bottlenecks Zagoruyko and Komodakis, arXiv
1605.07146; pre-activation He et al., arXiv 1603.05027.
"""

from collections.abc import Sequence
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor, max_pool

PLANES = (64, 128, 256, 512)


def resnet(
    net: Net, images: Tensor, *, block: str, depths: Sequence[int], deep_stem: bool = False, width: int = 64
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]. `width` is the bottleneck's in the
    first stage.
    """
    residual = {"basic": basic, "bottleneck": bottleneck}[block]
    x = (stem_deep if deep_stem else stem)(net, images)
    x = max_pool(x, 3, 2, "maxpool", pad=1)
    done = count()
    for stage, (depth, planes) in enumerate(zip(depths, PLANES, strict=True), start=1):
        for i in range(depth):
            stride = 2 if i == 0 and stage > 1 else 1
            name = f"layer{stage}.{i}"
            y = residual(net, x, planes, width, stride, name)
            x = join(net, x, y, stride, name, deep_stem, position=next(done) / (sum(depths) - 1))
    return x


def stem(net: Net, x: Tensor) -> Tensor:
    x = net.conv_norm(x, 64, 7, "conv1", "bn1", stride=2)
    return net.act(x, "act1")


def stem_deep(net: Net, x: Tensor) -> Tensor:
    x = net.conv_norm_act(x, 32, 3, "conv1.0", "conv1.1", stride=2)
    x = net.conv_norm_act(x, 32, 3, "conv1.3", "conv1.4")
    x = net.conv_norm(x, 64, 3, "conv1.6", "bn1")
    return net.act(x, "act1")


def basic(net: Net, x: Tensor, planes: int, width: int, stride: int, name: str) -> Tensor:
    y = net.conv_norm_act(x, planes, 3, f"{name}.conv1", f"{name}.bn1", stride)
    return net.conv_norm(y, planes, 3, f"{name}.conv2", f"{name}.bn2")


def bottleneck(net: Net, x: Tensor, planes: int, width: int, stride: int, name: str) -> Tensor:
    inner = planes * width // 64
    y = net.conv_norm_act(x, inner, 1, f"{name}.conv1", f"{name}.bn1")
    y = net.conv_norm_act(y, inner, 3, f"{name}.conv2", f"{name}.bn2", stride)
    return net.conv_norm(y, 4 * planes, 1, f"{name}.conv3", f"{name}.bn3")


def join(net: Net, x: Tensor, y: Tensor, stride: int, name: str, average: bool, position: float) -> Tensor:
    """The skip connection: identity, or a projection where the shape changes (pooled first in the D
    variant).
    """
    if stride > 1 or x.shape[-1] != y.shape[-1]:
        if average and stride > 1:
            x, stride = layers.AveragePooling2D(2, 2, "same", name=f"{name}.downsample.0")(x), 1
        index = 1 if average else 0
        x = net.conv_norm(
            x, y.shape[-1], 1, f"{name}.downsample.{index}", f"{name}.downsample.{index + 1}", stride
        )
    return net.act(net.add(x, y, name, position), f"{name}.act")


def resnetv2(net: Net, images: Tensor, *, depths: Sequence[int]) -> Tensor:
    """Pre-activation: images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048], normalised and
    activated once more.
    """
    x = net.conv(images, 64, 7, "stem.conv", stride=2)
    # The pool sees negative values here, so its border must not be zeros: 3x3 at every place, then every
    # other place.
    x = layers.MaxPooling2D(3, 1, "same", name="stem.pool.max")(x)
    x = layers.MaxPooling2D(1, 2, name="stem.pool")(x)
    done = count()
    for stage, (depth, planes) in enumerate(zip(depths, PLANES, strict=True)):
        for i in range(depth):
            stride = 2 if i == 0 and stage > 0 else 1
            position = next(done) / (sum(depths) - 1)
            x = preactivated_bottleneck(net, x, planes, stride, f"stages.{stage}.blocks.{i}", position)
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
