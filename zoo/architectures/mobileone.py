"""MobileOne. Vasu et al., "An improved one millisecond mobile backbone", arXiv 2206.04040.

This is the network in training; zoo.fuse makes one convolution of every block.
"""

from collections.abc import Sequence

from keras import layers

from zoo.blocks import Net, Tensor

DEPTHS = (2, 8, 10, 1)
NONE = (0, 0, 0, 0)


def mobileone(
    net: Net, images: Tensor, *, widths: Sequence[int], branches: int = 1, attended: Sequence[int] = NONE
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C].

    widths: of the stem, then of each stage. branches: parallel copies of each convolution. attended: how
    many blocks at the end of each stage have channel attention.
    """
    x = finish(net, block(net, images, "stem", widths[0], 3, 2), "stem", False)
    for stage, (depth, channels, last) in enumerate(zip(DEPTHS, widths[1:], attended, strict=True)):
        for i in range(depth):
            stride, attend = 2 if i == 0 else 1, i >= depth - last
            mixing, pointwise = f"stages.{stage}.{2 * i}", f"stages.{stage}.{2 * i + 1}"
            x = block(net, x, mixing, x.shape[-1], 3, stride, depthwise=True, branches=branches)
            x = finish(net, x, mixing, attend)
            x = block(net, x, pointwise, channels, 1, branches=branches)
            x = finish(net, x, pointwise, attend)
    return x


def block(
    net: Net,
    x: Tensor,
    name: str,
    channels: int,
    kernel: int,
    stride: int = 1,
    *,
    depthwise: bool = False,
    branches: int = 1,
    pointwise: bool = True,
) -> Tensor:
    """A sum of normalised branches: convolutions, one of 1x1 or none, and the identity."""
    names = [(f"{name}.conv_kxk.{i}", kernel) for i in range(branches)]
    if pointwise and kernel > 1:
        names.append((f"{name}.conv_scale", 1))
    found = [branch(net, x, channels, k, branch_name, stride, depthwise) for branch_name, k in names]
    if stride == 1 and x.shape[-1] == channels:
        found.append(net.norm(x, f"{name}.identity"))
    return layers.Add(name=f"{name}.sum")(found) if len(found) > 1 else found[0]


def branch(
    net: Net, x: Tensor, channels: int, kernel: int, name: str, stride: int, depthwise: bool
) -> Tensor:
    """A convolution and its norm; depthwise with more channels gives several to each."""
    if not depthwise:
        x = net.conv(x, channels, kernel, f"{name}.conv", stride)
    elif x.shape[-1] == channels:
        x = net.depthwise(x, kernel, f"{name}.conv", stride)
    else:
        x = net.conv(x, channels, kernel, f"{name}.conv", stride, groups=x.shape[-1])
    return net.norm(x, f"{name}.bn")


def finish(net: Net, x: Tensor, name: str, attend: bool) -> Tensor:
    if attend:
        x = net.squeeze_excite(x, x.shape[-1] // 16, f"{name}.attn", ("fc1", "fc2"), activation="relu")
    return net.act(x, f"{name}.act")
