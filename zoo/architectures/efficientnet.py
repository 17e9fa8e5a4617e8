"""EfficientNet. Tan and Le, "Rethinking model scaling", arXiv 1905.11946; V2: "Smaller models and faster
training", arXiv 2104.00298.

Lite is the authors' release for phones: no squeeze-and-excitation, ReLU6, stem and head not scaled.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from zoo.blocks import Net, Tensor, round_channels


@dataclass(frozen=True)
class Stage:
    """A row of the papers' tables: operator, kernel, channels, repeats, stride, expansion,
    squeeze-and-excitation ratio.
    """

    block: Callable[..., Tensor]
    kernel: int
    channels: int
    depth: int
    stride: int
    expand: int = 1
    se: float = 0.0


def efficientnet(net: Net, images: Tensor, *, width: float, depth: float) -> Tensor:
    """B0 to B7: compound scaling of width and depth. Images, normalised -> feature map [N, H/32, W/32, C]."""
    stages = [scaled(stage, width, depth) for stage in B0]
    return network(
        replace(net, activation="silu"),
        images,
        round_channels(32 * width),
        stages,
        round_channels(1280 * width),
    )


def efficientnet_lite(net: Net, images: Tensor, *, width: float, depth: float) -> Tensor:
    """Lite 0 to 4: the depth of the first and the last stage is not scaled either."""
    stages = [replace(scaled(stage, width, depth if 0 < i < 6 else 1), se=0) for i, stage in enumerate(B0)]
    return network(replace(net, activation="relu6"), images, 32, stages, 1280)


def efficientnetv2(net: Net, images: Tensor, *, variant: str) -> Tensor:
    """V2 S, M, L, and timm's own S ("rw_s"): fused blocks first."""
    stem, stages, head = V2[variant]
    return network(replace(net, activation="silu"), images, stem, stages, head)


def network(net: Net, x: Tensor, stem: int, stages: list[Stage], head: int) -> Tensor:
    x = net.conv_norm_act(x, stem, 3, "conv_stem", "bn1", stride=2)
    total = sum(stage.depth for stage in stages)
    done = 0
    for index, stage in enumerate(stages):
        for i in range(stage.depth):
            stride = stage.stride if i == 0 else 1
            y = stage.block(net, x, stage, stride, f"blocks.{index}.{i}")
            same_shape = stride == 1 and x.shape[-1] == y.shape[-1]
            x = net.add(x, y, f"blocks.{index}.{i}", done / total) if same_shape else y
            done += 1
    return net.conv_norm_act(x, head, 1, "conv_head", "bn2")


def conv_block(net: Net, x: Tensor, stage: Stage, stride: int, name: str) -> Tensor:
    return net.conv_norm_act(x, stage.channels, stage.kernel, f"{name}.conv", f"{name}.bn1", stride)


def separable(net: Net, x: Tensor, stage: Stage, stride: int, name: str) -> Tensor:
    """Depthwise, squeeze-and-excitation, linear projection."""
    y = net.norm_act(net.depthwise(x, stage.kernel, f"{name}.conv_dw", stride), f"{name}.bn1")
    y = attention(net, y, x, stage, name)
    return net.conv_norm(y, stage.channels, 1, f"{name}.conv_pw", f"{name}.bn2")


def inverted_residual(net: Net, x: Tensor, stage: Stage, stride: int, name: str) -> Tensor:
    """Expand, depthwise, squeeze-and-excitation, linear projection. Sandler et al., arXiv 1801.04381."""
    y = net.conv_norm_act(x, x.shape[-1] * stage.expand, 1, f"{name}.conv_pw", f"{name}.bn1")
    y = net.norm_act(net.depthwise(y, stage.kernel, f"{name}.conv_dw", stride), f"{name}.bn2")
    y = attention(net, y, x, stage, name)
    return net.conv_norm(y, stage.channels, 1, f"{name}.conv_pwl", f"{name}.bn3")


def fused(net: Net, x: Tensor, stage: Stage, stride: int, name: str) -> Tensor:
    """One full convolution instead of expansion and depthwise."""
    y = net.conv_norm_act(
        x, x.shape[-1] * stage.expand, stage.kernel, f"{name}.conv_exp", f"{name}.bn1", stride
    )
    return net.conv_norm(y, stage.channels, 1, f"{name}.conv_pwl", f"{name}.bn2")


def attention(net: Net, y: Tensor, block_input: Tensor, stage: Stage, name: str) -> Tensor:
    """The squeeze is a fraction of the channels that enter the block, not of the expanded ones."""
    squeezed = int(block_input.shape[-1] * stage.se)
    return net.squeeze_excite(y, squeezed, f"{name}.se") if squeezed else y


def scaled(stage: Stage, width: float, depth: float) -> Stage:
    return replace(
        stage, channels=round_channels(stage.channels * width), depth=math.ceil(stage.depth * depth)
    )


B0 = [
    Stage(separable, 3, 16, 1, 1, se=0.25),
    Stage(inverted_residual, 3, 24, 2, 2, 6, 0.25),
    Stage(inverted_residual, 5, 40, 2, 2, 6, 0.25),
    Stage(inverted_residual, 3, 80, 3, 2, 6, 0.25),
    Stage(inverted_residual, 5, 112, 3, 1, 6, 0.25),
    Stage(inverted_residual, 5, 192, 4, 2, 6, 0.25),
    Stage(inverted_residual, 3, 320, 1, 1, 6, 0.25),
]

# Stem channels, stages, head channels.
V2: dict[str, tuple[int, list[Stage], int]] = {
    "s": (
        24,
        [
            Stage(conv_block, 3, 24, 2, 1),
            Stage(fused, 3, 48, 4, 2, 4),
            Stage(fused, 3, 64, 4, 2, 4),
            Stage(inverted_residual, 3, 128, 6, 2, 4, 0.25),
            Stage(inverted_residual, 3, 160, 9, 1, 6, 0.25),
            Stage(inverted_residual, 3, 256, 15, 2, 6, 0.25),
        ],
        1280,
    ),
    "m": (
        24,
        [
            Stage(conv_block, 3, 24, 3, 1),
            Stage(fused, 3, 48, 5, 2, 4),
            Stage(fused, 3, 80, 5, 2, 4),
            Stage(inverted_residual, 3, 160, 7, 2, 4, 0.25),
            Stage(inverted_residual, 3, 176, 14, 1, 6, 0.25),
            Stage(inverted_residual, 3, 304, 18, 2, 6, 0.25),
            Stage(inverted_residual, 3, 512, 5, 1, 6, 0.25),
        ],
        1280,
    ),
    "l": (
        32,
        [
            Stage(conv_block, 3, 32, 4, 1),
            Stage(fused, 3, 64, 7, 2, 4),
            Stage(fused, 3, 96, 7, 2, 4),
            Stage(inverted_residual, 3, 192, 10, 2, 4, 0.25),
            Stage(inverted_residual, 3, 224, 19, 1, 6, 0.25),
            Stage(inverted_residual, 3, 384, 25, 2, 6, 0.25),
            Stage(inverted_residual, 3, 640, 7, 1, 6, 0.25),
        ],
        1280,
    ),
    "rw_s": (
        24,
        [
            Stage(fused, 3, 24, 2, 1),
            Stage(fused, 3, 48, 4, 2, 4),
            Stage(fused, 3, 64, 4, 2, 4),
            Stage(inverted_residual, 3, 128, 6, 2, 4, 0.25),
            Stage(inverted_residual, 3, 160, 9, 1, 6, 0.25),
            Stage(inverted_residual, 3, 272, 15, 2, 6, 0.25),
        ],
        1792,
    ),
}
