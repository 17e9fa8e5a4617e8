"""InceptionNeXt. Yu et al., "InceptionNeXt: when Inception meets ConvNeXt", arXiv 2303.16900."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor, concatenate, split
from zoo.layers import Scale

RATIOS = (4, 4, 4, 3)


def inception_next(
    net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int], band: int = 11, part: int = 8
) -> Tensor:
    """Images, normalised -> vectors [N, 3 * C]. `band`: the long side of the narrow kernels; one in `part`
    channels goes to each branch.
    """
    net = replace(net, activation="gelu")
    done, last = count(), sum(depths) - 1
    x = net.norm(net.conv(images, widths[0], 4, "stem.0", 4, bias=True, padding="valid"), "stem.1")
    for stage, (depth, width, ratio) in enumerate(zip(depths, widths, RATIOS, strict=True)):
        name = f"stages.{stage}"
        if stage:
            x = net.norm(x, f"{name}.downsample.0")
            x = net.conv(x, width, 2, f"{name}.downsample.1", 2, bias=True, padding="valid")
        for i in range(depth):
            block = f"{name}.blocks.{i}"
            y = net.norm(inception(net, x, band, width // part, f"{block}.token_mixer"), f"{block}.norm")
            y = Scale(name=block)(mlp(net, y, ratio, f"{block}.mlp"))
            x = net.add(x, y, block, next(done) / last)
    return head(net, x)


def inception(net: Net, x: Tensor, band: int, width: int, name: str) -> Tensor:
    """ConvNeXt's large depthwise kernel taken apart: a square, a row, a column, and most channels left
    alone.
    """
    rest = x.shape[-1] - 3 * width
    alone, *others = split(x, [rest, width, width, width], f"{name}.split")
    sides = {"hw": (3, 3), "w": (1, band), "h": (band, 1)}
    convolved = [
        net.depthwise(part, kernel, f"{name}.dwconv_{side}", bias=True)
        for part, (side, kernel) in zip(others, sides.items(), strict=True)
    ]
    return concatenate([alone, *convolved], name)


def mlp(net: Net, x: Tensor, ratio: int, name: str) -> Tensor:
    y = net.conv(x, ratio * x.shape[-1], 1, f"{name}.fc1", bias=True)
    return net.conv(net.act(y, f"{name}.act"), x.shape[-1], 1, f"{name}.fc2", bias=True)


def head(net: Net, x: Tensor) -> Tensor:
    x = net.global_pool(x)
    x = net.act(net.linear(x, 3 * x.shape[-1], "head.fc1"), "head.act")
    return layers.LayerNormalization(epsilon=1e-6, name="head.norm")(x)
