"""SHViT. Yun and Ro, "SHViT: Single-head vision transformer with memory efficient macro design", arXiv
2401.16456: a stem that reduces by sixteen, and attention with one head on a part of the channels.
"""

from collections.abc import Sequence
from itertools import count

from keras import layers

from zoo.architectures.repvit import depthwise_normalised, normalised
from zoo.blocks import Net, Tensor, concatenate, map_norm, split
from zoo.layers import CrossAttention

SIZE = 16  # channels of queries and keys


def shvit(
    net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int], parts: Sequence[int]
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/64, W/64, C]. parts: the channels that attend, in
    each stage's blocks; 0 for blocks without attention.
    """
    x = images
    for i, part in enumerate((8, 4, 2, 1)):
        x = normalised(net, x, widths[0] // part, 3, f"patch_embed.{2 * i}", 2)
        x = net.act(x, f"patch_embed.{2 * i + 1}") if part > 1 else x
    done, last = count(), sum(depths) - 1
    for stage, (depth, width, part) in enumerate(zip(depths, widths, parts, strict=True)):
        if stage:
            x = downsample(net, x, width, f"stages.{stage}.downsample")
        for i in range(depth):
            x = block(net, x, part, f"stages.{stage}.blocks.{i}", next(done) / last)
    return x


def block(net: Net, x: Tensor, part: int, name: str, position: float) -> Tensor:
    x = net.add(x, depthwise_normalised(net, x, 3, f"{name}.conv.m"), f"{name}.conv", position)
    if part:
        x = net.add(x, attention(net, x, part, f"{name}.mixer.m"), f"{name}.mixer", position)
    return net.add(x, feed_forward(net, x, f"{name}.ffn.m"), f"{name}.ffn", position)


def downsample(net: Net, x: Tensor, width: int, name: str) -> Tensor:
    """Residual blocks before and behind an inverted bottleneck that halves the map."""
    x = layers.Add(name=f"{name}.0")([x, depthwise_normalised(net, x, 3, f"{name}.0.m")])
    x = layers.Add(name=f"{name}.1")([x, feed_forward(net, x, f"{name}.1.m")])
    inner = 4 * x.shape[-1]
    x = net.act(normalised(net, x, inner, 1, f"{name}.2.conv1"), f"{name}.2.act1")
    x = net.act(depthwise_normalised(net, x, 3, f"{name}.2.conv2", 2), f"{name}.2.act2")
    x = net.squeeze_part(x, f"{name}.2.se", part=1 / 4)
    x = normalised(net, x, width, 1, f"{name}.2.conv3")
    x = layers.Add(name=f"{name}.3")([x, depthwise_normalised(net, x, 3, f"{name}.3.m")])
    return layers.Add(name=f"{name}.4")([x, feed_forward(net, x, f"{name}.4.m")])


def attention(net: Net, x: Tensor, part: int, name: str) -> Tensor:
    """The first channels attend among all places; the others go by."""
    mixed, rest = split(x, [part, x.shape[-1] - part], f"{name}.part")
    y = normalised(net, map_norm(net, mixed, f"{name}.pre_norm"), 2 * SIZE + part, 1, f"{name}.qkv")
    queries, keys, values = split(y, [SIZE, SIZE, part], f"{name}.qkv.part")
    y = concatenate([single_head(queries, keys, values, name), rest], name)
    return normalised(net, net.act(y, f"{name}.proj.0"), x.shape[-1], 1, f"{name}.proj.1")


def single_head(queries: Tensor, keys: Tensor, values: Tensor, name: str) -> Tensor:
    """What all places see of all: maps of queries and keys [N, H, W, K] and values [N, H, W, C] -> of C."""
    keys, values = (
        layers.Reshape((-1, x.shape[-1]), name=f"{name}.{which}.places")(x)
        for x, which in ((keys, "keys"), (values, "values"))
    )
    return CrossAttention(1, name=f"{name}.attention")([queries, keys, values])


def feed_forward(net: Net, x: Tensor, name: str) -> Tensor:
    y = net.act(normalised(net, x, 2 * x.shape[-1], 1, f"{name}.pw1"), f"{name}.act")
    return normalised(net, y, x.shape[-1], 1, f"{name}.pw2")
