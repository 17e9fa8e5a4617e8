"""MetaFormer: PoolFormer, Yu et al., "MetaFormer is actually what you need for vision", arXiv 2111.11418;
PoolFormerV2, ConvFormer and CAFormer, Yu et al., "MetaFormer baselines for vision", arXiv 2210.13452.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor, map_norm
from zoo.layers import Affine, Attention, ChannelScale

HEAD_EPSILON = 1e-6
EXPANSION = 4
HEAD_WIDTH = 32  # channels of an attention head
SCALED = 2  # the first stage whose shortcuts are scaled
Norm = Callable[[Net, Tensor, str], Tensor]
Mixer = Callable[[Net, Tensor, str], Tensor]


def poolformer(
    net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int], layer_scale: float
) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, C]. layer_scale: at first."""
    x = first_layout(net, images, depths, widths, layer_scale, pooled)
    return head_norm(net.global_pool(x), "head.norm")


def first_layout(
    net: Net,
    images: Tensor,
    depths: Sequence[int],
    widths: Sequence[int],
    layer_scale: float,
    mixer: Mixer,
) -> Tensor:
    """The first paper's: norms over whole maps, scaled residuals."""
    x, done = stem(net, images, widths[0]), count()
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        if stage:
            x = net.conv(x, width, 3, f"stages.{stage}.downsample.conv", 2, bias=True)
        for i in range(depth):
            name, position = f"stages.{stage}.blocks.{i}", next(done) / (sum(depths) - 1)
            y = mixer(net, map_norm(net, x, f"{name}.norm1"), f"{name}.token_mixer")
            y = ChannelScale(layer_scale, name=f"{name}.layer_scale1")(y)
            x = net.add(x, y, f"{name}.1", position)
            y = mlp(net, map_norm(net, x, f"{name}.norm2"), f"{name}.mlp")
            y = ChannelScale(layer_scale, name=f"{name}.layer_scale2")(y)
            x = net.add(x, y, f"{name}.2", position)
    return x


def poolformerv2(net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, C]."""
    x = baseline(net, images, depths, widths, [pooled] * 4, partial(map_norm, center=False))
    return head_norm(net.global_pool(x), "head.norm")


def convformer(net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, 4 C]."""
    return hidden_layer(net, baseline(net, images, depths, widths, [separable] * 4, place_norm))


def caformer(net: Net, images: Tensor, *, depths: Sequence[int], widths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, 4 C]. Convolutions first, then attention."""
    mixers = [separable, separable, attention, attention]
    return hidden_layer(net, baseline(net, images, depths, widths, mixers, place_norm))


def hidden_layer(net: Net, x: Tensor) -> Tensor:
    """The classifier's, behind the pool."""
    x = head_norm(net.global_pool(x), "head.norm")
    x = squared_relu(net.linear(x, EXPANSION * x.shape[-1], "head.fc.fc1"), "head.fc.act")
    return head_norm(x, "head.fc.norm")


def baseline(
    net: Net,
    images: Tensor,
    depths: Sequence[int],
    widths: Sequence[int],
    mixers: Sequence[Mixer],
    norm: Norm,
) -> Tensor:
    """The second paper's layout: StarReLU, norms without an addend, scaled shortcuts in the last stages.
    mixers: one for each stage.
    """
    x, done = place_norm(net, stem(net, images, widths[0]), "stem.norm"), count()
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        if stage:
            name = f"stages.{stage}.downsample"
            x = net.conv(place_norm(net, x, f"{name}.norm"), width, 3, f"{name}.conv", 2, bias=True)
        mixer = mixers[stage]
        parts: list[tuple[Mixer, str]] = [
            (mixer, "token_mixer"),
            (dense_mlp if mixer is attention else star_mlp, "mlp"),
        ]
        for i in range(depth):
            name, position = f"stages.{stage}.blocks.{i}", next(done) / (sum(depths) - 1)
            for half, (part, called) in enumerate(parts, start=1):
                y = part(net, norm(net, x, f"{name}.norm{half}"), f"{name}.{called}")
                x = ChannelScale(1.0, name=f"{name}.res_scale{half}")(x) if stage >= SCALED else x
                x = net.add(x, y, f"{name}.{half}", position)
    return x


def stem(net: Net, images: Tensor, width: int) -> Tensor:
    x = layers.ZeroPadding2D(2, name="stem.pad")(images)
    return net.conv(x, width, 7, "stem.conv", 4, bias=True, padding="valid")


def pooled(net: Net, x: Tensor, name: str) -> Tensor:
    """How the mean of the neighbours differs from each place."""
    mean = layers.AveragePooling2D(3, 1, "same", name=f"{name}.pool")(x)
    return layers.Subtract(name=name)([mean, x])


def separable(net: Net, x: Tensor, name: str) -> Tensor:
    """MobileNetV2's inverted convolution, of 7x7 places."""
    y = star_relu(net.conv(x, 2 * x.shape[-1], 1, f"{name}.pwconv1"), f"{name}.act1")
    return net.conv(net.depthwise(y, 7, f"{name}.dwconv"), x.shape[-1], 1, f"{name}.pwconv2")


def attention(net: Net, x: Tensor, name: str) -> Tensor:
    channels = x.shape[-1]
    y = net.linear(x, 3 * channels, f"{name}.qkv", bias=False)
    y = Attention(channels // HEAD_WIDTH, name=f"{name}.attention")(y)
    return net.linear(y, channels, f"{name}.proj", bias=False)


def mlp(net: Net, x: Tensor, name: str) -> Tensor:
    y = net.conv(x, EXPANSION * x.shape[-1], 1, f"{name}.fc1", bias=True)
    y = layers.Activation("gelu", name=f"{name}.act")(y)
    return net.conv(y, x.shape[-1], 1, f"{name}.fc2", bias=True)


def star_mlp(net: Net, x: Tensor, name: str) -> Tensor:
    y = star_relu(net.conv(x, EXPANSION * x.shape[-1], 1, f"{name}.fc1"), f"{name}.act")
    return net.conv(y, x.shape[-1], 1, f"{name}.fc2")


def dense_mlp(net: Net, x: Tensor, name: str) -> Tensor:
    """The same as linear layers, as the reference has them beside attention."""
    y = net.linear(x, EXPANSION * x.shape[-1], f"{name}.fc1", bias=False)
    return net.linear(star_relu(y, f"{name}.act"), x.shape[-1], f"{name}.fc2", bias=False)


def star_relu(x: Tensor, name: str) -> Tensor:
    """Learned factor and addend, at first such that a normal variable keeps its mean 0 and variance 1."""
    return Affine(0.8944, -0.4472, name=name)(squared_relu(x, f"{name}.squared"))


def squared_relu(x: Tensor, name: str) -> Tensor:
    x = layers.Activation("relu", name=f"{name}.relu")(x)
    return layers.Multiply(name=name)([x, x])


def place_norm(net: Net, x: Tensor, name: str) -> Tensor:
    return layers.LayerNormalization(epsilon=net.epsilon, center=False, name=name)(x)


def head_norm(x: Tensor, name: str) -> Tensor:
    return layers.LayerNormalization(epsilon=HEAD_EPSILON, name=name)(x)
