"""UniRepLKNet. Ding et al., "UniRepLKNet: a universal perception large-kernel ConvNet for audio, video, point
cloud, time-series and image recognition", arXiv 2311.15599.

Dilated windows beside each large one help in training; zoo.fuse makes them one.
"""

from collections.abc import Sequence
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor
from zoo.layers import ResponseNormalization, Scale

LARGE, SMALL = 13, 3  # windows
# Beside the large window: how wide, and how far its places are apart.
DILATED = ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5))
EXPANSION = 4
NORM_EPSILON = 1e-6


def unireplknet(net: Net, images: Tensor, *, depths: Sequence[int], width: int, every: int = 1) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, 8 * width]. every: of so many blocks of the third stage
    one has a large window; none of the first has.
    """
    x, done = stem(net, images, width), count()
    for stage, depth in enumerate(depths):
        if stage:
            x = net.conv(x, 2 * x.shape[-1], 3, f"downsample_layers.{stage}.0", 2, bias=True)
            x = norm(x, f"downsample_layers.{stage}.1")
        for i in range(depth):
            large = stage > 0 and (stage != 2 or i % every == 0)
            name, position = f"stages.{stage}.{i}", next(done) / (sum(depths) - 1)
            x = net.add(x, block(net, x, name, large=large), name, position)
    return norm(net.global_pool(x), "norm")


def stem(net: Net, x: Tensor, width: int) -> Tensor:
    x = norm(net.conv(x, width // 2, 3, "downsample_layers.0.0", 2, bias=True), "downsample_layers.0.1")
    x = layers.Activation("gelu", name="downsample_layers.0.2")(x)
    return norm(net.conv(x, width, 3, "downsample_layers.0.3", 2, bias=True), "downsample_layers.0.4")


def block(net: Net, x: Tensor, name: str, *, large: bool) -> Tensor:
    """Figure 2: places by a depthwise convolution and the squeeze, channels by a perceptron."""
    channels, conv = x.shape[-1], f"{name}.dwconv"
    y = dilated_reparam(net, x, conv) if large else net.depthwise(x, SMALL, conv)
    y = net.squeeze_excite(net.norm(y, f"{name}.norm"), channels // 4, f"{name}.se", ("down", "up"))
    y = net.linear(y, EXPANSION * channels, f"{name}.pwconv1.1")
    y = layers.Activation("gelu", name=f"{name}.act.0")(y)
    y = ResponseNormalization(name=f"{name}.act.1")(y)
    y = net.norm(net.linear(y, channels, f"{name}.pwconv2.0", bias=False), f"{name}.pwconv2.2")
    return Scale(name=name)(y)


def dilated_reparam(net: Net, x: Tensor, name: str) -> Tensor:
    """Figure 3."""
    sums = [net.norm(net.depthwise(x, LARGE, f"{name}.lk_origin"), f"{name}.origin_bn")]
    for window, dilation in DILATED:
        y = net.depthwise(x, window, f"{name}.dil_conv_k{window}_{dilation}", dilation=dilation)
        sums.append(net.norm(y, f"{name}.dil_bn_k{window}_{dilation}"))
    return layers.Add(name=f"{name}.add")(sums)


def norm(x: Tensor, name: str) -> Tensor:
    return layers.LayerNormalization(epsilon=NORM_EPSILON, name=name)(x)
