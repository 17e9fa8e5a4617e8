"""EfficientNet. Tan and Le, "Rethinking model scaling", arXiv 1905.11946; V2: "Smaller models and faster
training", arXiv 2104.00298.

Lite is the authors' release for phones: no squeeze-and-excitation, ReLU6, stem and head not scaled.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from zoo.blocks import Net, Tensor, round_channels
from zoo.blocks.mobile import (
    Stage,
    Stages,
    context_of_input,
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


def efficientnet_pruned(
    net: Net, images: Tensor, *, width: float, depth: float, kept: Sequence[Sequence[int]]
) -> Tensor:
    """B1 to B3 without the channels that matter least. kept: of each stage but the first what is left: the
    channels, then of each block the expanded and the squeezed ones. Aflalo et al., arXiv 2002.08258.
    """
    first, *rest = scaled(B0, width, depth)
    stages: Stages = [first, *(pruned(rows[0], *left) for rows, left in zip(rest, kept, strict=True))]
    stem, head = round_channels(32 * width), round_channels(1280 * width)
    return network(replace(net, activation="silu"), images, stem, stages, head)


def pruned(stage: Stage, channels: int, *widths: int) -> tuple[Stage, ...]:
    """A row for each block."""
    stage = replace(stage, channels=channels, depth=1)
    blocks = list(zip(widths[::2], widths[1::2], strict=True))
    return tuple(
        replace(
            stage,
            block=partial(inverted_residual, width=width),
            stride=stage.stride if block == 0 else 1,
            attention=partial(squeezed_to, channels=squeezed),
        )
        for block, (width, squeezed) in enumerate(blocks)
    )


def squeezed_to(net: Net, y: Tensor, entering: int, name: str, channels: int) -> Tensor:
    return net.squeeze_excite(y, channels, name)


def efficientnet_lite(net: Net, images: Tensor, *, width: float, depth: float) -> Tensor:
    """Lite 0 to 4: the depth of the first and the last stage is not scaled either."""
    stages = scaled([replace(stage, attention=None) for stage in B0], width, depth, ends=False)
    return network(replace(net, activation="relu6"), images, 32, stages, 1280)


def efficientnet_edgetpu(net: Net, images: Tensor, *, width: float, depth: float) -> Tensor:
    """EdgeTPU S, M, L: full convolutions where the accelerator is faster with them, no attention."""
    stem, head = round_channels(32 * width), round_channels(1280 * width)
    return network(net, images, stem, scaled(EDGETPU, width, depth), head)


def mobilenet_edgetpu_v2(
    net: Net, images: Tensor, *, stem: Sequence[int], widths: Sequence[int], group_size: int, head: int
) -> Tensor:
    """MobileNet-EdgeTPU V2: EfficientNet-EdgeTPU's blocks, some in groups of `group_size` channels. Images,
    normalised -> feature map [N, H/32, W/32, head]. stem: channels and kernel.
    """
    grouped = partial(fused, group_size=group_size)
    a, b, c, d, e, f, g = widths
    stages: Stages = [
        Stage(conv_block, 1, a, skip=False),
        (Stage(fused, 3, b, 1, 2, 8), Stage(grouped, 3, b, 1, 1, 4)),
        (
            Stage(fused, 3, c, 1, 2, 8),
            Stage(grouped, 3, c, 1, 1, 4),
            Stage(fused, 3, c, 1, 1, 4),
            Stage(grouped, 3, c, 1, 1, 4),
        ),
        (Stage(fused, 3, d, 1, 2, 8), Stage(inverted_residual, 3, d, 3, 1, 4)),
        (Stage(inverted_residual, 3, e, 1, 1, 8), Stage(inverted_residual, 3, e, 3, 1, 4)),
        (Stage(inverted_residual, 3, f, 1, 2, 8), Stage(inverted_residual, 3, f, 3, 1, 4)),
        Stage(inverted_residual, 3, g, 1, 1, 8),
    ]
    return network(net, images, stem[0], stages, head, stem_kernel=stem[1])


def efficientnetv2(
    net: Net, images: Tensor, *, variant: str, width: float = 1, depth: float = 1, context: bool = False
) -> Tensor:
    """V2 S, M, L, XL, and timm's own S and M ("rw_s", "rw_m"): fused blocks first. context: see
    zoo.blocks.mobile.context_of_input.
    """
    stem, stages, head = V2[variant]
    if context:
        stages = [replace(s, attention=context_of_input) if s.attention else s for s in stages]
    stem, head = round_channels(stem * width), round_channels(head * width)
    return network(replace(net, activation="silu"), images, stem, scaled(stages, width, depth), head)


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
    "rw_m": (
        32,
        [
            Stage(fused, 3, 32, 3, 1),
            Stage(fused, 3, 56, 5, 2, 4),
            Stage(fused, 3, 80, 5, 2, 4),
            Stage(inverted_residual, 3, 152, 8, 2, 4, quarter_of_input),
            Stage(inverted_residual, 3, 192, 15, 1, 6, quarter_of_input),
            Stage(inverted_residual, 3, 328, 24, 2, 6, quarter_of_input),
        ],
        2152,
    ),
}
