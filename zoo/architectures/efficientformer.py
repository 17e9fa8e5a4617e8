"""EfficientFormer. Li et al., "EfficientFormer: Vision transformers at MobileNet speed", arXiv 2206.01191:
pooling mixes places in most blocks, attention that knows distances in the last ones.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from keras import layers

from zoo.architectures.metaformer import pooled
from zoo.blocks import Net, Tensor
from zoo.layers import BiasedSelfAttention, Scale

HEADS, SIZE, VALUES = 8, 32, 128  # channels of a head's queries, and of its values
GRID = 7  # places along a side of the last map, of 224 pixels


def efficientformer(
    net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int], attentions: int
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C], for two heads. attentions: how many
    of the last blocks attend.
    """
    x = stem(net, images, widths[0])
    net = replace(net, activation="gelu")
    done, last = count(), sum(depths) - 1
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        name = f"stages.{stage}"
        x = downsample(net, x, width, f"{name}.downsample") if stage else x
        plain = depth - attentions if stage == len(depths) - 1 else depth
        for i in range(plain):
            x = pooling_block(net, x, f"{name}.blocks.{i}", next(done) / last)
        # The reference counts its change from a map to tokens as a block.
        for i in range(plain + 1, depth + 1):
            x = attention_block(net, x, f"{name}.blocks.{i}", next(done) / last)
    return layers.LayerNormalization(epsilon=net.epsilon, name="norm")(x)


def stem(net: Net, x: Tensor, width: int) -> Tensor:
    x = net.norm_act(net.conv(x, width // 2, 3, "stem.conv1", 2, bias=True), "stem.norm1")
    return net.norm_act(net.conv(x, width, 3, "stem.conv2", 2, bias=True), "stem.norm2")


def downsample(net: Net, x: Tensor, width: int, name: str) -> Tensor:
    return net.norm(net.conv(x, width, 3, f"{name}.conv", 2, bias=True), f"{name}.norm")


def pooling_block(net: Net, x: Tensor, name: str, position: float) -> Tensor:
    x = scaled(net, x, pooled(net, x, f"{name}.token_mixer"), f"{name}.ls1", position)
    y = net.norm_act(net.conv(x, 4 * x.shape[-1], 1, f"{name}.mlp.fc1", bias=True), f"{name}.mlp.norm1")
    y = net.norm(net.conv(y, x.shape[-1], 1, f"{name}.mlp.fc2", bias=True), f"{name}.mlp.norm2")
    return scaled(net, x, y, f"{name}.ls2", position)


def attention_block(net: Net, x: Tensor, name: str, position: float) -> Tensor:
    width = x.shape[-1]
    y = layers.LayerNormalization(epsilon=net.epsilon, name=f"{name}.norm1")(x)
    y = net.linear(y, HEADS * (2 * SIZE + VALUES), f"{name}.token_mixer.qkv")
    y = BiasedSelfAttention(HEADS, GRID, size=SIZE, name=f"{name}.token_mixer")(y)
    y = net.linear(y, width, f"{name}.token_mixer.proj")
    x = scaled(net, x, y, f"{name}.ls1", position)
    y = layers.LayerNormalization(epsilon=net.epsilon, name=f"{name}.norm2")(x)
    y = net.act(net.linear(y, 4 * width, f"{name}.mlp.fc1"), f"{name}.mlp.act")
    return scaled(net, x, net.linear(y, width, f"{name}.mlp.fc2"), f"{name}.ls2", position)


def scaled(net: Net, x: Tensor, y: Tensor, name: str, position: float) -> Tensor:
    """Each channel of the residual times a learned factor."""
    return net.add(x, Scale(1e-5, name=name)(y), name, position)
