"""LeViT. Graham et al., "LeViT: A vision transformer in ConvNet's clothing for faster inference", arXiv
2104.01136: convolutions reduce by sixteen, then attention that knows distances, shrinking twice.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from zoo.blocks import Net, Tensor
from zoo.layers import JoinedAttention, JoinedSelfAttention

GRIDS = (14, 7, 4)  # places along a side of each stage's map, of 224 pixels
VALUES, SHRINKING_VALUES = 2, 4  # channels of a head's values for each of its keys'


def levit(
    net: Net, images: Tensor, *, widths: Sequence[int], depths: Sequence[int], heads: Sequence[int], size: int
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/64, W/64, C], for two heads. size: channels of an
    attention head's queries and keys.
    """
    net = replace(net, activation="hard_silu")
    x = stem(net, images, widths[0])
    done, last = count(), sum(depths) + len(depths) - 2
    for stage, (width, depth, parts) in enumerate(zip(widths, depths, heads, strict=True)):
        if stage:
            x = shrinking_attention(net, x, width, size, stage)
            x = perceptron(net, x, f"stages.{stage}.downsample.mlp", next(done) / last)
        for i in range(depth):
            name, position = f"stages.{stage}.blocks.{i}", next(done) / last
            y = attention(net, x, parts, size, GRIDS[stage], f"{name}.attn")
            x = net.add(x, y, f"{name}.attn.sum", position)
            x = perceptron(net, x, f"{name}.mlp", position)
    return x


def stem(net: Net, x: Tensor, width: int) -> Tensor:
    for i, part in enumerate((8, 4, 2, 1), start=1):
        x = normalised(net, x, width // part, f"stem.conv{i}", kernel=3, stride=2)
        x = net.act(x, f"stem.act{i}") if part > 1 else x
    return x


def attention(net: Net, x: Tensor, heads: int, size: int, grid: int, name: str) -> Tensor:
    y = normalised(net, x, heads * (2 + VALUES) * size, f"{name}.qkv")
    y = JoinedSelfAttention(heads, grid, size, name=name)(y)
    return projection(net, y, x.shape[-1], f"{name}.proj")


def shrinking_attention(net: Net, x: Tensor, width: int, size: int, stage: int) -> Tensor:
    """Every other row and column of queries; more heads and longer values than between maps of one size."""
    name, heads = f"stages.{stage}.downsample.attn_downsample", x.shape[-1] // size
    queries = normalised(net, x, heads * size, f"{name}.q.ln", stride=2)
    others = normalised(net, x, heads * (1 + SHRINKING_VALUES) * size, f"{name}.kv")
    y = JoinedAttention(heads, GRIDS[stage - 1], step=2, name=name)([queries, others])
    return projection(net, y, width, f"{name}.proj")


def projection(net: Net, x: Tensor, width: int, name: str) -> Tensor:
    return normalised(net, net.act(x, f"{name}.act"), width, f"{name}.ln")


def perceptron(net: Net, x: Tensor, name: str, position: float) -> Tensor:
    """Twice the channels, and back."""
    y = net.act(normalised(net, x, 2 * x.shape[-1], f"{name}.ln1"), f"{name}.act")
    return net.add(x, normalised(net, y, x.shape[-1], f"{name}.ln2"), f"{name}.sum", position)


def normalised(net: Net, x: Tensor, width: int, name: str, kernel: int = 1, stride: int = 1) -> Tensor:
    return net.conv_norm(x, width, kernel, f"{name}.linear", f"{name}.bn", stride)
