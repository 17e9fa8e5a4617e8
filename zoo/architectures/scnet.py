"""SCNet. Liu et al., "Improving convolutional networks with self-calibrated convolutions", CVPR 2020."""

from collections.abc import Sequence
from functools import partial

from keras import layers

from zoo.architectures.resnet import SHORTCUTS, entry, residual_stages
from zoo.blocks import Net, Tensor, average_around, concatenate
from zoo.layers import Nearest

COARSE = 4  # places of the map for each of the coarse one that calibrates it


def scnet(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    deep_stem: Sequence[int] = (),
    shortcut: str = "projected",
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048]. Stem and shortcut: see
    zoo.architectures.resnet; with the averaged shortcut, means halve the maps elsewhere, too.
    """
    block = partial(bottleneck, average=shortcut == "averaged")
    return residual_stages(net, entry(net, images, deep_stem), depths, block, SHORTCUTS[shortcut])


def bottleneck(net: Net, x: Tensor, planes: int, stride: int, name: str, *, average: bool) -> Tensor:
    """Half of the width is convolved as it is, half calibrates itself."""
    inner, step = planes // 2, 1 if average else stride
    y = net.unit(net.unit(x, inner, 1, f"{name}.conv1a"), inner, 3, f"{name}.conv2a", step)
    z = net.unit(x, inner, 1, f"{name}.conv1b")
    z = self_calibrated(net, z, step, f"{name}.conv2b")
    if average and stride > 1:
        y, z = (
            average_around(v, f"{name}.{half}.pool", 2, count_border=True) for v, half in ((y, "a"), (z, "b"))
        )
    return net.conv_norm(concatenate([y, z], name), 4 * planes, 1, f"{name}.conv3.conv", f"{name}.conv3.bn")


def self_calibrated(net: Net, x: Tensor, stride: int, name: str) -> Tensor:
    """Every place is gated by what a coarser map, which sees further, adds to it: figure 2."""
    channels = x.shape[-1]
    coarse = layers.AveragePooling2D(COARSE, name=f"{name}.down.pool")(x)
    coarse = net.conv_norm(coarse, channels, 3, f"{name}.down.conv.conv", f"{name}.down.conv.bn")
    coarse = Nearest(name=f"{name}.up")([coarse, x])
    gate = layers.Activation("sigmoid", name=f"{name}.gate")(layers.Add(name=f"{name}.add")([x, coarse]))
    y = net.conv_norm(x, channels, 3, f"{name}.conv1.conv", f"{name}.conv1.bn")
    y = layers.Multiply(name=f"{name}.calibrate")([y, gate])
    return net.unit(y, channels, 3, f"{name}.conv2", stride)
