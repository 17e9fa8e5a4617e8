"""MambaOut. Yu and Wang, "MambaOut: do we really need Mamba for vision?", arXiv 2405.07992: Mamba's block
without its state space, which is a gated convolution.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from keras import layers

from zoo.blocks import LayerNet, Net, Tensor, concatenate, split
from zoo.layers import Scale

EXPANSION = 8 / 3


def mambaout(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    widths: Sequence[int],
    expansion: float = EXPANSION,
    convolved: float = 1,
    refined: bool = False,
    activation: str = "gelu",
) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, 4 * the last width].

    expansion: how much wider blocks are inside; convolved: the channels that meet their neighbours, of the
    block's width. refined: as timm's own (*_rw), with layer scale, norms before the stages' convolutions,
    and one norm less in stem and head.
    """
    net, done = LayerNet(**vars(replace(net, activation=activation))), count()
    x = stem(net, images, widths[0], refined)
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        name = f"stages.{stage}"
        if stage:
            x = downsample(net, x, width, f"{name}.downsample", refined)
        for i in range(depth):
            block = f"{name}.blocks.{i}"
            y = gated_convolution(net, x, int(expansion * width), int(convolved * width), block)
            y = Scale(name=f"{block}.ls")(y) if refined else y
            x = net.add(x, y, block, next(done) / (sum(depths) - 1))
    return head(net, x, refined)


def stem(net: Net, x: Tensor, width: int, refined: bool) -> Tensor:
    x = net.conv(x, width // 2, 3, "stem.conv1", 2, bias=True)
    x = x if refined else net.norm(x, "stem.norm1")
    x = net.conv(net.act(x, "stem.act"), width, 3, "stem.conv2", 2, bias=True)
    return net.norm(x, "stem.norm2")


def downsample(net: Net, x: Tensor, width: int, name: str, refined: bool) -> Tensor:
    if refined:
        return net.conv(net.norm(x, f"{name}.norm"), width, 3, f"{name}.conv", 2, bias=True)
    return net.norm(net.conv(x, width, 3, f"{name}.conv", 2, bias=True), f"{name}.norm")


def gated_convolution(net: Net, x: Tensor, inner: int, convolved: int, name: str) -> Tensor:
    """The gate is the activated half; of the other half, some channels meet their 7x7 neighbours."""
    y = net.linear(net.norm(x, f"{name}.norm"), 2 * inner, f"{name}.fc1")
    gate, kept, seen = split(y, [inner, inner - convolved, convolved], f"{name}.split")
    seen = net.depthwise(seen, 7, f"{name}.conv", bias=True)
    y = layers.Multiply(name=f"{name}.gated")([net.act(gate, f"{name}.act"), concatenate([kept, seen], name)])
    return net.linear(y, x.shape[-1], f"{name}.fc2")


def head(net: Net, x: Tensor, refined: bool) -> Tensor:
    x = net.norm(net.global_pool(x), "head.norm")
    x = net.linear(x, 4 * x.shape[-1], "head.pre_logits.fc")
    x = layers.Activation("gelu", name="head.pre_logits.act")(x)
    return x if refined else net.norm(x, "head.pre_logits.norm")
