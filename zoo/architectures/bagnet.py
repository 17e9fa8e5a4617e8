"""BagNet. Brendel and Bethge, "Approximating CNNs with bag-of-local-features models works surprisingly well
on ImageNet", arXiv 1904.00760: a ResNet-50 with so few 3x3 windows that a place of its last map sees a patch
of 9, 17 or 33 pixels; the picture's logits are the mean of its patches'.
"""

from collections.abc import Sequence

from keras import layers

from zoo.blocks import Net, Tensor

DEPTHS = (3, 4, 6, 3)
STRIDES = (2, 2, 2, 1)


def bagnet(net: Net, images: Tensor, *, windows: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, about H/8, W/8, 2048]. windows: in each stage, how
    many blocks have a 3x3 convolution in the middle, the rest 1x1.
    """
    x = net.conv(images, 64, 1, "features.init_block.conv1")
    x = net.unit(x, 64, 3, "features.init_block.conv2", padding="valid")
    for stage, depth in enumerate(DEPTHS):
        for i in range(depth):
            kernel = 3 if i < windows[stage] else 1
            stride = STRIDES[stage] if i == 0 else 1
            name = f"features.stage{stage + 1}.unit{i + 1}"
            x = residual(net, x, 64 * 2**stage, kernel, stride, name)
    return x


def residual(net: Net, x: Tensor, planes: int, kernel: int, stride: int, name: str) -> Tensor:
    """Nothing is padded: a window trims the map, and the shortcut with it."""
    y = net.unit(x, planes, 1, f"{name}.body.conv1")
    y = net.unit(y, planes, kernel, f"{name}.body.conv2", stride, padding="valid")
    y = net.conv_norm(y, 4 * planes, 1, f"{name}.body.conv3.conv", f"{name}.body.conv3.bn")
    if stride > 1 or x.shape[-1] != y.shape[-1]:
        conv = f"{name}.identity_conv"
        x = net.conv_norm(x, y.shape[-1], 1, f"{conv}.conv", f"{conv}.bn", stride)
    trimmed = (kernel - 1) // stride
    x = layers.Cropping2D(((0, trimmed), (0, trimmed)), name=f"{name}.crop")(x) if trimmed else x
    return net.act(layers.Add(name=f"{name}.add")([x, y]), f"{name}.act")
