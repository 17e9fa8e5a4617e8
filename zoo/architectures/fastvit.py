"""FastViT. Vasu et al., "A fast hybrid vision transformer using structural reparameterization", arXiv
2303.14189.

This is the network in training; zoo.fuse makes one convolution of every mixer, stem and downsampling block.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

from keras import layers

from zoo.architectures.mobileone import block, branch
from zoo.blocks import NORMS, Net, Tensor
from zoo.layers import Attention, Scale

HEAD = 32


def mobileclip(net: Net, images: Tensor, *, units: int, **build: Any) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, units], near those of their captions. Vasu et al.,
    "MobileCLIP", arXiv 2311.17049 and 2508.20691.
    """
    return net.linear(net.global_pool(fastvit(net, images, **build)), units, "head.fc")


def fastvit(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    width: int,
    expand: int,
    attention: int = 0,
    squeezed: int = 0,
    active: bool = False,
    norm: str = "batch",
    scaled: bool = True,
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 16 * width].

    width: of the first stage; every other one halves the map and doubles the channels. expand: of the
    channels inside the linear layers. attention: of how many last stages the blocks attend, after an encoding
    of positions, and norm: one of zoo.blocks.NORMS in front of that. squeezed: before how many last stages
    channels are gated where the map is halved; active: whether there is an activation, too. scaled: whether
    the stem's convolutions of 3x3 have one of 1x1 beside them.
    """
    net = replace(net, activation="gelu")
    x = stem(net, images, width, scaled)
    done, stages = count(), len(depths)
    for stage, depth in enumerate(depths):
        name = f"stages.{stage}"
        if stage > 0:
            x = downsample(net, x, f"{name}.downsample.proj", stage >= stages - squeezed, active)
        attending = stage >= stages - attention
        if attending:
            y = net.depthwise(x, 7, f"{name}.pos_emb.pos_enc", bias=True)
            x = layers.Add(name=f"{name}.pos_emb.add")([x, y])
        mixed = partial(attention_block, norm=norm) if attending else mixer_block
        for i in range(depth):
            x = mixed(net, x, expand, f"{name}.blocks.{i}", next(done) / (sum(depths) - 1))
    x = block(net, x, "final_conv", 2 * x.shape[-1], 3, depthwise=True)
    x = net.squeeze_excite(x, x.shape[-1] // 16, "final_conv.se", ("fc1", "fc2"), activation="relu")
    return net.act(x, "final_conv.act")


def stem(net: Net, x: Tensor, width: int, scaled: bool) -> Tensor:
    x = net.act(block(net, x, "stem.0", width, 3, 2, pointwise=scaled), "stem.0.act")
    x = net.act(block(net, x, "stem.1", width, 3, 2, depthwise=True, pointwise=scaled), "stem.1.act")
    return net.act(block(net, x, "stem.2", width, 1), "stem.2.act")


def downsample(net: Net, x: Tensor, name: str, squeezed: bool, active: bool) -> Tensor:
    """A large kernel with a small one beside it, then pointwise."""
    channels = 2 * x.shape[-1]
    large = branch(net, x, channels, 7, f"{name}.0.large_conv", 2, True)
    small = branch(net, x, channels, 3, f"{name}.0.small_conv", 2, True)
    x = layers.Add(name=f"{name}.0.sum")([large, small])
    x = net.squeeze_part(x, f"{name}.0.se", part=1 / 4, activation="relu") if squeezed else x
    x = net.act(x, f"{name}.0.act") if active else x
    return net.act(block(net, x, f"{name}.1", channels, 1), f"{name}.1.act")


def mixer_block(net: Net, x: Tensor, expand: int, name: str, position: float) -> Tensor:
    x = mix(net, x, f"{name}.token_mixer")
    return net.add(x, scale(perceptron(net, x, expand, f"{name}.mlp"), f"{name}.layer_scale"), name, position)


def mix(net: Net, x: Tensor, name: str) -> Tensor:
    """x + scale * (branches(x) - norm(x)): linear, so that nothing of it is left but a 3x3 convolution."""
    branches = block(net, x, f"{name}.mixer", x.shape[-1], 3, depthwise=True)
    y = layers.Subtract(name=f"{name}.difference")([branches, net.norm(x, f"{name}.norm.identity")])
    return layers.Add(name=f"{name}.add")([x, scale(y, f"{name}.layer_scale")])


def attention_block(net: Net, x: Tensor, expand: int, name: str, position: float, *, norm: str) -> Tensor:
    y = self_attention(NORMS[norm](epsilon=net.epsilon).norm(x, f"{name}.norm"), f"{name}.token_mixer")
    x = net.add(x, scale(y, f"{name}.layer_scale_1"), f"{name}.token_mixer", position)
    return net.add(
        x, scale(perceptron(net, x, expand, f"{name}.mlp"), f"{name}.layer_scale_2"), name, position
    )


def self_attention(x: Tensor, name: str) -> Tensor:
    channels = x.shape[-1]
    y = layers.Dense(3 * channels, use_bias=False, name=f"{name}.qkv")(x)
    y = Attention(channels // HEAD, name=f"{name}.attention")(y)
    return layers.Dense(channels, name=f"{name}.proj")(y)


def perceptron(net: Net, x: Tensor, expand: int, name: str) -> Tensor:
    """Two pointwise layers behind a depthwise one."""
    channels = x.shape[-1]
    x = branch(net, x, channels, 7, f"{name}.conv", 1, True)
    x = net.act(net.conv(x, expand * channels, 1, f"{name}.fc1", bias=True), f"{name}.act")
    return net.conv(x, channels, 1, f"{name}.fc2", bias=True)


def scale(x: Tensor, name: str) -> Tensor:
    return Scale(1e-5, rank=3, name=name)(x)
