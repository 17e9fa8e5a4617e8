"""Networks without normalisation. Brock et al., "Characterizing signal propagation to close the performance
gap in unnormalized ResNets", arXiv 2101.08692 (NF-ResNet), and "High-performance large-scale image
recognition without normalization", arXiv 2102.06171 (NFNet).

Every convolution keeps the variance of its input, every block adds ALPHA^2 to it, and the next block divides
by the variance that is expected then.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

from keras import layers

from zoo.architectures.ecanet import neighbours
from zoo.architectures.resnetv2 import stem_bare
from zoo.blocks import Net, Tensor, round_channels, smoothed
from zoo.layers import SkipGain, StandardizedConv2D

ALPHA = 0.2
WIDTHS = (256, 512, 1536, 1536)
# What makes up for the variance that an activation takes away.
GAMMA = {"relu": 1.7139588594436646, "gelu": 1.7015043497085571, "silu": 1.7881293296813965}


@dataclass(frozen=True)
class NormFree(Net):
    """Scaled standardised convolutions with biases; gamma in the convolutions or after the activations."""

    conv_gamma: float = 1.0
    act_gamma: float = 1.0

    def conv_layer(self, groups: int) -> Callable[..., Any]:
        return partial(StandardizedConv2D, groups=groups, gamma=self.conv_gamma)

    def act(self, x: Tensor, name: str) -> Tensor:
        return scale(super().act(x, name), self.act_gamma, f"{name}.gamma")

    def act_conv(
        self, x: Tensor, filters: int, kernel: int, act: str, conv: str, stride: int = 1, groups: int = 1
    ) -> Tensor:
        return self.conv(self.act(x, act), filters, kernel, conv, stride, bias=True, groups=groups)


def nf_resnet(net: Net, images: Tensor, *, depths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048], activated."""
    free = NormFree(**vars(net), conv_gamma=GAMMA["relu"])
    x = stem_bare(free, images, bias=True)
    x = stages(free, x, depths, (256, 512, 1024, 2048), bottleneck)
    return free.act(x, "final_act")


def nfnet(net: Net, images: Tensor, *, depths: Sequence[int], gained: bool = True) -> Tensor:
    """F0 to F7. Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 3072], activated. gained: as
    DeepMind's, with SkipInit, and gamma behind the activations; timm's own have it in the convolutions.
    """
    conv, act = (1.0, GAMMA["gelu"]) if gained else (GAMMA["gelu"], 1.0)
    free = NormFree(**vars(replace(net, activation="gelu")), conv_gamma=conv, act_gamma=act)
    squeeze = partial(net.squeeze_part, part=1 / 2)
    residual = partial(nf_bottleneck, part=2, group=128, attention=squeeze, skip_gain=gained)
    x = stages(free, stem_quad(free, images), depths, WIDTHS, residual)
    return free.act(free.conv(x, 3072, 1, "final_conv", bias=True), "final_act")


def nfnet_light(net: Net, images: Tensor, *, depths: Sequence[int], head: int, attention: str) -> Tensor:
    """timm's L0 to L3: narrower inside. Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, head],
    activated. attention: "squeeze", or "neighbours" (ECA-Net's).
    """
    free = NormFree(**vars(replace(net, activation="silu")), conv_gamma=GAMMA["silu"])
    attend = neighbours if attention == "neighbours" else partial(net.squeeze_part, part=1 / 4)
    residual = partial(nf_bottleneck, part=4, group=64, attention=attend)
    x = stages(free, stem_quad(free, images), depths, WIDTHS, residual)
    return free.act(free.conv(x, head, 1, "final_conv", bias=True), "final_act")


def nf_regnet(net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int], head: int) -> Tensor:
    """timm's NF-RegNet-B. Images, normalised -> feature map [N, H/32, W/32, head], activated."""
    free = NormFree(**vars(replace(net, activation="silu")), conv_gamma=GAMMA["silu"])
    x = free.conv(images, widths[0], 3, "stem.conv", stride=2, bias=True)
    x = stages(free, x, depths, widths, partial(inverted_bottleneck, plain=net), stride=2)
    return free.act(free.conv(x, head, 1, "final_conv", bias=True), "final_act")


def stem_quad(net: NormFree, images: Tensor) -> Tensor:
    x = net.conv(images, 16, 3, "stem.conv1", stride=2, bias=True)
    x = net.act_conv(x, 32, 3, "stem.act2", "stem.conv2")
    x = net.act_conv(x, 64, 3, "stem.act3", "stem.conv3")
    return net.act_conv(x, 128, 3, "stem.act4", "stem.conv4", stride=2)


def stages(
    net: NormFree,
    x: Tensor,
    depths: Sequence[int],
    widths: Sequence[int],
    residual: Callable[..., Tensor],
    stride: int = 1,
) -> Tensor:
    """`stride` is the first stage's."""
    done, variance, first = count(), 1.0, stride
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for i in range(depth):
            stride = 1 if i > 0 else 2 if stage > 0 else first
            name = f"stages.{stage}.{i}"
            y = scale(net.act(x, f"{name}.act1"), 1 / math.sqrt(variance), f"{name}.beta")
            shortcut = x if i > 0 else projected(net, y, width, stride, f"{name}.downsample")
            y = scale(residual(net, y, width, stride, name), ALPHA, f"{name}.alpha")
            x = net.add(shortcut, y, name, position=next(done) / (sum(depths) - 1))
            variance = (1 if i == 0 else variance) + ALPHA**2
    return x


def bottleneck(net: NormFree, x: Tensor, width: int, stride: int, name: str) -> Tensor:
    y = net.conv(x, width // 4, 1, f"{name}.conv1", bias=True)
    y = net.act_conv(y, width // 4, 3, f"{name}.act2", f"{name}.conv2", stride)
    return net.act_conv(y, width, 1, f"{name}.act3", f"{name}.conv3")


def nf_bottleneck(
    net: NormFree,
    x: Tensor,
    width: int,
    stride: int,
    name: str,
    *,
    part: int,
    group: int,
    attention: Callable[[Tensor, str], Tensor],
    skip_gain: bool = False,
) -> Tensor:
    """Two 3x3 convolutions in groups, of a `part` of the width, attention by plain convolutions, and
    SkipInit with `skip_gain`.
    """
    inner = width // part
    groups = inner // group
    y = net.conv(x, inner, 1, f"{name}.conv1", bias=True)
    y = net.act_conv(y, inner, 3, f"{name}.act2", f"{name}.conv2", stride, groups)
    y = net.act_conv(y, inner, 3, f"{name}.act2b", f"{name}.conv2b", groups=groups)
    y = net.act_conv(y, width, 1, f"{name}.act3", f"{name}.conv3")
    y = scale(attention(y, f"{name}.attn_last"), 2, f"{name}.attn_gain")
    return SkipGain(name=name)(y) if skip_gain else y


def inverted_bottleneck(
    net: NormFree, x: Tensor, width: int, stride: int, name: str, *, plain: Net
) -> Tensor:
    """RegNet's as EfficientNet would have it: in groups of 8 channels, and wider inside, but for a network's
    first block.
    """
    inner = width if name == "stages.0.0" else round_channels(x.shape[-1] * 2.25)
    y = net.conv(x, inner, 1, f"{name}.conv1", bias=True)
    y = net.act_conv(y, inner, 3, f"{name}.act2", f"{name}.conv2", stride, inner // 8)
    y = plain.squeeze_part(y, f"{name}.attn", part=1 / 2)
    return net.act_conv(scale(y, 2, f"{name}.attn_gain"), width, 1, f"{name}.act3", f"{name}.conv3")


def projected(net: NormFree, x: Tensor, width: int, stride: int, name: str) -> Tensor:
    x = smoothed(x, "average", stride, f"{name}.pool")
    return net.conv(x, width, 1, f"{name}.conv", bias=True)


def scale(x: Tensor, factor: float, name: str) -> Tensor:
    return x if factor == 1 else layers.Rescaling(factor, name=name)(x)
