"""PolyNet. Zhang et al., "PolyNet: a pursuit of structural diversity in very deep networks", arXiv
1611.05725: Inception-ResNet's blocks as terms of a polynomial. "2-way" adds two blocks side by side, "poly-3"
the first three powers of one, whose convolutions share their kernels.
"""

from collections.abc import Iterator, Sequence

from keras import layers

from zoo.blocks import Net, Tensor, concatenate, max_pool
from zoo.initializers import QuickHeUniform

Kernel = int | tuple[int, int]
Units = Sequence[tuple[int, Kernel]]  # (filters, kernel) of a branch's convolutions
Branches = Sequence[Units]

BLOCK_A: Branches = (((32, 1), (48, 3), (64, 3)), ((32, 1), (32, 3)), ((32, 1),))
BLOCK_B: Branches = (((128, 1), (160, (1, 7)), (192, (7, 1))), ((192, 1),))
BLOCK_C: Branches = (((192, 1), (224, (1, 3)), (256, (3, 1))), ((192, 1),))
STEM_4A: Branches = (((64, 1), (96, 3)), ((64, 1), (64, (7, 1)), (64, (1, 7)), (96, 3)))
REDUCTION_A: Branches = (((256, 1), (256, 3), (384, 3)), ((384, 3),))
REDUCTION_B: Branches = (((256, 1), (256, 3), (256, 3)), ((256, 1), (256, 3)), ((256, 1), (384, 3)))


def polynet(net: Net, images: Tensor) -> Tensor:
    """Very deep PolyNet. Images [N, H, W, 3], normalised -> feature map [N, about H/32, W/32, 2048]."""
    scales = iter(1 - k / 130 for k in range(40))
    x = stem(net, images, "features.init_block")
    for i in range(1, 11):
        x = two_way(net, x, BLOCK_A, next(scales), f"features.stage1.unit{i}.twoway")
    x = reduction(net, x, REDUCTION_A, "features.stage2.unit1")
    x = poly_and_two_way(net, x, BLOCK_B, 10, scales, "features.stage2")
    x = reduction(net, x, REDUCTION_B, "features.stage3.unit1")
    return poly_and_two_way(net, x, BLOCK_C, 5, scales, "features.stage3")


def stem(net: Net, x: Tensor, name: str) -> Tensor:
    x = net.unit(x, 32, 3, f"{name}.conv1", 2, padding="valid")
    x = net.unit(x, 32, 3, f"{name}.conv2", padding="valid")
    x = net.unit(x, 64, 3, f"{name}.conv3")
    x = pooled_and_convolved(net, x, 96, f"{name}.block1")
    parts = [
        net.chain(x, units, f"{name}.block2.branches.branch{i}.conv_list.conv", 1, padding="valid")
        for i, units in enumerate(STEM_4A, start=1)
    ]
    return pooled_and_convolved(net, concatenate(parts, f"{name}.block2"), 192, f"{name}.block3")


def pooled_and_convolved(net: Net, x: Tensor, filters: int, name: str) -> Tensor:
    y = net.unit(x, filters, 3, f"{name}.branches.branch2.conv", 2, padding="valid")
    return concatenate([max_pool(x, 3, 2, f"{name}.branches.branch1.pool"), y], name)


def reduction(net: Net, x: Tensor, branches: Branches, name: str) -> Tensor:
    parts = [
        net.chain(x, units, f"{name}.branches.branch{i}.conv_list.conv", 1, stride=2, padding="valid")
        for i, units in enumerate(branches, start=1)
    ]
    return concatenate([*parts, max_pool(x, 3, 2, f"{name}.pool")], name)


def poly_and_two_way(
    net: Net, x: Tensor, block: Branches, depth: int, scales: Iterator[float], name: str
) -> Tensor:
    for i in range(2, depth + 2):
        x = poly_3(net, x, block, next(scales), f"{name}.unit{i}.poly")
        x = two_way(net, x, block, next(scales), f"{name}.unit{i}.twoway")
    return x


def two_way(net: Net, x: Tensor, block: Branches, scale: float, name: str) -> Tensor:
    """I + F + G: figure 3d."""
    out = x
    for way in range(2):
        path = f"{name}.res_blocks.{way}"
        parts = [
            net.chain(x, units, f"{path}.branches.branch{i}.conv_list.conv", 1)
            if len(units) > 1
            else net.unit(x, *units[0], f"{path}.branches.branch{i}.conv")
            for i, units in enumerate(block, start=1)
        ]
        y = concatenate(parts, path)
        y = net.conv_norm(y, x.shape[-1], 1, f"{path}.conv.conv", f"{path}.conv.bn")
        out = scaled_sum(out, y, scale, path)
    return net.act(out, f"{name}.act")


def poly_3(net: Net, x: Tensor, block: Branches, scale: float, name: str) -> Tensor:
    """I + F + F^2 + F^3: figure 3a. The powers have norms and last convolutions of their own."""
    shared = [
        shared_convolutions(units, f"{name}.pre_block.branches.branch{i}") for i, units in enumerate(block, 1)
    ]
    out = y = x
    for power in range(3):
        path = f"{name}.res_blocks.{power}"
        parts = [apply_shared(net, y, convolutions, power) for convolutions in shared]
        y = net.conv_norm(concatenate(parts, path), x.shape[-1], 1, f"{path}.conv", f"{path}.bn")
        out = scaled_sum(out, y, scale, path)
        y = net.act(y, f"{path}.act")
    return net.act(out, f"{name}.act")


def shared_convolutions(units: Units, name: str) -> list[layers.Conv2D]:
    names = [f"{name}.conv_list.conv{i}" for i in range(1, len(units) + 1)] if len(units) > 1 else [name]
    return [
        layers.Conv2D(
            filters,
            kernel,
            padding="same",
            use_bias=False,
            kernel_initializer=QuickHeUniform(),
            name=f"{unit}.conv",
        )
        for unit, (filters, kernel) in zip(names, units, strict=True)
    ]


def apply_shared(net: Net, x: Tensor, convolutions: list[layers.Conv2D], power: int) -> Tensor:
    for convolution in convolutions:
        x = net.norm_act(convolution(x), f"{convolution.name.removesuffix('.conv')}.bns.{power}")
    return x


def scaled_sum(x: Tensor, y: Tensor, scale: float, name: str) -> Tensor:
    return layers.Add(name=f"{name}.add")([x, layers.Rescaling(scale, name=f"{name}.scale")(y)])
