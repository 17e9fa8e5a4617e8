"""Inception v3. Szegedy et al., "Rethinking the Inception architecture for computer vision", arXiv
1512.00567. Layers are named as timm's. All pools and strided convolutions look at whole windows only.
"""

from keras import layers

from zoo.blocks import Net, Tensor, average_around, concatenate, max_pool

ROW, COLUMN = (1, 7), (7, 1)


def inception_v3(net: Net, images: Tensor) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, 8, 8, 2048] from 299 pixels."""
    x = stem(net, images)
    for letter, pooled in zip("bcd", (32, 64, 64), strict=True):
        x = mixed_5(net, x, pooled, f"Mixed_5{letter}")
    x = reduction_6(net, x, "Mixed_6a")
    for letter, inner in zip("bcde", (128, 160, 160, 192), strict=True):
        x = mixed_6(net, x, inner, f"Mixed_6{letter}")
    x = reduction_7(net, x, "Mixed_7a")
    for letter in "bc":
        x = mixed_7(net, x, f"Mixed_7{letter}")
    return x


def stem(net: Net, x: Tensor) -> Tensor:
    x = net.unit(x, 32, 3, "Conv2d_1a_3x3", 2, padding="valid")
    x = net.unit(x, 32, 3, "Conv2d_2a_3x3", padding="valid")
    x = net.unit(x, 64, 3, "Conv2d_2b_3x3")
    x = net.unit(max_pool(x, 3, 2, "Pool1"), 80, 1, "Conv2d_3b_1x1")
    x = net.unit(x, 192, 3, "Conv2d_4a_3x3", padding="valid")
    return max_pool(x, 3, 2, "Pool2")


def mixed_5(net: Net, x: Tensor, pooled: int, name: str) -> Tensor:
    """Figure 5: a 5x5 window, and two 3x3 that see as far."""
    branches = [
        net.unit(x, 64, 1, f"{name}.branch1x1"),
        net.chain(x, [(48, 1), (64, 5)], f"{name}.branch5x5_", first=1),
        net.chain(x, [(64, 1), (96, 3), (96, 3)], f"{name}.branch3x3dbl_", first=1),
        average(net, x, pooled, name),
    ]
    return concatenate(branches, name)


def reduction_6(net: Net, x: Tensor, name: str) -> Tensor:
    y = net.chain(x, [(64, 1), (96, 3)], f"{name}.branch3x3dbl_", first=1)
    branches = [
        net.unit(x, 384, 3, f"{name}.branch3x3", 2, padding="valid"),
        net.unit(y, 96, 3, f"{name}.branch3x3dbl_3", 2, padding="valid"),
        max_pool(x, 3, 2, f"{name}.branch_pool"),
    ]
    return concatenate(branches, name)


def mixed_6(net: Net, x: Tensor, inner: int, name: str) -> Tensor:
    """Figure 6: 7x7 windows as rows and columns."""
    twice: list[tuple[int, int | tuple[int, int]]] = [
        (inner, 1),
        (inner, COLUMN),
        (inner, ROW),
        (inner, COLUMN),
        (192, ROW),
    ]
    branches = [
        net.unit(x, 192, 1, f"{name}.branch1x1"),
        net.chain(x, [(inner, 1), (inner, ROW), (192, COLUMN)], f"{name}.branch7x7_", first=1),
        net.chain(x, twice, f"{name}.branch7x7dbl_", first=1),
        average(net, x, 192, name),
    ]
    return concatenate(branches, name)


def reduction_7(net: Net, x: Tensor, name: str) -> Tensor:
    y = net.unit(x, 192, 1, f"{name}.branch3x3_1")
    z = net.chain(x, [(192, 1), (192, ROW), (192, COLUMN)], f"{name}.branch7x7x3_", first=1)
    branches = [
        net.unit(y, 320, 3, f"{name}.branch3x3_2", 2, padding="valid"),
        net.unit(z, 192, 3, f"{name}.branch7x7x3_4", 2, padding="valid"),
        max_pool(x, 3, 2, f"{name}.branch_pool"),
    ]
    return concatenate(branches, name)


def mixed_7(net: Net, x: Tensor, name: str) -> Tensor:
    """Figure 7: branches that part once more."""
    y = net.unit(x, 384, 1, f"{name}.branch3x3_1")
    z = net.chain(x, [(448, 1), (384, 3)], f"{name}.branch3x3dbl_", first=1)
    branches = [
        net.unit(x, 320, 1, f"{name}.branch1x1"),
        *parted(net, y, f"{name}.branch3x3_2"),
        *parted(net, z, f"{name}.branch3x3dbl_3"),
        average(net, x, 192, name),
    ]
    return concatenate(branches, name)


def parted(net: Net, x: Tensor, name: str) -> list[Tensor]:
    return [net.unit(x, 384, (1, 3), f"{name}a"), net.unit(x, 384, (3, 1), f"{name}b")]


def average(net: Net, x: Tensor, filters: int, name: str) -> Tensor:
    """TensorFlow leaves the border out of the mean, the reference counts its zeros."""
    x = average_around(x, f"{name}.average", count_border=net.padding == "torch")
    return net.unit(x, filters, 1, f"{name}.branch_pool")


def auxiliary(net: Net, x: Tensor, name: str) -> Tensor:
    """Section 4's second classifier, on the last map [N, 17, 17, 768] -> vectors [N, 768]."""
    x = layers.AveragePooling2D(5, 3, name=f"{name}.average")(x)
    x = net.unit(x, 128, 1, f"{name}.conv0")
    x = net.unit(x, 768, 5, f"{name}.conv1", padding="valid")
    return layers.GlobalAveragePooling2D(name=f"{name}.global_pool")(x)
