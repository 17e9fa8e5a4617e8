"""Residual networks with pre-activation. He et al., "Identity mappings in deep residual networks", arXiv
1603.05027. The deep stem and the averaging shortcut are He et al., arXiv 1812.01187.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from zoo.architectures.resnet import PLANES
from zoo.blocks import NORMS, Net, Tensor, max_pool_signed, smoothed


def resnetv2(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    block: str = "bottleneck",
    deep_stem: Sequence[int] = (),
    average: bool = False,
    norm: str = "batch",
) -> Tensor:
    """Pre-activation: images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C], normalised and
    activated once more. average: shortcuts average before they project, as in D.
    """
    net = NORMS[norm](**vars(net))
    x = stem_bare_deep(net, images, deep_stem) if deep_stem else stem_bare(net, images)
    residual = {"basic": basic, "bottleneck": bottleneck}[block]
    return stages(net, x, depths, partial(residual, average=average))


def stem_bare(net: Net, x: Tensor, bias: bool = False) -> Tensor:
    """Neither normalised nor activated."""
    return max_pool_signed(net.conv(x, 64, 7, "stem.conv", stride=2, bias=bias), "stem.pool")


def stem_bare_deep(net: Net, x: Tensor, widths: Sequence[int]) -> Tensor:
    first, second, third = widths
    x = net.conv_norm_act(x, first, 3, "stem.conv1", "stem.norm1", stride=2)
    x = net.conv_norm_act(x, second, 3, "stem.conv2", "stem.norm2")
    return max_pool_signed(net.conv(x, third, 3, "stem.conv3"), "stem.pool")


def stages(
    net: Net, x: Tensor, depths: Sequence[int], block: Callable[..., Tensor], width: int = 1
) -> Tensor:
    """Every stage but the first halves the map; block(net, x, planes, stride, name, position)."""
    done = count()
    for stage, (depth, planes) in enumerate(zip(depths, PLANES, strict=True)):
        for i in range(depth):
            stride = 2 if i == 0 and stage > 0 else 1
            position = next(done) / (sum(depths) - 1)
            x = block(net, x, planes * width, stride, f"stages.{stage}.blocks.{i}", position)
    return net.norm_act(x, "norm")


def basic(
    net: Net, x: Tensor, planes: int, stride: int, name: str, position: float, average: bool = False
) -> Tensor:
    y = net.norm_act(x, f"{name}.norm1")
    x = shortcut(net, x, y, planes, stride, f"{name}.downsample", average)
    y = net.norm_act(net.conv(y, planes, 3, f"{name}.conv1", stride), f"{name}.norm2")
    return net.add(x, net.conv(y, planes, 3, f"{name}.conv2"), name, position)


def bottleneck(
    net: Net, x: Tensor, planes: int, stride: int, name: str, position: float, average: bool = False
) -> Tensor:
    y = net.norm_act(x, f"{name}.norm1")
    x = shortcut(net, x, y, 4 * planes, stride, f"{name}.downsample", average)
    y = net.norm_act(net.conv(y, planes, 1, f"{name}.conv1"), f"{name}.norm2")
    y = net.norm_act(net.conv(y, planes, 3, f"{name}.conv2", stride), f"{name}.norm3")
    y = net.conv(y, 4 * planes, 1, f"{name}.conv3")
    return net.add(x, y, name, position)


def shortcut(
    net: Net, x: Tensor, activated: Tensor, channels: int, stride: int, name: str, average: bool
) -> Tensor:
    """The input itself or, where the shape changes, a projection of what the residual sees too."""
    if stride == 1 and x.shape[-1] == channels:
        return x
    if average:
        activated, stride = smoothed(activated, "average", stride, f"{name}.pool"), 1
    return net.conv(activated, channels, 1, f"{name}.conv", stride)
