"""MogaNet. Li et al., "MogaNet: multi-order gated aggregation network", arXiv 2211.03295.

Depthwise convolutions of three reaches side by side see neighbours of several orders; a gate weighs what they
gather, and every part adds what the mean of a map, or of its channels, does not tell.
"""

from collections.abc import Sequence
from functools import partial
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor, concatenate, split
from zoo.layers import BareScale, ChannelScale

EXPANSIONS = (8, 8, 4, 4)
INITIAL = 1e-5  # of the learned factors

scaled = partial(BareScale, INITIAL, 4)
sigma = partial(ChannelScale, INITIAL, 4)


def moganet(net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]."""
    x, done = stem(net, images, widths[0]), count()
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
        if stage > 1:
            x = net.conv(x, width, 3, f"patch_embed{stage}.projection", 2, bias=True)
            x = net.norm(x, f"patch_embed{stage}.norm")
        for i in range(depth):
            name, position = f"blocks{stage}.{i}", next(done) / (sum(depths) - 1)
            y = gated_aggregation(net, net.norm(x, f"{name}.norm1"), f"{name}.attn")
            x = net.add(x, scaled(name=f"{name}.layer_scale_1")(y), f"{name}.1", position)
            hidden = EXPANSIONS[stage - 1] * width
            y = channel_aggregation(net, net.norm(x, f"{name}.norm2"), hidden, f"{name}.mlp")
            x = net.add(x, scaled(name=f"{name}.layer_scale_2")(y), f"{name}.2", position)
        x = net.norm(x, f"norm{stage}")
    return x


def stem(net: Net, x: Tensor, width: int) -> Tensor:
    x = net.norm(
        net.conv(x, width // 2, 3, "patch_embed1.projection.0", 2, bias=True), "patch_embed1.projection.1"
    )
    x = layers.Activation("gelu", name="patch_embed1.projection.2")(x)
    return net.norm(
        net.conv(x, width, 3, "patch_embed1.projection.3", 2, bias=True), "patch_embed1.projection.4"
    )


def gated_aggregation(net: Net, x: Tensor, name: str) -> Tensor:
    """Figure 4a, Moga: what several orders gather, times a gate."""
    width = x.shape[-1]
    y = net.conv(x, width, 1, f"{name}.proj_1", bias=True)
    mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.mean")(y)
    y = silu(with_what_differs(y, mean, name), f"{name}.act_value")
    gate = silu(net.conv(y, width, 1, f"{name}.gate", bias=True), f"{name}.act_gate")
    y = silu(multi_order(net, y, f"{name}.value"), f"{name}.value.act")
    y = layers.Multiply(name=f"{name}.gated")([gate, y])
    return layers.Add(name=f"{name}.add")([net.conv(y, width, 1, f"{name}.proj_2", bias=True), x])


def multi_order(net: Net, x: Tensor, name: str) -> Tensor:
    """All channels are seen by a 5x5 window; behind it three eighths of them by one of twice the reach, and
    half of them by one of 7x7 and three times the reach.
    """
    eighth = x.shape[-1] // 8
    x = net.depthwise(x, 5, f"{name}.DW_conv0", bias=True)
    low, middle, high = split(x, [eighth, 3 * eighth, 4 * eighth], name)
    middle = net.depthwise(middle, 5, f"{name}.DW_conv1", bias=True, dilation=2)
    high = net.depthwise(high, 7, f"{name}.DW_conv2", bias=True, dilation=3)
    return net.conv(concatenate([low, middle, high], name), x.shape[-1], 1, f"{name}.PW_conv", bias=True)


def channel_aggregation(net: Net, x: Tensor, hidden: int, name: str) -> Tensor:
    """Figure 4b, the perceptron: one channel gathers what all channels of a place have in common."""
    y = net.depthwise(net.conv(x, hidden, 1, f"{name}.fc1", bias=True), 3, f"{name}.dwconv", bias=True)
    y = layers.Activation("gelu", name=f"{name}.act")(y)
    common = net.conv(y, 1, 1, f"{name}.decompose", bias=True)
    common = layers.Activation("gelu", name=f"{name}.decompose_act")(common)
    return net.conv(with_what_differs(y, common, name), x.shape[-1], 1, f"{name}.fc2", bias=True)


def with_what_differs(x: Tensor, common: Tensor, name: str) -> Tensor:
    differs = layers.Subtract(name=f"{name}.differs")([x, common])
    return layers.Add(name=f"{name}.decomposed")([x, sigma(name=f"{name}.sigma")(differs)])


def silu(x: Tensor, name: str) -> Tensor:
    return layers.Activation("silu", name=name)(x)
