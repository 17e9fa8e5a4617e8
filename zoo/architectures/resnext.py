"""ResNeXt. Xie et al., "Aggregated residual transformations for deep neural networks", arXiv 1611.05431."""

from collections.abc import Sequence
from functools import partial

from zoo.architectures.resnet import bottleneck, projected, residual_stages, stem
from zoo.blocks import Net, Tensor, max_pool


def resnext(net: Net, images: Tensor, *, depths: Sequence[int], cardinality: int, width: int) -> Tensor:
    """`cardinality` x `width`d: groups of the 3x3 convolution, and channels of each in the first stage.

    Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048].
    """
    x = max_pool(stem(net, images), 3, 2, "maxpool", pad=1)
    return residual_stages(net, x, depths, partial(bottleneck, groups=cardinality, width=width), projected)
