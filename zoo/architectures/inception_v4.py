"""Inception v4. Szegedy et al., "Inception-v4, Inception-ResNet and the impact of residual connections on
learning", arXiv 1602.07261, figures 3 to 9. Layers are named as timm's.
"""

from zoo.blocks import Net, Tensor, average_around, concatenate, max_pool

ROW, COLUMN = (1, 7), (7, 1)


def inception_v4(net: Net, images: Tensor) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, 8, 8, 1536] from 299 pixels."""
    stages = [inception_a] * 4 + [reduction_a] + [inception_b] * 7 + [reduction_b] + [inception_c] * 3
    x = stem(net, images)
    for place, block in enumerate(stages, start=6):
        x = block(net, x, f"features.{place}")
    return x


def stem(net: Net, x: Tensor) -> Tensor:
    """Figure 3."""
    x = net.unit(x, 32, 3, "features.0", 2, padding="valid")
    x = net.unit(x, 32, 3, "features.1", padding="valid")
    x = net.unit(x, 64, 3, "features.2")
    y = net.unit(x, 96, 3, "features.3.conv", 2, padding="valid")
    x = concatenate([max_pool(x, 3, 2, "features.3.maxpool"), y], "features.3")
    y = net.unit(x, 64, 1, "features.4.branch0.0")
    z = net.chain(x, [(64, 1), (64, ROW), (64, COLUMN)], "features.4.branch1.")
    y = net.unit(y, 96, 3, "features.4.branch0.1", padding="valid")
    x = concatenate([y, net.unit(z, 96, 3, "features.4.branch1.3", padding="valid")], "features.4")
    y = net.unit(x, 192, 3, "features.5.conv", 2, padding="valid")
    return concatenate([y, max_pool(x, 3, 2, "features.5.maxpool")], "features.5")


def inception_a(net: Net, x: Tensor, name: str) -> Tensor:
    """Figure 4, 35 x 35 places."""
    branches = [
        net.unit(x, 96, 1, f"{name}.branch0"),
        net.chain(x, [(64, 1), (96, 3)], f"{name}.branch1."),
        net.chain(x, [(64, 1), (96, 3), (96, 3)], f"{name}.branch2."),
        average(net, x, 96, f"{name}.branch3"),
    ]
    return concatenate(branches, name)


def reduction_a(net: Net, x: Tensor, name: str) -> Tensor:
    """Figure 7."""
    y = net.chain(x, [(192, 1), (224, 3)], f"{name}.branch1.")
    branches = [
        net.unit(x, 384, 3, f"{name}.branch0", 2, padding="valid"),
        net.unit(y, 256, 3, f"{name}.branch1.2", 2, padding="valid"),
        max_pool(x, 3, 2, f"{name}.branch2"),
    ]
    return concatenate(branches, name)


def inception_b(net: Net, x: Tensor, name: str) -> Tensor:
    """Figure 5, 17 x 17 places."""
    branches = [
        net.unit(x, 384, 1, f"{name}.branch0"),
        net.chain(x, [(192, 1), (224, ROW), (256, COLUMN)], f"{name}.branch1."),
        net.chain(x, [(192, 1), (192, COLUMN), (224, ROW), (224, COLUMN), (256, ROW)], f"{name}.branch2."),
        average(net, x, 128, f"{name}.branch3"),
    ]
    return concatenate(branches, name)


def reduction_b(net: Net, x: Tensor, name: str) -> Tensor:
    """Figure 8."""
    y = net.unit(x, 192, 1, f"{name}.branch0.0")
    z = net.chain(x, [(256, 1), (256, ROW), (320, COLUMN)], f"{name}.branch1.")
    branches = [
        net.unit(y, 192, 3, f"{name}.branch0.1", 2, padding="valid"),
        net.unit(z, 320, 3, f"{name}.branch1.3", 2, padding="valid"),
        max_pool(x, 3, 2, f"{name}.branch2"),
    ]
    return concatenate(branches, name)


def inception_c(net: Net, x: Tensor, name: str) -> Tensor:
    """Figure 6, 8 x 8 places."""
    y = net.unit(x, 384, 1, f"{name}.branch1_0")
    z = net.chain(x, [(384, 1), (448, (3, 1)), (512, (1, 3))], f"{name}.branch2_")
    branches = [
        net.unit(x, 256, 1, f"{name}.branch0"),
        net.unit(y, 256, (1, 3), f"{name}.branch1_1a"),
        net.unit(y, 256, (3, 1), f"{name}.branch1_1b"),
        net.unit(z, 256, (1, 3), f"{name}.branch2_3a"),
        net.unit(z, 256, (3, 1), f"{name}.branch2_3b"),
        average(net, x, 256, f"{name}.branch3"),
    ]
    return concatenate(branches, name)


def average(net: Net, x: Tensor, filters: int, name: str) -> Tensor:
    return net.unit(average_around(x, f"{name}.0"), filters, 1, f"{name}.1")
