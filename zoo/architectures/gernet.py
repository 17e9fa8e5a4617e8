"""GENet. Lin et al., "Neural architecture design for GPU-efficient networks", arXiv 2006.14090."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from zoo.blocks import Net, Tensor, round_channels

Block = Callable[..., Tensor]


def gernet(
    net: Net, images: Tensor, *, stem: int, depths: Sequence[int], widths: Sequence[int], head: int
) -> Tensor:
    """Full convolutions for large maps, depthwise ones for small. Images [N, H, W, 3], normalised -> feature
    map [N, H/32, W/32, head].
    """
    x = net.unit(images, stem, 3, "stem", 2)
    depthwise = partial(bottleneck, ratio=3, group=1)
    blocks: list[Block] = [basic, basic, partial(bottleneck, ratio=1 / 4), depthwise, depthwise]
    x = stages(net, x, depths, widths, (2, 2, 2, 2, 1), blocks)
    return net.unit(x, head, 1, "final_conv")


def stages(
    net: Net,
    x: Tensor,
    depths: Sequence[int],
    widths: Sequence[int],
    strides: Sequence[int],
    blocks: Sequence[Block],
) -> Tensor:
    """block(net, x, width, stride, name, position) of each stage, so many times."""
    repeated = [[block] * depth for depth, block in zip(depths, blocks, strict=True)]
    return mixed_stages(net, x, widths, strides, repeated)


def mixed_stages(
    net: Net, x: Tensor, widths: Sequence[int], strides: Sequence[int], blocks: Sequence[Sequence[Block]]
) -> Tensor:
    """The same where the blocks of a stage differ."""
    done, last = count(), sum(map(len, blocks)) - 1
    for stage, (width, first, members) in enumerate(zip(widths, strides, blocks, strict=True)):
        for i, block in enumerate(members):
            x = block(net, x, width, 1 if i else first, f"stages.{stage}.{i}", next(done) / last)
    return x


def basic(net: Net, x: Tensor, width: int, stride: int, name: str, position: float) -> Tensor:
    y = net.unit(x, width, 3, f"{name}.conv1_kxk", stride)
    y = net.conv_norm(y, width, 3, f"{name}.conv2_kxk.conv", f"{name}.conv2_kxk.bn")
    return joined(net, x, y, stride, name, position)


def edge(net: Net, x: Tensor, width: int, stride: int, name: str, position: float) -> Tensor:
    y = net.unit(x, width, 3, f"{name}.conv1_kxk", stride)
    y = net.conv_norm(y, width, 1, f"{name}.conv2_1x1.conv", f"{name}.conv2_1x1.bn")
    return joined(net, x, y, stride, name, position)


def bottleneck(
    net: Net,
    x: Tensor,
    width: int,
    stride: int,
    name: str,
    position: float,
    *,
    ratio: float,
    group: int = 0,
    twice: bool = False,
    attend: Callable[[Net, Tensor, str], Tensor] | None = None,
) -> Tensor:
    """`ratio`: how wide it is inside."""
    y = inside(net, x, round_channels(width * ratio), group, stride, name, twice=twice)
    y = attend(net, y, f"{name}.attn") if attend else y
    y = net.conv_norm(y, width, 1, f"{name}.conv3_1x1.conv", f"{name}.conv3_1x1.bn")
    return joined(net, x, y, stride, name, position)


def inside(
    net: Net, x: Tensor, inner: int, group: int, stride: int, name: str, *, twice: bool = False
) -> Tensor:
    groups = inner // group if group else 1
    y = net.unit(x, inner, 1, f"{name}.conv1_1x1")
    y = net.conv(y, inner, 3, f"{name}.conv2_kxk.conv", stride, groups=groups)
    y = net.norm_act(y, f"{name}.conv2_kxk.bn")
    if not twice:
        return y
    y = net.conv(y, inner, 3, f"{name}.conv2b_kxk.conv", groups=groups)
    return net.norm_act(y, f"{name}.conv2b_kxk.bn")


def joined(net: Net, x: Tensor, y: Tensor, stride: int, name: str, position: float) -> Tensor:
    if stride > 1 or x.shape[-1] != y.shape[-1]:
        x = net.conv_norm(x, y.shape[-1], 1, f"{name}.shortcut.conv", f"{name}.shortcut.bn", stride)
    return net.act(net.add(x, y, name, position), f"{name}.act")
