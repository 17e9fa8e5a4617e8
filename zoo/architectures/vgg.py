"""VGG. Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", arXiv
1409.1556, table 1: configurations A, B, D, E. Batch normalisation came with the public releases.
"""

from collections.abc import Sequence
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor
from zoo.layers import AdaptiveAverage

WIDTHS = (64, 128, 256, 512, 512)
FLATTENED = 7
HIDDEN = 4096


def vgg(net: Net, images: Tensor, *, depths: Sequence[int], norm: bool = False) -> Tensor:
    """Images [N, H, W, 3], normalised -> [N, H', W', 4096]: 1 x 1 place at 224 pixels.

    The linear layers are convolutions, as the paper tests them: larger pictures give more places, smaller
    ones have their last map stretched to 7 x 7.
    """
    x = images
    index = count()
    for depth, width in zip(depths, WIDTHS, strict=True):
        for _ in range(depth):
            x = net.conv(x, width, 3, f"features.{next(index)}", bias=True)
            if norm:
                x = net.norm(x, f"features.{next(index)}")
            x = net.act(x, f"features.{next(index)}")
        x = layers.MaxPooling2D(2, 2, name=f"features.{next(index)}")(x)
    return hidden(net, AdaptiveAverage((FLATTENED, FLATTENED), at_least=True, name="pre_logits.stretch")(x))


def hidden(net: Net, x: Tensor) -> Tensor:
    x = net.conv(x, HIDDEN, FLATTENED, "pre_logits.fc1", bias=True, padding="valid")
    x = net.drop(net.act(x, "pre_logits.act1"), "pre_logits.drop")
    x = net.conv(x, HIDDEN, 1, "pre_logits.fc2", bias=True)
    return net.act(x, "pre_logits.act2")
