"""MobileNetV2. Sandler et al., "Inverted residuals and linear bottlenecks", arXiv 1801.04381."""

from dataclasses import replace

from zoo.blocks import Net, Tensor, round_channels
from zoo.blocks.mobile import Stage, inverted_residual, network, scaled, separable


def mobilenetv2(net: Net, images: Tensor, *, width: float) -> Tensor:
    """Images, normalised -> feature map [N, H/32, W/32, C]; the last layer is never thinner than 1280."""
    stem, head = round_channels(32 * width), max(1280, round_channels(1280 * width))
    return network(replace(net, activation="relu6"), images, stem, scaled(STAGES, width), head)


def mobilenetv2_deep(net: Net, images: Tensor, *, width: float, depth: float) -> Tensor:
    """timm's "d": deeper, too, between the stem and the head, which stay."""
    stages = scaled(STAGES, width, depth, ends=False)
    return network(replace(net, activation="relu6"), images, 32, stages, 1280)


STAGES = [
    Stage(separable, 3, 16, 1, 1),
    Stage(inverted_residual, 3, 24, 2, 2, 6),
    Stage(inverted_residual, 3, 32, 3, 2, 6),
    Stage(inverted_residual, 3, 64, 4, 2, 6),
    Stage(inverted_residual, 3, 96, 3, 1, 6),
    Stage(inverted_residual, 3, 160, 3, 2, 6),
    Stage(inverted_residual, 3, 320, 1, 1, 6),
]
