"""CPUBone. Nottebaum et al., "CPUBone: Efficient vision backbone design for devices with low parallelization
capabilities", arXiv 2603.26425: LowFormer with two groups in its convolutions and windows of 2x2 in the late
stages.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from keras import layers

from zoo.architectures.efficientvit import activated, hidden_layer, projected
from zoo.architectures.lowformer import WHOLE, attended, perceptron, trunk
from zoo.blocks import Net, Tensor, map_norm
from zoo.layers import Nearest

GROUPS = 2


def cpubone(
    net: Net,
    images: Tensor,
    *,
    widths: Sequence[int],
    depths: Sequence[int],
    enter: int = 2,
    halve: int = 6,
    tail: Sequence[int] = (1536, 1600),
    normed: int = 1,
) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, tail[1]]; the facts are LowFormer's. normed: how many of
    the three convolutions of a depthwise block have a norm behind them, the last ones.
    """
    net = replace(net, activation="hard_swish")
    x = trunk(net, images, widths, depths, enter, halve, partial(block, normed=normed), GROUPS)
    names = "head.in_conv", "head.pre_classifier.linear", "head.pre_classifier.norm"
    return hidden_layer(net, x, tail, names)


def block(net: Net, x: Tensor, stride: int, name: str, position: float, *, normed: int) -> Tensor:
    """Attention, perceptron, convolution."""
    inner = f"{name}.total.0.0.main"
    y = attention(net, map_norm(net, x, f"{inner}.0"), stride, f"{inner}.1")
    x = net.add(x, y, f"{name}.total.0.0", position)
    x = net.add(x, perceptron(net, x, f"{name}.total.0.1.main"), f"{name}.total.0.1", position)
    inner = f"{name}.total.1.main"
    y = fused(net, x, inner) if x.shape[-1] < WHOLE else inverted(net, x, inner, normed)
    return net.add(x, y, f"{name}.total.1", position)


def attention(net: Net, x: Tensor, stride: int, name: str) -> Tensor:
    """Among windows of 2x2, each of whose places then has what came of it."""
    conv = f"{name}.conv_proj.conv"
    y = replace(net, padding="same").depthwise(x, 2, conv, 2) if stride == 2 else leaning(net, x, conv)
    y = attended(net, net.norm(y, f"{name}.conv_proj.norm"), name)
    y = net.conv(y, x.shape[-1], 1, f"{name}.upsampling.0", bias=True)
    return Nearest(name=f"{name}.upsampling")([y, x]) if stride > 1 else y


def leaning(net: Net, x: Tensor, name: str, *, bias: bool = False) -> Tensor:
    """A depthwise convolution of 2x2, of each place and those above and to the left."""
    x = layers.ZeroPadding2D(((1, 0), (1, 0)), name=f"{name}.0")(x)
    return net.depthwise(x, 2, f"{name}.1", bias=bias, padding="valid")


def fused(net: Net, x: Tensor, name: str) -> Tensor:
    conv, width = f"{name}.spatial_conv", x.shape[-1]
    y = layers.ZeroPadding2D(((1, 0), (1, 0)), name=f"{conv}.conv.0")(x)
    y = net.conv(y, 4 * width, 2, f"{conv}.conv.1", bias=True, groups=GROUPS, padding="valid")
    return projected(net, net.norm_act(y, f"{conv}.norm"), width, f"{name}.point_conv")


def inverted(net: Net, x: Tensor, name: str, normed: int) -> Tensor:
    width = x.shape[-1]
    expand, middle = f"{name}.inverted_conv", f"{name}.depth_conv"
    y = net.conv(x, 4 * width, 1, f"{expand}.conv", bias=normed < 3, groups=GROUPS)
    y = activated(net, y, expand, normed=normed == 3)
    y = leaning(net, y, f"{middle}.conv", bias=normed < 2)
    y = activated(net, y, middle, normed=normed > 1)
    return projected(net, y, width, f"{name}.point_conv")
