"""Squeeze-and-excitation networks. Hu et al., "Squeeze-and-excitation networks", arXiv 1709.01507.

Two lineages of public weights: ResNet's layout with attention at the end of each residual (`seresnet`,
`senet154`), and the authors' Caffe release (`legacy_*`), whose pool keeps the last incomplete window.
"""

from collections.abc import Callable, Sequence
from functools import partial

from zoo.architectures.resnet import SHORTCUTS, basic, bottleneck, entry, projected, residual_stages
from zoo.blocks import Net, Tensor, max_pool

REDUCTION = 16


def seresnet(
    net: Net,
    images: Tensor,
    *,
    block: str,
    depths: Sequence[int],
    deep_stem: Sequence[int] = (),
    shortcut: str = "projected",
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]. Stem, shortcut and smoothing here
    and below: see zoo.architectures.resnet.
    """
    residual = {"basic": basic, "bottleneck": bottleneck}[block]
    x = entry(net, images, deep_stem)
    return residual_stages(net, x, depths, attended(residual), SHORTCUTS[shortcut])


def seresnext(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    cardinality: int,
    width: int,
    deep_stem: Sequence[int] = (),
    shortcut: str = "projected",
    smooth: str = "",
) -> Tensor:
    residual = attended(partial(bottleneck, groups=cardinality, width=width, smooth=smooth))
    x = entry(net, images, deep_stem, smooth)
    return residual_stages(net, x, depths, residual, SHORTCUTS[shortcut])


def senet154(net: Net, images: Tensor, *, depths: Sequence[int]) -> Tensor:
    """The winner of ILSVRC 2017."""
    x = entry(net, images, deep_stem=(64, 64, 128))
    return residual_stages(net, x, depths, attended(wide_bottleneck), projected_3x3)


def attended(
    block: Callable[..., Tensor], se: str = "se", least: int = 8, reduction: int = REDUCTION
) -> Callable[..., Tensor]:
    """A residual block, then squeeze-and-excitation to a sixteenth of its channels, or another fraction, but
    no fewer than `least`.
    """

    def residual(net: Net, x: Tensor, planes: int, stride: int, name: str) -> Tensor:
        y = block(net, x, planes, stride, name)
        squeezed = max(least, y.shape[-1] // reduction)
        return net.squeeze_excite(y, squeezed, f"{name}.{se}", convs=("fc1", "fc2"))

    return residual


def wide_bottleneck(net: Net, x: Tensor, planes: int, stride: int, name: str) -> Tensor:
    """SENet-154's: 64 groups, twice the channels of ResNet-152 in the 3x3 convolution and half of that in
    the first.
    """
    y = net.conv_norm_act(x, 2 * planes, 1, f"{name}.conv1", f"{name}.bn1")
    y = net.norm_act(net.conv(y, 4 * planes, 3, f"{name}.conv2", stride, groups=64), f"{name}.bn2")
    return net.conv_norm(y, 4 * planes, 1, f"{name}.conv3", f"{name}.bn3")


def projected_3x3(net: Net, x: Tensor, channels: int, stride: int, name: str) -> Tensor:
    return net.conv_norm(x, channels, 3 if stride > 1 else 1, f"{name}.0", f"{name}.1", stride)


def legacy(net: Net, images: Tensor, *, block: str, depths: Sequence[int]) -> Tensor:
    """The Caffe release's networks. Images [N, H, W, 3], normalised -> feature map [N, ~H/32, ~W/32, C]."""
    deep = block == "senet"
    x = max_pool((legacy_stem_deep if deep else legacy_stem)(net, images), 3, 2, "pool0", ceil=True)
    residual = attended(LEGACY[block], "se_module", least=1)
    return residual_stages(net, x, depths, residual, projected_3x3 if deep else projected)


def legacy_stem(net: Net, x: Tensor) -> Tensor:
    return net.conv_norm_act(x, 64, 7, "layer0.conv1", "layer0.bn1", stride=2)


def legacy_stem_deep(net: Net, x: Tensor) -> Tensor:
    x = net.conv_norm_act(x, 64, 3, "layer0.conv1", "layer0.bn1", stride=2)
    x = net.conv_norm_act(x, 64, 3, "layer0.conv2", "layer0.bn2")
    return net.conv_norm_act(x, 128, 3, "layer0.conv3", "layer0.bn3")


def legacy_basic(net: Net, x: Tensor, planes: int, stride: int, name: str) -> Tensor:
    """Activated before the attention, and once more after the sum."""
    return net.act(basic(net, x, planes, stride, name), f"{name}.act2")


def legacy_bottleneck(net: Net, x: Tensor, planes: int, stride: int, name: str) -> Tensor:
    """The stride is in the first convolution, as in the ResNet paper."""
    y = net.conv_norm_act(x, planes, 1, f"{name}.conv1", f"{name}.bn1", stride)
    y = net.conv_norm_act(y, planes, 3, f"{name}.conv2", f"{name}.bn2")
    return net.conv_norm(y, 4 * planes, 1, f"{name}.conv3", f"{name}.bn3")


LEGACY: dict[str, Callable[..., Tensor]] = {
    "basic": legacy_basic,
    "bottleneck": legacy_bottleneck,
    "resnext": partial(bottleneck, groups=32, width=4),
    "senet": wide_bottleneck,
}
