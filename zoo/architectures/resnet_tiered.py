"""ResNets of timm's, not of a paper: stems that widen in tiers or are four convolutions deep, attention in
the blocks, SiLU. The attentions: arXiv 1709.01507, 1910.03151, 1904.11492.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from zoo.architectures.ecanet import neighbours
from zoo.architectures.gernet import bottleneck, edge, stages
from zoo.blocks import Net, Tensor, max_pool_signed


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
    whether the stem ends with one, or with a stride; head: channels of a last convolution, 0 for none.
    """
    net = replace(net, activation=activation)
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


ATTENTIONS: dict[str, Callable[[Net, Tensor, str], Tensor] | None] = {
    "": None,
    "squeeze": squeezed,
    "neighbours": lambda net, y, name: neighbours(y, name),
    "context": context,
}
