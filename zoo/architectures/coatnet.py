"""CoAtNet. Dai et al., "CoAtNet: Marrying convolution and attention for all data sizes", arXiv 2106.04803:
two stages of inverted residuals, then two of attention among all places, which knows where they lie.
CoAtNeXt, timm's, has ConvNeXt's blocks in the first two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

from keras import initializers, layers

from zoo.blocks import NORMS, SMOOTHINGS, LayerNet, Net, Tensor, average_around, max_pool_signed
from zoo.initializers import he_fan_out
from zoo.layers import (
    DisplacementAddends,
    FirstPlaces,
    KeyDisplacementAddends,
    LogDisplacements,
    PartAttention,
    Scale,
    WholeWindows,
)

EXPANSION = 4
SIZE = 32  # channels of a head's queries, keys and values
# block(x, stage, width, stride, name, position)
Block = Callable[[Tensor, int, int, int, str, float], Tensor]


@dataclass(frozen=True)
class Transformer:
    """How transformer blocks are built.

    side: rows and columns of the places that attend to one another, at the size that the weights are for; for
    CoAtNet: of the last stage. parts, spread, joined: PartAttention's. addends: a key of ADDENDS. hidden:
    the width of the perceptron that makes some. scaled: every branch is, channel by channel. bias: of the
    shortcut that changes the width. pool: a key of POOLS. by_width: scores are divided by the root of the
    width of all heads, not of one's.
    """

    side: int
    parts: int = 1
    spread: bool = False
    joined: bool = True
    addends: str = "learned"
    hidden: int = 512
    scaled: bool = False
    bias: bool = True
    pool: str = "average"
    by_width: bool = False


def coatnet(
    net: Net,
    images: Tensor,
    *,
    stem: Sequence[int],
    widths: Sequence[int],
    depths: Sequence[int],
    conv: Mapping[str, Any],
    attention: Mapping[str, Any],
    norm: str = "layer",
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]. stem: the widths of its two
    convolutions; conv: the options of `mbconv`; attention: those of Transformer; norm: of the latter's.
    """
    net = replace(net, activation="silu", start=he_fan_out)
    return hybrid(net, images, stem, widths, depths, partial(mbconv, net, **conv), attention, norm)


def coatnext(
    net: Net,
    images: Tensor,
    *,
    stem: Sequence[int],
    widths: Sequence[int],
    depths: Sequence[int],
    attention: Mapping[str, Any],
    scale: float,
) -> Tensor:
    """The same of ConvNeXt's blocks. scale: the factor of their branches at first."""
    net = LayerNet(**vars(replace(net, activation="gelu", start=he_fan_out)))
    return hybrid(net, images, stem, widths, depths, partial(convnext_block, net, scale=scale), attention)


def hybrid(
    net: Net,
    images: Tensor,
    stem: Sequence[int],
    widths: Sequence[int],
    depths: Sequence[int],
    convolution: Callable[..., Tensor],
    attention: Mapping[str, Any],
    norm: str = "layer",
) -> Tensor:
    last, attending = Transformer(**attention), attentive(net, norm=norm)
    facts_of = {2: replace(last, side=2 * last.side), 3: last}

    def block(x: Tensor, stage: int, width: int, stride: int, name: str, position: float) -> Tensor:
        if stage < 2:
            return convolution(x, width, stride, name, position)
        return transformer(attending, x, width, stride, name, position, facts_of[stage])

    x = stages(two_convolutions(net, images, stem), widths, depths, block)
    return attending.norm(x, "norm")


def attentive(net: Net, epsilon: float = 1e-6, norm: str = "layer") -> Net:
    """The conventions of what attends."""
    kept = replace(net, epsilon=epsilon, activation="gelu", start=initializers.GlorotUniform)
    return NORMS[norm](**vars(kept))


def two_convolutions(net: Net, images: Tensor, widths: Sequence[int], *, bias: bool = False) -> Tensor:
    """The stem: to half the sides."""
    first, second = widths
    x = net.norm_act(net.conv(images, first, 3, "stem.conv1", 2, bias=bias), "stem.norm1")
    return net.conv(x, second, 3, "stem.conv2", bias=bias)


def stages(x: Tensor, widths: Sequence[int], depths: Sequence[int], block: Block) -> Tensor:
    """Each halves the map by its first block."""
    done, last = count(), sum(depths) - 1
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for i in range(depth):
            x = block(x, stage, width, 1 if i else 2, f"stages.{stage}.blocks.{i}", next(done) / last)
    return x


def mbconv(
    net: Net,
    x: Tensor,
    width: int,
    stride: int,
    name: str,
    position: float,
    *,
    early: bool = False,
    activated: bool = False,
    bias: bool = True,
    pooled: bool = False,
    pool: str = "average",
    squeeze: float = 1 / 4,
    squeeze_first: bool = False,
    squeeze_activation: str = "silu",
    project: bool = False,
) -> Tensor:
    """An inverted residual behind a norm.

    early: it expands the width that it gives, not the one that it takes. activated: behind the first norm,
    too. bias: of the last convolution and of the shortcut's. pooled: a pool, a key of POOLS, halves the map,
    not the depthwise convolution. squeeze: the part of the expanded channels that channel attention squeezes
    them to; squeeze_first: before the norm. project: a shortcut that halves the map has a convolution even
    where the width stays.
    """
    inner = EXPANSION * (width if early else x.shape[-1])
    gate = partial(
        net.squeeze_excite,
        squeezed=int(squeeze * (width if early else inner)),
        convs=("fc1", "fc2"),
        activation=squeeze_activation,
    )
    y = net.norm(x, f"{name}.pre_norm")
    y = net.act(y, f"{name}.pre_norm.act") if activated else y
    if stride > 1:
        x = halved(net, x, width, pool, f"{name}.shortcut", bias=bias, project=project)
        y, stride = (POOLS[pool](y, f"{name}.down"), 1) if pooled else (y, stride)
    y = net.conv_norm_act(y, inner, 1, f"{name}.conv1_1x1", f"{name}.norm1")
    y = net.depthwise(y, 3, f"{name}.conv2_kxk", stride)
    y = gate(y, name=f"{name}.se_early") if squeeze_first else y
    y = net.norm_act(y, f"{name}.norm2")
    y = y if squeeze_first else gate(y, name=f"{name}.se")
    return net.add(x, net.conv(y, width, 1, f"{name}.conv3_1x1", bias=bias), name, position)


def convnext_block(
    net: Net, x: Tensor, width: int, stride: int, name: str, position: float, *, scale: float
) -> Tensor:
    """ConvNeXt's block, whose depthwise convolution may give more channels and half the map."""
    conv = partial(net.conv, filters=width, groups=x.shape[-1]) if width > x.shape[-1] else net.depthwise
    y = conv(x, kernel=7, name=f"{name}.conv_dw", stride=stride, bias=True)
    y = perceptron(net, net.norm(y, f"{name}.norm"), f"{name}.mlp")
    x = halved(net, x, width, "average", f"{name}.shortcut") if stride > 1 else x
    return net.add(x, Scale(scale, name=f"{name}.ls")(y), name, position)


def transformer(
    net: Net, x: Tensor, width: int, stride: int, name: str, position: float, facts: Transformer
) -> Tensor:
    if stride > 1:
        y = POOLS[facts.pool](net.norm(x, f"{name}.norm1.norm"), f"{name}.norm1.down")
        x = halved(net, x, width, facts.pool, f"{name}.shortcut", bias=facts.bias)
    else:
        y = net.norm(x, f"{name}.norm1")
    y = attention(net, y, width, f"{name}.attn", facts)
    x = net.add(x, scaled(facts, y, f"{name}.ls1"), f"{name}.sum1", position)
    y = perceptron(net, net.norm(x, f"{name}.norm2"), f"{name}.mlp")
    return net.add(x, scaled(facts, y, f"{name}.ls2"), f"{name}.sum2", position)


def attention(net: Net, x: Tensor, width: int, name: str, facts: Transformer) -> Tensor:
    """A map whose sides are no multiples of `parts` has zeros behind it."""
    channels, parts = x.shape[-1], facts.parts
    whole = parts == 1 or all(side and side % parts == 0 for side in x.shape[1:3])
    y = x if whole else WholeWindows(parts, name=f"{name}.whole")(x)
    y = net.linear(y, 3 * channels, f"{name}.qkv")
    addends = ADDENDS[facts.addends](net, y, channels // SIZE, f"{name}.rel_pos", facts)
    factor = (channels if facts.by_width else SIZE) ** -0.5
    attend = PartAttention(SIZE, parts, facts.spread, facts.joined, factor, name=f"{name}.attention")
    y = net.linear(attend([y, addends]), width, f"{name}.proj")
    return y if whole else FirstPlaces(name=f"{name}.places")([y, x])


def perceptron(net: Net, x: Tensor, name: str) -> Tensor:
    y = net.act(net.linear(x, EXPANSION * x.shape[-1], f"{name}.fc1"), f"{name}.act")
    return net.linear(y, x.shape[-1], f"{name}.fc2")


def scaled(facts: Transformer, x: Tensor, name: str) -> Tensor:
    return Scale(name=name)(x) if facts.scaled else x


def halved(
    net: Net, x: Tensor, width: int, pool: str, name: str, *, bias: bool = True, project: bool = False
) -> Tensor:
    y = POOLS[pool](x, f"{name}.pool")
    return net.conv(y, width, 1, f"{name}.expand", bias=bias) if project or y.shape[-1] != width else y


def learned(_: Net, x: Tensor, heads: int, name: str, facts: Transformer) -> Tensor:
    return DisplacementAddends(heads, facts.side, facts.parts, name=name)(x)


def learned_by_head(_: Net, x: Tensor, heads: int, name: str, facts: Transformer) -> Tensor:
    return KeyDisplacementAddends(heads, facts.side, facts.parts, name=name)(x)


def of_perceptron(net: Net, x: Tensor, heads: int, name: str, facts: Transformer) -> Tensor:
    y = LogDisplacements(facts.parts, name=f"{name}.displacements")(x)
    y = layers.ReLU(name=f"{name}.mlp.act")(net.linear(y, facts.hidden, f"{name}.mlp.fc1"))
    return net.linear(y, heads, f"{name}.mlp.fc2")


POOLS: dict[str, Callable[[Tensor, str], Tensor]] = {
    "average": lambda x, name: SMOOTHINGS["average"](name=name)(x),
    "around": partial(average_around, stride=2, count_border=True),
    "max": max_pool_signed,
}

ADDENDS: dict[str, Callable[..., Tensor]] = {
    "learned": learned,
    "learned_by_head": learned_by_head,
    "perceptron": of_perceptron,
}
