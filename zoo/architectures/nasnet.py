"""NASNet-A. Zoph et al., "Learning transferable architectures for scalable image recognition", arXiv
1707.07012.

Two searched cells, stacked: a normal one, and one that halves the map. A cell joins what the two cells before
it made: x, and the older `left`.
"""

from keras import layers

from zoo.blocks import Net, Tensor, average_around
from zoo.layers import HalvingBorder


def nasnet(
    net: Net, images: Tensor, *, stem: int, width: int, cells: int, skip: bool, zero_border: bool = False
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 24 * width].

    cells: normal ones before, between and after the two reductions. skip: the cell behind a reduction sees
    one cell further back. zero_border: a reduction's max pools see zeros beyond the map, as in
    keras.applications.
    """
    left = net.norm(net.conv(images, stem, 3, "conv0.conv", 2, padding="valid"), "conv0.bn")
    right = activated_conv(net, left, width // 4, "cell_stem_0.conv_1x1")
    x = reduction(net, left, right, "cell_stem_0", zero_border)
    pair = inputs(net, left, x, width // 2, True, "cell_stem_1")
    left, x = x, reduction(net, *pair, "cell_stem_1", zero_border)
    for stage in range(3):
        if stage:
            name = f"reduction_cell_{stage - 1}"
            pair = inputs(net, left, x, width * 2**stage, False, name)
            left, x = left if skip else x, reduction(net, *pair, name, zero_border)
        for i in range(cells * stage, cells * (stage + 1)):
            name = f"cell_{i}"
            first = i == cells * stage
            left, x = x, normal(net, *inputs(net, left, x, width * 2**stage, first, name), name)
    return net.act(x, "act")


def inputs(net: Net, left: Tensor, x: Tensor, filters: int, halved: bool, name: str) -> tuple[Tensor, Tensor]:
    """The older input and the newer one, with `filters` channels, and with the sides of the newer, which are
    half of the older's where it was halved.
    """
    if halved:
        left = factorised(net, left, filters, name)
    else:
        left = activated_conv(net, left, filters, f"{name}.conv_prev_1x1")
    return left, activated_conv(net, x, filters, f"{name}.conv_1x1")


def normal(net: Net, left: Tensor, right: Tensor, name: str) -> Tensor:
    """Figure 4 of the paper, left."""
    pairs = (
        (
            separable(net, right, 5, f"{name}.comb_iter_0_left"),
            separable(net, left, 3, f"{name}.comb_iter_0_right"),
        ),
        (
            separable(net, left, 5, f"{name}.comb_iter_1_left"),
            separable(net, left, 3, f"{name}.comb_iter_1_right"),
        ),
        (average_around(right, f"{name}.comb_iter_2_left"), left),
        (average_around(left, f"{name}.comb_iter_3_left"), average_around(left, f"{name}.comb_iter_3_right")),
        (separable(net, right, 3, f"{name}.comb_iter_4_left"), right),
    )
    sums = [layers.Add(name=f"{name}.comb_iter_{i}")(pair) for i, pair in enumerate(pairs)]
    return layers.Concatenate(name=f"{name}.cat")([left, *sums])


def reduction(net: Net, left: Tensor, right: Tensor, name: str, zero_border: bool) -> Tensor:
    """Figure 4 of the paper, right."""
    part, filters = f"{name}.comb_iter", right.shape[-1]
    bordered = HalvingBorder(name=f"{name}.border")(right)
    average = layers.AveragePooling2D(3, 2, name=f"{part}_2_left")(bordered)
    if zero_border:
        largest = layers.MaxPooling2D(3, 2, name=f"{part}_1_left")(bordered)
    else:
        largest = layers.MaxPooling2D(3, 2, "same", name=f"{part}_1_left")(right)
    first = add(
        f"{part}_0",
        separable(net, right, 5, f"{part}_0_left", 2),
        separable(net, left, 7, f"{part}_0_right", 2, filters),
    )
    sums = [
        add(f"{part}_1", largest, separable(net, left, 7, f"{part}_1_right", 2, filters)),
        add(f"{part}_2", average, separable(net, left, 5, f"{part}_2_right", 2, filters)),
    ]
    sums.append(add(f"{part}_3", average_around(first, f"{part}_3_right"), sums[0]))
    sums.append(add(f"{part}_4", separable(net, first, 3, f"{part}_4_left"), largest))
    return layers.Concatenate(name=f"{name}.cat")(sums)


def add(name: str, *maps: Tensor) -> Tensor:
    return layers.Add(name=name)(maps)


def activated_conv(net: Net, x: Tensor, filters: int, name: str, stride: int = 1) -> Tensor:
    x = net.conv(net.act(x, f"{name}.act"), filters, 1, f"{name}.conv", stride)
    return net.norm(x, f"{name}.bn")


def separable(
    net: Net, x: Tensor, kernel: int, name: str, stride: int = 1, filters: int | None = None
) -> Tensor:
    """Twice: activate, convolve by depth and by point, normalise. The first carries the stride."""
    filters = filters or x.shape[-1]
    for i, step in ((1, stride), (2, 1)):
        x = net.act(x, f"{name}.act_{i}")
        x = net.depthwise(x, kernel, f"{name}.separable_{i}.depthwise_conv2d", step)
        x = net.conv(x, filters, 1, f"{name}.separable_{i}.pointwise_conv2d")
        x = net.norm(x, f"{name}.bn_sep_{i}")
    return x


def factorised(net: Net, x: Tensor, filters: int, name: str) -> Tensor:
    """Half the size without a blind spot: every other pixel, and beside it those one down and right."""
    x = net.act(x, f"{name}.act")
    y = layers.Cropping2D(((1, 0), (1, 0)), name=f"{name}.path_2.shift")(x)
    y = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}.path_2.pad")(y)
    paths = []
    for path, maps in ((f"{name}.path_1", x), (f"{name}.path_2", y)):
        maps = layers.MaxPooling2D(1, 2, name=f"{path}.every_other")(maps)
        paths.append(net.conv(maps, filters // 2, 1, f"{path}.conv"))
    return net.norm(layers.Concatenate(name=f"{name}.paths")(paths), f"{name}.final_path_bn")
