"""MobileViT. Mehta and Rastegari, "MobileViT: Light-weight, general-purpose, and mobile-friendly vision
transformer", arXiv 2110.02178; V2, "Separable self-attention for mobile vision transformers", arXiv
2206.02680: inverted residuals, and transformers in which a place attends to every other one in rows and
columns; the convolutions around them see the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from zoo.blocks import LayerNet, Net, Tensor, concatenate, map_norm, round_channels
from zoo.layers import SeparableAttention, SpacedAttention, Stretch

HEADS = 4
STEP = 2  # between the places that attend to each other
EXPANSION = 2  # of the transformers' perceptrons
STAGES = 5
TRANSFORMED = 2  # the first stage with transformers
TRANSFORMERS = (2, 4, 3)  # of the stages from there on
Transform = Callable[[Net, Tensor, int, str], Tensor]  # map, stage, name -> map


def mobilevit(
    net: Net, images: Tensor, *, widths: Sequence[int], inner: Sequence[int], expand: int, head: int
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, head].

    inner: the channels of the transformers; expand: of the inverted residuals.
    """
    net = replace(net, activation="silu")
    x = net.unit(images, 16, 3, "stem", 2)
    x = stages(net, x, widths, (1, 3, 1, 1, 1), expand, partial(transform, inner=inner))
    return net.unit(x, head, 1, "final_conv")


def mobilevitv2(net: Net, images: Tensor, *, width: float) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 512 * width]."""
    net = replace(net, activation="silu")
    x = net.unit(images, int(32 * width), 3, "stem", 2)
    widths = [int(width * channels) for channels in (64, 128, 256, 384, 512)]
    return stages(net, x, widths, (1, 2, 1, 1, 1), 2, transform_v2)


def stages(
    net: Net, x: Tensor, widths: Sequence[int], depths: Sequence[int], expand: int, transform: Transform
) -> Tensor:
    """Inverted residuals, the first of every stage but the first one with a stride; then the transformers."""
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for i in range(depth):
            stride = 2 if stage and i == 0 else 1
            x = inverted(net, x, width, stride, expand, f"stages.{stage}.{i}", stage / STAGES)
        x = transform(net, x, stage, f"stages.{stage}.{depth}") if stage >= TRANSFORMED else x
    return x


def inverted(net: Net, x: Tensor, width: int, stride: int, expand: int, name: str, position: float) -> Tensor:
    y = net.unit(x, round_channels(expand * x.shape[-1]), 1, f"{name}.conv1_1x1")
    y = net.norm_act(net.depthwise(y, 3, f"{name}.conv2_kxk.conv", stride), f"{name}.conv2_kxk.bn")
    y = net.conv_norm(y, width, 1, f"{name}.conv3_1x1.conv", f"{name}.conv3_1x1.bn")
    return net.add(x, y, name, position) if stride == 1 and x.shape[-1] == width else y


def transform(net: Net, x: Tensor, stage: int, name: str, *, inner: Sequence[int]) -> Tensor:
    """What was attended to is joined with what came in. Where a side is odd, the map is stretched between."""
    channels, depth = inner[stage - TRANSFORMED], TRANSFORMERS[stage - TRANSFORMED]
    y = net.unit(x, x.shape[-1], 3, f"{name}.conv_kxk")
    local = net.conv(y, channels, 1, f"{name}.conv_1x1")
    y = Stretch(STEP, name=f"{name}.even")(local)
    by_place = LayerNet(**vars(net))
    for i in range(depth):
        y = transformer(by_place, y, f"{name}.transformer.{i}", stage / STAGES)
    y = Stretch(STEP, back=True, name=f"{name}.back")([by_place.norm(y, f"{name}.norm"), local])
    y = net.unit(y, x.shape[-1], 1, f"{name}.conv_proj")
    return net.unit(concatenate([x, y], name), x.shape[-1], 3, f"{name}.conv_fusion")


def transformer(net: Net, x: Tensor, name: str, position: float) -> Tensor:
    channels = x.shape[-1]
    y = net.linear(net.norm(x, f"{name}.norm1"), 3 * channels, f"{name}.attn.qkv")
    y = SpacedAttention(HEADS, STEP, name=f"{name}.attn")(y)
    x = net.add(x, net.linear(y, channels, f"{name}.attn.proj"), f"{name}.attn", position)
    y = net.linear(net.norm(x, f"{name}.norm2"), EXPANSION * channels, f"{name}.mlp.fc1")
    y = net.linear(net.act(y, f"{name}.mlp.act"), channels, f"{name}.mlp.fc2")
    return net.add(x, y, name, position)


def transform_v2(net: Net, x: Tensor, stage: int, name: str) -> Tensor:
    """Nothing goes past it. Where a side is odd, the map is stretched and stays so."""
    channels, depth = round_channels(x.shape[-1] / 2), TRANSFORMERS[stage - TRANSFORMED]
    y = Stretch(STEP, corners=True, name=f"{name}.even")(x)
    y = net.norm_act(net.depthwise(y, 3, f"{name}.conv_kxk.conv"), f"{name}.conv_kxk.bn")
    y = net.conv(y, channels, 1, f"{name}.conv_1x1")
    for i in range(depth):
        y = transformer_v2(net, y, f"{name}.transformer.{i}", stage / STAGES)
    y = map_norm(net, y, f"{name}.norm")
    return net.conv_norm(y, x.shape[-1], 1, f"{name}.conv_proj.conv", f"{name}.conv_proj.bn")


def transformer_v2(net: Net, x: Tensor, name: str, position: float) -> Tensor:
    channels = x.shape[-1]
    y = map_norm(net, x, f"{name}.norm1")
    y = net.conv(y, 1 + 2 * channels, 1, f"{name}.attn.qkv_proj", bias=True)
    y = SeparableAttention(STEP, name=f"{name}.attn")(y)
    y = net.conv(y, channels, 1, f"{name}.attn.out_proj", bias=True)
    x = net.add(x, y, f"{name}.attn", position)
    y = net.conv(map_norm(net, x, f"{name}.norm2"), EXPANSION * channels, 1, f"{name}.mlp.fc1", bias=True)
    y = net.conv(net.act(y, f"{name}.mlp.act"), channels, 1, f"{name}.mlp.fc2", bias=True)
    return net.add(x, y, name, position)
