"""EfficientNet. Tan and Le, "Rethinking model scaling", arXiv 1905.11946; V2: "Smaller models and faster
training", arXiv 2104.00298.

Lite is the authors' release for phones: no squeeze-and-excitation, ReLU6, stem and head not scaled.
"""

from dataclasses import replace

from zoo.blocks import Net, Tensor, round_channels
from zoo.blocks.mobile import (
    Stage,
    conv_block,
    fused,
    inverted_residual,
    network,
    quarter_of_input,
    scaled,
    separable,
)


def efficientnet(net: Net, images: Tensor, *, width: float, depth: float) -> Tensor:
    """B0 to B8 and L2: compound scaling. Images, normalised -> feature map [N, H/32, W/32, C]."""
    stem, head = round_channels(32 * width), round_channels(1280 * width)
    return network(replace(net, activation="silu"), images, stem, scaled(B0, width, depth), head)


def efficientnet_lite(net: Net, images: Tensor, *, width: float, depth: float) -> Tensor:
    """Lite 0 to 4: the depth of the first and the last stage is not scaled either."""
    stages = scaled([replace(stage, attention=None) for stage in B0], width, depth, ends=False)
    return network(replace(net, activation="relu6"), images, 32, stages, 1280)


def efficientnet_edgetpu(net: Net, images: Tensor, *, width: float, depth: float) -> Tensor:
    """EdgeTPU S, M, L: full convolutions where the accelerator is faster with them, no attention."""
    stem, head = round_channels(32 * width), round_channels(1280 * width)
    return network(net, images, stem, scaled(EDGETPU, width, depth), head)


def efficientnetv2(net: Net, images: Tensor, *, variant: str) -> Tensor:
    """V2 S, M, L, XL, and timm's own S ("rw_s"): fused blocks first."""
    stem, stages, head = V2[variant]
    return network(replace(net, activation="silu"), images, stem, stages, head)


def efficientnetv2_base(net: Net, images: Tensor, *, width: float, depth: float) -> Tensor:
    """V2 B0 to B3: channels are rounded to the nearest multiple of 8, however far down."""
    stages = scaled(V2_BASE, width, depth, rounded=nearest)
    stem, head = nearest(32 * width), nearest(1280 * width)
    return network(replace(net, activation="silu"), images, stem, stages, head)


def nearest(channels: float) -> int:
    return int(channels + 4) // 8 * 8


def fused_wide(net: Net, x: Tensor, stage: Stage, name: str) -> Tensor:
    """EdgeTPU's first stage expands from the channels that it gives, not from those it takes."""
    return fused(net, x, replace(stage, expand=stage.channels * stage.expand / x.shape[-1]), name)


B0 = [
    Stage(separable, 3, 16, 1, 1, attention=quarter_of_input),
    Stage(inverted_residual, 3, 24, 2, 2, 6, quarter_of_input),
    Stage(inverted_residual, 5, 40, 2, 2, 6, quarter_of_input),
    Stage(inverted_residual, 3, 80, 3, 2, 6, quarter_of_input),
    Stage(inverted_residual, 5, 112, 3, 1, 6, quarter_of_input),
    Stage(inverted_residual, 5, 192, 4, 2, 6, quarter_of_input),
    Stage(inverted_residual, 3, 320, 1, 1, 6, quarter_of_input),
]

EDGETPU = [
    Stage(fused_wide, 3, 24, 1, 1, 4, skip=False),
    Stage(fused, 3, 32, 2, 2, 8),
    Stage(fused, 3, 48, 4, 2, 8),
    Stage(inverted_residual, 5, 96, 5, 2, 8),
    Stage(inverted_residual, 5, 144, 4, 1, 8),
    Stage(inverted_residual, 5, 192, 2, 2, 8),
]

V2_BASE = [
    Stage(conv_block, 3, 16, 1, 1),
    Stage(fused, 3, 32, 2, 2, 4),
    Stage(fused, 3, 48, 2, 2, 4),
    Stage(inverted_residual, 3, 96, 3, 2, 4, quarter_of_input),
    Stage(inverted_residual, 3, 112, 5, 1, 6, quarter_of_input),
    Stage(inverted_residual, 3, 192, 8, 2, 6, quarter_of_input),
]

# Stem channels, stages, head channels.
V2: dict[str, tuple[int, list[Stage], int]] = {
    "s": (
        24,
        [
            Stage(conv_block, 3, 24, 2, 1),
            Stage(fused, 3, 48, 4, 2, 4),
            Stage(fused, 3, 64, 4, 2, 4),
            Stage(inverted_residual, 3, 128, 6, 2, 4, quarter_of_input),
            Stage(inverted_residual, 3, 160, 9, 1, 6, quarter_of_input),
            Stage(inverted_residual, 3, 256, 15, 2, 6, quarter_of_input),
        ],
        1280,
    ),
    "m": (
        24,
        [
            Stage(conv_block, 3, 24, 3, 1),
            Stage(fused, 3, 48, 5, 2, 4),
            Stage(fused, 3, 80, 5, 2, 4),
            Stage(inverted_residual, 3, 160, 7, 2, 4, quarter_of_input),
            Stage(inverted_residual, 3, 176, 14, 1, 6, quarter_of_input),
            Stage(inverted_residual, 3, 304, 18, 2, 6, quarter_of_input),
            Stage(inverted_residual, 3, 512, 5, 1, 6, quarter_of_input),
        ],
        1280,
    ),
    "l": (
        32,
        [
            Stage(conv_block, 3, 32, 4, 1),
            Stage(fused, 3, 64, 7, 2, 4),
            Stage(fused, 3, 96, 7, 2, 4),
            Stage(inverted_residual, 3, 192, 10, 2, 4, quarter_of_input),
            Stage(inverted_residual, 3, 224, 19, 1, 6, quarter_of_input),
            Stage(inverted_residual, 3, 384, 25, 2, 6, quarter_of_input),
            Stage(inverted_residual, 3, 640, 7, 1, 6, quarter_of_input),
        ],
        1280,
    ),
    "xl": (
        32,
        [
            Stage(conv_block, 3, 32, 4, 1),
            Stage(fused, 3, 64, 8, 2, 4),
            Stage(fused, 3, 96, 8, 2, 4),
            Stage(inverted_residual, 3, 192, 16, 2, 4, quarter_of_input),
            Stage(inverted_residual, 3, 256, 24, 1, 6, quarter_of_input),
            Stage(inverted_residual, 3, 512, 32, 2, 6, quarter_of_input),
            Stage(inverted_residual, 3, 640, 8, 1, 6, quarter_of_input),
        ],
        1280,
    ),
    "rw_s": (
        24,
        [
            Stage(fused, 3, 24, 2, 1),
            Stage(fused, 3, 48, 4, 2, 4),
            Stage(fused, 3, 64, 4, 2, 4),
            Stage(inverted_residual, 3, 128, 6, 2, 4, quarter_of_input),
            Stage(inverted_residual, 3, 160, 9, 1, 6, quarter_of_input),
            Stage(inverted_residual, 3, 272, 15, 2, 6, quarter_of_input),
        ],
        1792,
    ),
}
