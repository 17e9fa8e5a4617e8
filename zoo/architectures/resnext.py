"""ResNeXt. Xie et al., "Aggregated residual transformations for deep neural networks", arXiv 1611.05431."""

from collections.abc import Sequence
from functools import partial

from zoo.architectures.resnet import SHORTCUTS, bottleneck, entry, residual_stages
from zoo.blocks import Net, Tensor


def resnext(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    cardinality: int,
    width: int,
    deep_stem: Sequence[int] = (),
    shortcut: str = "projected",
) -> Tensor:
    """`cardinality` x `width`d: groups of the 3x3 convolution, and channels of each in the first stage.

    Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048]. Stem and shortcut: see
    zoo.architectures.resnet.
    """
    residual = partial(bottleneck, groups=cardinality, width=width)
    return residual_stages(net, entry(net, images, deep_stem), depths, residual, SHORTCUTS[shortcut])


def cifar(net: Net, images: Tensor, *, depth: int, cardinality: int, width: int) -> Tensor:
    """Three stages of `depth` blocks for pictures of 32 pixels: [N, H, W, 3], normalised -> [N, H/4, W/4,
    1024].
    """
    x = net.conv_norm_act(images, 64, 3, "conv1", "bn1")
    residual = partial(bottleneck, groups=cardinality, width=width)
    return residual_stages(net, x, [depth] * 3, residual, SHORTCUTS["projected"])
