"""PP-HGNet, PaddlePaddle's networks for GPUs, known by their release in PaddleClas; V2 is the backbone of
RT-DETR. Zhao et al., "DETRs beat YOLOs on real-time object detection", arXiv 2304.08069.

As VoVNet's, a block joins all maps of its chain at the end.
"""

from collections.abc import Callable, Sequence
from itertools import count

from keras import layers

from zoo.architectures.vovnet import unit
from zoo.blocks import Net, Tensor, concatenate, max_pool
from zoo.layers import Affine


class AffineNet(Net):
    """A learned factor and addend behind every activation."""

    def norm_act(self, x: Tensor, name: str) -> Tensor:
        return Affine(name=f"{name.removesuffix('.bn')}.lab")(super().norm_act(x, name))


def hgnet(
    net: Net,
    images: Tensor,
    *,
    stem: Sequence[int],
    inner: Sequence[int],
    channels: Sequence[int],
    depths: Sequence[int],
    length: int,
) -> Tensor:
    """Images, normalised -> [N, 1, 1, 2048]. A stage's blocks are chains of `length` convolutions of `inner`
    channels and give `channels`.
    """
    x = images
    for i, width in enumerate(stem):
        x = net.unit(x, width, 3, f"stem.stem.{i}", 1 if i else 2)
    x = max_pool(x, 3, 2, "stem.pool", pad=1)

    def block(x: Tensor, stage: int, name: str) -> Tensor:
        y = chain(net, x, inner[stage], length, name, unit)
        y = net.unit(y, channels[stage], 1, f"{name}.aggregation.0")
        return net.excite(y, f"{name}.aggregation.1", "conv")

    return head(net, stages(net, x, depths, block))


def hgnetv2(
    net: Net,
    images: Tensor,
    *,
    stem: tuple[int, int],
    inner: Sequence[int],
    channels: Sequence[int],
    depths: Sequence[int],
    length: int,
    affine: bool = False,
) -> Tensor:
    """Images, normalised -> [N, 1, 1, 2048]. The third and fourth stage convolve depthwise."""
    net = AffineNet(**vars(net)) if affine else net
    x = stem_v2(net, images, *stem)

    def block(x: Tensor, stage: int, name: str) -> Tensor:
        y = chain(net, x, inner[stage], length, name, light_unit if stage > 1 else unit)
        y = net.unit(y, channels[stage] // 2, 1, f"{name}.aggregation.0")
        return net.unit(y, channels[stage], 1, f"{name}.aggregation.1")

    x = head(net, stages(net, x, depths, block))
    return Affine(name="head.last_conv.2")(x) if affine else x


def stem_v2(net: Net, x: Tensor, width: int, channels: int) -> Tensor:
    """Two convolutions of 2x2 beside a pool."""
    x = padded(net.unit(x, width, 3, "stem.stem1", 2), "stem.stem2a.pad")
    y = net.unit(x, width // 2, 2, "stem.stem2a", padding="valid")
    y = net.unit(padded(y, "stem.stem2b.pad"), width, 2, "stem.stem2b", padding="valid")
    pooled = layers.MaxPooling2D(2, 1, name="stem.pool")(x)
    x = net.unit(concatenate([pooled, y], "stem"), width, 3, "stem.stem3", 2)
    return net.unit(x, channels, 1, "stem.stem4")


def padded(x: Tensor, name: str) -> Tensor:
    return layers.ZeroPadding2D(((0, 1), (0, 1)), name=name)(x)


def stages(net: Net, x: Tensor, depths: Sequence[int], block: Callable[[Tensor, int, str], Tensor]) -> Tensor:
    """Every stage but the first halves the map by a depthwise convolution; its blocks after the first are
    residuals.
    """
    done, last = count(), sum(depths) - 1
    for stage, depth in enumerate(depths):
        name = f"stages.{stage}"
        if stage:
            x = net.norm(net.depthwise(x, 3, f"{name}.downsample.conv", 2), f"{name}.downsample.bn")
        for i in range(depth):
            y, position = block(x, stage, f"{name}.blocks.{i}"), next(done) / last
            x = net.add(x, y, f"{name}.blocks.{i}", position) if i else y
    return x


def chain(net: Net, x: Tensor, inner: int, length: int, name: str, convolve: Callable[..., Tensor]) -> Tensor:
    maps = [x]
    for i in range(length):
        maps.append(convolve(net, maps[-1], inner, f"{name}.layers.{i}"))
    return concatenate(maps, name)


def light_unit(net: Net, x: Tensor, filters: int, name: str) -> Tensor:
    y = net.conv_norm(x, filters, 1, f"{name}.conv1.conv", f"{name}.conv1.bn")
    return net.norm_act(net.depthwise(y, 5, f"{name}.conv2.conv"), f"{name}.conv2.bn")


def head(net: Net, x: Tensor) -> Tensor:
    x = net.global_pool(x, "head_pool", keepdims=True)
    return net.act(net.conv(x, 2048, 1, "head.last_conv.0"), "head.last_conv.1")
