"""SqueezeNext. Gholami et al., "SqueezeNext: hardware-aware neural network design", arXiv 1803.10615."""

from collections.abc import Sequence
from functools import partial

from keras import layers

from zoo.blocks import Net, Tensor, max_pool


def squeezenext(net: Net, images: Tensor, *, depths: Sequence[int], widen: float = 1.0) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, about H/32, W/32, 128 * widen]."""
    unit = partial(net.unit, bias=True)
    x = layers.ZeroPadding2D(1, name="features.init_block.conv.conv.pad")(images)
    x = unit(x, int(64 * widen), 7, "features.init_block.conv", 2, padding="valid")
    x = max_pool(x, 3, 2, "features.init_block.pool", ceil=True)
    for stage, depth in enumerate(depths, start=1):
        width = int(32 * 2 ** (stage - 1) * widen)
        for i in range(1, depth + 1):
            stride = 2 if i == 1 and stage > 1 else 1
            x = residual(net, x, width, stride, f"features.stage{stage}.unit{i}")
    return unit(x, int(128 * widen), 1, "features.final_block")


def residual(net: Net, x: Tensor, width: int, stride: int, name: str) -> Tensor:
    """Figure 1, right: two squeezes, a 3x3 window taken apart, an expansion."""
    unit, channels = partial(net.unit, bias=True), x.shape[-1]
    squeezed = channels // (1 if stride > 1 else 4 if channels > width else 2)
    y = unit(x, squeezed, 1, f"{name}.conv1", stride)
    y = unit(y, squeezed // 2, 1, f"{name}.conv2")
    y = unit(y, squeezed, (1, 3), f"{name}.conv3")
    y = unit(y, squeezed, (3, 1), f"{name}.conv4")
    y = unit(y, width, 1, f"{name}.conv5")
    if stride > 1 or channels > width:
        x = unit(x, width, 1, f"{name}.identity_conv", stride)
    return net.act(layers.Add(name=f"{name}.add")([x, y]), f"{name}.act")
