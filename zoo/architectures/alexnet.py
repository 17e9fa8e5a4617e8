"""AlexNet. Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
networks", NeurIPS 2012; its one-tower form: Krizhevsky, "One weird trick", arXiv 1404.5997.

Layers of the 2012 network are named as in Caffe's releases. Dropout is behind each hidden linear layer, as in
the 2012 paper.
"""

from keras import layers

from zoo.blocks import Net, Tensor, flatten, max_pool
from zoo.layers import AdaptiveAverage, LocalResponseNormalization

HIDDEN = 4096


def alexnet(net: Net, images: Tensor) -> Tensor:
    """Images [N, H, W, 3], normalised -> [N, 4096]; the last map is averaged or stretched to 6 x 6."""
    x = layers.ZeroPadding2D(2, name="features.0.pad")(images)
    x = net.conv(x, 64, 11, "features.0", 4, bias=True, padding="valid")
    x = max_pool(net.act(x, "features.1"), 3, 2, "features.2")
    x = net.conv(x, 192, 5, "features.3", bias=True)
    x = max_pool(net.act(x, "features.4"), 3, 2, "features.5")
    x = net.act(net.conv(x, 384, 3, "features.6", bias=True), "features.7")
    x = net.act(net.conv(x, 256, 3, "features.8", bias=True), "features.9")
    x = net.act(net.conv(x, 256, 3, "features.10", bias=True), "features.11")
    x = max_pool(x, 3, 2, "features.12")
    x = flatten(AdaptiveAverage((6, 6), name="avgpool")(x), "flatten")
    x = net.act(net.linear(x, HIDDEN, "classifier.1"), "classifier.2")
    x = net.drop(x, "classifier.3")
    return net.act(net.linear(x, HIDDEN, "classifier.4"), "classifier.5")


def alexnet_2012(net: Net, images: Tensor) -> Tensor:
    """Images [N, H, W, 3], normalised -> [N, 4096]: two groups that meet in conv3 and behind pool5."""
    x = net.act(net.conv(images, 96, 11, "conv1", 4, bias=True, padding="valid"), "relu1")
    x = max_pool(LocalResponseNormalization(name="norm1")(x), 3, 2, "pool1")
    x = net.act(net.conv(x, 256, 5, "conv2", bias=True, groups=2), "relu2")
    x = max_pool(LocalResponseNormalization(name="norm2")(x), 3, 2, "pool2")
    x = net.act(net.conv(x, 384, 3, "conv3", bias=True), "relu3")
    x = net.act(net.conv(x, 384, 3, "conv4", bias=True, groups=2), "relu4")
    x = net.act(net.conv(x, 256, 3, "conv5", bias=True, groups=2), "relu5")
    return hidden(net, max_pool(x, 3, 2, "pool5"))


def hidden(net: Net, x: Tensor) -> Tensor:
    x = flatten(AdaptiveAverage((6, 6), name="pool5.average")(x), "flatten")
    x = net.drop(net.act(net.linear(x, HIDDEN, "fc6"), "relu6"), "drop6")
    return net.act(net.linear(x, HIDDEN, "fc7"), "relu7")
