"""CLIP's ResNets. Radford et al., "Learning transferable visual models from natural language supervision",
arXiv 2103.00020, section 2.4: a stem of three convolutions, and means instead of strides. They learned from
pictures and their captions and know no classes: what is wanted is their features. Layers are named as
timm's.
"""

from collections.abc import Sequence

from keras import layers

from zoo.architectures.gernet import stages
from zoo.architectures.resnet_tiered import tiered_stem
from zoo.blocks import Net, Tensor, require_multiple, smoothed


def clip(net: Net, images: Tensor, *, depths: Sequence[int], width: int) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 32 * width]; sides are multiples of 32.
    width: the stem's, a quarter of the first stage's.
    """
    require_multiple(images, 32)
    x = tiered_stem(net, images, last_stride=1, widths=(width // 2, width // 2, width))
    x = layers.AveragePooling2D(2, name="stem.pool")(x)
    widths = [4 * width * 2**stage for stage in range(4)]
    return stages(net, x, depths, widths, (1, 2, 2, 2), [bottleneck] * 4)


def bottleneck(net: Net, x: Tensor, width: int, stride: int, name: str, position: float) -> Tensor:
    """The map is halved behind the 3x3 convolution, and in the shortcut in front of its projection."""
    y = net.unit(x, width // 4, 1, f"{name}.conv1_1x1")
    y = net.unit(y, width // 4, 3, f"{name}.conv2_kxk")
    y = smoothed(y, "average", stride, f"{name}.conv2_kxk.aa")
    y = net.conv_norm(y, width, 1, f"{name}.conv3_1x1.conv", f"{name}.conv3_1x1.bn")
    if stride > 1 or x.shape[-1] != width:
        x = smoothed(x, "average", stride, f"{name}.shortcut.pool")
        x = net.conv_norm(x, width, 1, f"{name}.shortcut.conv.conv", f"{name}.shortcut.conv.bn")
    return net.act(net.add(x, y, name, position), f"{name}.act")
