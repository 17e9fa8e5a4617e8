"""InternImage. Wang et al., "InternImage: Exploring large-scale vision foundation models with deformable
convolutions", arXiv 2211.05778. Layers are named as in the authors' release.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from keras import layers

from zoo.blocks import LayerNet, Net, Tensor
from zoo.layers import BareScale, DeformableAggregation, Regroup

GROUP = 16  # channels that look at the same places
WINDOW = 3  # its side
HEAD_EPSILON = 1e-5  # of the one batch norm
FIRST_SCALE = 1e-5  # of each branch's channels


def internimage(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    width: int,
    scaled: bool = False,
    reach: float = 1.0,
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 12 * width].

    scaled: branches are normalised and scaled behind, and not normalised before; reach: how much longer the
    steps are that a place looks.
    """
    net = replace(net, activation="gelu")
    batch, net = replace(net, epsilon=HEAD_EPSILON), LayerNet(**vars(net))
    x = stem(net, images, width)
    done, last = count(), sum(depths) - 1
    residual = scaled_block if scaled else block
    for stage, depth in enumerate(depths):
        name = f"levels.{stage}"
        for i in range(depth):
            x = residual(net, x, reach, f"{name}.blocks.{i}", next(done) / last)
        x = x if scaled else net.norm(x, f"{name}.norm.0")
        x = downsample(net, x, f"{name}.downsample") if stage < len(depths) - 1 else x
    x = batch.conv_norm(x, x.shape[-1] * 3 // 2, 1, "conv_head.0", "conv_head.1.0")
    return net.act(x, "conv_head.2")


def stem(net: Net, images: Tensor, width: int) -> Tensor:
    x = net.conv(images, width // 2, 3, "patch_embed.conv1", 2, bias=True)
    x = net.act(net.norm(x, "patch_embed.norm1.1"), "patch_embed.act")
    return net.norm(net.conv(x, width, 3, "patch_embed.conv2", 2, bias=True), "patch_embed.norm2.1")


def downsample(net: Net, x: Tensor, name: str) -> Tensor:
    return net.conv_norm(x, 2 * x.shape[-1], 3, f"{name}.conv", f"{name}.norm.1", 2)


def block(net: Net, x: Tensor, reach: float, name: str, position: float) -> Tensor:
    y = deformable_convolution(net, net.norm(x, f"{name}.norm1.0"), reach, f"{name}.dcn")
    x = net.add(x, y, f"{name}.dcn", position)
    y = mlp(net, net.norm(x, f"{name}.norm2.0"), f"{name}.mlp")
    return net.add(x, y, f"{name}.mlp", position)


def scaled_block(net: Net, x: Tensor, reach: float, name: str, position: float) -> Tensor:
    y = net.norm(deformable_convolution(net, x, reach, f"{name}.dcn"), f"{name}.norm1.0")
    x = net.add(x, BareScale(FIRST_SCALE, name=f"{name}.gamma1")(y), f"{name}.dcn", position)
    y = net.norm(mlp(net, x, f"{name}.mlp"), f"{name}.norm2.0")
    return net.add(x, BareScale(FIRST_SCALE, name=f"{name}.gamma2")(y), f"{name}.mlp", position)


def deformable_convolution(net: Net, x: Tensor, reach: float, name: str) -> Tensor:
    """Version 3: what is near a place says where it looks and how much each of that counts."""
    channels = x.shape[-1]
    groups, places = channels // GROUP, WINDOW**2
    near = net.norm(net.depthwise(x, WINDOW, f"{name}.dw_conv.0", bias=True), f"{name}.dw_conv.1.1")
    near = net.act(near, f"{name}.dw_conv.2")
    steps = at_rest(near, 2 * groups * places, f"{name}.offset")
    shares = Regroup((groups, places), name=f"{name}.by_group")(
        at_rest(near, groups * places, f"{name}.mask")
    )
    shares = layers.Softmax(name=f"{name}.shares")(shares)
    values = net.linear(x, channels, f"{name}.input_proj")
    y = DeformableAggregation(WINDOW, reach, name=name)([values, steps, shares])
    return net.linear(y, channels, f"{name}.output_proj")


def at_rest(x: Tensor, units: int, name: str) -> Tensor:
    """A layer that starts at 0: the convolution begins as one of a plain window."""
    return layers.Dense(units, kernel_initializer="zeros", name=name)(x)


def mlp(net: Net, x: Tensor, name: str) -> Tensor:
    y = net.act(net.linear(x, 4 * x.shape[-1], f"{name}.fc1"), f"{name}.act")
    return net.linear(y, x.shape[-1], f"{name}.fc2")
