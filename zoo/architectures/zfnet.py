"""ZFNet. Zeiler and Fergus, "Visualizing and understanding convolutional networks", arXiv 1311.2901, figure
3: AlexNet in one tower, with smaller windows and a smaller stride at the start. Layers are named as those of
AlexNet of 2012, whose contrast normalisation across maps it keeps, here behind the pools.
"""

from collections.abc import Sequence

from keras import layers

from zoo.architectures.alexnet import hidden
from zoo.blocks import Net, Tensor, max_pool
from zoo.layers import LocalResponseNormalization


def zfnet(
    net: Net, images: Tensor, *, widths: Sequence[int] = (384, 384, 256), norm_first: bool = False
) -> Tensor:
    """Images [N, H, W, 3], normalised -> [N, 4096]; maps of 110, 55, 26, 13 and 6 pixels from 224.

    widths: of the last three convolutions; norm_first: contrast is normalised before the pools, by a mean of
    squares in place of their sum.
    """
    x = layers.ZeroPadding2D(1, name="conv1.pad")(images)
    x = net.act(net.conv(x, 96, 7, "conv1", 2, bias=True, padding="valid"), "relu1")
    x = pool_and_normalise(x, norm_first, "1")
    x = net.act(net.conv(x, 256, 5, "conv2", 2, bias=True, padding="valid"), "relu2")
    x = pool_and_normalise(x, norm_first, "2")
    for number, width in enumerate(widths, start=3):
        x = net.act(net.conv(x, width, 3, f"conv{number}", bias=True), f"relu{number}")
    return hidden(net, max_pool(x, 3, 2, "pool5", ceil=True))


def pool_and_normalise(x: Tensor, norm_first: bool, number: str) -> Tensor:
    if norm_first:
        x = LocalResponseNormalization(alpha=1e-4 / 5, name=f"norm{number}")(x)
        return max_pool(x, 3, 2, f"pool{number}", ceil=True)
    return LocalResponseNormalization(name=f"norm{number}")(max_pool(x, 3, 2, f"pool{number}", ceil=True))
