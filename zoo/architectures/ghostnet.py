"""GhostNet. Han et al., "More features from cheap operations", arXiv 1911.11907."""

from collections.abc import Callable

from keras import layers

from zoo.blocks import Net, Tensor, round_channels
from zoo.blocks.mobile import late_head
from zoo.layers import Nearest

Row = tuple[int, int, int, bool, int]
Module = Callable[..., Tensor]

# Kernel, expanded channels, channels, attention, stride; a list for each stage.
STAGES: list[list[Row]] = [
    [(3, 16, 16, False, 1)],
    [(3, 48, 24, False, 2)],
    [(3, 72, 24, False, 1)],
    [(5, 72, 40, True, 2)],
    [(5, 120, 40, True, 1)],
    [(3, 240, 80, False, 2)],
    [
        (3, 200, 80, False, 1),
        (3, 184, 80, False, 1),
        (3, 184, 80, False, 1),
        (3, 480, 112, True, 1),
        (3, 672, 112, True, 1),
    ],
    [(5, 672, 160, True, 2)],
    [(5, 960, 160, False, 1), (5, 960, 160, True, 1), (5, 960, 160, False, 1), (5, 960, 160, True, 1)],
]


def ghostnet(net: Net, images: Tensor, *, width: float) -> Tensor:
    """Images, normalised -> [N, 1, 1, 1280]."""
    return network(net, images, STAGES, ghost, width, round_channels(960 * width, 4))


def ghostnetv2(net: Net, images: Tensor, *, width: float) -> Tensor:
    """V2: Tang et al., "GhostNetV2: enhance cheap operation with long-range attention", arXiv 2211.12905."""
    return network(net, images, STAGES, ghost_attended, width, round_channels(960 * width, 4))


def network(
    net: Net, images: Tensor, stages: list[list[Row]], module: Module, width: float, last: int
) -> Tensor:
    x = net.conv_norm_act(images, round_channels(16 * width, 4), 3, "conv_stem", "bn1", stride=2)
    for index, stage in enumerate(stages):
        for i, row in enumerate(stage):
            x = bottleneck(net, x, row, module, width, f"blocks.{index}.{i}")
    name = f"blocks.{len(stages)}.0"
    x = net.conv_norm_act(x, last, 1, f"{name}.conv", f"{name}.bn1")
    return late_head(net, x, 1280)


def bottleneck(net: Net, x: Tensor, row: Row, module: Module, width: float, name: str) -> Tensor:
    """Ghost module up, depthwise only where the stride is, attention, linear ghost module down."""
    kernel, expand, channels, attend, stride = row
    inner, outer = round_channels(expand * width, 4), round_channels(channels * width, 4)
    y = module(net, x, inner, f"{name}.ghost1", active=True)
    if stride > 1:
        y = net.norm(net.depthwise(y, kernel, f"{name}.conv_dw", stride), f"{name}.bn_dw")
    if attend:
        y = net.squeeze_excite(y, round_channels(inner / 4, 4), f"{name}.se", gate="hard_sigmoid")
    y = module(net, y, outer, f"{name}.ghost2", active=False)
    return layers.Add(name=f"{name}.add")([shortcut(net, x, kernel, outer, stride, name), y])


def ghost(net: Net, x: Tensor, channels: int, name: str, *, active: bool) -> Tensor:
    """Half the channels by a convolution, the other half from the first by a cheap depthwise one."""
    x = net.conv_norm(x, channels // 2, 1, f"{name}.primary_conv.0", f"{name}.primary_conv.1")
    x = net.act(x, f"{name}.primary_conv.2") if active else x
    y = net.norm(net.depthwise(x, 3, f"{name}.cheap_operation.0"), f"{name}.cheap_operation.1")
    y = net.act(y, f"{name}.cheap_operation.2") if active else y
    return layers.Concatenate(name=f"{name}.concat")([x, y])


def ghost_attended(net: Net, x: Tensor, channels: int, name: str, *, active: bool) -> Tensor:
    """Weighed by what rows and columns of half the map show. Not in the network's first two blocks, nor in
    the second module of a block.
    """
    y = ghost(net, x, channels, name, active=active)
    if not active or name in ("blocks.0.0.ghost1", "blocks.1.0.ghost1"):
        return y
    s = layers.AveragePooling2D(2, name=f"{name}.short_conv.pool")(x)
    s = net.conv_norm(s, channels, 1, f"{name}.short_conv.0", f"{name}.short_conv.1")
    s = net.norm(net.depthwise(s, (1, 5), f"{name}.short_conv.2"), f"{name}.short_conv.3")
    s = net.norm(net.depthwise(s, (5, 1), f"{name}.short_conv.4"), f"{name}.short_conv.5")
    s = layers.Activation("sigmoid", name=f"{name}.gate")(s)
    s = Nearest(name=f"{name}.stretch")([s, y])
    return layers.Multiply(name=f"{name}.scale")([y, s])


def shortcut(net: Net, x: Tensor, kernel: int, channels: int, stride: int, name: str) -> Tensor:
    if stride == 1 and x.shape[-1] == channels:
        return x
    x = net.norm(net.depthwise(x, kernel, f"{name}.shortcut.0", stride), f"{name}.shortcut.1")
    return net.conv_norm(x, channels, 1, f"{name}.shortcut.2", f"{name}.shortcut.3")
