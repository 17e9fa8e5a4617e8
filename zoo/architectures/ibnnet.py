"""IBN-Net. Pan et al., "Two at once: enhancing learning and generalization capacities via IBN-Net", arXiv
1807.09441: IBN-a, figure 3a. Appearance (colours, style) is normalised away in half of the channels of
shallow layers; the deep ones, which tell contents apart, keep it.
"""

from collections.abc import Sequence
from functools import partial

from zoo.architectures.resnet import PLANES, entry, projected, residual_stages
from zoo.blocks import Net, Tensor, concatenate, instance_norm, parts


def ibn_resnet(
    net: Net, images: Tensor, *, depths: Sequence[int], width: int = 64, groups: int = 1
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048]. width: of each group of the 3x3
    convolution in the first stage.
    """
    block = partial(bottleneck, width=width, groups=groups)
    return residual_stages(net, entry(net, images), depths, block, projected)


def bottleneck(
    net: Net, x: Tensor, planes: int, stride: int, name: str, *, width: int, groups: int
) -> Tensor:
    inner = planes * width // 64 * groups
    norm = net.norm if planes == PLANES[-1] else partial(instance_and_batch_norm, net)
    y = norm(net.conv(x, inner, 1, f"{name}.conv1"), f"{name}.bn1")
    y = net.conv(net.act(y, f"{name}.bn1.act"), inner, 3, f"{name}.conv2", stride, groups=groups)
    y = net.norm_act(y, f"{name}.bn2")
    return net.conv_norm(y, 4 * planes, 1, f"{name}.conv3", f"{name}.bn3")


def instance_and_batch_norm(net: Net, x: Tensor, name: str) -> Tensor:
    """Half of the channels by the statistics of their own picture, half by the batch's."""
    own, common = parts(x, 2, name)
    return concatenate([instance_norm(own, f"{name}.IN"), net.norm(common, f"{name}.BN")], name)
