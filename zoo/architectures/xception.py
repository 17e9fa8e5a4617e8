"""Xception. Chollet, "Xception: deep learning with depthwise separable convolutions", arXiv 1610.02357.

The aligned networks are DeepLab's: Chen et al., arXiv 1802.02611; they stride by convolutions, not by pools,
and normalise after the depthwise convolution too.
"""

from collections.abc import Callable, Sequence

from keras import layers

from zoo.blocks import Net, Tensor, max_pool_signed

MIDDLE = 728
SEPARABLES = 3
EXIT = (1536, 1536, 2048)  # of the aligned networks


def xception(net: Net, images: Tensor) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048]."""
    x = net.conv(images, 32, 3, "conv1", stride=2, padding="valid")
    x = net.act(net.norm(x, "bn1"), "act1")
    x = net.conv(x, 64, 3, "conv2", padding="valid")
    x = net.act(net.norm(x, "bn2"), "act2")
    x = block(net, x, [128, 128], 2, "block1", activated=True)
    x = block(net, x, [256, 256], 2, "block2")
    x = block(net, x, [MIDDLE, MIDDLE], 2, "block3")
    for i in range(4, 12):
        x = block(net, x, [MIDDLE] * SEPARABLES, 1, f"block{i}")
    x = block(net, x, [MIDDLE, 1024], 2, "block12")
    for i, filters in ((3, 1536), (4, 2048)):
        x = net.act(net.norm(separable(net, x, filters, f"conv{i}"), f"bn{i}"), f"act{i}")
    return x


def block(
    net: Net, x: Tensor, widths: Sequence[int], stride: int, name: str, *, activated: bool = False
) -> Tensor:
    """Separable convolutions and, to halve the map, a max pool. activated: the input has had its ReLU."""
    y = x
    # The reference counts its layers in a row: activation, convolution, norm; the first may be missing.
    for i, filters in enumerate(widths):
        first = 3 * i - activated
        y = y if first < 0 else net.act(y, f"{name}.rep.{first}")
        y = net.norm(separable(net, y, filters, f"{name}.rep.{first + 1}"), f"{name}.rep.{first + 2}")
    if stride > 1:
        y = signed_max_pool(net, y, f"{name}.pool")
        x = net.conv_norm(x, widths[-1], 1, f"{name}.skip", f"{name}.skipbn", stride)
    return layers.Add(name=f"{name}.add")([x, y])


def separable(net: Net, x: Tensor, filters: int, name: str) -> Tensor:
    """Nothing between the two convolutions: better so, says the paper."""
    return net.conv(net.depthwise(x, 3, f"{name}.conv1"), filters, 1, f"{name}.pointwise")


def signed_max_pool(net: Net, x: Tensor, name: str) -> Tensor:
    """3x3, stride 2, of a map with negative values: its border must not be zeros."""
    if net.padding == "same":
        return layers.MaxPooling2D(3, 2, "same", name=name)(x)
    return max_pool_signed(x, name)


def aligned(net: Net, images: Tensor, *, entry: Sequence[Sequence[int]], middle: int) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048].

    entry: (channels, stride) of the entry flow's blocks; middle: how many blocks follow it.
    """
    x = net.unit(images, 32, 3, "stem.0", 2)
    x = net.unit(x, 64, 3, "stem.1")
    x, last = flow(net, x, entry, middle, aligned_block)
    for i, filters in enumerate(EXIT, start=1):
        x = exit_separable(net, x, filters, f"{last}.stack.conv{i}")
    return x


def flow(
    net: Net, x: Tensor, entry: Sequence[Sequence[int]], middle: int, block: Callable[..., Tensor]
) -> tuple[Tensor, str]:
    """All blocks but the last, and the name of that."""
    rows = [([channels] * SEPARABLES, stride) for channels, stride in (*entry, *[(MIDDLE, 1)] * middle)]
    rows.append(([MIDDLE, 1024, 1024], 2))
    for i, (widths, stride) in enumerate(rows):
        x = block(net, x, widths, stride, f"blocks.{i}", i / len(rows))
    return x, f"blocks.{len(rows)}"


def aligned_block(
    net: Net, x: Tensor, widths: Sequence[int], stride: int, name: str, position: float
) -> Tensor:
    """Three separable convolutions, the last of which carries the stride."""
    y = x
    for i, filters in enumerate(widths, start=1):
        part, step = f"{name}.stack.conv{i}", stride if i == len(widths) else 1
        y = net.depthwise(net.act(y, f"{name}.stack.act{i}"), 3, f"{part}.conv_dw", step)
        y = net.conv(net.norm(y, f"{part}.bn_dw"), filters, 1, f"{part}.conv_pw")
        y = net.norm(y, f"{part}.bn_pw")
    if stride > 1 or x.shape[-1] != widths[-1]:
        x = net.conv_norm(x, widths[-1], 1, f"{name}.shortcut.conv", f"{name}.shortcut.bn", stride)
    return net.add(x, y, name, position)


def aligned_preactivated(net: Net, images: Tensor, *, entry: Sequence[Sequence[int]], middle: int) -> Tensor:
    """timm's: each convolution follows a norm and an activation. As `aligned`."""
    x = net.unit(images, 32, 3, "stem.0", 2)
    x = net.conv(x, 64, 3, "stem.1")
    x, last = flow(net, x, entry, middle, preactivated_block)
    x = net.norm_act(x, f"{last}.norm")
    return net.act(preactivated_stack(net, x, EXIT, 1, last), "act")


def preactivated_block(
    net: Net, x: Tensor, widths: Sequence[int], stride: int, name: str, position: float
) -> Tensor:
    """The shortcut starts behind the first activation, always."""
    x = net.norm_act(x, f"{name}.norm")
    y = preactivated_stack(net, x, widths, stride, name)
    if stride > 1 or x.shape[-1] != widths[-1]:
        x = net.conv(x, widths[-1], 1, f"{name}.shortcut", stride)
    return net.add(x, y, name, position)


def preactivated_stack(net: Net, x: Tensor, widths: Sequence[int], stride: int, name: str) -> Tensor:
    for i, filters in enumerate(widths, start=1):
        part, step = f"{name}.stack.conv{i}", stride if i == len(widths) else 1
        x = net.norm_act(x, f"{part}.norm") if i > 1 else x
        x = net.conv(net.depthwise(x, 3, f"{part}.conv_dw", step), filters, 1, f"{part}.conv_pw")
    return x


def exit_separable(net: Net, x: Tensor, filters: int, name: str) -> Tensor:
    """Activated after each of its convolutions, not before."""
    x = net.norm_act(net.depthwise(x, 3, f"{name}.conv_dw"), f"{name}.bn_dw")
    return net.norm_act(net.conv(x, filters, 1, f"{name}.conv_pw"), f"{name}.bn_pw")
