"""iFormer. Zheng, "iFormer: Integrating ConvNet and transformer for mobile application", arXiv 2501.15369:
ConvNeXt's blocks with batch norms, and in the late stages attention with one head whose outcome is gated.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

from keras import layers

from zoo.architectures.repvit import depthwise_normalised, normalised
from zoo.architectures.shvit import single_head
from zoo.blocks import Net, Tensor, parts
from zoo.layers import Scale

Block = Callable[[Net, Tensor, str, float], Tensor]  # map, name, position 0..1 in the network -> map


def iformer(net: Net, images: Tensor, **build: Any) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, C]; build: what `distilled` takes."""
    return net.norm(net.global_pool(distilled(net, images, **build)), "head.head.bn")


def distilled(
    net: Net,
    images: Tensor,
    *,
    widths: Sequence[int],
    depths: Sequence[int],
    transformers: Sequence[int],
    shares: Sequence[int] = (1, 1, 2, 4),
    expansion: int = 4,
    feed: int = 3,
    scale: float = 0.0,
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C], for two heads.

    depths: each stage's blocks, of which three make one of its transformers. shares: the channels are so many
    times those of a query. expansion and feed: how much wider convolutional blocks and feed-forward ones are
    within. scale: of residuals at first; 0 has no such factors.
    """
    net = replace(net, activation="gelu")
    x = stem(net, images, widths[0])
    done, last = count(), sum(depths) - 1
    conv = partial(convolution, wider=expansion, scale=scale)
    feed_forward = partial(perceptron, wider=feed, scale=scale)
    for stage, (width, depth, mixed, share) in enumerate(
        zip(widths, depths, transformers, shares, strict=True)
    ):
        x = normalised(net, x, width, 3, f"stages.{stage}.downsample", 2) if stage else x
        plain, attend = depth - 3 * mixed, partial(attention, share=share, scale=scale)
        transformer: list[Block] = [place, attend, feed_forward]
        blocks = [conv] * (plain - 1) + transformer * mixed + [conv] * min(plain, 1)
        for i, block in enumerate(blocks):
            x = block(net, x, f"stages.{stage}.blocks.{i}", next(done) / last)
    return x


def stem(net: Net, x: Tensor, width: int) -> Tensor:
    """Twice half the map, by convolutions of 5x5."""
    x = net.act(normalised(net, x, width // 2, 5, "stem.conv1", 2), "stem.act1")
    x = net.act(normalised(net, x, width // 2 * 4, 5, "stem.conv2", 2), "stem.act2")
    return normalised(net, x, width, 1, "stem.conv3")


def convolution(net: Net, x: Tensor, name: str, position: float, *, wider: int, scale: float) -> Tensor:
    y = depthwise_normalised(net, x, 7, f"{name}.mixer.module.0")
    y = net.act(normalised(net, y, wider * x.shape[-1], 1, f"{name}.mixer.module.1"), f"{name}.act")
    y = normalised(net, y, x.shape[-1], 1, f"{name}.mixer.module.3")
    return added(net, x, y, name, position, scale)


def place(net: Net, x: Tensor, name: str, position: float) -> Tensor:
    """What tells attention where it is: a depthwise convolution."""
    return layers.Add(name=f"{name}.add")([x, depthwise_normalised(net, x, 3, f"{name}.cpe.module")])


def attention(net: Net, x: Tensor, name: str, position: float, *, share: int, scale: float) -> Tensor:
    """Of all places with one head; values and the gates of what it gives are between 0 and 1."""
    inner, width = f"{name}.mixer.module", x.shape[-1]
    gated = normalised(net, x, 2 * width, 1, f"{inner}.v_gate")
    values, gates = parts(layers.Activation("sigmoid", name=f"{inner}.gate")(gated), 2, inner)
    queries, keys = (normalised(net, x, width // share, 1, f"{inner}.{one}") for one in ("q", "k"))
    y = layers.Multiply(name=f"{inner}.gated")([single_head(queries, keys, values, inner), gates])
    return added(net, x, normalised(net, y, width, 1, f"{inner}.proj"), name, position, scale)


def perceptron(net: Net, x: Tensor, name: str, position: float, *, wider: int, scale: float) -> Tensor:
    y = net.act(normalised(net, x, wider * x.shape[-1], 1, f"{name}.mixer.module.0"), f"{name}.act")
    y = normalised(net, y, x.shape[-1], 1, f"{name}.mixer.module.2")
    return added(net, x, y, name, position, scale)


def added(net: Net, x: Tensor, y: Tensor, name: str, position: float, scale: float) -> Tensor:
    return net.add(x, Scale(scale, rank=4, name=f"{name}.mixer")(y) if scale else y, name, position)
