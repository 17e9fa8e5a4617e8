"""IBN-Net. Pan et al., "Two at once: enhancing learning and generalization capacities via IBN-Net", arXiv
1807.09441. Appearance (colours, style) is normalised away in shallow layers; the deep ones, which tell
contents apart, keep it. IBN-a (figure 3a) does it to half of the channels inside the residual, IBN-b (figure
3b) to all of them after the sum.
"""

from collections.abc import Sequence
from functools import partial

from zoo.architectures import densenet, resnet
from zoo.architectures.resnet import PLANES, projected, residual_stage, residual_stages
from zoo.blocks import Net, Tensor, concatenate, instance_norm, max_pool, parts, split

NORMALISED = 2  # stages of IBN-b that end with an instance norm
MIXED = 3  # blocks of IBN-DenseNet in which every third layer mixes the norms


def ibn_resnet(
    net: Net, images: Tensor, *, depths: Sequence[int], width: int = 64, groups: int = 1
) -> Tensor:
    """IBN-a. Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048]. width: of each group of
    the 3x3 convolution in the first stage.
    """
    block = partial(bottleneck, width=width, groups=groups)
    return residual_stages(net, resnet.entry(net, images), depths, block, projected)


def ibn_b_resnet(net: Net, images: Tensor, *, depths: Sequence[int]) -> Tensor:
    """IBN-b. Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048]."""
    x = instance_norm(net.conv(images, 64, 7, "conv1", 2), "bn1")
    x = max_pool(net.act(x, "act1"), 3, 2, "maxpool", pad=1)
    for stage in range(1, len(depths) + 1):
        last = normalised if stage <= NORMALISED else None
        x = residual_stage(net, x, stage, depths, resnet.bottleneck, projected, last)
    return x


def ibn_densenet(net: Net, images: Tensor, *, growth: int, depths: Sequence[int]) -> Tensor:
    """IBN-a in DenseNet. Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]."""
    x = max_pool(densenet.stem(net, images, growth), 3, 2, "features.pool0", pad=1)
    for block, depth in enumerate(depths, start=1):
        if block > 1:
            x = densenet.transition(net, x, x.shape[-1] // 2, f"features.transition{block - 1}")
        for i in range(1, depth + 1):
            mixed = block <= MIXED and i % 3 == 1
            x = dense_layer(net, x, growth, f"features.denseblock{block}.denselayer{i}", mixed=mixed)
    return net.norm_act(x, "features.norm5")


def bottleneck(
    net: Net, x: Tensor, planes: int, stride: int, name: str, *, width: int, groups: int
) -> Tensor:
    inner = planes * width // 64 * groups
    norm = net.norm if planes == PLANES[-1] else partial(instance_and_batch_norm, net)
    y = norm(net.conv(x, inner, 1, f"{name}.conv1"), f"{name}.bn1")
    y = net.conv(net.act(y, f"{name}.bn1.act"), inner, 3, f"{name}.conv2", stride, groups=groups)
    y = net.norm_act(y, f"{name}.bn2")
    return net.conv_norm(y, 4 * planes, 1, f"{name}.conv3", f"{name}.bn3")


def dense_layer(net: Net, x: Tensor, growth: int, name: str, *, mixed: bool) -> Tensor:
    y = batch_and_instance_norm(net, x, f"{name}.norm1") if mixed else net.norm(x, f"{name}.norm1")
    y = net.conv(net.act(y, f"{name}.norm1.act"), 4 * growth, 1, f"{name}.conv1")
    y = net.conv(net.norm_act(y, f"{name}.norm2"), growth, 3, f"{name}.conv2")
    return concatenate([x, y], name)


def instance_and_batch_norm(net: Net, x: Tensor, name: str) -> Tensor:
    """Half of the channels by the statistics of their own picture, half by the batch's."""
    own, common = parts(x, 2, name)
    return concatenate([instance_norm(own, f"{name}.IN"), net.norm(common, f"{name}.BN")], name)


def batch_and_instance_norm(net: Net, x: Tensor, name: str) -> Tensor:
    """Three fifths of the channels by the batch's statistics, the rest by those of their own picture."""
    most = x.shape[-1] * 3 // 5
    common, own = split(x, [most, x.shape[-1] - most], name)
    return concatenate([net.norm(common, f"{name}.BN"), instance_norm(own, f"{name}.IN")], name)


def normalised(x: Tensor, name: str) -> Tensor:
    return instance_norm(x, f"{name}.IN")
