"""ResNets of timm's, not of a paper: stems that widen in tiers or are four convolutions deep, attention in
the blocks, SiLU. The attentions: arXiv 1709.01507, 1910.03151, 1904.11492; Chi et al., CVPR 2020.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from keras import layers

from zoo.architectures.ecanet import neighbours
from zoo.architectures.gernet import bottleneck, edge, stages
from zoo.blocks import Net, Tensor, max_pool_signed, round_channels, whole_steps
from zoo.layers import BilinearTransform, Strips

BLOCKS = 8  # parts along each side of a map that bilinear attention mixes


def tiered(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    widths: Sequence[int] = (256, 512, 1024, 2048),
    group: int = 0,
    attention: str = "",
    pool: bool = False,
    head: int = 0,
    activation: str = "silu",
) -> Tensor:
    """A stem that widens in tiers. Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C].

    group: channels of a group in the 3x3 convolutions, 0 for all; attention: a key of ATTENTIONS; pool:
    whether the stem ends with one, or with a stride; head: channels of a last convolution, 0 for none. With
    bilinear attention, raises ZooError unless H and W are multiples of 256.
    """
    net = replace(net, activation=activation)
    images = whole_steps(images, 32 * BLOCKS) if attention == "bilinear" else images
    x = entry(net, images, pool=pool)
    block = partial(bottleneck, ratio=1 / 4, group=group, attend=ATTENTIONS[attention])
    x = stages(net, x, depths, widths, (1, 2, 2, 2), [block] * 4)
    return net.unit(x, head, 1, "final_conv") if head else x


def quadruple(net: Net, images: Tensor, *, first: str, depths: Sequence[int], twice: bool) -> Tensor:
    """A stem of four convolutions, depthwise ones in the last stage. Images [N, H, W, 3], normalised ->
    feature map [N, H/32, W/32, 2048].

    first: the first stage's blocks, "bottleneck" or "edge", which activate all of the stem too; twice: each
    other block has a second 3x3 convolution.
    """
    net = replace(net, activation="silu")
    x = quadruple_stem(net, images, activated=first == "edge")
    narrow = partial(bottleneck, ratio=1 / 4, group=32, twice=twice)
    blocks = [edge if first == "edge" else narrow, narrow, narrow, partial(narrow, ratio=1, group=1)]
    x = stages(net, x, depths, (256, 512, 1536, 1536), (1, 2, 2, 2), blocks)
    return net.unit(x, 2048, 1, "final_conv")


def entry(net: Net, images: Tensor, *, pool: bool) -> Tensor:
    """The stem in tiers; it halves a second time by a pool or by a stride."""
    x = tiered_stem(net, images, last_stride=1 if pool else 2)
    return max_pool_signed(x, "stem.pool") if pool else x


def tiered_stem(net: Net, x: Tensor, last_stride: int = 2, widths: Sequence[int] = (24, 32, 64)) -> Tensor:
    for i, (width, stride) in enumerate(zip(widths, (2, 1, last_stride), strict=True), start=1):
        x = net.unit(x, width, 3, f"stem.conv{i}", stride)
    return x


def quadruple_stem(net: Net, x: Tensor, *, activated: bool) -> Tensor:
    """Two bare convolutions first, unless `activated`."""
    for i, (width, stride) in enumerate(((16, 2), (32, 1), (64, 1), (128, 2)), start=1):
        if activated or i > 2:
            x = net.unit(x, width, 3, f"stem.conv{i}", stride)
        else:
            x = net.conv(x, width, 3, f"stem.conv{i}", stride)
    return x


def squeezed(net: Net, y: Tensor, name: str) -> Tensor:
    """To a sixteenth, whatever the network's activation."""
    return net.squeeze_part(y, name, part=1 / 16, activation="relu")


def context(net: Net, y: Tensor, name: str) -> Tensor:
    return replace(net, activation="relu").global_context(y, y.shape[-1] // 8, name, add=True)


def bilinear(net: Net, y: Tensor, name: str) -> Tensor:
    """To a quarter of the channels, whose two groups mix the parts of the map, and back."""
    net = replace(net, activation="relu")
    x = net.unit(y, round_channels(y.shape[-1] / 4), 1, f"{name}.conv1")
    seen = net.unit(x, 2, 1, f"{name}.ba.conv1")
    rows, columns = (
        net.conv(
            Strips(BLOCKS, axis, name=f"{name}.ba.{conv}.strips")(seen),
            2 * BLOCKS**2,
            (BLOCKS, 1) if axis == 1 else (1, BLOCKS),
            f"{name}.ba.{conv}",
            bias=True,
            padding="valid",
        )
        for conv, axis in (("conv_p", 1), ("conv_q", 2))
    )
    x = BilinearTransform(2, BLOCKS, name=f"{name}.ba")([x, rows, columns])
    x = net.unit(net.unit(x, x.shape[-1], 1, f"{name}.ba.conv2"), y.shape[-1], 1, f"{name}.conv2")
    x = layers.SpatialDropout2D(0.2, name=f"{name}.dropout")(x)
    return layers.Add(name=f"{name}.add")([x, y])


ATTENTIONS: dict[str, Callable[[Net, Tensor, str], Tensor] | None] = {
    "": None,
    "squeeze": squeezed,
    "neighbours": lambda net, y, name: neighbours(y, name),
    "context": context,
    "bilinear": bilinear,
}
