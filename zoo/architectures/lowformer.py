"""LowFormer. Nottebaum et al., "LowFormer: Hardware efficient design for convolutional transformer
backbones", arXiv 2409.03460: whole convolutions instead of depthwise ones, and attention at half the
resolution, with few channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from keras import layers

from zoo.architectures.efficientvit import hidden_layer, inverted, projected
from zoo.blocks import Net, Tensor, map_norm
from zoo.layers import FirstPlaces, HeadwiseAttention

WHOLE = 256  # channels from which on a block's convolution is depthwise
Block = Callable[[Net, Tensor, int, str, float], Tensor]  # map, stride of attention, name, position -> map


def lowformer(
    net: Net,
    images: Tensor,
    *,
    widths: Sequence[int],
    depths: Sequence[int],
    enter: int = 2,
    halve: int = 6,
    attend: bool = True,
    mix: bool = True,
    tail: Sequence[int] = (1536, 1600),
) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, tail[1]]. attend and mix: whether late blocks have
    attention and a perceptron; the rest is as `trunk` and `hidden_layer` have it.
    """
    net = replace(net, activation="hard_swish")
    late = partial(block, attend=attend, mix=mix)
    x = trunk(net, images, widths, depths, enter, halve, late)
    return hidden_layer(net, x, tail, ("in_conv", "pre_classifier.0", "pre_classifier.1"))


def trunk(
    net: Net,
    images: Tensor,
    widths: Sequence[int],
    depths: Sequence[int],
    enter: int,
    halve: int,
    late: Block,
    groups: int = 1,
) -> Tensor:
    """Images -> feature map [N, H/32, W/32, C].

    widths and depths: the stem's, then each stage's; late stages have one block more, which halves the map.
    enter and halve: how many times the channels the stem's blocks and the halving ones have within; groups:
    of the 3x3 convolutions.
    """
    done, last = count(), sum(depths) - 1
    x = net.conv_norm_act(images, widths[0], 3, "stem.0.conv", "stem.0.norm", 2)
    for i in range(1, depths[0] + 1):
        y = fused(net, x, widths[0], 1, f"stem.{i}.main", enter, groups)
        x = net.add(x, y, f"stem.{i}", next(done) / last)
    for stage, (width, depth) in enumerate(zip(widths[1:], depths[1:], strict=True)):
        x = fused(net, x, width, 2, f"stages.{stage}.0.main", halve, groups)
        if stage < 2:
            next(done)
            for i in range(1, depth):
                y = fused(net, x, width, 1, f"stages.{stage}.{i}.main", 4, groups)
                x = net.add(x, y, f"stages.{stage}.{i}", next(done) / last)
        else:
            for i in range(1, depth + 1):
                x = late(net, x, 2 if stage == 2 else 1, f"stages.{stage}.{i}", next(done) / last)
    return x


def block(net: Net, x: Tensor, stride: int, name: str, position: float, *, attend: bool, mix: bool) -> Tensor:
    """Attention, perceptron, convolution."""
    if attend:
        inner = f"{name}.attn.main"
        y, inner = (map_norm(net, x, f"{inner}.0"), f"{inner}.1") if mix else (x, inner)
        y = attention(net, y, stride, inner)
        x = net.add(x, y, f"{name}.attn", position)
    x = net.add(x, perceptron(net, x, f"{name}.mlp.main"), f"{name}.mlp", position) if mix else x
    width, inner = x.shape[-1], f"{name}.local.main"
    if width < WHOLE:
        y = fused(net, x, width, 1, inner, 4, bias=True)
    else:
        y = inverted(net, x, width, 1, inner, expand=4, normed=False)
    return net.add(x, y, f"{name}.local", position)


def attention(net: Net, x: Tensor, stride: int, name: str) -> Tensor:
    """Among every stride-th place, and back to all by a transposed convolution."""
    y = net.depthwise(x, 5 if stride > 1 else 3, f"{name}.conv_proj.conv", stride)
    y = attended(net, net.norm(y, f"{name}.conv_proj.norm"), name)
    y = layers.Conv2DTranspose(
        x.shape[-1],
        2 * stride if stride > 1 else 3,
        stride,
        "same",
        kernel_initializer=net.start(),
        name=f"{name}.upsampling",
    )(y)
    return FirstPlaces(name=f"{name}.places")([y, x]) if stride > 1 else y


def attended(net: Net, x: Tensor, name: str) -> Tensor:
    """Heads of at least 30 channels, as far as half of them reach, which all attend together."""
    heads = max(1, x.shape[-1] // 60)
    size = x.shape[-1] // heads // 2
    y = net.conv(x, 3 * heads * size, 1, f"{name}.pwise")
    return HeadwiseAttention(heads, name=f"{name}.attention")(y)


def perceptron(net: Net, x: Tensor, name: str) -> Tensor:
    """Four times the channels, and back."""
    y = net.conv(map_norm(net, x, f"{name}.0"), 4 * x.shape[-1], 1, f"{name}.1", bias=True)
    y = layers.Activation("gelu", name=f"{name}.2")(y)
    return net.conv(y, x.shape[-1], 1, f"{name}.3", bias=True)


def fused(
    net: Net,
    x: Tensor,
    width: int,
    stride: int,
    name: str,
    expand: int,
    groups: int = 1,
    *,
    bias: bool = False,
) -> Tensor:
    """An inverted bottleneck whose first convolution is of 3x3."""
    conv = f"{name}.spatial_conv"
    y = net.conv(x, expand * x.shape[-1], 3, f"{conv}.conv", stride, bias=bias, groups=groups)
    return projected(net, net.norm_act(y, f"{conv}.norm"), width, f"{name}.point_conv")
