"""ECA-Net. Wang et al., "ECA-Net: efficient channel attention for deep convolutional neural networks", arXiv
1910.03151.
"""

import math
from collections.abc import Sequence

from keras import layers

from zoo.architectures.resnet import averaged, bottleneck, entry, residual_stages
from zoo.blocks import Net, Tensor, gated


def ecaresnet(net: Net, images: Tensor, *, depths: Sequence[int], deep_stem: Sequence[int] = ()) -> Tensor:
    """ResNet-D, or with ResNet's own stem. Images [N, H, W, 3], normalised -> feature map
    [N, H/32, W/32, 2048].
    """
    return residual_stages(net, entry(net, images, deep_stem), depths, attended_bottleneck, averaged)


def ecaresnet_pruned(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    deep_stem: Sequence[int],
    kept: Sequence[Sequence[int]],
) -> Tensor:
    """Without the channels that matter least. kept: of each stage what is left: the channels, then of each
    block those of its first and second convolution. Aflalo et al., arXiv 2002.08258.
    """
    left = ((*pair, out) for out, *w in kept for pair in zip(w[::2], w[1::2], strict=True))

    def block(net: Net, x: Tensor, planes: int, stride: int, name: str) -> Tensor:
        return pruned_bottleneck(net, x, planes, stride, name, *next(left))

    return residual_stages(net, entry(net, images, deep_stem), depths, block, averaged)


def attended_bottleneck(net: Net, x: Tensor, planes: int, stride: int, name: str) -> Tensor:
    return neighbours(bottleneck(net, x, planes, stride, name), f"{name}.se")


def pruned_bottleneck(
    net: Net, x: Tensor, planes: int, stride: int, name: str, first: int, second: int, channels: int
) -> Tensor:
    y = net.conv_norm_act(x, first, 1, f"{name}.conv1", f"{name}.bn1")
    y = net.conv_norm_act(y, second, 3, f"{name}.conv2", f"{name}.bn2", stride)
    y = net.conv_norm(y, channels, 1, f"{name}.conv3", f"{name}.bn3")
    return neighbours(y, f"{name}.se", unpruned=4 * planes)


def neighbours(x: Tensor, name: str, *, unpruned: int | None = None) -> Tensor:
    """Channel attention by a convolution along the channels: each is weighed by itself and its nearest ones,
    more of them in a wider map. unpruned: the channels before some were left out.
    """
    channels = x.shape[-1]
    reach = int((math.log2(unpruned or channels) + 1) / 2)
    s = layers.GlobalAveragePooling2D(name=f"{name}.pool")(x)
    s = layers.Reshape((channels, 1), name=f"{name}.along")(s)
    s = layers.Conv1D(1, reach + 1 - reach % 2, padding="same", use_bias=False, name=f"{name}.conv")(s)
    s = layers.Reshape((1, 1, channels), name=f"{name}.back")(s)
    return gated(x, s, "sigmoid", name)
