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

from zoo.architectures.resnetv2 import stem_bare
from zoo.blocks import Net, Tensor
from zoo.layers import SkipGain, StandardizedConv2D

ALPHA = 0.2
# What makes up for the variance that an activation takes away.
GAMMA = {"relu": 1.7139588594436646, "gelu": 1.7015043497085571}


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


def nfnet(net: Net, images: Tensor, *, depths: Sequence[int]) -> Tensor:
    """F0 to F6. Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 3072], activated."""
    free = NormFree(**vars(replace(net, activation="gelu")), act_gamma=GAMMA["gelu"])
    x = free.conv(images, 16, 3, "stem.conv1", stride=2, bias=True)
    x = free.act_conv(x, 32, 3, "stem.act2", "stem.conv2")
    x = free.act_conv(x, 64, 3, "stem.act3", "stem.conv3")
    x = free.act_conv(x, 128, 3, "stem.act4", "stem.conv4", stride=2)
    x = stages(free, x, depths, (256, 512, 1536, 1536), partial(nf_bottleneck, plain=net))
    return free.act(free.conv(x, 3072, 1, "final_conv", bias=True), "final_act")


def stages(
    net: NormFree, x: Tensor, depths: Sequence[int], widths: Sequence[int], residual: Callable[..., Tensor]
) -> Tensor:
    done, variance = count(), 1.0
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for i in range(depth):
            stride = 2 if i == 0 and stage > 0 else 1
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


def nf_bottleneck(net: NormFree, x: Tensor, width: int, stride: int, name: str, *, plain: Net) -> Tensor:
    """Wider, two grouped 3x3 convolutions, squeeze-and-excitation of plain convolutions, and SkipInit."""
    inner = width // 2
    groups = inner // 128
    y = net.conv(x, inner, 1, f"{name}.conv1", bias=True)
    y = net.act_conv(y, inner, 3, f"{name}.act2", f"{name}.conv2", stride, groups)
    y = net.act_conv(y, inner, 3, f"{name}.act2b", f"{name}.conv2b", groups=groups)
    y = net.act_conv(y, width, 1, f"{name}.act3", f"{name}.conv3")
    y = plain.squeeze_excite(y, width // 2, f"{name}.attn_last", convs=("fc1", "fc2"))
    return SkipGain(name=name)(scale(y, 2, f"{name}.attn_gain"))


def projected(net: NormFree, x: Tensor, width: int, stride: int, name: str) -> Tensor:
    if stride > 1:
        x = layers.AveragePooling2D(stride, stride, "same", name=f"{name}.pool")(x)
    return net.conv(x, width, 1, f"{name}.conv", bias=True)


def scale(x: Tensor, factor: float, name: str) -> Tensor:
    return x if factor == 1 else layers.Rescaling(factor, name=name)(x)
