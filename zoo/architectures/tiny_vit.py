"""TinyViT. Wu et al., "TinyViT: Fast pretraining distillation for small vision transformers", arXiv
2207.10666: MobileNetV2's blocks first, then attention within windows, and a depthwise convolution between it
and the perceptron.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from zoo.architectures.efficientvit_m import depthwise, normed
from zoo.architectures.nextvit import small
from zoo.blocks import LayerNet, Net, Tensor
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
        x = inverted(net, x, width, width, f"stages.{stage}.downsample", 2)
        for i in range(depth):
            x = transformer(net, x, window, f"stages.{stage}.blocks.{i}", next(done) / last)
    return LayerNet(**vars(net)).norm(net.global_pool(x), "head.norm")


def stem(net: Net, x: Tensor, width: int) -> Tensor:
    x = net.act(normed(net, x, width // 2, 3, "patch_embed.conv1", 2), "patch_embed.act")
    return normed(net, x, width, 3, "patch_embed.conv2", 2)


def bottleneck(net: Net, x: Tensor, name: str, position: float) -> Tensor:
    """MobileNetV2's, with an activation behind the sum."""
    width = x.shape[-1]
    y = inverted(net, x, EXPANSION * width, width, name)
    return net.act(net.add(x, y, name, position), f"{name}.act3")


def inverted(net: Net, x: Tensor, inner: int, width: int, name: str, stride: int = 1) -> Tensor:
    x = net.act(normed(net, x, inner, 1, f"{name}.conv1"), f"{name}.act1")
    x = net.act(depthwise(net, x, f"{name}.conv2", stride), f"{name}.act2")
    return normed(net, x, width, 1, f"{name}.conv3")


def transformer(net: Net, x: Tensor, window: int, name: str, position: float) -> Tensor:
    width, by_place = x.shape[-1], LayerNet(**vars(small(net)))
    x = net.add(x, attention(by_place, x, window, f"{name}.attn"), f"{name}.sum1", position)
    x = depthwise(net, x, f"{name}.local_conv")
    y = by_place.norm(x, f"{name}.mlp.norm")
    y = net.act(by_place.linear(y, EXPANSION * width, f"{name}.mlp.fc1"), f"{name}.mlp.act")
    return net.add(x, by_place.linear(y, width, f"{name}.mlp.fc2"), f"{name}.sum2", position)


def attention(net: LayerNet, x: Tensor, window: int, name: str) -> Tensor:
    """Within windows; the places that the last ones lack are zeros, which the norm turns into its bias."""
    width = x.shape[-1]
    y = net.norm(WholeWindows(window, name=f"{name}.windows")(x), f"{name}.norm")
    y = net.linear(y, 3 * width, f"{name}.qkv")
    y = WindowSelfAttention(width // SIZE, window, size=SIZE, name=name)(y)
    return FirstPlaces(name=f"{name}.places")([net.linear(y, width, f"{name}.proj"), x])
