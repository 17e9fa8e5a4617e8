"""Dual path networks. Chen et al., arXiv 1707.01629.

Two paths side by side: to the residual one blocks add, the dense one they lengthen. The last activation is a
ReLU, as timm runs them; the authors' is an ELU.
"""

from collections.abc import Sequence

from keras import layers

from zoo.blocks import Net, Tensor, channels, max_pool

Paths = list[Tensor]


def dpn(
    net: Net,
    images: Tensor,
    *,
    stem: int,
    width: int,
    groups: int,
    depths: Sequence[int],
    growth: Sequence[int],
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C].

    width: of the first stage's 3x3 convolutions; growth: by how much each block of a stage lengthens the
    dense path.
    """
    x = net.unit(images, stem, 7, "features.conv1_1", 2)
    return stages(net, x, 256, width, groups, depths, growth, split=False)


def light(
    net: Net, images: Tensor, *, depths: Sequence[int], growth: Sequence[int], split: bool = False
) -> Tensor:
    """DPN-68: a small stem and a narrow residual path. split: each path has its last convolution (68b)."""
    x = net.unit(images, 10, 3, "features.conv1_1", 2)
    return stages(net, x, 64, 128, 32, depths, growth, split=split)


def stages(
    net: Net,
    x: Tensor,
    residual: int,
    width: int,
    groups: int,
    depths: Sequence[int],
    growth: Sequence[int],
    *,
    split: bool,
) -> Tensor:
    """Four stages of blocks, each but the first half the size and twice the width of the one before."""
    x = max_pool(x, 3, 2, "features.conv1_pool", pad=1)
    for stage, (depth, grow) in enumerate(zip(depths, growth, strict=True)):
        wide, inner = residual * 2**stage, width * 2**stage
        for i in range(1, depth + 1):
            name, stride = f"features.conv{stage + 2}_{i}", 2 if i == 1 and stage else 1
            if i == 1:
                paths = project(net, x, wide, wide + 2 * grow, stride, name)
            else:
                paths = cut(x, wide, f"{name}.in")
            new = block(net, x, wide, inner, grow, groups, stride, split, name)
            added = layers.Add(name=f"{name}.add")([paths[0], new[0]])
            x = layers.Concatenate(name=f"{name}.cat")([added, paths[1], new[1]])
    return net.norm_act(x, "features.conv5_bn_ac.bn")


def project(net: Net, x: Tensor, wide: int, filters: int, stride: int, name: str) -> Paths:
    return cut(pre(net, x, filters, 1, f"{name}.c1x1_w_s{stride}", stride), wide, f"{name}.in")


def block(
    net: Net, x: Tensor, wide: int, inner: int, grow: int, groups: int, stride: int, split: bool, name: str
) -> Paths:
    """What is added to the residual path, and what lengthens the dense one."""
    x = pre(net, x, inner, 1, f"{name}.c1x1_a")
    x = pre(net, x, inner, 3, f"{name}.c3x3_b", stride, groups)
    if split:
        x = net.norm_act(x, f"{name}.c1x1_c.bn")
        return [net.conv(x, wide, 1, f"{name}.c1x1_c1"), net.conv(x, grow, 1, f"{name}.c1x1_c2")]
    return cut(pre(net, x, wide + grow, 1, f"{name}.c1x1_c"), wide, f"{name}.out")


def pre(
    net: Net, x: Tensor, filters: int, kernel: int, name: str, stride: int = 1, groups: int = 1
) -> Tensor:
    """Normalise, activate, convolve."""
    return net.conv(net.norm_act(x, f"{name}.bn"), filters, kernel, f"{name}.conv", stride, groups=groups)


def cut(x: Tensor, wide: int, name: str) -> Paths:
    """Maps of both paths in one -> (residual, dense)."""
    total = x.shape[-1]
    return [channels(x, 0, wide, f"{name}.residual"), channels(x, wide, total, f"{name}.dense")]
