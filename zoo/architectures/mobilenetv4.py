"""MobileNetV4. Qin et al., "Universal models for the mobile ecosystem", arXiv 2404.10518. The hybrid networks
have attention late in it, and layer scale.
"""

from dataclasses import replace
from functools import partial

from zoo.blocks import Net, Tensor, smoothed
from zoo.blocks.mobile import Stage, Stages, conv_block, expanded, fused, scaled, trunk
from zoo.layers import MultiQueryAttention, Scale


def mobilenetv4(net: Net, images: Tensor, *, size: str, width: float = 1.0, smooth: str = "") -> Tensor:
    """Images, normalised -> [N, 1, 1, 1280]. Widths below 1 keep the stem; smooth: see blocks.smoothed."""
    net = replace(net, activation="gelu" if size == "hybrid_large" else net.activation)
    x = net.conv_norm_act(images, STEMS[size], 3, "conv_stem", "bn1", stride=2)
    stages = [tuple(replace(row, smooth=smooth) for row in stage) for stage in scaled(STAGES[size], width)]
    x = trunk(net, x, stages)
    x = net.global_pool(x, "head_pool", keepdims=True)
    return net.conv_norm_act(x, 1280, 1, "conv_head", "norm_head")


def universal(net: Net, x: Tensor, stage: Stage, name: str, start: int, scale: bool) -> Tensor:
    """Up to two depthwise convolutions, before (`start`) and after the expansion (the stage's kernel), 0 for
    none: the inverted residual, ConvNeXt's block, the feed-forward net, and one with both. With layer scale
    in the hybrid networks.
    """
    if start:
        early = 1 if stage.kernel else stage.conv_stride
        x = net.norm(net.depthwise(x, start, f"{name}.dw_start.conv", early), f"{name}.dw_start.bn")
        x = x if stage.kernel else smoothed(x, stage.smooth, stage.stride, f"{name}.dw_start.aa")
    x = net.unit(x, expanded(x, stage), 1, f"{name}.pw_exp")
    if stage.kernel:
        x = net.depthwise(x, stage.kernel, f"{name}.dw_mid.conv", stage.conv_stride)
        x = smoothed(net.norm_act(x, f"{name}.dw_mid.bn"), stage.smooth, stage.stride, f"{name}.dw_mid.aa")
    x = net.conv_norm(x, stage.channels, 1, f"{name}.pw_proj.conv", f"{name}.pw_proj.bn")
    return Scale(LAYER_SCALE, name=f"{name}.layer_scale")(x) if scale else x


def attention(net: Net, x: Tensor, stage: Stage, name: str, heads: int, size: int) -> Tensor:
    """Heads of `size` channels that share keys and values; those are of half of the map where the stage has a
    kernel.
    """
    y = net.norm(x, f"{name}.norm")
    shared = [projected(net, y, stage.kernel, size, f"{name}.attn.{part}") for part in ("key", "value")]
    queries = net.conv(y, heads * size, 1, f"{name}.attn.query.proj")
    y = MultiQueryAttention(heads, name=f"{name}.attn")([queries, *shared])
    y = net.conv(y, stage.channels, 1, f"{name}.attn.output.proj")
    return Scale(LAYER_SCALE, name=f"{name}.layer_scale")(y)


def projected(net: Net, x: Tensor, kernel: int, size: int, name: str) -> Tensor:
    if kernel:
        x = net.norm(net.depthwise(x, kernel, f"{name}.down_conv", 2), f"{name}.norm")
    return net.conv(x, size, 1, f"{name}.proj")


def uib(
    start: int,
    kernel: int,
    channels: int,
    expand: float,
    stride: int = 1,
    depth: int = 1,
    scale: bool = False,
) -> Stage:
    return Stage(partial(universal, start=start, scale=scale), kernel, channels, depth, stride, expand)


def mqa(kernel: int, channels: int, heads: int, size: int) -> Stage:
    return Stage(partial(attention, heads=heads, size=size), kernel, channels)


LAYER_SCALE = 1e-5
STEMS = {"small": 32, "medium": 32, "large": 24, "hybrid_medium": 32, "hybrid_large": 24}
hib = partial(uib, scale=True)

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
    "hybrid_medium": [
        Stage(fused, 3, 48, 1, 2, 4),
        (hib(3, 5, 80, 4, 2), hib(3, 3, 80, 2)),
        (
            hib(3, 5, 160, 6, 2),
            hib(0, 0, 160, 2),
            hib(3, 3, 160, 4),
            hib(3, 5, 160, 4),
            mqa(3, 160, 4, 64),
            hib(3, 3, 160, 4),
            mqa(3, 160, 4, 64),
            hib(3, 0, 160, 4),
            mqa(3, 160, 4, 64),
            hib(3, 3, 160, 4),
            mqa(3, 160, 4, 64),
            hib(3, 0, 160, 4),
        ),
        (
            hib(5, 5, 256, 6, 2),
            hib(5, 5, 256, 4),
            hib(3, 5, 256, 4, depth=2),
            hib(0, 0, 256, 2),
            hib(3, 5, 256, 2),
            hib(0, 0, 256, 2),
            hib(0, 0, 256, 4),
            mqa(0, 256, 4, 64),
            hib(3, 0, 256, 4),
            mqa(0, 256, 4, 64),
            hib(5, 5, 256, 4),
            mqa(0, 256, 4, 64),
            hib(5, 0, 256, 4),
            mqa(0, 256, 4, 64),
            hib(5, 0, 256, 4),
        ),
        Stage(conv_block, 1, 960),
    ],
    "hybrid_large": [
        Stage(fused, 3, 48, 1, 2, 4),
        (hib(3, 5, 96, 4, 2), hib(3, 3, 96, 4)),
        (
            hib(3, 5, 192, 4, 2),
            hib(3, 3, 192, 4, depth=3),
            hib(3, 5, 192, 4),
            hib(5, 3, 192, 4, depth=2),
            mqa(3, 192, 8, 48),
            hib(5, 3, 192, 4),
            mqa(3, 192, 8, 48),
            hib(5, 3, 192, 4),
            mqa(3, 192, 8, 48),
            hib(5, 3, 192, 4),
            mqa(3, 192, 8, 48),
            hib(3, 0, 192, 4),
        ),
        (
            hib(5, 5, 512, 4, 2),
            hib(5, 5, 512, 4, depth=3),
            hib(5, 0, 512, 4),
            hib(5, 3, 512, 4),
            hib(5, 0, 512, 4, depth=2),
            hib(5, 3, 512, 4),
            hib(5, 5, 512, 4),
            mqa(0, 512, 8, 64),
            hib(5, 0, 512, 4),
            mqa(0, 512, 8, 64),
            hib(5, 0, 512, 4),
            mqa(0, 512, 8, 64),
            hib(5, 0, 512, 4),
            mqa(0, 512, 8, 64),
            hib(5, 0, 512, 4),
        ),
        Stage(conv_block, 1, 960),
    ],
}
