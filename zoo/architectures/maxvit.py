"""MaxViT. Tu et al., "MaxViT: Multi-axis vision transformer", arXiv 2204.01697: every block is an inverted
residual, attention within windows, and attention among places that are spread over the whole map. MaxxViT,
timm's, has ConvNeXt's block for the first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from keras import layers

from zoo.architectures.coatnet import (
    Transformer,
    attentive,
    convnext_block,
    mbconv,
    stages,
    transformer,
    two_convolutions,
)
from zoo.blocks import LayerNet, Net, Tensor
from zoo.initializers import he_fan_out
from zoo.layers import gelu_tanh

PARTS = (8, 4, 2, 1)  # of the sides of each stage's map


def maxvit(
    net: Net,
    images: Tensor,
    *,
    stem: int,
    widths: Sequence[int],
    depths: Sequence[int],
    window: int,
) -> Tensor:
    """The authors'. Images [N, H, W, 3], normalised -> vectors [N, C]. window: the rows and columns of one at
    the size that the weights are for.
    """
    net = replace(net, activation=gelu_tanh, start=he_fan_out)
    attending = replace(attentive(net, epsilon=1e-5), activation=gelu_tanh)
    facts = Transformer(window, addends="learned_by_head", joined=False)
    x = two_convolutions(net, images, (stem, stem), bias=True)
    x = multi_axis(x, widths, depths, partial(mbconv, net, early=True), attending, facts)
    return hidden(attending, x)


def maxvit_torchvision(
    net: Net, images: Tensor, *, stem: int, widths: Sequence[int], depths: Sequence[int], window: int
) -> Tensor:
    """torchvision's of the same: other borders, and smaller scores in attention."""
    net = replace(net, activation="gelu", start=he_fan_out)
    attending = attentive(net, epsilon=1e-5)
    conv = partial(mbconv, net, early=True, pool="around", project=True)
    x = net.conv_norm_act(images, stem, 3, "stem.conv1", "stem.norm1", 2)
    x = net.conv(x, stem, 3, "stem.conv2", bias=True)
    x = multi_axis(x, widths, depths, conv, attending, Transformer(window, joined=False, by_width=True))
    return hidden(attending, x)


def maxvit_rw(
    net: Net,
    images: Tensor,
    *,
    stem: Sequence[int],
    widths: Sequence[int],
    depths: Sequence[int],
    attention: Mapping[str, Any],
    head: bool = False,
) -> Tensor:
    """timm's: Images -> feature map [N, H/32, W/32, C], or with `head` vectors [N, C]."""
    net = replace(net, activation="silu", start=he_fan_out)
    conv = partial(mbconv, net, bias=False, squeeze=1 / 16)
    facts, attending = Transformer(**attention), attentive(net)
    x = multi_axis(two_convolutions(net, images, stem), widths, depths, conv, attending, facts)
    return hidden(attending, x) if head else attending.norm(x, "norm")


def maxxvit(
    net: Net,
    images: Tensor,
    *,
    stem: Sequence[int],
    widths: Sequence[int],
    depths: Sequence[int],
    attention: Mapping[str, Any],
    windows: bool = True,
) -> Tensor:
    """The same of ConvNeXt's blocks; V2 has no attention within windows."""
    net = LayerNet(**vars(replace(net, activation="gelu", start=he_fan_out)))
    facts, attending = Transformer(**attention, scaled=True), attentive(net)
    x = two_convolutions(net, images, stem)
    conv = partial(convnext_block, net, scale=1e-6)
    x = multi_axis(x, widths, depths, conv, attending, facts, windows=windows)
    return attending.norm(x, "norm")


def multi_axis(
    x: Tensor,
    widths: Sequence[int],
    depths: Sequence[int],
    convolution: Callable[..., Tensor],
    net: Net,
    facts: Transformer,
    *,
    windows: bool = True,
) -> Tensor:
    def block(x: Tensor, stage: int, width: int, stride: int, name: str, position: float) -> Tensor:
        x = convolution(x, width, stride, f"{name}.conv", position)
        near = replace(facts, parts=PARTS[stage])
        if windows:
            x = transformer(net, x, width, 1, f"{name}.attn_block", position, near)
        return transformer(net, x, width, 1, f"{name}.attn_grid", position, replace(near, spread=True))

    return stages(x, widths, depths, block)


def hidden(net: Net, x: Tensor) -> Tensor:
    """Pool, norm and a linear layer: maps -> vectors [N, C]."""
    x = net.norm(net.global_pool(x), "head.norm")
    x = net.linear(x, x.shape[-1], "head.pre_logits.fc")
    return layers.Activation("tanh", name="head.pre_logits.act")(x)
