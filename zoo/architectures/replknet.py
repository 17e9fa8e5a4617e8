"""RepLKNet. Ding et al., "Scaling up your kernels to 31x31: revisiting large kernel design in CNNs", arXiv
2203.06717. A small kernel beside each large one helps in training; zoo.fuse makes them one.
"""

from collections.abc import Sequence
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor

DEPTHS = (2, 2, 18, 2)


def replknet(
    net: Net, images: Tensor, *, width: int, kernels: Sequence[int], small: int = 5, widen: float = 1.0
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 8 * width].

    kernels: the large windows, by stages; small: the window beside them, 0 for none; widen: how wide the
    depthwise convolutions are, in widths.
    """
    done, last = count(), 2 * sum(DEPTHS) - 1
    x = stem(net, images, width)
    for stage, (depth, kernel) in enumerate(zip(DEPTHS, kernels, strict=True)):
        if stage:
            x = transition(net, x, f"transitions.{stage - 1}")
        for i in range(0, 2 * depth, 2):
            name = f"stages.{stage}.blocks.{i}"
            y = large_kernel_block(net, x, int(widen * x.shape[-1]), kernel, small, name)
            x = net.add(x, y, name, next(done) / last)
            name = f"stages.{stage}.blocks.{i + 1}"
            x = net.add(x, feed_forward(net, x, name), name, next(done) / last)
    return net.norm(x, f"stages.{len(DEPTHS) - 1}.norm")


def stem(net: Net, x: Tensor, width: int) -> Tensor:
    x = net.unit(x, width, 3, "stem.0", 2)
    x = depthwise_unit(net, x, "stem.1", 1)
    return depthwise_unit(net, net.unit(x, width, 1, "stem.2"), "stem.3", 2)


def transition(net: Net, x: Tensor, name: str) -> Tensor:
    return depthwise_unit(net, net.unit(x, 2 * x.shape[-1], 1, f"{name}.0"), f"{name}.1", 2)


def depthwise_unit(net: Net, x: Tensor, name: str, stride: int) -> Tensor:
    return net.norm_act(net.depthwise(x, 3, f"{name}.conv", stride), f"{name}.bn")


def large_kernel_block(net: Net, x: Tensor, inner: int, kernel: int, small: int, name: str) -> Tensor:
    """Figure 4, RepLK block."""
    y = net.unit(net.norm(x, f"{name}.prelkb_bn"), inner, 1, f"{name}.pw1")
    large = f"{name}.large_kernel"
    branches = [("lkb_origin", kernel)] + ([("small_conv", small)] if small else [])
    sums = [
        net.norm(net.depthwise(y, window, f"{large}.{branch}.conv"), f"{large}.{branch}.bn")
        for branch, window in branches
    ]
    y = layers.Add(name=f"{large}.add")(sums) if small else sums[0]
    y = net.act(y, f"{name}.lk_nonlinear")
    return net.conv_norm(y, x.shape[-1], 1, f"{name}.pw2.conv", f"{name}.pw2.bn")


def feed_forward(net: Net, x: Tensor, name: str) -> Tensor:
    y = net.norm(x, f"{name}.preffn_bn")
    y = net.conv_norm(y, 4 * x.shape[-1], 1, f"{name}.pw1.conv", f"{name}.pw1.bn")
    y = layers.Activation("gelu", name=f"{name}.nonlinear")(y)
    return net.conv_norm(y, x.shape[-1], 1, f"{name}.pw2.conv", f"{name}.pw2.bn")
