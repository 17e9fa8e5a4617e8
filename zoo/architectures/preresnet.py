"""ResNets for 32-pixel pictures (CIFAR), and where their norms and activations stand. He et al., "Identity
mappings in deep residual networks", arXiv 1603.05027; Zagoruyko and Komodakis, "Wide residual networks",
arXiv 1605.07146.

No public weights follow one naming of layers; these names are ResNet's. Shortcuts into a narrower map are
projections, or free of parameters (options B and A of He et al., arXiv 1512.03385).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor, pad_channels

WIDTHS = (16, 32, 64)


@dataclass(frozen=True)
class Ordering:
    """Figure 4 of "Identity mappings": which of norm (n) and activation (a) stand before every convolution of
    a unit, after every one but the last, after the last, and after the sum.
    """

    before: str = ""
    between: str = ""
    last: str = ""
    joined: str = ""


ORDERINGS = {
    "original": Ordering(between="na", last="n", joined="a"),
    "bn_after_addition": Ordering(between="na", joined="na"),
    "relu_before_addition": Ordering(between="na", last="na"),
    "relu_only_preactivation": Ordering(before="a", between="n", last="n"),
    "full_preactivation": Ordering(before="na"),
}


def resnet(
    net: Net,
    images: Tensor,
    *,
    block: str,
    depth: int,
    ordering: str = "full_preactivation",
    widen: int = 1,
    shortcut: str = "projected",
) -> Tensor:
    """Three stages of `depth` units. Images [N, H, W, 3], normalised -> feature map [N, H/4, W/4, C].

    block: "basic" (`widen` times as wide) or "bottleneck"; ordering: a key of ORDERINGS; shortcut: one of
    SHORTCUTS.
    """
    order = ORDERINGS[ordering]
    x = net.conv(images, WIDTHS[0], 3, "conv1")
    x = steps(net, x, "na".removesuffix(order.before), "bn1")
    done = count()
    for stage, width in enumerate(WIDTHS, start=1):
        for i in range(depth):
            number = next(done)
            stride = 2 if i == 0 and stage > 1 else 1
            convs = convolutions(block, width * widen, stride)
            position = number / (3 * depth - 1)
            x = unit(net, x, convs, order, f"layer{stage}.{i}", position, SHORTCUTS[shortcut])
    return steps(net, x, order.before, "bn")


def convolutions(block: str, width: int, stride: int) -> list[tuple[int, int, int]]:
    """Filters, kernel and stride of each."""
    if block == "bottleneck":
        return [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
    return [(width, 3, stride), (width, 3, 1)]


def unit(
    net: Net,
    x: Tensor,
    convs: Sequence[tuple[int, int, int]],
    order: Ordering,
    name: str,
    position: float,
    shortcut: Callable[..., Tensor],
) -> Tensor:
    """In the network's first unit, and where a shortcut changes the shape, both paths share the first
    activation.
    """
    y = steps(net, x, order.before, f"{name}.bn1")
    channels, stride = convs[-1][0], max(s for _, _, s in convs)
    changes = stride > 1 or x.shape[-1] != channels
    x = y if changes or position == 0 else x
    if changes:
        x = shortcut(net, x, channels, stride, order, f"{name}.downsample")
    for i, (filters, kernel, step) in enumerate(convs, start=1):
        if i > 1:
            y = steps(net, y, order.before, f"{name}.bn{i}")
        y = net.conv(y, filters, kernel, f"{name}.conv{i}", step)
        y = steps(net, y, order.last if i == len(convs) else order.between, f"{name}.bn{i}")
    return steps(net, net.add(x, y, name, position), order.joined, f"{name}.bn{len(convs)}", f"{name}.act")


def steps(net: Net, x: Tensor, which: str, norm: str, act: str | None = None) -> Tensor:
    if "n" in which:
        x = net.norm(x, norm)
    return net.act(x, act or f"{norm}.act") if "a" in which else x


def projected(net: Net, x: Tensor, channels: int, stride: int, order: Ordering, name: str) -> Tensor:
    """Normalised where the residual's last convolution is."""
    x = net.conv(x, channels, 1, f"{name}.0", stride)
    return steps(net, x, "n" if "n" in order.last else "", f"{name}.1")


def padded(net: Net, x: Tensor, channels: int, stride: int, order: Ordering, name: str) -> Tensor:
    """Every other pixel, and zeros for the new channels."""
    x = layers.MaxPooling2D(1, stride, name=f"{name}.0")(x)
    return pad_channels(x, channels, f"{name}.1")


SHORTCUTS: dict[str, Callable[..., Tensor]] = {"projected": projected, "padded": padded}
