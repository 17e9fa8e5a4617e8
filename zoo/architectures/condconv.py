"""CondConv. Yang et al., "CondConv: conditionally parameterized convolutions for efficient inference", arXiv
1904.04971.
"""

from dataclasses import replace
from functools import partial

from keras import layers

from zoo.architectures.efficientnet import B0
from zoo.blocks import Net, Tensor, round_channels
from zoo.blocks.mobile import Stage, attend, expanded, network, scaled
from zoo.layers import ConditionalConv2D


def efficientnet_cc(net: Net, images: Tensor, *, width: float, depth: float, experts: int) -> Tensor:
    """EfficientNet, in whose last three stages every picture has kernels of its own, mixed from those of so
    many experts. Images, normalised -> feature map [N, H/32, W/32, C].
    """
    mixed = [replace(stage, block=partial(conditional, experts=experts)) for stage in B0[4:]]
    stages = scaled([*B0[:4], *mixed], width, depth)
    stem, head = round_channels(32 * width), round_channels(1280 * width)
    return network(replace(net, activation="silu"), images, stem, stages, head)


def conditional(net: Net, x: Tensor, stage: Stage, name: str, experts: int) -> Tensor:
    """An inverted residual, its kernels mixed by what the block's input shows."""
    route = layers.GlobalAveragePooling2D(name=f"{name}.routing_pool")(x)
    route = layers.Dense(experts, activation="sigmoid", name=f"{name}.routing_fn")(route)
    mixed = partial(ConditionalConv2D, experts)
    y = mixed(expanded(x, stage), name=f"{name}.conv_pw")([x, route])
    y = net.norm_act(y, f"{name}.bn1")
    y = mixed(size=stage.kernel, stride=stage.stride, name=f"{name}.conv_dw")([y, route])
    y = attend(net, net.norm_act(y, f"{name}.bn2"), x, stage, name)
    return net.norm(mixed(stage.channels, name=f"{name}.conv_pwl")([y, route]), f"{name}.bn3")
