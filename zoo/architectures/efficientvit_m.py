"""EfficientViT-M. Liu et al., "EfficientViT: Memory efficient vision transformer with cascaded group
attention", arXiv 2305.07027: a stem that reduces by sixteen, perceptrons around every attention, and heads
that attend one behind the other, each with its own part of the channels.
"""

from collections.abc import Sequence
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor, concatenate, split
from zoo.layers import FirstPlaces, WholeWindows, WindowAddends, WindowAttention, WindowDepthwiseConv2D

SIZE = 16  # channels of a head's queries and keys


def efficientvit_m(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    widths: Sequence[int],
    heads: Sequence[int],
    kernels: Sequence[int],
    windows: Sequence[int] = (7, 7, 4),
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/64, W/64, C]. heads, windows: of each stage's
    attention; kernels: of the convolution of each head's queries.
    """
    x = images
    for i, part in enumerate((8, 4, 2, 1), start=1):
        x = normed(net, x, widths[0] // part, 3, f"patch_embed.conv{i}", 2)
        x = net.act(x, f"patch_embed.relu{i}") if part > 1 else x
    done, last = count(), sum(depths) - 1
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        x = downsample(net, x, width, f"stages.{stage}.downsample") if stage else x
        for i in range(depth):
            name, position = f"stages.{stage}.blocks.{i}", next(done) / last
            x = sandwich(net, x, f"{name}.dw0", f"{name}.ffn0", position)
            y = attention(net, x, kernels[: heads[stage]], windows[stage], f"{name}.mixer.m.attn")
            x = net.add(x, y, f"{name}.mixer", position)
            x = sandwich(net, x, f"{name}.dw1", f"{name}.ffn1", position)
    return x


def downsample(net: Net, x: Tensor, width: int, name: str) -> Tensor:
    """An inverted bottleneck that halves the map, between convolutions and perceptrons."""
    x = sandwich(net, x, f"{name}.res1.0", f"{name}.res1.1")
    merge, inner = f"{name}.patchmerge", 4 * x.shape[-1]
    y = net.act(normed(net, x, inner, 1, f"{merge}.conv1"), f"{merge}.act1")
    y = net.act(depthwise(net, y, f"{merge}.conv2", 2), f"{merge}.act2")
    y = normed(net, net.squeeze_part(y, f"{merge}.se", part=1 / 4), width, 1, f"{merge}.conv3")
    return sandwich(net, y, f"{name}.res2.0", f"{name}.res2.1")


def sandwich(net: Net, x: Tensor, convolution: str, perceptron: str, position: float = 0.0) -> Tensor:
    """What comes before an attention and behind it: a depthwise convolution, a perceptron."""
    x = net.add(x, depthwise(net, x, f"{convolution}.m"), convolution, position)
    y = net.act(normed(net, x, 2 * x.shape[-1], 1, f"{perceptron}.m.pw1"), f"{perceptron}.m.act")
    return net.add(x, normed(net, y, x.shape[-1], 1, f"{perceptron}.m.pw2"), perceptron, position)


def attention(net: Net, x: Tensor, kernels: Sequence[int], window: int, name: str) -> Tensor:
    """Each head attends to its part of the channels plus what the head before it saw."""
    whole = WholeWindows(window, name=f"{name}.windows")(x)
    addends = WindowAddends(len(kernels), window, name=name)(whole)
    width = x.shape[-1] // len(kernels)
    seen: list[Tensor] = []
    for head, part in enumerate(split(whole, [width] * len(kernels), f"{name}.part")):
        y = layers.Add(name=f"{name}.cascade.{head}")([seen[-1], part]) if seen else part
        y = normed(net, y, 2 * SIZE + width, 1, f"{name}.qkvs.{head}")
        queries, keys, values = split(y, [SIZE, SIZE, width], f"{name}.qkvs.{head}.part")
        queries = in_windows(net, queries, kernels[head], window, f"{name}.dws.{head}")
        attended = WindowAttention(head, window, name=f"{name}.heads.{head}")
        seen.append(attended([queries, keys, values, addends]))
    y = FirstPlaces(name=f"{name}.places")([concatenate(seen, name), x])
    return normed(net, net.act(y, f"{name}.proj.0"), x.shape[-1], 1, f"{name}.proj.1")


def in_windows(net: Net, x: Tensor, kernel: int, window: int, name: str) -> Tensor:
    convolution = WindowDepthwiseConv2D(
        kernel,
        padding="same",
        use_bias=False,
        depthwise_initializer=net.start(),
        window=window,
        name=f"{name}.conv",
    )
    return net.norm(convolution(x), f"{name}.bn")


def normed(net: Net, x: Tensor, width: int, kernel: int, name: str, stride: int = 1) -> Tensor:
    return net.conv_norm(x, width, kernel, f"{name}.conv", f"{name}.bn", stride)


def depthwise(net: Net, x: Tensor, name: str, stride: int = 1) -> Tensor:
    return net.norm(net.depthwise(x, 3, f"{name}.conv", stride), f"{name}.bn")
