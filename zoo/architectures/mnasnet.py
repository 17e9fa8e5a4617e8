"""MnasNet. Tan et al., "Platform-aware neural architecture search for mobile", arXiv 1807.11626."""

from zoo.blocks import Net, Tensor, round_channels
from zoo.blocks.mobile import Stage, inverted_residual, network, quarter_of_input, scaled, separable


def mnasnet(net: Net, images: Tensor, *, variant: str, width: float) -> Tensor:
    """A1 (with attention), B1 (without), small. Images, normalised -> feature map [N, H/32, W/32, 1280]."""
    stem, stages = VARIANTS[variant]
    return network(net, images, round_channels(stem * width), scaled(stages, width), 1280)


# Stem channels, stages.
VARIANTS = {
    "a1": (
        32,
        [
            Stage(separable, 3, 16, 1, 1),
            Stage(inverted_residual, 3, 24, 2, 2, 6),
            Stage(inverted_residual, 5, 40, 3, 2, 3, quarter_of_input),
            Stage(inverted_residual, 3, 80, 4, 2, 6),
            Stage(inverted_residual, 3, 112, 2, 1, 6, quarter_of_input),
            Stage(inverted_residual, 5, 160, 3, 2, 6, quarter_of_input),
            Stage(inverted_residual, 3, 320, 1, 1, 6),
        ],
    ),
    "b1": (
        32,
        [
            Stage(separable, 3, 16, 1, 1),
            Stage(inverted_residual, 3, 24, 3, 2, 3),
            Stage(inverted_residual, 5, 40, 3, 2, 3),
            Stage(inverted_residual, 5, 80, 3, 2, 6),
            Stage(inverted_residual, 3, 96, 2, 1, 6),
            Stage(inverted_residual, 5, 192, 4, 2, 6),
            Stage(inverted_residual, 3, 320, 1, 1, 6),
        ],
    ),
    "small": (
        8,
        [
            Stage(separable, 3, 8, 1, 1),
            Stage(inverted_residual, 3, 16, 1, 2, 3),
            Stage(inverted_residual, 3, 16, 2, 2, 6),
            Stage(inverted_residual, 5, 32, 4, 2, 6, quarter_of_input),
            Stage(inverted_residual, 3, 32, 3, 1, 6, quarter_of_input),
            Stage(inverted_residual, 5, 88, 3, 2, 6, quarter_of_input),
            Stage(inverted_residual, 3, 144, 1, 1, 6),
        ],
    ),
}
