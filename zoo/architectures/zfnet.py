"""ZFNet. Zeiler and Fergus, "Visualizing and understanding convolutional networks", arXiv 1311.2901, figure
3: AlexNet in one tower, with smaller windows and a smaller stride at the start. Layers are named as those of
AlexNet of 2012, whose contrast normalisation across maps it keeps, here behind the pools.
"""

from keras import layers

from zoo.architectures.alexnet import hidden
from zoo.blocks import Net, Tensor, max_pool
from zoo.layers import LocalResponseNormalization


def zfnet(net: Net, images: Tensor) -> Tensor:
    """Images [N, H, W, 3], normalised -> [N, 4096]; maps of 110, 55, 26, 13 and 6 pixels from 224."""
    x = layers.ZeroPadding2D(1, name="conv1.pad")(images)
    x = net.act(net.conv(x, 96, 7, "conv1", 2, bias=True, padding="valid"), "relu1")
    x = LocalResponseNormalization(name="norm1")(max_pool(x, 3, 2, "pool1", ceil=True))
    x = net.act(net.conv(x, 256, 5, "conv2", 2, bias=True, padding="valid"), "relu2")
    x = LocalResponseNormalization(name="norm2")(max_pool(x, 3, 2, "pool2", ceil=True))
    x = net.act(net.conv(x, 384, 3, "conv3", bias=True), "relu3")
    x = net.act(net.conv(x, 384, 3, "conv4", bias=True), "relu4")
    x = net.act(net.conv(x, 256, 3, "conv5", bias=True), "relu5")
    return hidden(net, max_pool(x, 3, 2, "pool5"))
