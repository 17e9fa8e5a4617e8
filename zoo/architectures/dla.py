"""Deep layer aggregation. Yu et al., arXiv 1707.06484.

Blocks are the leaves of binary trees; the root of a tree aggregates what came from both sides and from above.
"""

from collections.abc import Sequence

from keras import layers

from zoo.blocks import Net, Tensor, max_pool, require_multiple

STRIDE = 32


def dla(net: Net, images: Tensor, *, levels: Sequence[int], channels: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C].

    levels: of the first two stages the number of convolutions, of the others the height of the tree. Raises
    ZooError unless H and W are multiples of 32.
    """
    require_multiple(images, STRIDE)
    x = net.conv_norm(images, channels[0], 7, "base_layer.0", "base_layer.1")
    x = net.act(x, "base_layer.2")
    for level in (0, 1):
        x = convs(net, x, channels[level], levels[level], 1 + level, f"level{level}")
    for level in range(2, len(levels)):
        x = tree(net, x, channels[level], levels[level], 2, f"level{level}", keep=level > 2)
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
    keep: bool = False,
) -> Tensor:
    """children: what the root aggregates besides its two sides; with keep, the tree's input too."""
    bottom = x
    if stride > 1 and (keep or height == 1):
        bottom = max_pool(x, stride, stride, f"{name}.downsample")
    children = [*children, bottom] if keep else children
    if height > 1:
        left = tree(net, x, width, height - 1, stride, f"{name}.tree1")
        return tree(net, left, width, height - 1, 1, f"{name}.tree2", [*children, left])
    if bottom.shape[-1] != width:
        bottom = net.conv_norm(bottom, width, 1, f"{name}.project.0", f"{name}.project.1")
    left = block(net, x, bottom, width, stride, f"{name}.tree1")
    right = block(net, left, left, width, 1, f"{name}.tree2")
    return root(net, [right, left, *children], width, f"{name}.root")


def block(net: Net, x: Tensor, shortcut: Tensor, width: int, stride: int, name: str) -> Tensor:
    y = net.conv_norm_act(x, width, 3, f"{name}.conv1", f"{name}.bn1", stride)
    y = net.conv_norm(y, width, 3, f"{name}.conv2", f"{name}.bn2")
    return net.act(layers.Add(name=f"{name}.add")([shortcut, y]), f"{name}.relu")


def root(net: Net, sides: Sequence[Tensor], width: int, name: str) -> Tensor:
    x = layers.Concatenate(name=f"{name}.cat")(sides)
    return net.act(net.conv_norm(x, width, 1, f"{name}.conv", f"{name}.bn"), f"{name}.relu")
