"""MobileNet. Howard et al., "Efficient convolutional neural networks for mobile vision applications", arXiv
1704.04861; Qin et al., "FD-MobileNet: improved MobileNet with a fast downsampling strategy", arXiv
1802.03750.
"""

from dataclasses import replace

from zoo.blocks import Net, Tensor, round_channels
from zoo.blocks.mobile import Stage, Stages, scaled, separable, trunk


def mobilenetv1(net: Net, images: Tensor, *, width: float, head: int | None = None) -> Tensor:
    """Images, normalised -> feature map [N, H/32, W/32, C]. timm's "h" has one more convolution, the head."""
    net = replace(net, activation="relu6")
    x = net.conv_norm_act(images, round_channels(32 * width), 3, "conv_stem", "bn1", stride=2)
    x = trunk(net, x, scaled(STAGES, width))
    return net.conv_norm_act(x, head, 1, "conv_head", "bn2") if head else x


def fd_mobilenet(net: Net, images: Tensor, *, width: float) -> Tensor:
    """Images, normalised -> feature map [N, H/32, W/32, 1024 * width]. Halved five times in the first 12
    layers.
    """
    x = net.conv_norm_act(images, int(32 * width), 3, "conv_stem", "bn1", stride=2)
    return trunk(net, x, scaled(FAST_STAGES, width))


def separable_act(net: Net, x: Tensor, stage: Stage, name: str) -> Tensor:
    """Depthwise, then pointwise, each with norm and activation; no shortcut yet in 2017."""
    return net.act(separable(net, x, stage, name), f"{name}.bn2.act")


STAGES = [
    Stage(separable_act, 3, 64, 1, 1, skip=False),
    Stage(separable_act, 3, 128, 2, 2, skip=False),
    Stage(separable_act, 3, 256, 2, 2, skip=False),
    Stage(separable_act, 3, 512, 6, 2, skip=False),
    Stage(separable_act, 3, 1024, 2, 2, skip=False),
]

FAST_STAGES: Stages = [
    Stage(separable_act, 3, 64, 1, 2, skip=False),
    Stage(separable_act, 3, 128, 2, 2, skip=False),
    Stage(separable_act, 3, 256, 2, 2, skip=False),
    (Stage(separable_act, 3, 512, 5, 2, skip=False), Stage(separable_act, 3, 1024, skip=False)),
]
