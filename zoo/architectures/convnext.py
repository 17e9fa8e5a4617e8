"""ConvNeXt. Liu et al., "A ConvNet for the 2020s", arXiv 2201.03545; V2: Woo et al., "Co-designing and
scaling ConvNets with masked autoencoders", arXiv 2301.00808. Zepto is timm's, whose norms leave the mean.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from keras import layers

from zoo.blocks import NORMS, LayerNet, Net, Tensor
from zoo.layers import ResponseNormalization, Scale

Block = Callable[[Net, Tensor, str], Tensor]


def convnext(
    net: Net,
    images: Tensor,
    *,
    depths: Sequence[int],
    width: int,
    mlp: str = "linear",
    overlap: Sequence[int] = (),
    hidden: int = 0,
    norm_first: bool = False,
    norm: str = "layer",
    overlap_activated: bool = False,
) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, 8 * width].

    mlp: "linear" or "conv", how the reference keeps the two linear layers of a block. overlap: the widths of
    two 3x3 convolutions for a stem, in place of one that cuts patches; overlap_activated: with an activation
    between them. The head's norm is behind the pool, or with norm_first before it; `hidden` is the width of
    one more layer, 0 for none. norm: a key of zoo.blocks.NORMS.
    """
    net = NORMS[norm](**vars(net))
    if overlap:
        x = stem_overlapping(net, images, overlap, activated=overlap_activated)
    else:
        x = stem(net, images, width)
    x = stages(net, x, depths, partial(block, pointwise=POINTWISE[mlp]))
    if norm_first:
        return net.global_pool(net.norm(x, "norm_pre"))
    x = net.norm(net.global_pool(x), "head.norm")
    if not hidden:
        return x
    return layers.Activation("gelu", name="head.pre_logits.act")(net.linear(x, hidden, "head.pre_logits.fc"))


def convnextv2(net: Net, images: Tensor, *, depths: Sequence[int], width: int, mlp: str = "linear") -> Tensor:
    """V2: response normalisation instead of layer scale."""
    net = LayerNet(**vars(net))
    x = stages(net, stem(net, images, width), depths, partial(block_v2, pointwise=POINTWISE[mlp]))
    return net.norm(net.global_pool(x), "head.norm")


def stem(net: Net, images: Tensor, width: int) -> Tensor:
    return net.norm(net.conv(images, width, 4, "stem.0", 4, bias=True, padding="valid"), "stem.1")


def stem_overlapping(net: Net, x: Tensor, widths: Sequence[int], *, activated: bool) -> Tensor:
    first, second = widths
    number = count()
    x = net.conv(x, first, 3, f"stem.{next(number)}", 2, bias=True)
    if activated:
        x = layers.Activation("gelu", name=f"stem.{next(number)}")(x)
    x = net.conv(x, second, 3, f"stem.{next(number)}", 2, bias=True)
    return net.norm(x, f"stem.{next(number)}")


def stages(net: Net, x: Tensor, depths: Sequence[int], residual: Block) -> Tensor:
    """Each but the first halves the map and doubles the channels."""
    done = count()
    for stage, depth in enumerate(depths):
        if stage > 0:
            x = downsample(net, x, 2 * x.shape[-1], f"stages.{stage}.downsample")
        for i in range(depth):
            name = f"stages.{stage}.blocks.{i}"
            x = net.add(x, residual(net, x, name), name, position=next(done) / (sum(depths) - 1))
    return x


def downsample(net: Net, x: Tensor, width: int, name: str) -> Tensor:
    return net.conv(net.norm(x, f"{name}.0"), width, 2, f"{name}.1", 2, bias=True, padding="valid")


def block(net: Net, x: Tensor, name: str, pointwise: Callable[..., Tensor]) -> Tensor:
    """An inverted bottleneck, like a transformer's: mix places, then channels."""
    return mix_channels(net, mix_places(net, x, name), name, pointwise)


def block_v2(net: Net, x: Tensor, name: str, pointwise: Callable[..., Tensor]) -> Tensor:
    channels = x.shape[-1]
    x = pointwise(net, mix_places(net, x, name), 4 * channels, f"{name}.mlp.fc1")
    x = layers.Activation("gelu", name=f"{name}.mlp.act")(x)
    x = ResponseNormalization(name=f"{name}.mlp.grn")(x)
    return pointwise(net, x, channels, f"{name}.mlp.fc2")


def mix_places(net: Net, x: Tensor, name: str) -> Tensor:
    return net.norm(net.depthwise(x, 7, f"{name}.conv_dw", bias=True), f"{name}.norm")


def mix_channels(net: Net, x: Tensor, name: str, pointwise: Callable[..., Tensor] = Net.linear) -> Tensor:
    channels = x.shape[-1]
    x = pointwise(net, x, 4 * channels, f"{name}.mlp.fc1")
    x = layers.Activation("gelu", name=f"{name}.mlp.act")(x)
    return Scale(name=name)(pointwise(net, x, channels, f"{name}.mlp.fc2"))


def pointwise_conv(net: Net, x: Tensor, channels: int, name: str) -> Tensor:
    return net.conv(x, channels, 1, name, bias=True)


POINTWISE: dict[str, Callable[..., Tensor]] = {"linear": Net.linear, "conv": pointwise_conv}
