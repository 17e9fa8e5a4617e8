"""CLIP's ResNets. Radford et al., "Learning transferable visual models from natural language supervision",
arXiv 2103.00020, section 2.4: a stem of three convolutions, means instead of strides, and attention in place
of the pool. They learned from pictures and their captions and know no classes: what is wanted is their
features, or the vectors that stand near those of the captions. Layers are named as timm's.
"""

from collections.abc import Sequence

from keras import initializers, layers

from zoo.architectures.gernet import stages
from zoo.architectures.resnet_tiered import tiered_stem
from zoo.blocks import Net, Tensor, smoothed, whole_steps
from zoo.layers import FirstTokenAttention, Tokens

HEAD_WIDTH = 64  # channels of an attention head


def clip(net: Net, images: Tensor, *, depths: Sequence[int], width: int) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 32 * width]; sides are multiples of 32.
    width: the stem's, a quarter of the first stage's.
    """
    images = whole_steps(images, 32)
    x = tiered_stem(net, images, last_stride=1, widths=(width // 2, width // 2, width))
    x = layers.AveragePooling2D(2, name="stem.pool")(x)
    widths = [4 * width * 2**stage for stage in range(4)]
    return stages(net, x, depths, widths, (1, 2, 2, 2), [bottleneck] * 4)


def clip_embedded(
    net: Net, images: Tensor, *, depths: Sequence[int], width: int, grid: int, units: int
) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, units], beside those of captions. grid: the sides of the
    last map that the places' addends were learned for; those of other sizes are resampled from them.
    """
    return attention_pool(net, clip(net, images, depths=depths, width=width), grid, units)


def attention_pool(net: Net, x: Tensor, grid: int, units: int) -> Tensor:
    """Every place's vector, weighed by how much the mean of all attends to it."""
    channels = x.shape[-1]
    mean, tokens = Tokens(grid, name="head")(x)
    inputs = [projected(mean, "head.q"), projected(tokens, "head.k"), projected(tokens, "head.v")]
    x = FirstTokenAttention(channels // HEAD_WIDTH, name="head.attention")(inputs)
    return net.linear(x, units, "head.proj")


def projected(x: Tensor, name: str) -> Tensor:
    """Fresh kernels are as small as the reference's: queries and keys are multiplied with each other."""
    start = initializers.RandomNormal(stddev=x.shape[-1] ** -0.5)
    return layers.Dense(x.shape[-1], kernel_initializer=start, name=name)(x)


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
