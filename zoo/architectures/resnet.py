"""Residual networks. He et al., "Deep residual learning for image recognition", arXiv 1512.03385.

The stride of a bottleneck is in its 3x3 convolution, as in most public releases since 2016. The deep stems
and D's shortcut are He et al., "Bag of tricks", arXiv 1812.01187; wide bottlenecks Zagoruyko and Komodakis,
arXiv 1605.07146; smoothing where the map is halved Zhang, arXiv 1904.11486.
"""

from collections.abc import Callable, Sequence
from functools import partial

from keras import layers

from zoo.blocks import NORMS, Net, Tensor, max_pool, max_pool_blurred, smoothed

PLANES = (64, 128, 256, 512)
D_STEM = (32, 32, 64)


def resnet(
    net: Net,
    images: Tensor,
    *,
    block: str,
    depths: Sequence[int],
    deep_stem: Sequence[int] = (),
    shortcut: str = "projected",
    width: int = 64,
    stride_in: str = "conv2",
    smooth: str = "",
    norm: str = "batch",
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C].

    deep_stem: the widths of three 3x3 convolutions, in place of one 7x7; shortcut: "projected", or "averaged"
    first as in D. width: the bottleneck's in the first stage; stride_in: its convolution that halves the
    map, "conv2", or "conv1" as in the paper; smooth: what halves it instead, a key of
    zoo.blocks.SMOOTHINGS; norm: a key of NORMS there.
    """
    net = NORMS[norm](**vars(net))
    residual = partial(basic, smooth=smooth)
    if block == "bottleneck":
        residual = partial(bottleneck, width=width, stride_in=stride_in, smooth=smooth)
    x = entry(net, images, deep_stem, smooth)
    return residual_stages(net, x, depths, residual, SHORTCUTS[shortcut])


def entry(net: Net, images: Tensor, deep_stem: Sequence[int] = (), smooth: str = "") -> Tensor:
    """Stem and pool: images [N, H, W, 3] -> feature map [N, H/4, W/4, C]."""
    x = stem_deep(net, images, deep_stem) if deep_stem else stem(net, images)
    if smooth == "average":
        return layers.AveragePooling2D(2, name="maxpool")(x)
    if smooth == "blur":
        return max_pool_blurred(x, "maxpool")
    return max_pool(x, 3, 2, "maxpool", pad=1)


def residual_stages(
    net: Net, x: Tensor, depths: Sequence[int], block: Callable[..., Tensor], shortcut: Callable[..., Tensor]
) -> Tensor:
    """Four stages of blocks; every stage but the first halves the map.

    block(net, x, planes, stride, name) gives the residual, shortcut(net, x, channels, stride, name) brings
    the block's input to the residual's shape where they differ.
    """
    for stage in range(1, len(depths) + 1):
        x = residual_stage(net, x, stage, depths, block, shortcut)
    return x


def residual_stage(
    net: Net,
    x: Tensor,
    stage: int,
    depths: Sequence[int],
    block: Callable[..., Tensor],
    shortcut: Callable[..., Tensor],
    last: Callable[[Tensor, str], Tensor] | None = None,
) -> Tensor:
    """One of them, counted from 1. last(x, name): what becomes of the last sum before it is activated."""
    before = sum(depths[: stage - 1])
    for i in range(depths[stage - 1]):
        stride = 2 if i == 0 and stage > 1 else 1
        name = f"layer{stage}.{i}"
        y = block(net, x, PLANES[stage - 1], stride, name)
        if stride > 1 or x.shape[-1] != y.shape[-1]:
            x = shortcut(net, x, y.shape[-1], stride, f"{name}.downsample")
        x = net.add(x, y, name, position=(before + i) / (sum(depths) - 1))
        x = last(x, name) if last and i == depths[stage - 1] - 1 else x
        x = net.act(x, f"{name}.act")
    return x


def stem(net: Net, x: Tensor) -> Tensor:
    x = net.conv_norm(x, 64, 7, "conv1", "bn1", stride=2)
    return net.act(x, "act1")


def stem_deep(net: Net, x: Tensor, widths: Sequence[int] = D_STEM) -> Tensor:
    first, second, third = widths
    x = net.conv_norm_act(x, first, 3, "conv1.0", "conv1.1", stride=2)
    x = net.conv_norm_act(x, second, 3, "conv1.3", "conv1.4")
    x = net.conv_norm(x, third, 3, "conv1.6", "bn1")
    return net.act(x, "act1")


def basic(net: Net, x: Tensor, planes: int, stride: int, name: str, *, smooth: str = "") -> Tensor:
    y = net.conv_norm_act(x, planes, 3, f"{name}.conv1", f"{name}.bn1", 1 if smooth else stride)
    y = smoothed(y, smooth, stride, f"{name}.aa")
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
    smooth: str = "",
) -> Tensor:
    """`width` channels in each group of the first stage's 3x3 convolution."""
    inner = planes * width // 64 * groups
    first, second = (stride, 1) if stride_in == "conv1" else (1, 1 if smooth else stride)
    y = net.conv_norm_act(x, inner, 1, f"{name}.conv1", f"{name}.bn1", first)
    y = net.norm_act(net.conv(y, inner, 3, f"{name}.conv2", second, groups=groups), f"{name}.bn2")
    y = smoothed(y, smooth, stride, f"{name}.aa")
    return net.conv_norm(y, 4 * planes, 1, f"{name}.conv3", f"{name}.bn3")


def projected(net: Net, x: Tensor, channels: int, stride: int, name: str) -> Tensor:
    return net.conv_norm(x, channels, 1, f"{name}.0", f"{name}.1", stride)


def averaged(net: Net, x: Tensor, channels: int, stride: int, name: str) -> Tensor:
    """The D shortcut: no pixel is skipped."""
    x = smoothed(x, "average", stride, f"{name}.0")
    return net.conv_norm(x, channels, 1, f"{name}.1", f"{name}.2")


SHORTCUTS: dict[str, Callable[..., Tensor]] = {"projected": projected, "averaged": averaged}
