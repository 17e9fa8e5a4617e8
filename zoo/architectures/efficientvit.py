"""EfficientViT. Cai et al., "EfficientViT: Multi-scale attention for high-resolution dense prediction", arXiv
2205.14756: inverted residuals, and attention in the late stages whose cost grows with the places, not with
their square.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from keras import layers

from zoo.blocks import Net, Tensor, concatenate
from zoo.layers import LinearAttention, gelu_tanh

POOL_EPSILON = 1e-5  # of the norm in front of the pool
HIDDEN = "head.in_conv", "head.classifier.0", "head.classifier.1"
Block = Callable[[Net, Tensor, int, int, str], Tensor]  # map, channels, stride, name -> map


def efficientvit_b(
    net: Net, images: Tensor, *, widths: Sequence[int], depths: Sequence[int], head: int, tail: Sequence[int]
) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, tail[1]].

    widths and depths: the stem's, then each stage's. head: channels of an attention head. tail: channels of
    the convolution before the pool and of the linear layer behind it.
    """
    net = replace(net, activation="hard_swish")
    early, late = partial(inverted, expand=4), partial(inverted, expand=4, normed=False)
    x = stem(net, images, widths[0], depths[0], separable)
    x = stage(net, x, 0, widths[1], depths[1] - 1, early, early)
    x = stage(net, x, 1, widths[2], depths[2] - 1, early, early)
    x = stage(net, x, 2, widths[3], depths[3], late, late, head)
    x = stage(net, x, 3, widths[4], depths[4], late, late, head)
    return hidden_layer(net, x, tail, HIDDEN)


def efficientvit_l(
    net: Net, images: Tensor, *, widths: Sequence[int], depths: Sequence[int], head: int, tail: Sequence[int]
) -> Tensor:
    """The large ones: whole convolutions in the early stages, attention in the last."""
    net = replace(net, activation=gelu_tanh)
    wide, narrow = partial(fused, expand=16), partial(fused, expand=4)
    late = partial(inverted, normed=False)
    x = stem(net, images, widths[0], depths[0], plain)
    x = stage(net, x, 0, widths[1], depths[1], wide, narrow)
    x = stage(net, x, 1, widths[2], depths[2], wide, narrow)
    x = stage(net, x, 2, widths[3], depths[3], partial(late, expand=16), partial(late, expand=4))
    x = stage(net, x, 3, widths[4], depths[4], partial(late, expand=24), partial(late, expand=6), head)
    return hidden_layer(net, x, tail, HIDDEN)


def stem(net: Net, images: Tensor, width: int, depth: int, block: Block) -> Tensor:
    x = unit(net, images, width, 3, "stem.in_conv", 2)
    for i in range(depth):
        x = net.add(x, block(net, x, width, 1, f"stem.res{i}.main"), f"stem.res{i}", 0)
    return x


def stage(
    net: Net, x: Tensor, index: int, width: int, depth: int, first: Block, block: Block, head: int = 0
) -> Tensor:
    """A first block that halves the map, and `depth` with shortcuts; head: each behind attention."""
    x = first(net, x, width, 2, f"stages.{index}.blocks.0.main")
    for i in range(1, depth + 1):
        name, position = f"stages.{index}.blocks.{i}", (index + i / (depth + 1)) / 4
        if head:
            y = attention(net, x, head, f"{name}.context_module.main")
            x = net.add(x, y, f"{name}.context_module", position)
            name = f"{name}.local_module"
        x = net.add(x, block(net, x, width, 1, f"{name}.main"), name, position)
    return x


def attention(net: Net, x: Tensor, head: int, name: str) -> Tensor:
    """Of the places, and of the 5x5 neighbourhoods around them."""
    width = x.shape[-1]
    places = net.conv(x, 3 * width, 1, f"{name}.qkv.conv")
    around = net.depthwise(places, 5, f"{name}.aggreg.0.0")
    around = net.conv(around, 3 * width, 1, f"{name}.aggreg.0.1", groups=3 * width // head)
    y = LinearAttention(head, name=f"{name}.attention")(concatenate([places, around], name))
    return net.conv_norm(y, width, 1, f"{name}.proj.conv", f"{name}.proj.norm")


def inverted(
    net: Net, x: Tensor, width: int, stride: int, name: str, *, expand: int, normed: bool = True
) -> Tensor:
    """MobileNetV2's; where it is not normed, only its last convolution is."""
    x = unit(net, x, expand * x.shape[-1], 1, f"{name}.inverted_conv", normed=normed)
    x = depthwise(net, x, f"{name}.depth_conv", stride, normed=normed)
    return projected(net, x, width, f"{name}.point_conv")


def fused(net: Net, x: Tensor, width: int, stride: int, name: str, *, expand: int) -> Tensor:
    x = unit(net, x, expand * x.shape[-1], 3, f"{name}.spatial_conv", stride)
    return projected(net, x, width, f"{name}.point_conv")


def separable(net: Net, x: Tensor, width: int, stride: int, name: str) -> Tensor:
    x = depthwise(net, x, f"{name}.depth_conv", stride)
    return projected(net, x, width, f"{name}.point_conv")


def plain(net: Net, x: Tensor, width: int, stride: int, name: str) -> Tensor:
    x = unit(net, x, width, 3, f"{name}.conv1", stride)
    return net.conv_norm(x, width, 3, f"{name}.conv2.conv", f"{name}.conv2.norm")


def unit(
    net: Net, x: Tensor, width: int, kernel: int, name: str, stride: int = 1, *, normed: bool = True
) -> Tensor:
    x = net.conv(x, width, kernel, f"{name}.conv", stride, bias=not normed)
    return activated(net, x, name, normed=normed)


def depthwise(net: Net, x: Tensor, name: str, stride: int, *, normed: bool = True) -> Tensor:
    x = net.depthwise(x, 3, f"{name}.conv", stride, bias=not normed)
    return activated(net, x, name, normed=normed)


def activated(net: Net, x: Tensor, name: str, *, normed: bool) -> Tensor:
    return net.norm_act(x, f"{name}.norm") if normed else net.act(x, f"{name}.act")


def projected(net: Net, x: Tensor, width: int, name: str) -> Tensor:
    return net.conv_norm(x, width, 1, f"{name}.conv", f"{name}.norm")


def hidden_layer(net: Net, x: Tensor, tail: Sequence[int], names: tuple[str, str, str]) -> Tensor:
    """A convolution before the pool and a linear layer behind it; tail: their channels. names: of both and of
    the norm.
    """
    conv, linear, norm = names
    x = unit(replace(net, epsilon=POOL_EPSILON), x, tail[0], 1, conv)
    x = net.linear(net.global_pool(x), tail[1], linear, bias=False)
    x = layers.LayerNormalization(epsilon=net.epsilon, name=norm)(x)
    return net.act(x, f"{norm.rpartition('.')[0]}.act")
