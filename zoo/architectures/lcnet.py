"""PP-LCNet. Cui et al., "PP-LCNet: a lightweight CPU convolutional neural network", arXiv 2109.15099."""

from collections.abc import Sequence
from dataclasses import replace

from keras import layers

from zoo.blocks import Net, Tensor, round_channels
from zoo.blocks.mobile import Stage, Stages, hard_attention, late_head, scaled, separable, trunk


def lcnet(net: Net, images: Tensor, *, width: float) -> Tensor:
    """MobileNet's plain chain with what a CPU has for nothing: hard swish, large kernels and attention late,
    a wide layer behind the pool. Images, normalised -> [N, 1, 1, 1280].
    """
    net = replace(net, activation="hard_swish")
    x = net.conv_norm_act(images, round_channels(16 * width), 3, "conv_stem", "bn1", stride=2)
    return late_head(net, trunk(net, x, scaled(STAGES, width)), 1280)


def active(net: Net, x: Tensor, stage: Stage, name: str) -> Tensor:
    """Depthwise separable, activated at its end, too."""
    return net.act(separable(net, x, stage, name), f"{name}.bn2.act")


def lcnetv2(net: Net, images: Tensor, *, width: float, depths: Sequence[int]) -> Tensor:
    """V2: ReLU, and what is a sum of depthwise branches in training. PaddleClas's; not in a paper."""
    x = net.unit(images, round_channels(32 * width), 3, "stem.0", 2)
    x = net.unit(plain(net, x, 3, 1, "stem.1"), round_channels(64 * width), 1, "stem.1.pw_conv")
    for stage, (depth, channels) in enumerate(zip(depths, V2_CHANNELS, strict=True)):
        for i in range(depth):
            stride, name = 1 if i else 2, f"stages.{stage}.{i}"
            x = V2_BLOCKS[stage](net, x, round_channels(channels * width), stride, name)
    return late_head(net, x, 1280, bias=False)


def early(net: Net, x: Tensor, channels: int, stride: int, name: str) -> Tensor:
    return net.unit(plain(net, x, 3, stride, name), channels, 1, f"{name}.pw_conv")


def middle(net: Net, x: Tensor, channels: int, stride: int, name: str) -> Tensor:
    """With attention, and through half of the channels."""
    y = branched(net, x, 5, stride, name)
    y = net.squeeze_excite(y, y.shape[-1] // 4, f"{name}.se", convs=("fc1", "fc2"))
    return net.unit(net.unit(y, channels // 2, 1, f"{name}.pw_conv.0"), channels, 1, f"{name}.pw_conv.1")


def late(net: Net, x: Tensor, channels: int, stride: int, name: str) -> Tensor:
    y = net.unit(branched(net, x, 5, stride, name), channels, 1, f"{name}.pw_conv")
    return y if stride > 1 else layers.Add(name=f"{name}.add")([x, y])


def plain(net: Net, x: Tensor, kernel: int, stride: int, name: str) -> Tensor:
    return net.norm_act(net.depthwise(x, kernel, f"{name}.dw_conv.conv", stride), f"{name}.dw_conv.bn")


def branched(net: Net, x: Tensor, kernel: int, stride: int, name: str) -> Tensor:
    """A sum of ever smaller kernels; one of 1x1 only where the map keeps its size."""
    kernels = range(kernel, 1 if stride > 1 else 0, -2)
    found = []
    for i, size in enumerate(kernels):
        part = f"{name}.dw_conv_list.{i}"
        found.append(net.norm(net.depthwise(x, size, f"{part}.conv", stride), f"{part}.bn"))
    return net.act(layers.Add(name=f"{name}.sum")(found), f"{name}.dw_act")


V2_CHANNELS = (128, 256, 512, 1024)
V2_BLOCKS = (early, early, middle, late)

STAGES: Stages = [
    Stage(active, 3, 32, skip=False),
    Stage(active, 3, 64, 2, 2, skip=False),
    Stage(active, 3, 128, 2, 2, skip=False),
    (Stage(active, 3, 256, 1, 2, skip=False), Stage(active, 5, 256, skip=False)),
    Stage(active, 5, 256, 4, skip=False),
    Stage(active, 5, 512, 2, 2, attention=hard_attention, skip=False),
]
