"""HardCoRe-NAS. Nayman et al., "HardCoRe-NAS: hard constrained differentiable neural architecture search",
arXiv 2102.11646: MobileNetV3's blocks, searched for a latency.
"""

from collections.abc import Sequence
from dataclasses import replace

from zoo.blocks import Net, Tensor
from zoo.blocks.mobile import (
    Stage,
    conv_block,
    hard_attention,
    inverted_residual,
    late_head,
    separable,
    trunk,
)

CHANNELS = (24, 40, 80, 112, 192)
STRIDES = (2, 2, 2, 1, 2)
SIMPLE = 2  # the first stages, activated by a ReLU


def hardcorenas(net: Net, images: Tensor, *, stages: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """Images, normalised -> [N, 1, 1, 1280]. stages: kernel, expansion, attention (0 or 1) of each block."""
    net = replace(net, activation="hard_swish")
    x = net.conv_norm_act(images, 32, 3, "conv_stem", "bn1", stride=2)
    rows = [searched(number, stage) for number, stage in enumerate(stages)]
    first = Stage(separable, 3, 16, activation="relu")
    return late_head(net, trunk(net, x, [first, *rows, Stage(conv_block, 1, 960, skip=False)]), 1280)


def searched(number: int, blocks: Sequence[Sequence[int]]) -> tuple[Stage, ...]:
    return tuple(
        Stage(
            inverted_residual,
            kernel,
            CHANNELS[number],
            stride=STRIDES[number] if i == 0 else 1,
            expand=expand,
            attention=hard_attention if attention else None,
            activation="relu" if number < SIMPLE else None,
        )
        for i, (kernel, expand, attention) in enumerate(blocks)
    )
