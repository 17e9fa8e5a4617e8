"""Single-Path NAS. Stamoulis et al., "Designing hardware-efficient ConvNets in less than 4 hours", arXiv
1904.02877.
"""

from zoo.blocks import Net, Tensor
from zoo.blocks.mobile import Stage, Stages, inverted_residual, network, separable


def spnasnet(net: Net, images: Tensor) -> Tensor:
    """Images, normalised -> feature map [N, H/32, W/32, 1280]."""
    return network(net, images, 32, STAGES, 1280)


STAGES: Stages = [
    Stage(separable, 3, 16, skip=False),
    Stage(inverted_residual, 3, 24, 3, 2, 3),
    (Stage(inverted_residual, 5, 40, 1, 2, 6), Stage(inverted_residual, 3, 40, 3, 1, 3)),
    (Stage(inverted_residual, 5, 80, 1, 2, 6), Stage(inverted_residual, 3, 80, 3, 1, 3)),
    (Stage(inverted_residual, 5, 96, 1, 1, 6), Stage(inverted_residual, 5, 96, 3, 1, 3)),
    Stage(inverted_residual, 5, 192, 4, 2, 6),
    Stage(inverted_residual, 3, 320, 1, 1, 6, skip=False),
]
