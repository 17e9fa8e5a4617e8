"""TinyNet. Han et al., "Model Rubik's cube: twisting resolution, depth and width for TinyNets", arXiv
2010.14819.
"""

from dataclasses import replace

from zoo.architectures.efficientnet import B0
from zoo.blocks import Net, Tensor
from zoo.blocks.mobile import network, scaled


def tinynet(net: Net, images: Tensor, *, width: float, depth: float) -> Tensor:
    """EfficientNet-B0 made smaller: repeats are rounded to the nearest, stem and head are not scaled.

    Images, normalised -> feature map [N, H/32, W/32, 1280].
    """
    stages = [replace(stage, depth=max(1, round(stage.depth * depth))) for stage in B0]
    return network(replace(net, activation="silu"), images, 32, scaled(stages, width), 1280)
