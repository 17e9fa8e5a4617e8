"""Deep layer aggregation. Yu et al., arXiv 1707.06484.

Blocks are the leaves of binary trees; the root of a tree aggregates what came from both sides and from above.
"""

from collections.abc import Callable, Sequence
from functools import partial

from keras import layers

from zoo.architectures.res2net import multiscale
from zoo.architectures.resnet import basic
from zoo.blocks import Net, Tensor, max_pool, whole_steps

STRIDE = 32


def dla(
    net: Net,
    images: Tensor,
    *,
    levels: Sequence[int],
    channels: Sequence[int],
    block: str = "basic",
    cardinality: int = 1,
    width: int = 64,
    residual_root: bool = False,
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C].

    levels: of the first two stages the number of convolutions, of the others the height of the tree. block:
    a leaf, one of BLOCKS, of `cardinality` groups and `width` channels of 64. Raises ZooError unless H and W
    are multiples of 32.
    """
    images = whole_steps(images, STRIDE)
    leaf = basic if block == "basic" else partial(BLOCKS[block], cardinality=cardinality, width=width)
    grow = partial(tree, leaf=leaf, root=partial(root, residual=residual_root))
    x = net.conv_norm(images, channels[0], 7, "base_layer.0", "base_layer.1")
    x = net.act(x, "base_layer.2")
    for level in (0, 1):
        x = convs(net, x, channels[level], levels[level], 1 + level, f"level{level}")
    for level in range(2, len(levels)):
        x = grow(net, x, channels[level], levels[level], 2, f"level{level}", keep=level > 2)
    return x


def convs(net: Net, x: Tensor, width: int, depth: int, stride: int, name: str) -> Tensor:
    for i in range(depth):
        step = stride if i == 0 else 1
        x = net.conv_norm(x, width, 3, f"{name}.{3 * i}", f"{name}.{3 * i + 1}", step)
        x = net.act(x, f"{name}.{3 * i + 2}")
    return x


def tree(
    net: Net,
    x: Tensor,
    width: int,
    height: int,
    stride: int,
    name: str,
    children: Sequence[Tensor] = (),
    *,
    leaf: Callable[..., Tensor],
    root: Callable[..., Tensor],
    keep: bool = False,
) -> Tensor:
    """children: what the root aggregates besides its two sides; with keep, the tree's input too."""
    bottom = x
    if stride > 1 and (keep or height == 1):
        bottom = max_pool(x, stride, stride, f"{name}.downsample")
    children = [*children, bottom] if keep else children
    if height > 1:
        grow = partial(tree, leaf=leaf, root=root)
        left = grow(net, x, width, height - 1, stride, f"{name}.tree1")
        return grow(net, left, width, height - 1, 1, f"{name}.tree2", [*children, left])
    if bottom.shape[-1] != width:
        bottom = net.conv_norm(bottom, width, 1, f"{name}.project.0", f"{name}.project.1")
    left = joined(net, leaf(net, x, width, stride, f"{name}.tree1"), bottom, f"{name}.tree1")
    right = joined(net, leaf(net, left, width, 1, f"{name}.tree2"), left, f"{name}.tree2")
    return root(net, [right, left, *children], width, f"{name}.root")


def joined(net: Net, residual: Tensor, shortcut: Tensor, name: str) -> Tensor:
    return net.act(layers.Add(name=f"{name}.add")([shortcut, residual]), f"{name}.relu")


def bottleneck(
    net: Net, x: Tensor, channels: int, stride: int, name: str, *, cardinality: int, width: int
) -> Tensor:
    inner = channels * width // 64 * cardinality // 2
    y = net.conv_norm_act(x, inner, 1, f"{name}.conv1", f"{name}.bn1")
    y = net.norm_act(net.conv(y, inner, 3, f"{name}.conv2", stride, groups=cardinality), f"{name}.bn2")
    return net.conv_norm(y, channels, 1, f"{name}.conv3", f"{name}.bn3")


def bottle2neck(
    net: Net, x: Tensor, channels: int, stride: int, name: str, *, cardinality: int, width: int
) -> Tensor:
    """Res2Net's, of four parts."""
    part = channels * width // 64 * cardinality // 2
    return multiscale(net, x, [part] * 4, channels, stride, name, groups=cardinality, apart=stride > 1)


BLOCKS: dict[str, Callable[..., Tensor]] = {"bottleneck": bottleneck, "res2net": bottle2neck}


def root(net: Net, sides: Sequence[Tensor], width: int, name: str, *, residual: bool) -> Tensor:
    """With residual, its convolution is one, beside the last leaf."""
    x = layers.Concatenate(name=f"{name}.cat")(sides)
    x = net.conv_norm(x, width, 1, f"{name}.conv", f"{name}.bn")
    if residual:
        x = layers.Add(name=f"{name}.add")([x, sides[0]])
    return net.act(x, f"{name}.relu")
