"""RIFormer. Wang et al., "RIFormer: keep your vision backbone effective but removing token mixer", arXiv
2304.05659.

PoolFormer whose blocks look at no neighbours: what stands in for the mixer only helps to train, and becomes
one with its norm.
"""

from collections.abc import Sequence

from keras import layers

from zoo.architectures.metaformer import first_layout
from zoo.blocks import Net, Tensor, map_norm


def riformer(
    net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int], layer_scale: float
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]. layer_scale: at first."""
    return map_norm(net, first_layout(net, images, depths, widths, layer_scale, affine), "norm")


def affine(net: Net, x: Tensor, name: str) -> Tensor:
    """How a factor and an addend for each channel change it."""
    return layers.Subtract(name=name)([net.depthwise(x, 1, f"{name}.affine", bias=True), x])
