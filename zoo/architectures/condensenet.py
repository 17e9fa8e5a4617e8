"""CondenseNet. Huang et al., "CondenseNet: an efficient DenseNet using learned group convolutions", arXiv
1711.09224, as it is after training: what a group of a pointwise convolution sees was chosen while the network
learned, and is an index of channels now.
"""

from collections.abc import Sequence

from keras import layers

from zoo.blocks import Net, Tensor, concatenate, shuffle
from zoo.layers import SelectChannels


def condensenet(
    net: Net, images: Tensor, *, depths: Sequence[int], growths: Sequence[int], groups: int
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]: half of the last channels, those
    that the classifier was left with. growths: channels that a layer adds, by dense blocks.
    """
    x = net.conv(images, 2 * growths[0], 3, "features.init_block.conv", 2)
    for stage, (depth, growth) in enumerate(zip(depths, growths, strict=True), start=1):
        if stage > 1:
            x = layers.AveragePooling2D(2, name=f"features.stage{stage}.trans{stage}.pool")(x)
        for i in range(1, depth + 1):
            name = f"features.stage{stage}.unit{i}"
            x = concatenate([x, dense_layer(net, x, growth, groups, name)], name)
    x = net.norm_act(x, "features.post_activ.bn")
    return SelectChannels(x.shape[-1] // 2, name="output")(x)


def dense_layer(net: Net, x: Tensor, growth: int, groups: int, name: str) -> Tensor:
    """Figure 1, right: a learned and a standard convolution in groups, the channels dealt between them."""
    x = SelectChannels(x.shape[-1], name=f"{name}.conv1")(x)
    x = net.pre_unit(x, 4 * growth, 1, f"{name}.conv1", groups=groups)
    x = shuffle(x, groups, f"{name}.conv1.c_shuffle")
    return net.pre_unit(x, growth, 3, f"{name}.conv2", groups=groups)
