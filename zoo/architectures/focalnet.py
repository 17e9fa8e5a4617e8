"""FocalNet. Yang et al., "Focal modulation networks", arXiv 2203.11926: in attention's place are depthwise
convolutions of growing reach, whose maps modulate the query.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from keras import layers

from zoo.blocks import LayerNet, Net, Tensor, split
from zoo.layers import Scale

EXPANSION = 4
LAYER_SCALE = 1e-4


def focalnet(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    width: int,
    levels: int,
    window: int = 3,
    post_norm: bool = False,
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 8 * width].

    levels: how many depthwise convolutions follow each other, the first of `window` places, each next of two
    more. post_norm: the large networks' form, with norms behind a block's parts, layer scale, and patches
    that overlap.
    """
    net = LayerNet(**vars(replace(net, activation="gelu")))
    x = embedded(net, images, width, 4, "stem", overlap=post_norm)
    done = count()
    for stage, depth in enumerate(depths):
        if stage:
            name = f"layers.{stage}.downsample"
            x = embedded(net, x, width * 2**stage, 2, name, overlap=post_norm)
        for i in range(depth):
            name, position = f"layers.{stage}.blocks.{i}", next(done) / (sum(depths) - 1)
            x = block(net, x, levels, window, name, position, post_norm=post_norm)
    return net.norm(x, "norm")


def embedded(net: Net, x: Tensor, width: int, patch: int, name: str, *, overlap: bool) -> Tensor:
    kernel = {4: 7, 2: 3}[patch] if overlap else patch
    if overlap:
        x = layers.ZeroPadding2D(patch // 2, name=f"{name}.pad")(x)
    x = net.conv(x, width, kernel, f"{name}.proj", patch, bias=True, padding="valid")
    return net.norm(x, f"{name}.norm")


def block(
    net: Net, x: Tensor, levels: int, window: int, name: str, position: float, *, post_norm: bool
) -> Tensor:
    y = x if post_norm else net.norm(x, f"{name}.norm1")
    y = modulated(net, y, levels, window, f"{name}.modulation")
    y = Scale(LAYER_SCALE, name=f"{name}.ls1")(net.norm(y, f"{name}.norm1_post")) if post_norm else y
    x = net.add(x, y, f"{name}.1", position)
    y = mlp(net, x if post_norm else net.norm(x, f"{name}.norm2"), f"{name}.mlp")
    y = Scale(LAYER_SCALE, name=f"{name}.ls2")(net.norm(y, f"{name}.norm2_post")) if post_norm else y
    return net.add(x, y, f"{name}.2", position)


def modulated(net: Net, x: Tensor, levels: int, window: int, name: str) -> Tensor:
    """Each level has a gate at every place; the last one's is for the mean of the whole map."""
    width = x.shape[-1]
    y = net.conv(x, 2 * width + levels + 1, 1, f"{name}.f", bias=True)
    query, context, *gates = split(y, [width, width, *[1] * (levels + 1)], f"{name}.split")
    gathered = []
    for level, gate in enumerate(gates[:-1]):
        part = f"{name}.focal_layers.{level}"
        context = net.act(net.depthwise(context, window + 2 * level, f"{part}.0"), f"{part}.1")
        gathered.append(layers.Multiply(name=f"{part}.gated")([context, gate]))
    whole = net.act(layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.mean")(context), f"{name}.act")
    gathered.append(layers.Multiply(name=f"{name}.mean.gated")([whole, gates[-1]]))
    modulator = net.conv(layers.Add(name=f"{name}.sum")(gathered), width, 1, f"{name}.h", bias=True)
    y = layers.Multiply(name=f"{name}.modulated")([query, modulator])
    return net.conv(y, width, 1, f"{name}.proj", bias=True)


def mlp(net: Net, x: Tensor, name: str) -> Tensor:
    y = net.act(net.conv(x, EXPANSION * x.shape[-1], 1, f"{name}.fc1", bias=True), f"{name}.act")
    return net.conv(y, x.shape[-1], 1, f"{name}.fc2", bias=True)
