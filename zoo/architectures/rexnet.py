"""ReXNet. Han et al., "Rethinking channel dimensions for efficient model design", arXiv 2007.00992."""

from dataclasses import replace

from keras import layers

from zoo.blocks import Net, Tensor, pad_channels, round_channels

# Repeats, stride.
STAGES = [(1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (5, 2)]
FIRST, GROWTH = 16, 180


def rexnet(net: Net, images: Tensor, *, width: float, divisor: int = 1) -> Tensor:
    """Channels grow by the same amount with every block, in multiples of the divisor. Images, normalised ->
    map [N, H/32, W/32, C].
    """
    net = replace(net, activation="silu")
    x = net.unit(images, round_channels(round(32 * width), divisor), 3, "stem", stride=2)
    blocks = [
        (stage, stride if i == 0 else 1) for stage, (depth, stride) in enumerate(STAGES) for i in range(depth)
    ]
    for number, (stage, stride) in enumerate(blocks):
        channels = round_channels(round((FIRST + number * GROWTH / len(blocks)) * width), divisor)
        y = linear_bottleneck(net, x, channels, stage, stride, f"features.{number}", divisor)
        joins = stride == 1 and x.shape[-1] <= channels
        x = join(net, x, y, f"features.{number}", number / (len(blocks) - 1)) if joins else y
    return net.unit(x, round_channels(int(1280 * width), divisor), 1, f"features.{len(blocks)}")


def linear_bottleneck(
    net: Net, x: Tensor, channels: int, stage: int, stride: int, name: str, divisor: int
) -> Tensor:
    """Expand with SiLU, depthwise, attention from the third stage on, ReLU6, linear projection."""
    if stage > 0:
        x = net.unit(x, round_channels(6 * x.shape[-1], divisor), 1, f"{name}.conv_exp")
    x = net.norm(net.depthwise(x, 3, f"{name}.conv_dw.conv", stride), f"{name}.conv_dw.bn")
    if stage > 1:
        squeezed = round_channels(x.shape[-1] // 12, divisor)
        x = net.squeeze_excite(x, squeezed, f"{name}.se", ("fc1", "fc2"), activation="relu", norm="bn")
    x = layers.Activation("relu6", name=f"{name}.act_dw")(x)
    return net.conv_norm(x, channels, 1, f"{name}.conv_pwl.conv", f"{name}.conv_pwl.bn")


def join(net: Net, x: Tensor, y: Tensor, name: str, position: float) -> Tensor:
    """The block has more channels than its input: the input is added to the first of them."""
    return net.add(pad_channels(x, y.shape[-1], f"{name}.pad"), y, name, position)
