"""Densely connected networks. Huang et al., "Densely connected convolutional networks", arXiv 1608.06993.

Every layer of a dense block sees the maps of all layers before it and adds `growth` channels to them.
"""

from collections.abc import Callable, Sequence
from functools import partial

from keras import layers

from zoo.blocks import Net, Tensor, max_pool, max_pool_blurred

DenseLayer = Callable[[Net, Tensor, int, str], Tensor]


def densenet(
    net: Net,
    images: Tensor,
    *,
    growth: int,
    depths: Sequence[int],
    deep_stem: bool = False,
    blur: bool = False,
) -> Tensor:
    """For ImageNet. Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]. blur: the stem's pool
    takes every maximum, then blurs (Zhang, arXiv 1904.11486).
    """
    x = (stem_deep if deep_stem else stem)(net, images, growth)
    pool = max_pool_blurred if blur else partial(max_pool, kernel=3, stride=2, pad=1)
    x = pool(x, name="features.pool0")
    return dense_blocks(net, x, growth, depths, bottleneck, compression=0.5)


def cifar(
    net: Net, images: Tensor, *, growth: int, depth: int, stem: int = 16, compression: float = 1
) -> Tensor:
    """DenseNet for pictures of 32 pixels: [N, H, W, 3], normalised -> feature map [N, H/4, W/4, C]. stem: the
    first convolution's filters; with a compression below 1 it is DenseNet-C.
    """
    x = net.conv(images, stem, 3, "features.conv0")
    return dense_blocks(net, x, growth, [(depth - 4) // 3] * 3, plain, compression)


def cifar_bc(net: Net, images: Tensor, *, growth: int, depth: int) -> Tensor:
    """DenseNet-BC for pictures of 32 pixels: with bottlenecks, and half of the channels after a block."""
    x = net.conv(images, 2 * growth, 3, "features.conv0")
    return dense_blocks(net, x, growth, [(depth - 4) // 6] * 3, bottleneck, compression=0.5)


def stem(net: Net, x: Tensor, growth: int) -> Tensor:
    return net.conv_norm_act(x, 2 * growth, 7, "features.conv0", "features.norm0", stride=2)


def stem_deep(net: Net, x: Tensor, growth: int) -> Tensor:
    """The D stem, as timm's densenet264d has it."""
    x = net.conv_norm_act(x, growth, 3, "features.conv0", "features.norm0", stride=2)
    x = net.conv_norm_act(x, growth, 3, "features.conv1", "features.norm1")
    return net.conv_norm_act(x, 2 * growth, 3, "features.conv2", "features.norm2")


def dense_blocks(
    net: Net, x: Tensor, growth: int, depths: Sequence[int], layer: DenseLayer, compression: float
) -> Tensor:
    """Dense blocks with a transition between them, normalised and activated once more at the end.

    compression: the fraction of the channels that a transition keeps.
    """
    for i, depth in enumerate(depths, start=1):
        if i > 1:
            x = transition(net, x, int(x.shape[-1] * compression), f"features.transition{i - 1}")
        x = dense_block(net, x, growth, depth, layer, f"features.denseblock{i}")
    return net.norm_act(x, "features.norm5")


def dense_block(net: Net, x: Tensor, growth: int, depth: int, layer: DenseLayer, name: str) -> Tensor:
    for i in range(1, depth + 1):
        new = layer(net, x, growth, f"{name}.denselayer{i}")
        x = layers.Concatenate(name=f"{name}.denselayer{i}.cat")([x, new])
    return x


def plain(net: Net, x: Tensor, growth: int, name: str) -> Tensor:
    return net.conv(net.norm_act(x, f"{name}.norm1"), growth, 3, f"{name}.conv1")


def bottleneck(net: Net, x: Tensor, growth: int, name: str) -> Tensor:
    x = net.conv(net.norm_act(x, f"{name}.norm1"), 4 * growth, 1, f"{name}.conv1")
    return net.conv(net.norm_act(x, f"{name}.norm2"), growth, 3, f"{name}.conv2")


def transition(net: Net, x: Tensor, channels: int, name: str) -> Tensor:
    x = net.conv(net.norm_act(x, f"{name}.norm"), channels, 1, f"{name}.conv")
    return layers.AveragePooling2D(2, 2, name=f"{name}.pool")(x)
