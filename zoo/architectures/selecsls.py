"""SelecSLS. Mehta et al., "XNect: real-time multi-person 3D motion capture with a single RGB camera", arXiv
1907.00837: selective short and long range skips.
"""

from collections.abc import Sequence

from zoo.blocks import Net, Tensor, concatenate


def selecsls(
    net: Net, images: Tensor, *, stages: Sequence[Sequence[Sequence[int]]], head: Sequence[Sequence[int]]
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/64, W/64, C].

    stages: (inner, outer) channels of each block; head: (channels, kernel, stride) of the last convolutions.
    """
    x, number = unit(net, images, 32, 3, "stem", 2), 0
    for stage in stages:
        first = None
        for inner, outer in stage:
            x = block(net, x, first, inner, outer, f"features.{number}")
            first = x if first is None else first
            number += 1
    for i, (channels, kernel, stride) in enumerate(head):
        x = unit(net, x, channels, kernel, f"head.{i}", stride)
    return x


def block(net: Net, x: Tensor, first: Tensor | None, inner: int, outer: int, name: str) -> Tensor:
    """The short skips are within the block; the long one is the stage's first map. That block halves it."""
    a = unit(net, x, inner, 3, f"{name}.conv1", 1 if first is not None else 2)
    b = unit(net, unit(net, a, inner, 1, f"{name}.conv2"), inner // 2, 3, f"{name}.conv3")
    c = unit(net, unit(net, b, inner, 1, f"{name}.conv4"), inner // 2, 3, f"{name}.conv5")
    joined = concatenate([a, b, c] if first is None else [a, b, c, first], name)
    return unit(net, joined, outer, 1, f"{name}.conv6")


def unit(net: Net, x: Tensor, filters: int, kernel: int, name: str, stride: int = 1) -> Tensor:
    return net.conv_norm_act(x, filters, kernel, f"{name}.0", f"{name}.1", stride)
