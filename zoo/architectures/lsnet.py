"""LSNet. Wang et al., "LSNet: See large, focus small", arXiv 2503.23135: a large window tells how to weigh a
small one. Layers are named as in the authors' release.
"""

from collections.abc import Sequence
from itertools import count

from keras import layers

from zoo.architectures.repvit import depthwise_normalised, mix, normalised
from zoo.architectures.shvit import feed_forward
from zoo.blocks import Net, Tensor, split
from zoo.layers import IndexedAttention, Regroup, WeighNeighbours

SEEN, FOCUSED = 7, 3  # sides of the windows
SHARE = 8  # channels that are weighed alike
SIZE, HEADS = 16, 4  # of the attention: channels of a head's queries and keys, heads
GRID = 4  # sides of the map whose places it knows


def lsnet(net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/64, W/64, C]."""
    x = images
    for i, part in enumerate((4, 2, 1)):
        x = normalised(net, x, widths[0] // part, 3, f"patch_embed.{2 * i}", 2)
        x = net.act(x, f"patch_embed.{2 * i + 1}") if part > 1 else x
    done, last = count(), sum(depths) - 1
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
        names = (f"blocks{stage}.{i}" for i in count())
        if stage > 1:
            x = depthwise_normalised(net, x, 3, next(names), 2)
            x = normalised(net, x, width, 1, next(names))
        for i in range(depth):
            kind = "still" if i % 2 == 0 else "attentive" if stage == 4 else "focused"
            x = block(net, x, kind, next(names), next(done) / last)
    return x


def block(net: Net, x: Tensor, kind: str, name: str, position: float) -> Tensor:
    match kind:
        case "still":
            x = mix(net, x, normed=False, name=f"{name}.mixer")
            x = net.squeeze_part(x, f"{name}.se", part=1 / 4, activation="relu")
        case "focused":
            x = focus(net, x, f"{name}.mixer")
        case "attentive":
            x = net.add(x, attention(net, x, f"{name}.mixer.m"), f"{name}.mixer", position)
    return net.add(x, feed_forward(net, x, f"{name}.ffn.m"), f"{name}.ffn", position)


def focus(net: Net, x: Tensor, name: str) -> Tensor:
    """LS convolution: each place weighs those near it by what it sees of many."""
    weights = perceive(net, x, f"{name}.lkp")
    y = WeighNeighbours(FOCUSED, "constant", name=f"{name}.ska")([weights, x])
    return layers.Add(name=name)([net.norm(y, f"{name}.bn"), x])


def perceive(net: Net, x: Tensor, name: str) -> Tensor:
    """[N, H, W, C] -> weights of the small window, [N, H, W, places, C / SHARE], by half of the channels."""
    width, groups, places = x.shape[-1] // 2, x.shape[-1] // SHARE, FOCUSED**2
    y = net.act(normalised(net, x, width, 1, f"{name}.cv1"), f"{name}.act")
    y = depthwise_normalised(net, y, SEEN, f"{name}.cv2")
    y = net.act(normalised(net, y, width, 1, f"{name}.cv3"), f"{name}.act2")
    y = net.conv(y, groups * places, 1, f"{name}.cv4", bias=True)
    y = layers.GroupNormalization(groups, epsilon=net.epsilon, name=f"{name}.norm")(y)
    y = Regroup((groups, places), name=f"{name}.by_group")(y)
    return layers.Permute((1, 2, 4, 3), name=f"{name}.weights")(y)


def attention(net: Net, x: Tensor, name: str) -> Tensor:
    """All places see all, as in LeViT; the queries know their neighbours."""
    width, inner = x.shape[-1], HEADS * SIZE
    y = normalised(net, x, 2 * inner + width, 1, f"{name}.qkv")
    queries, keys, values = split(y, [inner, inner, width], f"{name}.qkv.part")
    queries = depthwise_normalised(net, queries, 3, f"{name}.dw")
    y = IndexedAttention(HEADS, GRID, name=name)([queries, keys, values])
    return normalised(net, net.act(y, f"{name}.proj.0"), width, 1, f"{name}.proj.1")
