"""PyramidNet. Han et al., "Deep pyramidal residual networks", arXiv 1610.02915: every block is a little wider
than the one before, none has an activation first, and the shortcut is padded with zeros.
"""

from collections.abc import Iterator, Sequence

from keras import layers

from zoo.blocks import Net, Tensor, max_pool, pad_channels


def pyramidnet(net: Net, images: Tensor, *, depths: Sequence[int], widening: int) -> Tensor:
    """For ImageNet, of bottlenecks. Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32,
    4 * (64 + widening)].
    """
    x = net.unit(images, 64, 7, "features.init_block", 2)
    x = max_pool(x, 3, 2, "features.init_block.pool", pad=1)
    return pyramid(net, x, depths, widening, bottleneck=True)


def cifar(net: Net, images: Tensor, *, depth: int, widening: int, bottleneck: bool = False) -> Tensor:
    """For pictures of 32 pixels: three stages. [N, H, W, 3], normalised -> feature map [N, H/4, W/4, C]."""
    x = net.conv_norm(images, 16, 3, "features.init_block.conv", "features.init_block.bn")
    return pyramid(net, x, [depth] * 3, widening, bottleneck)


def pyramid(net: Net, x: Tensor, depths: Sequence[int], widening: int, bottleneck: bool) -> Tensor:
    """Stages of blocks; every stage but the first halves the map."""
    widths = growing(x.shape[-1], widening, sum(depths))
    for stage, depth in enumerate(depths, start=1):
        for i in range(1, depth + 1):
            name = f"features.stage{stage}.unit{i}"
            stride = 2 if i == 1 and stage > 1 else 1
            x = residual(net, x, next(widths), stride, bottleneck, name)
    return net.norm_act(x, "features.post_activ.bn")


def growing(width: float, widening: int, blocks: int) -> Iterator[int]:
    """Every block's share of the widening, added up and rounded: equation 3."""
    for _ in range(blocks):
        width += widening / blocks
        yield round(width)


def residual(net: Net, x: Tensor, width: int, stride: int, bottleneck: bool, name: str) -> Tensor:
    """Norms alone before the first convolution and after the last: figure 6d."""
    y = net.norm(x, f"{name}.body.conv1.bn")
    if bottleneck:
        y = net.conv(y, width, 1, f"{name}.body.conv1.conv")
        y = net.pre_unit(y, width, 3, f"{name}.body.conv2", stride)
        y = net.pre_unit(y, 4 * width, 1, f"{name}.body.conv3")
    else:
        y = net.conv(y, width, 3, f"{name}.body.conv1.conv", stride)
        y = net.pre_unit(y, width, 3, f"{name}.body.conv2")
    y = net.norm(y, f"{name}.bn")
    if stride > 1:
        x = layers.AveragePooling2D(2, 2, "same", name=f"{name}.identity_pool")(x)
    return layers.Add(name=f"{name}.add")([pad_channels(x, y.shape[-1], f"{name}.pad"), y])
