"""SwiftFormer. Shaker et al., "SwiftFormer: Efficient additive attention for transformer-based real-time
mobile vision applications", arXiv 2303.15446: stages of convolutions, each ending in attention that is
linear in the places, because all of them share one query.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor
from zoo.layers import AdditiveAttention, Scale


def swiftformer(net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C], for two heads."""
    x = stem(net, images, widths[0])
    net = replace(net, activation="gelu")
    done, last = count(), sum(depths) - 1
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        x = downsample(net, x, width, f"stages.{stage}.downsample") if stage else x
        for i in range(depth):
            block = encoder if i == depth - 1 else conv_encoder
            x = block(net, x, f"stages.{stage}.blocks.{i}", next(done) / last)
    return net.norm(x, "norm")


def stem(net: Net, x: Tensor, width: int) -> Tensor:
    x = net.norm_act(net.conv(x, width // 2, 3, "stem.0", 2, bias=True), "stem.1")
    return net.norm_act(net.conv(x, width, 3, "stem.3", 2, bias=True), "stem.4")


def downsample(net: Net, x: Tensor, width: int, name: str) -> Tensor:
    return net.norm(net.conv(x, width, 3, f"{name}.proj", 2, bias=True), f"{name}.norm")


def conv_encoder(net: Net, x: Tensor, name: str, position: float) -> Tensor:
    return net.add(x, convolutions(net, x, 4 * x.shape[-1], name), name, position)


def encoder(net: Net, x: Tensor, name: str, position: float) -> Tensor:
    """Local representation, attention, perceptron."""
    local = convolutions(net, x, x.shape[-1], f"{name}.local_representation")
    x = layers.Add(name=f"{name}.local_representation.add")([x, local])
    y = attention(net, x, f"{name}.attn")
    x = net.add(x, Scale(1e-5, rank=3, name=f"{name}.layer_scale_1")(y), f"{name}.attn", position)
    y = perceptron(net, x, f"{name}.linear")
    return net.add(x, Scale(1e-5, rank=3, name=f"{name}.layer_scale_2")(y), f"{name}.linear", position)


def convolutions(net: Net, x: Tensor, inner: int, name: str) -> Tensor:
    """3x3 within the channels, then 1x1 among them, twice."""
    y = net.norm(net.depthwise(x, 3, f"{name}.dwconv", bias=True), f"{name}.norm")
    y = net.act(net.conv(y, inner, 1, f"{name}.pwconv1", bias=True), f"{name}.act")
    y = net.conv(y, x.shape[-1], 1, f"{name}.pwconv2", bias=True)
    return Scale(1.0, rank=3, name=f"{name}.layer_scale")(y)


def attention(net: Net, x: Tensor, name: str) -> Tensor:
    """Keys are weighed by the one query that all places' queries make together."""
    width = x.shape[-1]
    queries, keys = (net.linear(x, width, f"{name}.{part}") for part in ("to_query", "to_key"))
    queries, weighed = AdditiveAttention(name=name)([queries, keys])
    y = layers.Add(name=f"{name}.sum")([net.linear(weighed, width, f"{name}.proj"), queries])
    return net.linear(y, width, f"{name}.final")


def perceptron(net: Net, x: Tensor, name: str) -> Tensor:
    y = net.conv(net.norm(x, f"{name}.norm1"), 4 * x.shape[-1], 1, f"{name}.fc1", bias=True)
    return net.conv(net.act(y, f"{name}.act"), x.shape[-1], 1, f"{name}.fc2", bias=True)
