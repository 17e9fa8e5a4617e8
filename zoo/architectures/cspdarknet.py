"""Cross stage partial networks. Wang et al., "CSPNet: a new backbone that can enhance learning capability of
CNN", arXiv 1911.11929; Darknet-53, one of the networks that it was tried on: Redmon and Farhadi, "YOLOv3",
arXiv 1804.02767. A hundredth of what is negative passes, as the public weights were trained; Darknet's own
nets let a tenth pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from keras import layers

from zoo.blocks import LeakyNet, Net, Tensor, concatenate, max_pool_signed, parts


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


def cs3darknet(
    net: Net,
    images: Tensor,
    *,
    widths: Sequence[int],
    depths: Sequence[int],
    focus: bool = False,
    wide: bool = False,
    squeeze: float = 0,
) -> Tensor:
    """The backbones of YOLO v4 and v5, with no transition behind the blocks. Images, normalised -> feature
    map [N, H/32, W/32, C].

    focus: one 6x6 convolution for a stem; wide: blocks of a wide 3x3 and a 1x1 convolution, in place of a 1x1
    and a 3x3; squeeze: the part of a block's channels that its attention keeps, 0 for no attention.
    """
    net = replace(net, activation="silu")
    x = cs3_stem(net, images, widths[0] // 2, focus=focus)
    for stage, (places, width) in enumerate(zip(positions(depths), widths, strict=True)):
        name, half = f"stages.{stage}", width // 2
        block = partial(edge, inner=half * 3 // 2) if wide else partial(dark, inner=half)
        x = net.unit(x, x.shape[-1], 3, f"{name}.conv_down", 2)
        y, kept = parts(net.unit(x, width, 1, f"{name}.conv_exp"), 2, f"{name}.split")
        for i, position in enumerate(places):
            y = block(net, y, f"{name}.blocks.{i}", position, squeeze=squeeze)
        x = net.unit(concatenate([y, kept], name), width, 1, f"{name}.conv_transition")
    return x


def cs3_stem(net: Net, images: Tensor, width: int, *, focus: bool) -> Tensor:
    if focus:
        x = layers.ZeroPadding2D(2, name="stem.pad")(images)
        x = net.conv(x, width, 6, "stem.conv1.conv", 2, padding="valid")
        return net.norm_act(x, "stem.conv1.bn")
    return net.unit(net.unit(images, width // 2, 3, "stem.conv1", 2), width, 3, "stem.conv2")


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
    return net.unit(concatenate([kept, y], name), width, 1, f"{name}.conv_transition")


def dark(net: Net, x: Tensor, name: str, position: float, *, inner: int, squeeze: float = 0) -> Tensor:
    y = attended(net, net.unit(x, inner, 1, f"{name}.conv1"), squeeze, name)
    return net.add(x, net.unit(y, x.shape[-1], 3, f"{name}.conv2"), name, position)


def edge(net: Net, x: Tensor, name: str, position: float, *, inner: int, squeeze: float) -> Tensor:
    y = attended(net, net.unit(x, inner, 3, f"{name}.conv1"), squeeze, name)
    return net.add(x, net.unit(y, x.shape[-1], 1, f"{name}.conv2"), name, position)


def attended(net: Net, y: Tensor, part: float, name: str) -> Tensor:
    return net.squeeze_part(y, f"{name}.attn", part=part) if part else y


def bottleneck(net: Net, x: Tensor, name: str, position: float, *, inner: int, groups: int) -> Tensor:
    y = net.unit(x, inner, 1, f"{name}.conv1")
    y = net.norm_act(net.conv(y, inner, 3, f"{name}.conv2.conv", groups=groups), f"{name}.conv2.bn")
    y = net.conv_norm(y, x.shape[-1], 1, f"{name}.conv3.conv", f"{name}.conv3.bn")
    return net.act(net.add(x, y, name, position), f"{name}.act3")
