"""ResNet-RS. Bello et al., "Revisiting ResNets: improved training and scaling strategies", arXiv 2103.07579.

ResNet-D with squeeze-and-excitation and a strided convolution for the stem's pool; deep before wide, and
slowly larger pictures.
"""

from collections.abc import Sequence

from zoo.architectures.resnet import averaged, bottleneck, residual_stages, stem_deep
from zoo.architectures.senet import attended
from zoo.blocks import Net, Tensor


def resnet_rs(net: Net, images: Tensor, *, depths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048]."""
    x = stem_deep(net, images)
    x = net.act(net.conv_norm(x, 64, 3, "maxpool.0", "maxpool.1", 2), "maxpool.2")
    return residual_stages(net, x, depths, attended(bottleneck, reduction=4), averaged)
