"""StarNet. Ma et al., "Rewrite the stars", arXiv 2403.19967."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor


def starnet(net: Net, images: Tensor, *, width: int, depths: Sequence[int], expand: int = 4) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 8 * width]. Both branches of a block are
    `expand` times as wide as it.
    """
    net, done, last = replace(net, activation="relu6"), count(), sum(depths) - 1
    x = net.act(conv_norm(net, images, 32, "stem.0"), "stem.1")
    for stage, depth in enumerate(depths):
        x = conv_norm(net, x, width * 2**stage, f"stages.{stage}.0")
        for i in range(1, depth + 1):
            name = f"stages.{stage}.{i}"
            x = net.add(x, star(net, x, expand, name), name, next(done) / last)
    return net.norm(x, "norm")


def conv_norm(net: Net, x: Tensor, filters: int, name: str) -> Tensor:
    return net.norm(net.conv(x, filters, 3, f"{name}.conv", 2, bias=True), f"{name}.bn")


def star(net: Net, x: Tensor, expand: int, name: str) -> Tensor:
    """Two branches multiplied: in few channels, as many features as their products."""
    channels = x.shape[-1]
    x = net.norm(net.depthwise(x, 7, f"{name}.dwconv.conv", bias=True), f"{name}.dwconv.bn")
    first, second = (
        net.conv(x, expand * channels, 1, f"{name}.{branch}.conv", bias=True) for branch in ("f1", "f2")
    )
    y = layers.Multiply(name=f"{name}.star")([net.act(first, f"{name}.act"), second])
    y = net.norm(net.conv(y, channels, 1, f"{name}.g.conv", bias=True), f"{name}.g.bn")
    return net.depthwise(y, 7, f"{name}.dwconv2.conv", bias=True)
