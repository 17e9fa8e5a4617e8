"""CSPNeXt. The backbone of RTMDet, Lyu et al., "RTMDet: an empirical study of designing real-time object
detectors", arXiv 2212.07784: cross stage partial networks of large depthwise kernels.
"""

from collections.abc import Sequence
from dataclasses import replace

from keras import layers

from zoo.architectures.cspdarknet import positions
from zoo.blocks import Net, Tensor, concatenate


def cspnext(net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]."""
    net = replace(net, activation="silu")
    x = net.unit(images, widths[0] // 4, 3, "stem.0", 2)
    x = net.unit(x, widths[0] // 4, 3, "stem.1")
    x = net.unit(x, widths[0] // 2, 3, "stem.2")
    last = len(depths) - 1
    places = [*positions(depths[:-1]), [0.0] * depths[-1]]
    for stage, width in enumerate(widths):
        name = f"stages.{stage}"
        x = net.unit(x, width, 3, f"{name}.0", 2)
        if stage == last:
            x = pyramid(net, x, f"{name}.1")
        x = crossed(net, x, places[stage], f"{name}.{2 if stage == last else 1}", skip=stage < last)
    return x


def crossed(net: Net, x: Tensor, places: Sequence[float], name: str, *, skip: bool) -> Tensor:
    """Half of the channels pass the blocks by; all are weighed then. The last stage has no shortcuts."""
    width = x.shape[-1]
    short = net.unit(x, width // 2, 1, f"{name}.short_conv")
    y = net.unit(x, width // 2, 1, f"{name}.main_conv")
    for i, position in enumerate(places):
        z = block(net, y, f"{name}.blocks.{i}")
        y = net.add(y, z, f"{name}.blocks.{i}", position) if skip else z
    y = net.excite(concatenate([y, short], name), f"{name}.attention", gate="hard_sigmoid")
    return net.unit(y, width, 1, f"{name}.final_conv")


def block(net: Net, x: Tensor, name: str) -> Tensor:
    width = x.shape[-1]
    y = net.unit(x, width, 3, f"{name}.conv1")
    y = net.depthwise(y, 5, f"{name}.conv2.depthwise_conv.conv")
    y = net.norm_act(y, f"{name}.conv2.depthwise_conv.bn")
    return net.unit(y, width, 1, f"{name}.conv2.pointwise_conv")


def pyramid(net: Net, x: Tensor, name: str) -> Tensor:
    """The maxima of ever larger neighbourhoods, beside each other. He et al., arXiv 1406.4729."""
    y = net.unit(x, x.shape[-1] // 2, 1, f"{name}.conv1")
    pools = [layers.MaxPooling2D(size, 1, "same", name=f"{name}.pool{size}")(y) for size in (5, 9, 13)]
    return net.unit(concatenate([y, *pools], name), x.shape[-1], 1, f"{name}.conv2")
