"""ShuffleNet. Zhang et al., "An extremely efficient convolutional neural network for mobile devices", arXiv
1707.01083. As the authors released it: the shuffle follows the depthwise convolution (in the paper it comes
before), deals in the inverse order, and the classifier has no bias.
"""

from keras import layers

from zoo.blocks import Net, Tensor, max_pool, shuffle

DEPTHS = (4, 8, 4)


def shufflenetv1(net: Net, images: Tensor, *, groups: int, stem: int, width: int) -> Tensor:
    """Images, normalised -> feature map [N, H/32, W/32, 4 * width]; width is the first stage's."""
    x = net.conv_norm_act(images, stem, 3, "first_conv.0", "first_conv.1", stride=2)
    x = max_pool(x, 3, 2, "maxpool", pad=1)
    number = 0
    for stage, depth in enumerate(DEPTHS):
        for i in range(depth):
            # The stem is too thin for groups.
            first = 1 if number == 0 else groups
            join = downsample if i == 0 else residual
            x = join(net, x, width * 2**stage, groups, first, f"features.{number}")
            number += 1
    return x


def residual(net: Net, x: Tensor, width: int, groups: int, first: int, name: str) -> Tensor:
    y = bottleneck(net, x, width // 4, width, groups, first, 1, name)
    return net.act(layers.Add(name=f"{name}.add")([x, y]), f"{name}.act")


def downsample(net: Net, x: Tensor, width: int, groups: int, first: int, name: str) -> Tensor:
    """The shortcut is averaged, zeros at the border counted, and stands before the new channels."""
    y = bottleneck(net, x, width // 4, width - x.shape[-1], groups, first, 2, name)
    y = net.act(y, f"{name}.act")
    x = layers.ZeroPadding2D(1, name=f"{name}.branch_proj.pad")(x)
    x = layers.AveragePooling2D(3, 2, name=f"{name}.branch_proj")(x)
    return layers.Concatenate(name=f"{name}.concat")([x, y])


def bottleneck(
    net: Net, x: Tensor, inner: int, outer: int, groups: int, first: int, stride: int, name: str
) -> Tensor:
    """Pointwise in groups, depthwise, shuffle, pointwise in groups."""
    x = net.conv(x, inner, 1, f"{name}.branch_main_1.0", groups=first)
    x = net.norm_act(x, f"{name}.branch_main_1.1")
    x = net.norm(net.depthwise(x, 3, f"{name}.branch_main_1.3", stride), f"{name}.branch_main_1.4")
    x = shuffle(x, inner // groups, f"{name}.shuffle") if groups > 1 else x
    return net.norm(
        net.conv(x, outer, 1, f"{name}.branch_main_2.0", groups=groups), f"{name}.branch_main_2.1"
    )
