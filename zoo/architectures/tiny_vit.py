"""TinyViT. Wu et al., "TinyViT: Fast pretraining distillation for small vision transformers", arXiv
2207.10666: MobileNetV2's blocks first, then attention within windows, and a depthwise convolution between it
and the perceptron.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import keras
from keras import layers

from zoo.blocks import Net, Tensor
from zoo.layers import FirstPlaces, WholeWindows, WindowSelfAttention

DEPTHS = (2, 2, 6, 2)
SIZE = 32  # channels of a head's queries, keys and values
EXPANSION = 4


def tiny_vit(net: Net, images: Tensor, *, widths: Sequence[int], windows: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, C]. windows: their sides in each stage but the first."""
    net = replace(net, activation="gelu")
    x = stem(net, images, widths[0])
    done, last = count(), sum(DEPTHS) - 1
    for i in range(DEPTHS[0]):
        x = bottleneck(net, x, f"stages.0.blocks.{i}", next(done) / last)
    for stage, (width, depth, window) in enumerate(
        zip(widths[1:], DEPTHS[1:], windows, strict=True), start=1
    ):
        x = downsample(net, x, width, f"stages.{stage}.downsample")
        for i in range(depth):
            x = transformer(net, x, window, f"stages.{stage}.blocks.{i}", next(done) / last)
    return by_place(net, net.global_pool(x), "head.norm")


def stem(net: Net, x: Tensor, width: int) -> Tensor:
    x = net.act(normalised(net, x, width // 2, 3, "patch_embed.conv1", 2), "patch_embed.act")
    return normalised(net, x, width, 3, "patch_embed.conv2", 2)


def bottleneck(net: Net, x: Tensor, name: str, position: float) -> Tensor:
    """MobileNetV2's inverted one, with an activation behind the sum."""
    y = net.act(normalised(net, x, EXPANSION * x.shape[-1], 1, f"{name}.conv1"), f"{name}.act1")
    y = net.act(depthwise(net, y, f"{name}.conv2"), f"{name}.act2")
    y = normalised(net, y, x.shape[-1], 1, f"{name}.conv3")
    return net.act(net.add(x, y, name, position), f"{name}.act3")


def downsample(net: Net, x: Tensor, width: int, name: str) -> Tensor:
    x = net.act(normalised(net, x, width, 1, f"{name}.conv1"), f"{name}.act1")
    x = net.act(depthwise(net, x, f"{name}.conv2", 2), f"{name}.act2")
    return normalised(net, x, width, 1, f"{name}.conv3")


def transformer(net: Net, x: Tensor, window: int, name: str, position: float) -> Tensor:
    width = x.shape[-1]
    x = net.add(x, attention(net, x, window, f"{name}.attn"), f"{name}.sum1", position)
    x = depthwise(net, x, f"{name}.local_conv")
    y = by_place(net, x, f"{name}.mlp.norm")
    y = net.act(linear(y, EXPANSION * width, f"{name}.mlp.fc1"), f"{name}.mlp.act")
    return net.add(x, linear(y, width, f"{name}.mlp.fc2"), f"{name}.sum2", position)


def attention(net: Net, x: Tensor, window: int, name: str) -> Tensor:
    """Within windows; the places that the last ones lack are zeros, which the norm turns into its bias."""
    width = x.shape[-1]
    y = by_place(net, WholeWindows(window, name=f"{name}.windows")(x), f"{name}.norm")
    y = linear(y, 3 * width, f"{name}.qkv")
    y = WindowSelfAttention(width // SIZE, window, size=SIZE, name=name)(y)
    return FirstPlaces(name=f"{name}.places")([linear(y, width, f"{name}.proj"), x])


def normalised(net: Net, x: Tensor, width: int, kernel: int, name: str, stride: int = 1) -> Tensor:
    return net.conv_norm(x, width, kernel, f"{name}.conv", f"{name}.bn", stride)


def depthwise(net: Net, x: Tensor, name: str, stride: int = 1) -> Tensor:
    return net.norm(net.depthwise(x, 3, f"{name}.conv", stride), f"{name}.bn")


def by_place(net: Net, x: Tensor, name: str) -> Tensor:
    return layers.LayerNormalization(epsilon=net.epsilon, name=name)(x)


def linear(x: Tensor, units: int, name: str) -> Tensor:
    """Started small, as the authors do, so that a residual is."""
    start = keras.initializers.TruncatedNormal(stddev=0.02)
    return layers.Dense(units, kernel_initializer=start, name=name)(x)
