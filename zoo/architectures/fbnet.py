"""FBNet. Wu et al., "FBNet: hardware-aware efficient ConvNet design via differentiable neural architecture
search", arXiv 1812.03443.
"""

from zoo.blocks import Net, Tensor
from zoo.blocks.mobile import Stage, Stages, inverted_residual, network


def fbnetc(net: Net, images: Tensor) -> Tensor:
    """FBNet-C. Images, normalised -> feature map [N, H/32, W/32, 1984]."""
    return network(net, images, 16, C, 1984)


C: Stages = [
    Stage(inverted_residual, 3, 16, 1, 1, 1),
    (Stage(inverted_residual, 3, 24, 1, 2, 6), Stage(inverted_residual, 3, 24, 2, 1, 1)),
    (
        Stage(inverted_residual, 5, 32, 1, 2, 6),
        Stage(inverted_residual, 5, 32, 1, 1, 3),
        Stage(inverted_residual, 5, 32, 1, 1, 6),
        Stage(inverted_residual, 3, 32, 1, 1, 6),
    ),
    (
        Stage(inverted_residual, 5, 64, 1, 2, 6),
        Stage(inverted_residual, 5, 64, 1, 1, 3),
        Stage(inverted_residual, 5, 64, 2, 1, 6),
    ),
    (Stage(inverted_residual, 5, 112, 3, 1, 6), Stage(inverted_residual, 5, 112, 1, 1, 3)),
    Stage(inverted_residual, 5, 184, 4, 2, 6),
    Stage(inverted_residual, 3, 352, 1, 1, 6),
]
