"""RepViT. Wang et al., "RepViT: revisiting mobile CNN from ViT perspective", arXiv 2307.09283.

This is the network in training; zoo.fuse makes one convolution of every token mixer.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor


def repvit(
    net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int], normed: bool = True
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]. normed: as released later, with a
    norm behind each sum of branches instead of one in each branch of 1x1.
    """
    net = replace(net, activation="gelu")
    x = stem(net, images, widths[0])
    done, last = count(), sum(depths) + 2 * (len(depths) - 1) - 1
    for stage, (depth, channels) in enumerate(zip(depths, widths, strict=True)):
        if stage:
            x = downsample(net, x, channels, normed, f"stages.{stage}.downsample", done, last)
        for i in range(depth):
            name = f"stages.{stage}.blocks.{i}"
            x = block(net, x, normed, name, next(done) / last, attend=i % 2 == 0)
    return x


def stem(net: Net, x: Tensor, channels: int) -> Tensor:
    x = net.act(normalised(net, x, channels // 2, 3, "stem.conv1", 2), "stem.act1")
    return normalised(net, x, channels, 3, "stem.conv2", 2)


def block(net: Net, x: Tensor, normed: bool, name: str, position: float, *, attend: bool) -> Tensor:
    """Token mixer, attention, channel mixer: MobileNetV3's block, the depthwise convolution first."""
    x = mix(net, x, normed, f"{name}.token_mixer")
    x = net.squeeze_part(x, f"{name}.se", part=0.25, activation="relu") if attend else x
    return net.add(x, perceptron(net, x, f"{name}.channel_mixer"), name, position)


def downsample(net: Net, x: Tensor, channels: int, normed: bool, name: str, done: count, last: int) -> Tensor:
    """Deep: a block before, and a channel mixer behind."""
    x = block(net, x, normed, f"{name}.pre_block", next(done) / last, attend=False)
    x = depthwise_normalised(net, x, 3, f"{name}.spatial_downsample", 2)
    x = normalised(net, x, channels, 1, f"{name}.channel_downsample")
    return net.add(x, perceptron(net, x, f"{name}.ffn"), name, next(done) / last)


def mix(net: Net, x: Tensor, normed: bool, name: str) -> Tensor:
    """3x3 + 1x1 + identity, all depthwise."""
    y = depthwise_normalised(net, x, 3, f"{name}.conv")
    if normed:
        z = net.depthwise(x, 1, f"{name}.conv1", bias=True)
        return net.norm(layers.Add(name=f"{name}.sum")([y, z, x]), f"{name}.bn")
    z = depthwise_normalised(net, x, 1, f"{name}.conv1")
    return layers.Add(name=f"{name}.sum")([y, z, x])


def perceptron(net: Net, x: Tensor, name: str) -> Tensor:
    """Twice the channels, and back."""
    y = net.act(normalised(net, x, 2 * x.shape[-1], 1, f"{name}.conv1"), f"{name}.act")
    return normalised(net, y, x.shape[-1], 1, f"{name}.conv2")


def normalised(net: Net, x: Tensor, channels: int, kernel: int, name: str, stride: int = 1) -> Tensor:
    return net.conv_norm(x, channels, kernel, f"{name}.c", f"{name}.bn", stride)


def depthwise_normalised(net: Net, x: Tensor, kernel: int, name: str, stride: int = 1) -> Tensor:
    return net.norm(net.depthwise(x, kernel, f"{name}.c", stride), f"{name}.bn")
