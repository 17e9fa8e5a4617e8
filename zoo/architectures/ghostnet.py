"""GhostNet. Han et al., "More features from cheap operations", arXiv 1911.11907."""

from collections.abc import Callable
from dataclasses import dataclass

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
    return network(net, images, STAGES, Modules(ghost, ghost, halve), width, round_channels(960 * width, 4))


def ghostnetv2(net: Net, images: Tensor, *, width: float) -> Tensor:
    """V2: Tang et al., "GhostNetV2: enhance cheap operation with long-range attention", arXiv 2211.12905."""
    modules = Modules(ghost, ghost_attended, halve)
    return network(net, images, STAGES, modules, width, round_channels(960 * width, 4))


def ghostnetv3(net: Net, images: Tensor, *, width: float) -> Tensor:
    """V3 in training; zoo.fuse makes one convolution of every sum. Liu et al., "GhostNetV3: exploring the
    training strategies for compact models", arXiv 2404.11202.
    """
    modules = Modules(ghost_branched, ghost_branched_attended, halve_branched)
    return network(net, images, STAGES, modules, width, round_channels(960 * width, 4))


@dataclass(frozen=True)
class Modules:
    """What the versions differ in: the ghost module of the first two blocks and of every projection, the one
    of all later expansions, and what halves a map.
    """

    early: Module
    late: Module
    halve: Callable[[Net, Tensor, int, str], Tensor]


def network(
    net: Net, images: Tensor, stages: list[list[Row]], modules: Modules, width: float, last: int
) -> Tensor:
    x = net.conv_norm_act(images, round_channels(16 * width, 4), 3, "conv_stem", "bn1", stride=2)
    for index, stage in enumerate(stages):
        expand = modules.late if index > 1 else modules.early
        for i, row in enumerate(stage):
            x = bottleneck(net, x, row, expand, modules, width, f"blocks.{index}.{i}")
    name = f"blocks.{len(stages)}.0"
    x = net.conv_norm_act(x, last, 1, f"{name}.conv", f"{name}.bn1")
    return late_head(net, x, 1280)


def bottleneck(
    net: Net, x: Tensor, row: Row, expand: Module, modules: Modules, width: float, name: str
) -> Tensor:
    """Ghost module up, depthwise only where the stride is, attention, linear ghost module down."""
    kernel, expanded, channels, attend, stride = row
    inner, outer = round_channels(expanded * width, 4), round_channels(channels * width, 4)
    y = expand(net, x, inner, f"{name}.ghost1", active=True)
    if stride > 1:
        y = modules.halve(net, y, kernel, name)
    if attend:
        y = net.squeeze_excite(y, round_channels(inner / 4, 4), f"{name}.se", gate="hard_sigmoid")
    y = modules.early(net, y, outer, f"{name}.ghost2", active=False)
    return layers.Add(name=f"{name}.add")([shortcut(net, x, kernel, outer, stride, name), y])


def halve(net: Net, x: Tensor, kernel: int, name: str) -> Tensor:
    return net.norm(net.depthwise(x, kernel, f"{name}.conv_dw", 2), f"{name}.bn_dw")


def ghost(net: Net, x: Tensor, channels: int, name: str, *, active: bool) -> Tensor:
    """Half the channels by a convolution, the other half from the first by a cheap depthwise one."""
    x = net.conv_norm(x, channels // 2, 1, f"{name}.primary_conv.0", f"{name}.primary_conv.1")
    x = net.act(x, f"{name}.primary_conv.2") if active else x
    y = net.norm(net.depthwise(x, 3, f"{name}.cheap_operation.0"), f"{name}.cheap_operation.1")
    y = net.act(y, f"{name}.cheap_operation.2") if active else y
    return layers.Concatenate(name=f"{name}.concat")([x, y])


def ghost_attended(net: Net, x: Tensor, channels: int, name: str, *, active: bool) -> Tensor:
    return attended(net, x, ghost(net, x, channels, name, active=active), name)


def attended(net: Net, x: Tensor, y: Tensor, name: str) -> Tensor:
    """y weighed by what rows and columns of half of x show."""
    channels = y.shape[-1]
    s = layers.AveragePooling2D(2, name=f"{name}.short_conv.pool")(x)
    s = net.conv_norm(s, channels, 1, f"{name}.short_conv.0", f"{name}.short_conv.1")
    s = net.norm(net.depthwise(s, (1, 5), f"{name}.short_conv.2"), f"{name}.short_conv.3")
    s = net.norm(net.depthwise(s, (5, 1), f"{name}.short_conv.4"), f"{name}.short_conv.5")
    s = layers.Activation("sigmoid", name=f"{name}.gate")(s)
    s = Nearest(name=f"{name}.stretch")([s, y])
    return layers.Multiply(name=f"{name}.scale")([y, s])


def ghost_branched(net: Net, x: Tensor, channels: int, name: str, *, active: bool) -> Tensor:
    """`ghost`, each convolution the sum of several."""
    primary, cheap = f"{name}.primary_rpr_conv", f"{name}.cheap"
    x = summed([convolved(net, x, channels // 2, f"{primary}.{i}") for i in range(3)], primary)
    x = net.act(x, f"{name}.primary_activation") if active else x
    y = summed([*depthwise_branches(net, x, 3, 1, cheap), net.norm(x, f"{cheap}_rpr_skip")], cheap)
    y = net.act(y, f"{cheap}_activation") if active else y
    return layers.Concatenate(name=f"{name}.concat")([x, y])


def ghost_branched_attended(net: Net, x: Tensor, channels: int, name: str, *, active: bool) -> Tensor:
    return attended(net, x, ghost_branched(net, x, channels, name, active=active), name)


def halve_branched(net: Net, x: Tensor, kernel: int, name: str) -> Tensor:
    return summed(depthwise_branches(net, x, kernel, 2, f"{name}.dw"), f"{name}.dw")


def depthwise_branches(net: Net, x: Tensor, kernel: int, stride: int, name: str) -> list[Tensor]:
    """Three of the kernel's size, one of 1x1."""
    kernels = {f"{name}_rpr_conv.{i}": kernel for i in range(3)} | {f"{name}_rpr_scale": 1}
    return [
        net.norm(net.depthwise(x, size, f"{branch}.conv", stride), f"{branch}.bn1")
        for branch, size in kernels.items()
    ]


def convolved(net: Net, x: Tensor, channels: int, name: str) -> Tensor:
    return net.conv_norm(x, channels, 1, f"{name}.conv", f"{name}.bn1")


def summed(branches: list[Tensor], name: str) -> Tensor:
    return layers.Add(name=f"{name}.sum")(branches)


def shortcut(net: Net, x: Tensor, kernel: int, channels: int, stride: int, name: str) -> Tensor:
    if stride == 1 and x.shape[-1] == channels:
        return x
    x = net.norm(net.depthwise(x, kernel, f"{name}.shortcut.0", stride), f"{name}.shortcut.1")
    return net.conv_norm(x, channels, 1, f"{name}.shortcut.2", f"{name}.shortcut.3")
