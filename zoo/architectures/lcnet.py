"""PP-LCNet. Cui et al., "PP-LCNet: a lightweight CPU convolutional neural network", arXiv 2109.15099."""

from dataclasses import replace

from zoo.architectures.mobilenetv3 import hard_attention
from zoo.blocks import Net, Tensor, round_channels
from zoo.blocks.mobile import Stage, Stages, late_head, scaled, separable, trunk


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


STAGES: Stages = [
    Stage(active, 3, 32, skip=False),
    Stage(active, 3, 64, 2, 2, skip=False),
    Stage(active, 3, 128, 2, 2, skip=False),
    (Stage(active, 3, 256, 1, 2, skip=False), Stage(active, 5, 256, skip=False)),
    Stage(active, 5, 256, 4, skip=False),
    Stage(active, 5, 512, 2, 2, attention=hard_attention, skip=False),
]
