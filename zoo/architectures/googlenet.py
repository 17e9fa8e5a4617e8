"""GoogLeNet and BN-Inception. Szegedy et al., "Going deeper with convolutions", arXiv 1409.4842, table 1;
Ioffe and Szegedy, "Batch normalization", arXiv 1502.03167, figure 5.

inception_v1 is torchvision's and the authors' released form: with batch normalisation, and 3x3 windows in
the branch that the paper gives 5x5. inception_v2 is Caffe's BN-Inception in widths and the biases of its
convolutions; figure 5, and the authors' code, pool into 96 channels instead of 128 in blocks 4c and 4d.
"""

from keras import layers

from zoo.blocks import Net, Tensor, average_around, concatenate, flatten, max_pool
from zoo.layers import AdaptiveAverage

V1 = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
# 1x1; 3x3 reduced and own; double 3x3 reduced and own; pooled. 0: a block of stride 2 without that branch.
V2 = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}


def inception_v1(net: Net, images: Tensor) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 1024]."""
    x = net.unit(images, 64, 7, "conv1", 2)
    x = max_pool(x, 3, 2, "maxpool1", ceil=True)
    x = net.unit(net.unit(x, 64, 1, "conv2"), 192, 3, "conv3")
    x = max_pool(x, 3, 2, "maxpool2", ceil=True)
    for block, widths in V1.items():
        if block == "4a":
            x = max_pool(x, 3, 2, "maxpool3", ceil=True)
        if block == "5a":
            x = max_pool(x, 2, 2, "maxpool4", ceil=True)
        x = inception(net, x, widths, f"inception{block}")
    return x


def inception(net: Net, x: Tensor, widths: tuple[int, ...], name: str) -> Tensor:
    """Figure 2b."""
    one, reduced_3, three, reduced_5, five, pooled = widths
    around = layers.MaxPooling2D(3, 1, "same", name=f"{name}.branch4.0")(x)
    branches = [
        net.unit(x, one, 1, f"{name}.branch1"),
        net.chain(x, [(reduced_3, 1), (three, 3)], f"{name}.branch2."),
        net.chain(x, [(reduced_5, 1), (five, 3)], f"{name}.branch3."),
        net.unit(around, pooled, 1, f"{name}.branch4.1"),
    ]
    return concatenate(branches, name)


def auxiliary(net: Net, x: Tensor, name: str) -> Tensor:
    """Section 5's second classifier: a map [N, H, W, C] -> vectors [N, 1024]."""
    x = net.unit(AdaptiveAverage((4, 4), name=f"{name}.average")(x), 128, 1, f"{name}.conv")
    x = net.act(net.linear(flatten(x, f"{name}.flatten"), 1024, f"{name}.fc1"), f"{name}.fc1.act")
    return layers.Dropout(0.7, name=f"{name}.dropout")(x)


def inception_v2(net: Net, images: Tensor) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 1024]."""
    x = net.unit(images, 64, 7, "features.init_block.conv1", 2, bias=True)
    x = max_pool(x, 3, 2, "features.init_block.pool1", ceil=True)
    x = net.unit(x, 64, 1, "features.init_block.conv2.conv1", bias=True)
    x = net.unit(x, 192, 3, "features.init_block.conv2.conv2", bias=True)
    x = max_pool(x, 3, 2, "features.init_block.pool2", ceil=True)
    stage, unit = 1, 0
    for block, widths in V2.items():
        halves = not widths[0]
        stage, unit = (stage + 1, 1) if halves else (stage, unit + 1)
        name = f"features.stage{stage}.unit{unit}"
        x = halving(net, x, widths, name) if halves else inception_double(net, x, widths, block == "5b", name)
    return x


def inception_double(net: Net, x: Tensor, widths: tuple[int, ...], maxima: bool, name: str) -> Tensor:
    """Two 3x3 windows for the 5x5 one; maxima, instead of means, only in the last block."""
    one, reduced_3, three, reduced_double, double, pooled = widths
    name = f"{name}.branches"
    if maxima:
        around = layers.MaxPooling2D(3, 1, "same", name=f"{name}.branch4.pool")(x)
    else:
        around = average_around(x, f"{name}.branch4.pool", count_border=True)
    branches = [
        net.unit(x, one, 1, f"{name}.branch1", bias=True),
        net.chain(x, [(reduced_3, 1), (three, 3)], f"{name}.branch2.conv", 1, bias=True),
        net.chain(x, [(reduced_double, 1), (double, 3), (double, 3)], f"{name}.branch3.conv", 1, bias=True),
        net.unit(around, pooled, 1, f"{name}.branch4.conv", bias=True),
    ]
    return concatenate(branches, name)


def halving(net: Net, x: Tensor, widths: tuple[int, ...], name: str) -> Tensor:
    _, reduced_3, three, reduced_double, double, _ = widths
    name = f"{name}.branches"
    branches = [
        net.chain(x, [(reduced_3, 1), (three, 3)], f"{name}.branch1.conv", 1, stride=2, bias=True),
        net.chain(
            x, [(reduced_double, 1), (double, 3), (double, 3)], f"{name}.branch2.conv", 1, stride=2, bias=True
        ),
        # Caffe keeps the incomplete window; "same" is that for even sides, and fits the convolutions for odd.
        layers.MaxPooling2D(3, 2, "same", name=f"{name}.branch3")(x),
    ]
    return concatenate(branches, name)
