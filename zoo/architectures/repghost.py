"""RepGhost. Chen et al., "A hardware-efficient ghost module via re-parameterization", arXiv 2211.06088."""

from keras import layers

from zoo.architectures.ghostnet import Modules, Row, halve, network
from zoo.blocks import Net, Tensor, round_channels

# Kernel, expanded channels, channels, attention, stride; a list for each stage.
STAGES: list[list[Row]] = [
    [(3, 8, 16, False, 1)],
    [(3, 24, 24, False, 2)],
    [(3, 36, 24, False, 1)],
    [(5, 36, 40, True, 2)],
    [(5, 60, 40, True, 1)],
    [(3, 120, 80, False, 2)],
    [
        (3, 100, 80, False, 1),
        (3, 120, 80, False, 1),
        (3, 120, 80, False, 1),
        (3, 240, 112, True, 1),
        (3, 336, 112, True, 1),
    ],
    [(5, 336, 160, True, 2)],
    [(5, 480, 160, False, 1), (5, 480, 160, True, 1), (5, 480, 160, False, 1), (5, 480, 160, True, 1)],
]


def repghostnet(net: Net, images: Tensor, *, width: float) -> Tensor:
    """Images, normalised -> [N, 1, 1, 1280]. GhostNet with another module, and thinner inside."""
    return network(net, images, STAGES, Modules(ghost, ghost, halve), width, round_channels(960 * width, 4))


def ghost(net: Net, x: Tensor, channels: int, name: str, *, active: bool) -> Tensor:
    """The cheap depthwise convolution is added to its own input instead of standing beside it, so that both
    become one convolution after training: zoo.fuse.
    """
    x = net.conv_norm(x, channels, 1, f"{name}.primary_conv.0", f"{name}.primary_conv.1")
    x = net.act(x, f"{name}.primary_conv.2") if active else x
    y = net.norm(net.depthwise(x, 3, f"{name}.cheap_operation.0"), f"{name}.cheap_operation.1")
    y = layers.Add(name=f"{name}.add")([y, net.norm(x, f"{name}.fusion_bn.0")])
    return net.act(y, f"{name}.relu") if active else y
