"""Self-attention networks. Zhao et al., "Exploring self-attention for image recognition", arXiv 2004.13621.

No convolution looks further than its own place: attention over a window does. Layers are named as in the
authors' release.
"""

from collections.abc import Callable, Sequence
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor, max_pool
from zoo.layers import Coordinates, Neighbours, Regroup, WeighNeighbours

WIDTHS = (64, 256, 512, 1024, 2048)
WINDOWS = (3, 7, 7, 7, 7)
SHARE = 8


def san(net: Net, images: Tensor, *, attention: str, depths: Sequence[int]) -> Tensor:
    """attention: "pairwise" or "patchwise". Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32,
    2048]. The smallest side is 128: the last window mirrors 3 places of a map of 4.
    """
    weigh = {"pairwise": pairwise, "patchwise": patchwise}[attention]
    x = net.conv_norm_act(images, 64, 1, "conv_in", "bn_in")
    done = count()
    for stage, (depth, width, window) in enumerate(zip(depths, WIDTHS, WINDOWS, strict=True)):
        x = net.conv(max_pool(x, 2, 2, f"pool{stage}"), width, 1, f"conv{stage}")
        for i in range(depth):
            x = block(net, x, window, weigh, f"layer{stage}.{i}", next(done) / (sum(depths) - 1))
        x = net.norm_act(x, f"bn{stage}")
    return x


def block(
    net: Net, x: Tensor, window: int, weigh: Callable[..., Tensor], name: str, position: float
) -> Tensor:
    """Pre-activated: attention to a quarter of the channels, then back."""
    width = x.shape[-1]
    y = net.act(net.norm(x, f"{name}.bn1"), f"{name}.act1")
    y = attend(net, y, window, weigh, f"{name}.sam")
    y = net.act(net.norm(y, f"{name}.bn2"), f"{name}.act2")
    return net.add(x, net.conv(y, width, 1, f"{name}.conv", bias=True), name, position)


def attend(net: Net, x: Tensor, window: int, weigh: Callable[..., Tensor], name: str) -> Tensor:
    """A weighted sum of values over the window. Queries and keys have a sixteenth of the channels, values a
    quarter; SHARE channels of the values share a weight.
    """
    relation, width = x.shape[-1] // 16, x.shape[-1] // 4
    query = net.conv(x, relation, 1, f"{name}.conv1", bias=True)
    key = net.conv(x, relation, 1, f"{name}.conv2", bias=True)
    values = net.conv(x, width, 1, f"{name}.conv3", bias=True)
    weights = weigh(net, query, key, window, width // SHARE, name)
    return WeighNeighbours(window, name=f"{name}.sum")([weights, values])


def pairwise(net: Net, query: Tensor, key: Tensor, window: int, groups: int, name: str) -> Tensor:
    """Each weight from the difference of two places and of their positions; softmax over the window."""
    place = net.conv(Coordinates(name=f"{name}.xy")(key), 2, 1, f"{name}.conv_p", bias=True)
    pairs = [
        difference(query, key, window, f"{name}.pair"),
        difference(place, place, window, f"{name}.place"),
    ]
    y = layers.Concatenate(name=f"{name}.pairs")(pairs)
    y = net.norm_act(y, f"{name}.conv_w.0")
    y = layers.Dense(query.shape[-1], use_bias=False, name=f"{name}.conv_w.2")(y)
    y = net.norm_act(y, f"{name}.conv_w.3")
    y = layers.Dense(groups, name=f"{name}.conv_w.5")(y)
    return layers.Softmax(axis=3, name=f"{name}.softmax")(y)


def difference(centre: Tensor, around: Tensor, window: int, name: str) -> Tensor:
    """[N, H, W, C] twice -> [N, H, W, window * window, C]."""
    near = Neighbours(window, name=f"{name}.neighbours")(around)
    centre = Regroup((1, centre.shape[-1]), name=f"{name}.centre")(centre)
    return layers.Subtract(name=name)([centre, near])


def patchwise(net: Net, query: Tensor, key: Tensor, window: int, groups: int, name: str) -> Tensor:
    """All weights of a window at once from the whole patch, without softmax."""
    near = Neighbours(window, name=f"{name}.neighbours")(key)
    # The reference unfolds channel by channel.
    near = layers.Permute((1, 2, 4, 3), name=f"{name}.by_channel")(near)
    near = Regroup((key.shape[-1] * window**2,), name=f"{name}.patch")(near)
    y = layers.Concatenate(name=f"{name}.relation")([query, near])
    y = net.norm_act(y, f"{name}.conv_w.0")
    y = net.conv_norm_act(y, groups, 1, f"{name}.conv_w.2", f"{name}.conv_w.3")
    y = net.conv(y, groups * window**2, 1, f"{name}.conv_w.5", bias=True)
    y = Regroup((groups, window**2), name=f"{name}.by_group")(y)
    return layers.Permute((1, 2, 4, 3), name=f"{name}.weights")(y)
