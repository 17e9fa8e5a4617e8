"""InternImage. Wang et al., "InternImage: Exploring large-scale vision foundation models with deformable
convolutions", arXiv 2211.05778. Layers are named as in the authors' release.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from keras import layers

from zoo.blocks import LayerNet, Net, Tensor
from zoo.layers import BareScale, DeformableAggregation, Regroup

GROUP = 16  # channels that look at the same places
WINDOW = 3  # its side
HEAD_EPSILON = 1e-5  # of the one batch norm


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
    batch, net = replace(net, epsilon=HEAD_EPSILON), LayerNet(**vars(net))
    x = stem(net, images, width)
    done, last = count(), sum(depths) - 1
    residual = scaled_branch if scaled else branch
    for stage, depth in enumerate(depths):
        name = f"levels.{stage}"
        for i in range(depth):
            position = next(done) / last
            x = block(net, x, partial(residual, net), reach, f"{name}.blocks.{i}", position)
        x = x if scaled else net.norm(x, f"{name}.norm.0")
        x = downsample(net, x, f"{name}.downsample") if stage < len(depths) - 1 else x
    x = batch.conv_norm(x, x.shape[-1] * 3 // 2, 1, "conv_head.0", "conv_head.1.0")
    return gelu(x, "conv_head.2")


def stem(net: Net, images: Tensor, width: int) -> Tensor:
    x = net.conv(images, width // 2, 3, "patch_embed.conv1", 2, bias=True)
    x = gelu(net.norm(x, "patch_embed.norm1.1"), "patch_embed.act")
    return net.norm(net.conv(x, width, 3, "patch_embed.conv2", 2, bias=True), "patch_embed.norm2.1")


def downsample(net: Net, x: Tensor, name: str) -> Tensor:
    return net.conv_norm(x, 2 * x.shape[-1], 3, f"{name}.conv", f"{name}.norm.1", 2)


def block(
    net: Net, x: Tensor, residual: Callable[..., Tensor], reach: float, name: str, position: float
) -> Tensor:
    deformable = partial(deformable_convolution, net, reach=reach, name=f"{name}.dcn")
    x = net.add(x, residual(x, deformable, name, 1), f"{name}.dcn", position)
    return net.add(x, residual(x, partial(mlp, net, name=f"{name}.mlp"), name, 2), f"{name}.mlp", position)


def branch(net: Net, x: Tensor, layer: Callable[[Tensor], Tensor], name: str, number: int) -> Tensor:
    return layer(net.norm(x, f"{name}.norm{number}.0"))


def scaled_branch(net: Net, x: Tensor, layer: Callable[[Tensor], Tensor], name: str, number: int) -> Tensor:
    return BareScale(1e-5, name=f"{name}.gamma{number}")(net.norm(layer(x), f"{name}.norm{number}.0"))


def deformable_convolution(net: Net, x: Tensor, *, reach: float, name: str) -> Tensor:
    """Version 3: what is near a place says where it looks and how much each of that counts."""
    channels = x.shape[-1]
    groups, places = channels // GROUP, WINDOW**2
    near = net.norm(net.depthwise(x, WINDOW, f"{name}.dw_conv.0", bias=True), f"{name}.dw_conv.1.1")
    near = gelu(near, f"{name}.dw_conv.2")
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


def mlp(net: Net, x: Tensor, *, name: str) -> Tensor:
    y = gelu(net.linear(x, 4 * x.shape[-1], f"{name}.fc1"), f"{name}.act")
    return net.linear(y, x.shape[-1], f"{name}.fc2")


def gelu(x: Tensor, name: str) -> Tensor:
    return layers.Activation("gelu", name=name)(x)
