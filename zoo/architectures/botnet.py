"""ResNet-T of timm's with attention in place of 3x3 convolutions. BoTNet: Srinivas et al., arXiv 2101.11605,
among all places. HaloNet: Vaswani et al., arXiv 2103.12731, within blocks and around them. LambdaNetworks:
Bello, arXiv 2102.08602, by linear functions of what is around.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from keras import layers

from zoo.architectures.gernet import Block, bottleneck, joined, mixed_stages
from zoo.architectures.regnet import timm_bottleneck
from zoo.architectures.resnet_tiered import ATTENTIONS, entry
from zoo.blocks import Net, Tensor, round_channels, split
from zoo.layers import CommonLambda, GlobalLambdas, HaloAttention, LocalLambdas, RelativeAttention

SIDE = 256  # of the pictures that tables of distances were learnt from
BLOCK = 8  # places on a side, of HaloNet's
LAMBDA_SIZE = 16  # of a query

INNER = (64, 128, 256, 512)  # channels in the blocks of each stage

Mixer = Callable[..., Tensor]  # (net, map, stride, name, heads=..., side=its own for pictures of SIDE)


def botnet(
    net: Net,
    images: Tensor,
    *,
    stages: Sequence[str],
    widths: Sequence[int] = (256, 512, 1024, 2048),
    heads: Sequence[int] = (4, 4, 4, 4),
    size: int = 0,
    halo: int = 0,
    reach: int = 0,
    group: int = 0,
    attention: str = "",
    pool: bool = False,
    head: int = 0,
    activation: str = "silu",
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C].

    stages: a letter for each block: c(onvolution), b(oTNet's), h(alo), l(ambdas); heads: of each stage's
    attention; size: channels of a head's queries, 0 for as many as its values have; halo: places around a
    block; reach: places that lambdas see, 0 for all; the rest as in resnet_tiered.tiered.
    """
    net = replace(net, activation=activation)
    convolved = partial(bottleneck, ratio=1 / 4, group=group, attend=ATTENTIONS[attention])
    mixers: dict[str, Mixer] = {
        "b": partial(among_all, size=size),
        "h": partial(within_halos, size=size, halo=halo, block=BLOCK),
        "l": partial(by_lambdas, reach=reach),
    }

    def block(stage: int, letter: str) -> Block:
        if letter == "c":
            return convolved
        mix = partial(mixers[letter], heads=heads[stage])
        return partial(attended, inner=INNER[stage], side=SIDE // 2 ** (stage + 2), mix=mix)

    blocks = [[block(stage, letter) for letter in letters] for stage, letters in enumerate(stages)]
    x = mixed_stages(net, entry(net, images, pool=pool), widths, (1, 2, 2, 2), blocks)
    return net.unit(x, head, 1, "final_conv") if head else x


def haloregnetz(net: Net, images: Tensor, *, stages: Sequence[str], widths: Sequence[int]) -> Tensor:
    """RegNetZ. Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 1536]. stages: a letter for
    each block, c(onvolution) or h(alo).
    """
    net = replace(net, activation="silu")
    blocks: dict[str, Block] = {
        "c": partial(timm_bottleneck, group=16, expand=3),
        "h": inverted_attended,
    }
    x = net.unit(images, 32, 3, "stem", 2)
    x = mixed_stages(net, x, widths, (2, 2, 2, 2), [[blocks[letter] for letter in part] for part in stages])
    return net.unit(x, 1536, 1, "final_conv")


def attended(
    net: Net,
    x: Tensor,
    width: int,
    stride: int,
    name: str,
    position: float,
    *,
    inner: int,
    side: int,
    mix: Mixer,
) -> Tensor:
    """A bottleneck that has `mix` for its second convolution. side: of what it gives for pictures of SIDE."""
    y = net.unit(x, inner, 1, f"{name}.conv1_1x1")
    y = net.norm_act(mix(net, y, stride, f"{name}.self_attn", side=side * stride), f"{name}.post_attn")
    y = net.conv_norm(y, width, 1, f"{name}.conv3_1x1.conv", f"{name}.conv3_1x1.bn")
    return joined(net, x, y, stride, name, position)


def inverted_attended(net: Net, x: Tensor, width: int, stride: int, name: str, position: float) -> Tensor:
    """No shortcut where the shape changes."""
    inner = 3 * x.shape[-1]
    y = net.unit(x, inner, 1, f"{name}.conv1_1x1")
    size = round_channels(0.33 * inner) // 8
    y = within_halos(net, y, stride, f"{name}.self_attn", heads=8, side=0, size=size, halo=2, block=7)
    y = net.norm_act(y, f"{name}.post_attn")
    y = net.conv_norm(y, width, 1, f"{name}.conv3_1x1.conv", f"{name}.conv3_1x1.bn")
    return y if stride > 1 or x.shape[-1] != width else net.add(x, y, name, position)


def among_all(net: Net, y: Tensor, stride: int, name: str, *, heads: int, side: int, size: int) -> Tensor:
    channels = y.shape[-1]
    size = size or channels // heads
    y = net.conv(y, 2 * heads * size + channels, 1, f"{name}.qkv")
    return halved(RelativeAttention(heads, size, side, name=name)(y), stride, name)


def within_halos(
    net: Net, y: Tensor, stride: int, name: str, *, heads: int, side: int, size: int, halo: int, block: int
) -> Tensor:
    """Queries are strided where the stride divides the block, else the answers are averaged."""
    channels = y.shape[-1]
    size = size or channels // heads
    strided = stride if block % stride == 0 else 1
    queries = net.conv(y, heads * size, 1, f"{name}.q", strided)
    keys = net.conv(y, heads * size + channels, 1, f"{name}.kv")
    y = HaloAttention(heads, size, block, halo, strided, name=name)([queries, keys])
    return halved(y, stride // strided, name)


def by_lambdas(net: Net, y: Tensor, stride: int, name: str, *, heads: int, side: int, reach: int) -> Tensor:
    """What all places have in common, by a softmax of the keys over them, and what is near each."""
    channels = y.shape[-1]
    parts = [heads * LAMBDA_SIZE, LAMBDA_SIZE, channels // heads]
    queries, keys, values = split(net.conv(y, sum(parts), 1, f"{name}.qkv"), parts, f"{name}.parts")
    queries, values = net.norm(queries, f"{name}.norm_q"), net.norm(values, f"{name}.norm_v")
    common = CommonLambda(name=f"{name}.common")([queries, keys, values])
    if reach:
        near = LocalLambdas(LAMBDA_SIZE, reach, name=name)([queries, values])
    else:
        near = GlobalLambdas(LAMBDA_SIZE, 2 * side - 1, name=name)([queries, values])
    return halved(layers.Add(name=f"{name}.lambdas")([common, near]), stride, name)


def halved(y: Tensor, stride: int, name: str) -> Tensor:
    return layers.AveragePooling2D(2, padding="same", name=f"{name}.pool")(y) if stride > 1 else y
