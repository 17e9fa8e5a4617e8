"""ResNet-T of timm's with attention in place of 3x3 convolutions. BoTNet: Srinivas et al., arXiv 2101.11605,
among all places. HaloNet: Vaswani et al., arXiv 2103.12731, within blocks and around them. LambdaNetworks:
Bello, arXiv 2102.08602, by linear functions of what is around.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from keras import layers

from zoo.architectures.gernet import bottleneck, joined
from zoo.architectures.regnet import timm_bottleneck
from zoo.architectures.resnet_tiered import ATTENTIONS, tiered_stem
from zoo.blocks import Net, Tensor, max_pool_signed, round_channels, split
from zoo.layers import CommonLambda, GlobalLambdas, HaloAttention, LocalLambdas, RelativeAttention

SIDE = 256  # of the pictures that tables of distances were learnt from
BLOCK = 8  # places on a side, of HaloNet's
LAMBDA_SIZE = 16  # of a query

INNER = (64, 128, 256, 512)  # channels in the blocks of each stage

Mixer = Callable[..., Tensor]  # (net, map, stride, name, heads=..., side=the map's for pictures of SIDE)


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
    x = tiered_stem(net, images, last_stride=1 if pool else 2)
    x = max_pool_signed(x, "stem.pool") if pool else x
    convolved = partial(bottleneck, ratio=1 / 4, group=group, attend=ATTENTIONS[attention])
    mixers: dict[str, Mixer] = {
        "b": partial(among_all, size=size),
        "h": partial(within_halos, size=size, halo=halo, block=BLOCK),
        "l": partial(by_lambdas, reach=reach),
    }
    done, last = count(), sum(map(len, stages)) - 1
    for stage, (letters, width) in enumerate(zip(stages, widths, strict=True)):
        for i, letter in enumerate(letters):
            name, stride, position = f"stages.{stage}.{i}", 1 if i or not stage else 2, next(done) / last
            if letter == "c":
                x = convolved(net, x, width, stride, name, position)
            else:
                side = SIDE // 2 ** (stage + 2) * stride
                mix = partial(mixers[letter], heads=heads[stage], side=side)
                x = attended(net, x, INNER[stage], width, stride, name, position, mix)
    return net.unit(x, head, 1, "final_conv") if head else x


def haloregnetz(net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int]) -> Tensor:
    """RegNetZ with halo attention in each fourth block of the third stage and in the last one. Images
    [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 1536].
    """
    net = replace(net, activation="silu")
    x = net.unit(images, 32, 3, "stem", 2)
    done, last = count(), sum(depths) - 1
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for i in range(depth):
            name, stride, position = f"stages.{stage}.{i}", 1 if i else 2, next(done) / last
            if stage == 3 or (stage == 2 and i % 4 == 3):
                x = inverted_attended(net, x, width, stride, name, position)
            else:
                x = timm_bottleneck(net, x, width, stride, name, position, group=16, expand=3)
    return net.unit(x, 1536, 1, "final_conv")


def attended(
    net: Net,
    x: Tensor,
    inner: int,
    width: int,
    stride: int,
    name: str,
    position: float,
    mix: Mixer,
) -> Tensor:
    """A bottleneck that has `mix` for its second convolution."""
    y = net.unit(x, inner, 1, f"{name}.conv1_1x1")
    y = net.norm_act(mix(net, y, stride, f"{name}.self_attn"), f"{name}.post_attn")
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
