"""FBNet. Wu et al., "FBNet: hardware-aware efficient ConvNet design via differentiable neural architecture
search", arXiv 1812.03443; V3: Dai et al., "FBNetV3: joint architecture-recipe search using predictor
pretraining", arXiv 2006.02049.
"""

from collections.abc import Callable
from dataclasses import replace

from zoo.blocks import Net, Tensor, round_channels
from zoo.blocks.mobile import (
    Stage,
    Stages,
    conv_block,
    inverted_residual,
    late_head,
    network,
    separable,
    trunk,
)

Attention = Callable[[Net, Tensor, int, str], Tensor]


def fbnetc(net: Net, images: Tensor) -> Tensor:
    """FBNet-C. Images, normalised -> feature map [N, H/32, W/32, 1984]."""
    return network(net, images, 16, C, 1984)


def fbnetv3(net: Net, images: Tensor, *, variant: str) -> Tensor:
    """B, D, G. Images, normalised -> [N, 1, 1, 1984]."""
    stem, stages = V3[variant]
    net = replace(net, activation="hard_swish")
    x = net.conv_norm_act(images, stem, 3, "conv_stem", "bn1", stride=2)
    return late_head(net, trunk(net, x, stages), 1984, bias=False)


def attention(net: Net, y: Tensor, entering: int, name: str) -> Tensor:
    """A quarter of the channels that enter the block, hardly ever rounded down."""
    return net.squeeze_excite(y, round_channels(entering / 4, limit=0.95), name, gate="hard_sigmoid")


def rows(
    kernels: tuple[int, int],
    channels: int,
    depth: int,
    stride: int,
    expand: tuple[int, int],
    attention: Attention | None = None,
) -> tuple[Stage, Stage]:
    """A first block, then `depth` more with another kernel and expansion."""
    return (
        Stage(inverted_residual, kernels[0], channels, 1, stride, expand[0], attention),
        Stage(inverted_residual, kernels[1], channels, depth, 1, expand[1], attention),
    )


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

# Stem channels, stages.
V3: dict[str, tuple[int, Stages]] = {
    "b": (
        16,
        [
            Stage(separable, 3, 16, 2),
            rows((5, 5), 24, 3, 2, (4, 2)),
            rows((5, 5), 40, 4, 2, (5, 3), attention),
            rows((5, 3), 72, 4, 2, (5, 3)),
            rows((3, 5), 120, 5, 1, (5, 3), attention),
            (
                *rows((3, 5), 184, 5, 2, (6, 4), attention),
                Stage(inverted_residual, 5, 224, 1, 1, 6, attention),
            ),
            Stage(conv_block, 1, 1344),
        ],
    ),
    "d": (
        24,
        [
            Stage(separable, 3, 16, 2),
            rows((3, 3), 24, 5, 2, (5, 2)),
            rows((5, 3), 40, 4, 2, (4, 3), attention),
            rows((3, 3), 72, 4, 2, (5, 3)),
            rows((3, 5), 128, 6, 1, (5, 3), attention),
            (
                *rows((3, 5), 208, 5, 2, (6, 5), attention),
                Stage(inverted_residual, 5, 240, 1, 1, 6, attention),
            ),
            Stage(conv_block, 1, 1440),
        ],
    ),
    "g": (
        32,
        [
            Stage(separable, 3, 24, 3),
            rows((5, 5), 40, 4, 2, (4, 2)),
            rows((5, 5), 56, 4, 2, (4, 3), attention),
            rows((5, 3), 104, 4, 2, (5, 3)),
            rows((3, 5), 160, 8, 1, (5, 3), attention),
            (
                *rows((3, 5), 264, 6, 2, (6, 5), attention),
                Stage(inverted_residual, 5, 288, 2, 1, 6, attention),
            ),
            Stage(conv_block, 1, 1728),
        ],
    ),
}
