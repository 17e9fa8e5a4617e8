"""Cross stage partial networks. Wang et al., "CSPNet: a new backbone that can enhance learning capability of
CNN", arXiv 1911.11929; Darknet-53, one of the networks that it was tried on: Redmon and Farhadi, "YOLOv3",
arXiv 1804.02767.
"""

from collections.abc import Callable, Sequence
from functools import partial

from keras import layers

from zoo.blocks import Net, Tensor, max_pool_signed, parts


class LeakyNet(Net):
    """A hundredth of what is negative passes, as the public weights were trained; Darknet's own nets let a
    tenth pass.
    """

    def act(self, x: Tensor, name: str) -> Tensor:
        return layers.LeakyReLU(0.01, name=name)(x)


def darknet(net: Net, images: Tensor, *, depths: Sequence[int], averaged: bool = False) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 1024]. A stage begins with a strided
    convolution, or averages four places.
    """
    net = LeakyNet(**vars(net))
    x = net.unit(images, 32, 3, "stem.conv1")
    for stage, places in enumerate(positions(depths)):
        width, name = 64 * 2**stage, f"stages.{stage}"
        if averaged:
            x = layers.AveragePooling2D(2, name=f"{name}.conv_down.0")(x)
            x = net.unit(x, width, 1, f"{name}.conv_down.1")
        else:
            x = net.unit(x, width, 3, f"{name}.conv_down", 2)
        for i, position in enumerate(places):
            x = dark(net, x, f"{name}.blocks.{i}", position, inner=width // 2)
    return x


def cspdarknet(net: Net, images: Tensor, *, depths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 1024]."""
    net = LeakyNet(**vars(net))
    x = net.unit(images, 32, 3, "stem.conv1")
    for stage, places in enumerate(positions(depths)):
        width, name = 64 * 2**stage, f"stages.{stage}"
        # The first stage is too narrow to be halved.
        half = width if stage == 0 else width // 2
        x = net.unit(x, width, 3, f"{name}.conv_down", 2)
        x = net.unit(x, 2 * half, 1, f"{name}.conv_exp")
        x = crossed(net, x, width, places, name, partial(dark, inner=width // 2))
    return x


def cspresnet(
    net: Net, images: Tensor, *, widths: Sequence[int], depths: Sequence[int], half: float, groups: int = 1
) -> Tensor:
    """Of ResNet's or ResNeXt's bottlenecks. Images, normalised -> feature map [N, H/32, W/32, C].

    half: how wide each of the two parts of a stage is, of the stage's width.
    """
    net = LeakyNet(**vars(net))
    x = max_pool_signed(net.unit(images, 64, 7, "stem.conv1", 2), "stem.pool")
    for stage, (places, width) in enumerate(zip(positions(depths), widths, strict=True)):
        name = f"stages.{stage}"
        if stage:
            x = net.conv(x, x.shape[-1], 3, f"{name}.conv_down.conv", 2, groups=groups)
            x = net.norm_act(x, f"{name}.conv_down.bn")
        x = net.conv_norm(x, int(2 * half * width), 1, f"{name}.conv_exp.conv", f"{name}.conv_exp.bn")
        x = crossed(net, x, width, places, name, partial(bottleneck, inner=width // 2, groups=groups))
    return x


def positions(depths: Sequence[int]) -> list[list[float]]:
    """Of each stage's blocks in the network, from 0 to 1."""
    starts = [sum(depths[:stage]) for stage in range(len(depths))]
    return [
        [(start + i) / (sum(depths) - 1) for i in range(depth)]
        for start, depth in zip(starts, depths, strict=True)
    ]


def crossed(
    net: Net, x: Tensor, width: int, places: Sequence[float], name: str, block: Callable[..., Tensor]
) -> Tensor:
    """Half of the channels pass the blocks by."""
    kept, y = parts(x, 2, f"{name}.split")
    for i, position in enumerate(places):
        y = block(net, y, f"{name}.blocks.{i}", position)
    y = net.unit(y, kept.shape[-1], 1, f"{name}.conv_transition_b")
    joined = layers.Concatenate(name=f"{name}.cat")([kept, y])
    return net.unit(joined, width, 1, f"{name}.conv_transition")


def dark(net: Net, x: Tensor, name: str, position: float, *, inner: int) -> Tensor:
    y = net.unit(x, inner, 1, f"{name}.conv1")
    y = net.unit(y, x.shape[-1], 3, f"{name}.conv2")
    return net.add(x, y, name, position)


def bottleneck(net: Net, x: Tensor, name: str, position: float, *, inner: int, groups: int) -> Tensor:
    y = net.unit(x, inner, 1, f"{name}.conv1")
    y = net.norm_act(net.conv(y, inner, 3, f"{name}.conv2.conv", groups=groups), f"{name}.conv2.bn")
    y = net.conv_norm(y, x.shape[-1], 1, f"{name}.conv3.conv", f"{name}.conv3.bn")
    return net.act(net.add(x, y, name, position), f"{name}.act3")
