"""ShuffleNet. Zhang et al., "An extremely efficient convolutional neural network for mobile devices", arXiv
1707.01083. In the paper the shuffle comes before the depthwise convolution. As the authors released it, it
follows it, deals in the inverse order, and the classifier has no bias.
"""

from dataclasses import dataclass

from keras import layers

from zoo.blocks import Net, Tensor, max_pool, shuffle

DEPTHS = (4, 8, 4)


@dataclass(frozen=True)
class Form:
    """Of the pointwise convolutions: their groups, and whether channels are shuffled as in the release."""

    groups: int
    released: bool


def shufflenetv1(
    net: Net, images: Tensor, *, groups: int, stem: int, width: int, released: bool = True
) -> Tensor:
    """Images, normalised -> feature map [N, H/32, W/32, 4 * width]; width is the first stage's. released: as
    the authors released it, else as in the paper.
    """
    x = net.conv_norm_act(images, stem, 3, "first_conv.0", "first_conv.1", stride=2)
    x = max_pool(x, 3, 2, "maxpool", pad=1)
    form, number = Form(groups, released), 0
    for stage, depth in enumerate(DEPTHS):
        for i in range(depth):
            # The stem is too thin for groups.
            first = 1 if number == 0 else groups
            join = downsample if i == 0 else residual
            x = join(net, x, width * 2**stage, form, first, f"features.{number}")
            number += 1
    return x


def residual(net: Net, x: Tensor, width: int, form: Form, first: int, name: str) -> Tensor:
    y = bottleneck(net, x, width // 4, width, form, first, 1, name)
    return net.act(layers.Add(name=f"{name}.add")([x, y]), f"{name}.act")


def downsample(net: Net, x: Tensor, width: int, form: Form, first: int, name: str) -> Tensor:
    """The shortcut is averaged, zeros at the border counted; in the release it stands before the new
    channels.
    """
    y = bottleneck(net, x, width // 4, width - x.shape[-1], form, first, 2, name)
    y = net.act(y, f"{name}.act")
    x = layers.ZeroPadding2D(1, name=f"{name}.branch_proj.pad")(x)
    x = layers.AveragePooling2D(3, 2, name=f"{name}.branch_proj")(x)
    return layers.Concatenate(name=f"{name}.concat")([x, y] if form.released else [y, x])


def bottleneck(
    net: Net, x: Tensor, inner: int, outer: int, form: Form, first: int, stride: int, name: str
) -> Tensor:
    """Pointwise in groups, depthwise, pointwise in groups, and the shuffle before or behind the second."""
    groups = form.groups
    x = net.conv(x, inner, 1, f"{name}.branch_main_1.0", groups=first)
    x = net.norm_act(x, f"{name}.branch_main_1.1")
    if groups > 1 and not form.released:
        x = shuffle(x, groups, f"{name}.shuffle")
    x = net.norm(net.depthwise(x, 3, f"{name}.branch_main_1.3", stride), f"{name}.branch_main_1.4")
    if groups > 1 and form.released:
        x = shuffle(x, inner // groups, f"{name}.shuffle")
    return net.norm(
        net.conv(x, outer, 1, f"{name}.branch_main_2.0", groups=groups), f"{name}.branch_main_2.1"
    )
