"""MobileNetV4, the convolutional ones. Qin et al., "Universal models for the mobile ecosystem", arXiv
2404.10518.
"""

from dataclasses import replace
from functools import partial

from zoo.blocks import Net, Tensor
from zoo.blocks.mobile import Stage, Stages, conv_block, expanded, fused, scaled, smoothed, trunk


def mobilenetv4(net: Net, images: Tensor, *, size: str, width: float = 1.0, smooth: str = "") -> Tensor:
    """Images, normalised -> [N, 1, 1, 1280]. Widths below 1 keep the stem. smooth: see zoo.blocks.halved."""
    x = net.conv_norm_act(images, STEMS[size], 3, "conv_stem", "bn1", stride=2)
    stages = [tuple(replace(row, smooth=smooth) for row in stage) for stage in scaled(STAGES[size], width)]
    x = trunk(net, x, stages)
    x = net.global_pool(x, "head_pool", keepdims=True)
    return net.conv_norm_act(x, 1280, 1, "conv_head", "norm_head")


def universal(net: Net, x: Tensor, stage: Stage, name: str, start: int) -> Tensor:
    """Up to two depthwise convolutions, before (`start`) and after the expansion (the stage's kernel), 0 for
    none: the inverted residual, ConvNeXt's block, the feed-forward net, and one with both.
    """
    if start:
        early = 1 if stage.kernel else stage.conv_stride
        x = net.norm(net.depthwise(x, start, f"{name}.dw_start.conv", early), f"{name}.dw_start.bn")
        x = x if stage.kernel else smoothed(x, stage, f"{name}.dw_start.aa")
    x = net.unit(x, expanded(x, stage), 1, f"{name}.pw_exp")
    if stage.kernel:
        x = net.depthwise(x, stage.kernel, f"{name}.dw_mid.conv", stage.conv_stride)
        x = smoothed(net.norm_act(x, f"{name}.dw_mid.bn"), stage, f"{name}.dw_mid.aa")
    return net.conv_norm(x, stage.channels, 1, f"{name}.pw_proj.conv", f"{name}.pw_proj.bn")


def uib(start: int, kernel: int, channels: int, expand: float, stride: int = 1, depth: int = 1) -> Stage:
    return Stage(partial(universal, start=start), kernel, channels, depth, stride, expand)


STEMS = {"small": 32, "medium": 32, "large": 24}

STAGES: dict[str, Stages] = {
    "small": [
        (Stage(conv_block, 3, 32, 1, 2, skip=False), Stage(conv_block, 1, 32, skip=False)),
        (Stage(conv_block, 3, 96, 1, 2, skip=False), Stage(conv_block, 1, 64, skip=False)),
        (uib(5, 5, 96, 3, 2), uib(0, 3, 96, 2, depth=4), uib(3, 0, 96, 4)),
        (
            uib(3, 3, 128, 6, 2),
            uib(5, 5, 128, 4),
            uib(0, 5, 128, 4),
            uib(0, 5, 128, 3),
            uib(0, 3, 128, 4, depth=2),
        ),
        Stage(conv_block, 1, 960),
    ],
    "medium": [
        Stage(fused, 3, 48, 1, 2, 4),
        (uib(3, 5, 80, 4, 2), uib(3, 3, 80, 2)),
        (
            uib(3, 5, 160, 6, 2),
            uib(3, 3, 160, 4, depth=2),
            uib(3, 5, 160, 4),
            uib(3, 3, 160, 4),
            uib(3, 0, 160, 4),
            uib(0, 0, 160, 2),
            uib(3, 0, 160, 4),
        ),
        (
            uib(5, 5, 256, 6, 2),
            uib(5, 5, 256, 4),
            uib(3, 5, 256, 4, depth=2),
            uib(0, 0, 256, 4),
            uib(3, 0, 256, 4),
            uib(3, 5, 256, 2),
            uib(5, 5, 256, 4),
            uib(0, 0, 256, 4, depth=2),
            uib(5, 0, 256, 2),
        ),
        Stage(conv_block, 1, 960),
    ],
    "large": [
        Stage(fused, 3, 48, 1, 2, 4),
        (uib(3, 5, 96, 4, 2), uib(3, 3, 96, 4)),
        (
            uib(3, 5, 192, 4, 2),
            uib(3, 3, 192, 4, depth=3),
            uib(3, 5, 192, 4),
            uib(5, 3, 192, 4, depth=5),
            uib(3, 0, 192, 4),
        ),
        (
            uib(5, 5, 512, 4, 2),
            uib(5, 5, 512, 4, depth=3),
            uib(5, 0, 512, 4),
            uib(5, 3, 512, 4),
            uib(5, 0, 512, 4, depth=2),
            uib(5, 3, 512, 4),
            uib(5, 5, 512, 4),
            uib(5, 0, 512, 4, depth=3),
        ),
        Stage(conv_block, 1, 960),
    ],
}
