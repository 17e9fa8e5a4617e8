"""Next-ViT. Li et al., "Next-ViT: Next generation vision transformer for efficient deployment in realistic
industrial scenarios", arXiv 2207.05501: stages of convolution blocks that end in one with attention.
"""

from dataclasses import replace
from functools import partial
from itertools import count

from keras import initializers, layers

from zoo.blocks import Net, Tensor, concatenate
from zoo.layers import CrossAttention

WIDTHS = (96, 192, 384, 768)  # of the stages, and a third more behind attention
RUNS = (8, 4, 2, 1)  # the square of it: how many places keys and values are the average of
PERIOD = 5  # of the third stage: each fifth of its blocks has attention
HEAD = 32  # channels of a head, and of a group in convolutions
SHARE = 3 / 4  # of the channels behind attention, that come from it


def nextvit(net: Net, images: Tensor, *, depth: int) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 1024]. depth: of the third stage."""
    x = images
    for i, (width, stride) in enumerate(((64, 2), (32, 1), (64, 1), (64, 2))):
        x = net.conv_norm_act(x, width, 3, f"stem.{i}.conv", f"stem.{i}.norm", stride)
    depths = (3, 4, depth, 3)
    done, last = count(), sum(depths) - 1
    for stage, (blocks, width) in enumerate(zip(depths, WIDTHS, strict=True)):
        period = PERIOD if stage == 2 else blocks
        for i in range(blocks):
            name, stride, position = (
                f"stages.{stage}.blocks.{i}",
                1 if i or not stage else 2,
                next(done) / last,
            )
            if stage and i % period == period - 1:
                x = transformer_block(net, x, width * 4 // 3, stride, RUNS[stage], name, position)
            else:
                x = convolution_block(net, x, width, stride, name, position)
    return net.norm(x, "norm")


def convolution_block(net: Net, x: Tensor, width: int, stride: int, name: str, position: float) -> Tensor:
    x = embed(net, x, width, stride, f"{name}.patch_embed")
    x = net.add(x, grouped(net, x, f"{name}.mhca"), f"{name}.mhca", position)
    return net.add(x, mlp(net, net.norm(x, f"{name}.norm"), 3, f"{name}.mlp"), name, position)


def transformer_block(
    net: Net, x: Tensor, width: int, stride: int, run: int, name: str, position: float
) -> Tensor:
    """Attention, for low frequencies, gives most of the channels; a convolution in groups makes the others,
    for high ones, of them.
    """
    low = round(width * SHARE)
    x = embed(net, x, low, stride, f"{name}.patch_embed")
    y = attention(net, net.norm(x, f"{name}.norm1"), run, f"{name}.e_mhsa")
    x = net.add(x, y, f"{name}.e_mhsa", position * SHARE)
    high = embed(net, x, width - low, 1, f"{name}.projection")
    high = net.add(high, grouped(net, high, f"{name}.mhca"), f"{name}.mhca", position * (1 - SHARE))
    x = concatenate([x, high], name)
    return net.add(x, mlp(net, net.norm(x, f"{name}.norm2"), 2, f"{name}.mlp"), name, position)


def embed(net: Net, x: Tensor, width: int, stride: int, name: str) -> Tensor:
    if stride > 1:
        x = layers.AveragePooling2D(2, padding="same", name=f"{name}.pool")(x)
    if stride > 1 or x.shape[-1] != width:
        x = net.conv_norm(x, width, 1, f"{name}.conv", f"{name}.norm")
    return x


def grouped(net: Net, x: Tensor, name: str) -> Tensor:
    """The paper's multi-head convolutional attention."""
    width = x.shape[-1]
    y = net.norm_act(net.conv(x, width, 3, f"{name}.group_conv3x3", groups=width // HEAD), f"{name}.norm")
    return small(net).conv(y, width, 1, f"{name}.projection")


def attention(net: Net, x: Tensor, run: int, name: str) -> Tensor:
    """Keys and values are of the averages of run * run places that follow one another in their rows."""
    channels = x.shape[-1]
    queries = net.linear(x, channels, f"{name}.q")
    places = layers.Reshape((-1, channels), name=f"{name}.places")(x)
    if run > 1:
        places = layers.AveragePooling1D(run * run, name=f"{name}.sr")(places)
        places = net.norm(places, f"{name}.norm")
    keys, values = (net.linear(places, channels, f"{name}.{part}") for part in ("k", "v"))
    y = CrossAttention(channels // HEAD, name=f"{name}.attention")([queries, keys, values])
    return small(net).linear(y, channels, f"{name}.proj")


def mlp(net: Net, x: Tensor, expansion: int, name: str) -> Tensor:
    y = net.act(net.conv(x, expansion * x.shape[-1], 1, f"{name}.fc1", bias=True), f"{name}.act")
    return small(net).conv(y, x.shape[-1], 1, f"{name}.fc2", bias=True)


def small(net: Net) -> Net:
    """For branches that no norm is behind: untrained, they would add up."""
    return replace(net, start=partial(initializers.TruncatedNormal, stddev=0.02))
