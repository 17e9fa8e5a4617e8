"""VAN. Guo et al., "Visual attention network", arXiv 2202.09741: attention by convolutions alone, a window of
21 pixels taken apart into a small one, a dilated one and a pointwise one.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor
from zoo.layers import Scale

EXPANSIONS = (8, 8, 4, 4)
LAYER_SCALE = 1e-2


def van(net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]."""
    net = replace(net, activation="gelu")
    x, done, last = images, count(), 2 * sum(depths) - 1
    for stage, (depth, width, expansion) in enumerate(zip(depths, widths, EXPANSIONS, strict=True), start=1):
        kernel, stride = (7, 4) if stage == 1 else (3, 2)
        name = f"patch_embed{stage}"
        x = net.norm(net.conv(x, width, kernel, f"{name}.projection", stride, bias=True), f"{name}.norm")
        for i in range(depth):
            name = f"blocks{stage}.{i}"
            x = net.add(x, attention(net, x, name), f"{name}.attn", next(done) / last)
            x = net.add(x, mlp(net, x, expansion * width, name), f"{name}.mlp", next(done) / last)
        x = layers.LayerNormalization(epsilon=net.epsilon, name=f"norm{stage}")(x)
    return x


def attention(net: Net, x: Tensor, name: str) -> Tensor:
    """Figure 3d. The shortcut around the attention starts behind the norm."""
    channels = x.shape[-1]
    x = net.norm(x, f"{name}.norm1")
    name, scale = f"{name}.attn", f"{name}.layer_scale_1"
    y = net.act(net.conv(x, channels, 1, f"{name}.proj_1", bias=True), f"{name}.activation")
    y = large_kernel_attention(net, y, f"{name}.spatial_gating_unit")
    y = net.conv(y, channels, 1, f"{name}.proj_2", bias=True)
    return Scale(LAYER_SCALE, name=scale)(layers.Add(name=f"{name}.around")([x, y]))


def large_kernel_attention(net: Net, x: Tensor, name: str) -> Tensor:
    """Every value times what a wide neighbourhood makes of it: figure 3a. No softmax, no sigmoid."""
    y = net.depthwise(x, 5, f"{name}.DW_conv", bias=True)
    y = net.depthwise(y, 7, f"{name}.DW_D_conv", bias=True, dilation=3)
    y = net.conv(y, x.shape[-1], 1, f"{name}.conv1", bias=True)
    return layers.Multiply(name=f"{name}.attend")([x, y])


def mlp(net: Net, x: Tensor, hidden: int, name: str) -> Tensor:
    """With a depthwise convolution in the middle."""
    y = net.conv(net.norm(x, f"{name}.norm2"), hidden, 1, f"{name}.mlp.fc1", bias=True)
    y = net.act(net.depthwise(y, 3, f"{name}.mlp.dwconv", bias=True), f"{name}.mlp.act")
    y = net.conv(y, x.shape[-1], 1, f"{name}.mlp.fc2", bias=True)
    return Scale(LAYER_SCALE, name=f"{name}.layer_scale_2")(y)
