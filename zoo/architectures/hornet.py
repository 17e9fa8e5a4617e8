"""HorNet. Rao et al., "HorNet: efficient high-order spatial interactions with recursive gated convolutions",
arXiv 2207.14284.
"""

from collections.abc import Sequence
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor, concatenate, parts, shuffle, split
from zoo.layers import GlobalFilter, Scale

DEPTHS = (2, 3, 18, 2)
ORDERS = (2, 3, 4, 5)
EPSILON = 1e-6


def hornet(net: Net, images: Tensor, *, width: int, filters: Sequence[Sequence[int]] = ()) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, 8 * width]. filters: of the last two stages, in place of
    their 7x7 convolutions, the sizes of zoo.layers.GlobalFilter.
    """
    sizes = [(), (), *(filters or [(), ()])]
    done, last = count(), 2 * sum(DEPTHS) - 1
    x = net.conv(images, width, 4, "downsample_layers.0.0", 4, bias=True, padding="valid")
    x = norm(x, "downsample_layers.0.1")
    for stage, (depth, order) in enumerate(zip(DEPTHS, ORDERS, strict=True)):
        if stage:
            name = f"downsample_layers.{stage}"
            x = norm(x, f"{name}.0")
            x = net.conv(x, 2 * x.shape[-1], 2, f"{name}.1", 2, bias=True, padding="valid")
        for i in range(depth):
            name = f"stages.{stage}.{i}"
            y = recursive_gated(net, norm(x, f"{name}.norm1"), order, sizes[stage], f"{name}.gnconv")
            x = net.add(x, Scale(name=f"{name}.gamma1")(y), f"{name}.gnconv", next(done) / last)
            y = feed_forward(net, norm(x, f"{name}.norm2"), name)
            x = net.add(x, Scale(name=f"{name}.gamma2")(y), name, next(done) / last)
    return norm(net.global_pool(x), "norm3")


def recursive_gated(net: Net, x: Tensor, order: int, size: Sequence[int], name: str) -> Tensor:
    """Figure 2: gates by neighbours, once for each order, on ever more channels."""
    channels = x.shape[-1]
    widths = [channels // 2**i for i in reversed(range(order))]
    x = net.conv(x, 2 * channels, 1, f"{name}.proj_in", bias=True)
    y, gates = split(x, (widths[0], sum(widths)), f"{name}.halves")
    if size:
        gates = filtered(net, gates, size, f"{name}.dwconv")
    else:
        gates = net.depthwise(gates, 7, f"{name}.dwconv", bias=True)
    gates = split(layers.Rescaling(1 / 3, name=f"{name}.third")(gates), widths, f"{name}.gates")
    y = layers.Multiply(name=f"{name}.gated.0")([y, gates[0]])
    for i, gate in enumerate(gates[1:]):
        y = net.conv(y, gate.shape[-1], 1, f"{name}.projs.{i}", bias=True)
        y = layers.Multiply(name=f"{name}.gated.{i + 1}")([y, gate])
    return net.conv(y, channels, 1, f"{name}.proj_out", bias=True)


def filtered(net: Net, x: Tensor, size: Sequence[int], name: str) -> Tensor:
    """Half of the channels see their neighbours, half the whole map."""
    near, far = parts(norm(x, f"{name}.pre_norm"), 2, f"{name}.halves")
    near = net.depthwise(near, 3, f"{name}.dw")
    far = GlobalFilter(*size, name=name)(far)
    x = shuffle(concatenate([near, far], name), 2, f"{name}.deal")
    return norm(x, f"{name}.post_norm")


def feed_forward(net: Net, x: Tensor, name: str) -> Tensor:
    y = net.linear(x, 4 * x.shape[-1], f"{name}.pwconv1")
    y = layers.Activation("gelu", name=f"{name}.act")(y)
    return net.linear(y, x.shape[-1], f"{name}.pwconv2")


def norm(x: Tensor, name: str) -> Tensor:
    return layers.LayerNormalization(epsilon=EPSILON, name=name)(x)
