"""EfficientFormerV2. Li et al., "Rethinking vision transformers for MobileNet size and speed", arXiv
2212.08059: depthwise convolutions in the perceptrons instead of pooling, attention at half the resolution,
and attention that halves the map.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from keras import layers

from zoo.architectures.efficientformer import GRID, HEADS, SIZE, VALUES, scaled
from zoo.blocks import Net, Tensor
from zoo.layers import BiasedAttention, Double

DEEP = 2  # the stage from which on blocks attend


def efficientformerv2(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    widths: Sequence[int],
    attentions: int,
    expansions: Sequence[Sequence[int]],
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C], for two heads. attentions: how many
    last blocks of the late stages attend. expansions: how many times the channels the perceptrons of each of
    their blocks have within; those of early stages have four.
    """
    net = replace(net, activation="gelu")
    x = unit(net, images, widths[0] // 2, 3, "stem.conv1", 2)
    x = unit(net, x, widths[0], 3, "stem.conv2", 2)
    done, last = count(), sum(depths) - 1
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        name = f"stages.{stage}"
        x = downsample(net, x, width, f"{name}.downsample", attend=stage > DEEP) if stage else x
        wider = expansions[stage - DEEP] if stage >= DEEP else [4] * depth
        for i in range(depth):
            block, position = f"{name}.blocks.{i}", next(done) / last
            if stage >= DEEP and i >= depth - attentions:
                y = attention(net, x, f"{block}.token_mixer", halved=stage == DEEP)
                x = scaled(net, x, y, f"{block}.ls1", position)
            x = scaled(net, x, perceptron(net, x, wider[i], f"{block}.mlp"), f"{block}.ls2", position)
    return net.norm(x, "norm")


def downsample(net: Net, x: Tensor, width: int, name: str, *, attend: bool) -> Tensor:
    y = normed(net, x, width, 3, f"{name}.conv", 2)
    if attend:
        y = layers.Add(name=f"{name}.add")([halving_attention(net, x, width, f"{name}.attn"), y])
    return y


def attention(net: Net, x: Tensor, name: str, *, halved: bool) -> Tensor:
    """Heads are mixed before and behind their softmax; a depthwise convolution of the values is added."""
    width = x.shape[-1]
    y = depthwise(net, x, f"{name}.stride_conv", 2) if halved else x
    queries, keys = (normed(net, y, HEADS * SIZE, 1, f"{name}.{part}") for part in "qk")
    values = normed(net, y, HEADS * VALUES, 1, f"{name}.v")
    attended = BiasedAttention(HEADS, GRID, talking=True, name=name)([queries, keys, values])
    y = layers.Add(name=f"{name}.add")([attended, depthwise(net, values, f"{name}.v_local")])
    if halved:
        y = Double(name=f"{name}.upsample")([y, x])
    return normed(net, net.act(y, f"{name}.act"), width, 1, f"{name}.proj")


def halving_attention(net: Net, x: Tensor, width: int, name: str) -> Tensor:
    """The queries are every other place and a depthwise convolution around it."""
    y = net.depthwise(x, 3, f"{name}.q.local", 2, bias=True)
    places = layers.MaxPooling2D(1, 2, name=f"{name}.q.pool")(x)
    queries = normed(
        net, layers.Add(name=f"{name}.q.add")([y, places]), HEADS * SIZE // 2, 1, f"{name}.q.proj"
    )
    keys = normed(net, x, HEADS * SIZE // 2, 1, f"{name}.k")
    values = normed(net, x, HEADS * VALUES // 2, 1, f"{name}.v")
    attended = BiasedAttention(HEADS, 2 * GRID, step=2, name=name)([queries, keys, values])
    y = layers.Add(name=f"{name}.add")([attended, depthwise(net, values, f"{name}.v_local", 2)])
    return normed(net, net.act(y, f"{name}.act"), width, 1, f"{name}.proj")


def perceptron(net: Net, x: Tensor, wider: int, name: str) -> Tensor:
    y = unit(net, x, wider * x.shape[-1], 1, f"{name}.fc1")
    y = net.act(depthwise(net, y, f"{name}.mid"), f"{name}.mid.act")
    return normed(net, y, x.shape[-1], 1, f"{name}.fc2")


def unit(net: Net, x: Tensor, width: int, kernel: int, name: str, stride: int = 1) -> Tensor:
    return net.act(normed(net, x, width, kernel, name, stride), f"{name}.act")


def normed(net: Net, x: Tensor, width: int, kernel: int, name: str, stride: int = 1) -> Tensor:
    return net.norm(net.conv(x, width, kernel, f"{name}.conv", stride, bias=True), f"{name}.bn")


def depthwise(net: Net, x: Tensor, name: str, stride: int = 1) -> Tensor:
    return net.norm(net.depthwise(x, 3, f"{name}.conv", stride, bias=True), f"{name}.bn")
