"""EdgeNeXt. Maaz et al., "EdgeNeXt: Efficiently amalgamated CNN-transformer architecture for mobile vision
applications", arXiv 2206.10589: ConvNeXt's blocks, and at the end of every stage but the first one block that
mixes channels by attention among them.
"""

from collections.abc import Sequence
from itertools import count, pairwise

from keras import layers

from zoo.architectures.convnext import downsample, mix_channels, stem
from zoo.blocks import LayerNet, Net, Tensor, concatenate, split
from zoo.layers import BareScale, CrossCovariance, FourierPositions

KERNELS = (3, 5, 7, 9)  # of the stages
SCALES = (1, 2, 3, 4)  # parts of the channels, in a stage's last block
POSITIONED = 1  # the stage whose last block knows where its places are


def edgenext(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    widths: Sequence[int],
    heads: int = 8,
    overlapping: bool = False,
) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, C].

    overlapping: timm's variant, whose convolutions have no biases: a stem of overlapping windows, and
    depthwise convolutions that halve the map.
    """
    net = LayerNet(**vars(net))
    x = stem_overlapping(net, images, widths[0]) if overlapping else stem(net, images, widths[0])
    done, last = count(), sum(depths) - 1
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        if stage and not overlapping:
            x = downsample(net, x, width, f"stages.{stage}.downsample")
        for i in range(depth):
            name, position = f"stages.{stage}.blocks.{i}", next(done) / last
            if stage and i == depth - 1:
                x = split_block(net, x, stage, heads, name, position, bias=not overlapping)
            elif x.shape[-1] < width:
                x = halving_block(net, x, width, KERNELS[stage], name, position)
            else:
                y = net.depthwise(x, KERNELS[stage], f"{name}.conv_dw", bias=not overlapping)
                x = net.add(x, mix_channels(net, net.norm(y, f"{name}.norm"), name), name, position)
    return net.norm(net.global_pool(x), "head.norm")


def stem_overlapping(net: Net, images: Tensor, width: int) -> Tensor:
    return net.norm(net.conv(images, width, 9, "stem.0", 4), "stem.1")


def halving_block(net: Net, x: Tensor, width: int, kernel: int, name: str, position: float) -> Tensor:
    """Its shortcut begins behind the depthwise convolution, which gives several maps for each channel."""
    x = net.conv(x, width, kernel, f"{name}.conv_dw", 2, groups=x.shape[-1])
    return net.add(x, mix_channels(net, net.norm(x, f"{name}.norm"), name), name, position)


def split_block(
    net: Net, x: Tensor, stage: int, heads: int, name: str, position: float, *, bias: bool
) -> Tensor:
    """Res2Net's hierarchy of depthwise convolutions, then attention among the channels."""
    y = hierarchy(net, x, SCALES[stage], name, bias=bias)
    if stage == POSITIONED:
        places = FourierPositions(name=f"{name}.pos_embd")(y)
        places = net.conv(places, y.shape[-1], 1, f"{name}.pos_embd.token_projection", bias=True)
        y = layers.Add(name=f"{name}.positioned")([y, places])
    z = attention(net, net.norm(y, f"{name}.norm_xca"), heads, f"{name}.xca")
    y = net.add(y, BareScale(name=f"{name}.gamma_xca")(z), f"{name}.attended", position)
    return net.add(x, mix_channels(net, net.norm(y, f"{name}.norm"), name), name, position)


def hierarchy(net: Net, x: Tensor, scales: int, name: str, *, bias: bool) -> Tensor:
    """Every part is convolved together with what the part before it gave; the last one goes by."""
    channels = x.shape[-1]
    size = -(-channels // scales)
    ends = [*range(0, channels, size), channels]
    *convolved, last = split(x, [stop - start for start, stop in pairwise(ends)], f"{name}.parts")
    done: list[Tensor] = []
    for i, part in enumerate(convolved):
        part = layers.Add(name=f"{name}.parts.{i}.add")([done[-1], part]) if done else part
        done.append(net.depthwise(part, 3, f"{name}.convs.{i}", bias=bias))
    return concatenate([*done, last], name)


def attention(net: Net, x: Tensor, heads: int, name: str) -> Tensor:
    channels = x.shape[-1]
    x = CrossCovariance(heads, name=name)(net.linear(x, 3 * channels, f"{name}.qkv"))
    return net.linear(x, channels, f"{name}.proj")
