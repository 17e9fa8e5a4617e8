"""AirNet and AirNeXt. Yang et al., "Attention inspiring receptive-fields network for learning invariant
representations", https://ieeexplore.ieee.org/document/8510896.

A branch beside the 3x3 convolution looks at a halved map, twice as far, and weighs every value of it.
"""

from collections.abc import Sequence
from functools import partial

from zoo.architectures.resnet import D_STEM, PLANES, entry, projected, residual_stages
from zoo.blocks import Net, Tensor, gated, max_pool
from zoo.layers import Stretch


def airnet(
    net: Net, images: Tensor, *, depths: Sequence[int], ratio: int, width: int = 64, cardinality: int = 1
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048].

    ratio: by how much the attention has fewer channels, and fewer groups; width: of each of `cardinality`
    groups of the 3x3 convolution in the first stage.
    """
    block = partial(bottleneck, ratio=ratio, width=width, cardinality=cardinality)
    return residual_stages(net, entry(net, images, D_STEM), depths, block, projected)


def bottleneck(
    net: Net, x: Tensor, planes: int, stride: int, name: str, *, ratio: int, width: int, cardinality: int
) -> Tensor:
    inner = planes * width // 64 * cardinality
    y = net.conv_norm_act(x, inner, 1, f"{name}.conv1", f"{name}.bn1")
    y = net.norm_act(net.conv(y, inner, 3, f"{name}.conv2", stride, groups=cardinality), f"{name}.bn2")
    if stride == 1 and planes < PLANES[-1]:
        groups = max(1, cardinality // ratio)
        y = gated(y, receptive_field(net, x, y, inner // ratio, groups, f"{name}.air"), "sigmoid", name)
    return net.conv_norm(y, 4 * planes, 1, f"{name}.conv3", f"{name}.bn3")


def receptive_field(net: Net, x: Tensor, weighed: Tensor, inner: int, groups: int, name: str) -> Tensor:
    """The logits by which each value of a map is weighed."""
    y = net.conv_norm_act(x, inner, 1, f"{name}.conv1", f"{name}.bn1")
    y = max_pool(y, 3, 2, f"{name}.pool", pad=1)
    y = net.norm_act(net.conv(y, inner, 3, f"{name}.conv2", groups=groups), f"{name}.bn2")
    y = Stretch(2, corners=True, back=True, name=f"{name}.stretch")([y, weighed])
    return net.conv_norm(y, weighed.shape[-1], 1, f"{name}.conv3", f"{name}.bn3")
