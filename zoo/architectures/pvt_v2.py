"""PVT v2. Wang et al., "PVT v2: Improved baselines with Pyramid Vision Transformer", arXiv 2106.13797:
convolutions cut overlapping patches, shrink what attention looks at, and stand in the perceptrons, which so
know where places are.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from keras import initializers, layers

from zoo.blocks import LayerNet, Net, Tensor, parts
from zoo.initializers import he_fan_out
from zoo.layers import AdaptiveAverage, CrossAttention

HEADS = (1, 2, 5, 8)
STEPS = (8, 4, 2, 1)  # of keys and values, so that each stage has as many
POOLED = 7  # rows and columns of them, in the linear form
EPSILON = 1e-6  # of norms before a branch and behind a stage; the others have 1e-5


def pvt_v2(
    net: Net,
    images: Tensor,
    *,
    widths: Sequence[int],
    depths: Sequence[int],
    expansions: Sequence[int] = (8, 8, 4, 4),
    linear: bool = False,
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]. expansions: of the stages'
    perceptrons. linear: keys and values are of a map pooled to 7 x 7 places, whatever the picture's size.
    """
    small = partial(initializers.TruncatedNormal, stddev=0.02)
    net = LayerNet(**vars(replace(net, activation="gelu", start=small)))
    done, last = count(), sum(depths) - 1
    x = images
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        name = f"stages.{stage}"
        x = embed(net, x, width, 2, f"{name}.downsample") if stage else embed(net, x, width, 4, "patch_embed")
        for i in range(depth):
            block = f"{name}.blocks.{i}"
            x = transformer(net, x, stage, expansions[stage], block, next(done) / last, linear=linear)
        x = outer(net).norm(x, f"{name}.norm")
    return x


def embed(net: Net, x: Tensor, width: int, stride: int, name: str) -> Tensor:
    """Patches of nearly twice as many pixels as the stride."""
    x = wide(net).conv(x, width, 2 * stride - 1, f"{name}.proj", stride, bias=True)
    return net.norm(x, f"{name}.norm")


def transformer(
    net: Net, x: Tensor, stage: int, expansion: int, name: str, position: float, *, linear: bool
) -> Tensor:
    y = attention(net, outer(net).norm(x, f"{name}.norm1"), stage, f"{name}.attn", linear=linear)
    x = net.add(x, y, f"{name}.attn", position)
    y = perceptron(net, outer(net).norm(x, f"{name}.norm2"), expansion, f"{name}.mlp", rectified=linear)
    return net.add(x, y, f"{name}.mlp", position)


def attention(net: Net, x: Tensor, stage: int, name: str, *, linear: bool) -> Tensor:
    width, step = x.shape[-1], STEPS[stage]
    seen = x
    if linear:
        seen = AdaptiveAverage((POOLED, POOLED), name=f"{name}.pool")(x)
        seen = net.norm_act(wide(net).conv(seen, width, 1, f"{name}.sr", bias=True), f"{name}.norm")
    elif step > 1:
        seen = wide(net).conv(x, width, step, f"{name}.sr", step, bias=True, padding="valid")
        seen = net.norm(seen, f"{name}.norm")
    keys, values = (
        layers.Reshape((-1, width), name=f"{part.name}.places")(part)
        for part in parts(net.linear(seen, 2 * width, f"{name}.kv"), 2, f"{name}.kv")
    )
    attend = CrossAttention(HEADS[stage], name=f"{name}.attention")
    return net.linear(attend([net.linear(x, width, f"{name}.q"), keys, values]), width, f"{name}.proj")


def perceptron(net: Net, x: Tensor, expansion: int, name: str, *, rectified: bool) -> Tensor:
    width = x.shape[-1]
    x = net.linear(x, expansion * width, f"{name}.fc1")
    x = layers.ReLU(name=f"{name}.relu")(x) if rectified else x
    x = net.act(wide(net).depthwise(x, 3, f"{name}.dwconv", bias=True), f"{name}.act")
    return net.linear(x, width, f"{name}.fc2")


def outer(net: Net) -> Net:
    return replace(net, epsilon=EPSILON)


def wide(net: Net) -> Net:
    """For convolutions."""
    return replace(net, start=he_fan_out)
