"""IGCV3. Sun et al., "IGCV3: interleaved low-rank group convolutions for efficient deep neural networks",
arXiv 1806.00178: MobileNetV2's blocks with pointwise convolutions in two groups.
"""

from collections.abc import Sequence
from dataclasses import replace

from keras import layers

from zoo.blocks import Net, Tensor, shuffle

DEPTHS = ((1,), (4,), (6,), (8, 6), (6, 1))
GROUPS = 2


def igcv3(
    net: Net, images: Tensor, *, stem: int, widths: Sequence[Sequence[int]], last: int = 1280
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, last]. widths: as DEPTHS, by stages."""
    net = replace(net, activation="relu6")
    x = net.unit(images, stem, 3, "features.init_block", 2)
    for stage, runs in enumerate(zip(DEPTHS, widths, strict=True), start=1):
        filters = [width for depth, width in zip(*runs, strict=True) for _ in range(depth)]
        for i, width in enumerate(filters, start=1):
            stride = 2 if i == 1 and stage > 1 else 1
            expansion = 1 if (stage, i) == (1, 1) else 6
            x = inverted(net, x, width, expansion, stride, f"features.stage{stage}.unit{i}")
    return net.unit(x, last, 1, "features.final_block")


def inverted(net: Net, x: Tensor, width: int, expansion: int, stride: int, name: str) -> Tensor:
    """Figure 2d: both pointwise convolutions are in groups and linear, the channels dealt between them."""
    inner = expansion * x.shape[-1]
    y = net.norm(net.conv(x, inner, 1, f"{name}.conv1.conv", groups=GROUPS), f"{name}.conv1.bn")
    y = shuffle(y, GROUPS, f"{name}.c_shuffle")
    y = net.norm_act(net.depthwise(y, 3, f"{name}.conv2.conv", stride), f"{name}.conv2.bn")
    y = net.norm(net.conv(y, width, 1, f"{name}.conv3.conv", groups=GROUPS), f"{name}.conv3.bn")
    return layers.Add(name=f"{name}.add")([x, y]) if stride == 1 and x.shape[-1] == width else y
