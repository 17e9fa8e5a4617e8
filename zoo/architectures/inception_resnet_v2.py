"""Inception-ResNet v2. Szegedy et al., "Inception-v4, Inception-ResNet and the impact of residual connections
on learning", arXiv 1602.07261, with the authors' released widths and stem (Inception v3's). Layers are named
as timm's.
"""

from functools import partial

from keras import layers

from zoo.blocks import Net, Tensor, average_around, concatenate, max_pool


def inception_resnet_v2(net: Net, images: Tensor) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, 8, 8, 1536] from 299 pixels."""
    x = mixed_5b(net, stem(net, images), "mixed_5b")
    for i in range(10):
        x = block35(net, x, f"repeat.{i}")
    x = mixed_6a(net, x, "mixed_6a")
    for i in range(20):
        x = block17(net, x, f"repeat_1.{i}")
    x = mixed_7a(net, x, "mixed_7a")
    for i in range(9):
        x = net.act(block8(net, x, 0.2, f"repeat_2.{i}"), f"repeat_2.{i}.act")
    x = block8(net, x, 1.0, "block8")
    return net.unit(x, 1536, 1, "conv2d_7b")


def stem(net: Net, x: Tensor) -> Tensor:
    x = net.unit(x, 32, 3, "conv2d_1a", 2, padding="valid")
    x = net.unit(x, 32, 3, "conv2d_2a", padding="valid")
    x = net.unit(x, 64, 3, "conv2d_2b")
    x = net.unit(max_pool(x, 3, 2, "maxpool_3a"), 80, 1, "conv2d_3b")
    x = net.unit(x, 192, 3, "conv2d_4a", padding="valid")
    return max_pool(x, 3, 2, "maxpool_5a")


def mixed_5b(net: Net, x: Tensor, name: str) -> Tensor:
    branches = [
        net.unit(x, 96, 1, f"{name}.branch0"),
        net.chain(x, [(48, 1), (64, 5)], f"{name}.branch1."),
        net.chain(x, [(64, 1), (96, 3), (96, 3)], f"{name}.branch2."),
        net.unit(average_around(x, f"{name}.branch3.0"), 64, 1, f"{name}.branch3.1"),
    ]
    return concatenate(branches, name)


def block35(net: Net, x: Tensor, name: str) -> Tensor:
    """35 x 35 places."""
    branches = [
        net.unit(x, 32, 1, f"{name}.branch0"),
        net.chain(x, [(32, 1), (32, 3)], f"{name}.branch1."),
        net.chain(x, [(32, 1), (48, 3), (64, 3)], f"{name}.branch2."),
    ]
    return net.act(residual(net, x, branches, 0.17, name), f"{name}.act")


def mixed_6a(net: Net, x: Tensor, name: str) -> Tensor:
    strided = partial(net.unit, kernel=3, stride=2, padding="valid")
    y = net.chain(x, [(256, 1), (256, 3)], f"{name}.branch1.")
    branches = [
        strided(x, 384, name=f"{name}.branch0"),
        strided(y, 384, name=f"{name}.branch1.2"),
        max_pool(x, 3, 2, f"{name}.branch2"),
    ]
    return concatenate(branches, name)


def block17(net: Net, x: Tensor, name: str) -> Tensor:
    """17 x 17 places."""
    branches = [
        net.unit(x, 192, 1, f"{name}.branch0"),
        net.chain(x, [(128, 1), (160, (1, 7)), (192, (7, 1))], f"{name}.branch1."),
    ]
    return net.act(residual(net, x, branches, 0.1, name), f"{name}.act")


def mixed_7a(net: Net, x: Tensor, name: str) -> Tensor:
    strided = partial(net.unit, kernel=3, stride=2, padding="valid")
    y = net.unit(x, 256, 1, f"{name}.branch0.0")
    z = net.unit(x, 256, 1, f"{name}.branch1.0")
    w = net.chain(x, [(256, 1), (288, 3)], f"{name}.branch2.")
    branches = [
        strided(y, 384, name=f"{name}.branch0.1"),
        strided(z, 288, name=f"{name}.branch1.1"),
        strided(w, 320, name=f"{name}.branch2.2"),
        max_pool(x, 3, 2, f"{name}.branch3"),
    ]
    return concatenate(branches, name)


def block8(net: Net, x: Tensor, scale: float, name: str) -> Tensor:
    """8 x 8 places; the last one is not rectified."""
    branches = [
        net.unit(x, 192, 1, f"{name}.branch0"),
        net.chain(x, [(192, 1), (224, (1, 3)), (256, (3, 1))], f"{name}.branch1."),
    ]
    return residual(net, x, branches, scale, name)


def residual(net: Net, x: Tensor, branches: list[Tensor], scale: float, name: str) -> Tensor:
    """Section 3.3: residuals are scaled down, or training dies."""
    y = net.conv(concatenate(branches, name), x.shape[-1], 1, f"{name}.conv2d", bias=True)
    return layers.Add(name=f"{name}.add")([x, layers.Rescaling(scale, name=f"{name}.scale")(y)])
