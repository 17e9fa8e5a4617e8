"""PNASNet-5. Liu et al., "Progressive neural architecture search", arXiv 1712.00559.

One searched cell, which halves the map where its strides are 2. A cell joins what the two cells before it
made: x, and the older `left`.
"""

from keras import layers

from zoo.architectures.nasnet import activated_conv, add, factorised, separable
from zoo.blocks import Net, Tensor


def pnasnet(net: Net, images: Tensor, *, stem: int, width: int, cells: int) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 20 * width].

    cells: in each of the three stages, of which all but the first begin with a strided one.
    """
    left = net.norm(net.conv(images, stem, 3, "conv_0.conv", 2, padding="valid"), "conv_0.bn")
    right = activated_conv(net, left, width // 4, "cell_stem_0.conv_1x1")
    x = cell(net, left, right, 2, "cell_stem_0")
    left, x = x, cell(net, *inputs(net, left, x, width // 2, True, "cell_stem_1"), 2, "cell_stem_1")
    halved = True
    for i in range(3 * cells):
        stage = i // cells
        stride, name = 2 if stage and i % cells == 0 else 1, f"cell_{i}"
        left, x = x, cell(net, *inputs(net, left, x, width * 2**stage, halved, name), stride, name)
        halved = stride == 2
    return net.act(x, "act")


def inputs(net: Net, left: Tensor, x: Tensor, filters: int, halved: bool, name: str) -> tuple[Tensor, Tensor]:
    """The older input and the newer one, with `filters` channels, and with the sides of the newer, which are
    half of the older's where it was halved.
    """
    adjust = factorised if halved else activated_conv
    left = adjust(net, left, filters, f"{name}.conv_prev_1x1")
    return left, activated_conv(net, x, filters, f"{name}.conv_1x1")


def cell(net: Net, left: Tensor, right: Tensor, stride: int, name: str) -> Tensor:
    """Figure 1 of the paper, left."""
    part, filters = f"{name}.comb_iter", right.shape[-1]
    seen = pool(left, stride, f"{part}_0_right")
    if left.shape[-1] != filters:
        seen = net.norm(net.conv(seen, filters, 1, f"{part}_0_right.conv"), f"{part}_0_right.bn")
    largest = pool(right, stride, f"{part}_1_right")
    sums = [
        add(f"{part}_0", separable(net, left, 5, f"{part}_0_left", stride, filters), seen),
        add(f"{part}_1", separable(net, right, 7, f"{part}_1_left", stride), largest),
        add(
            f"{part}_2",
            separable(net, right, 5, f"{part}_2_left", stride),
            separable(net, right, 3, f"{part}_2_right", stride),
        ),
    ]
    sums.append(add(f"{part}_3", separable(net, sums[2], 3, f"{part}_3_left"), largest))
    same = right if stride == 1 else activated_conv(net, right, filters, f"{part}_4_right", stride)
    sums.append(add(f"{part}_4", separable(net, left, 3, f"{part}_4_left", stride, filters), same))
    return layers.Concatenate(name=f"{name}.cat")(sums)


def pool(x: Tensor, stride: int, name: str) -> Tensor:
    return layers.MaxPooling2D(3, stride, "same", name=f"{name}.max_pool")(x)
