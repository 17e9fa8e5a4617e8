"""High resolution networks. Wang et al., "Deep high-resolution representation learning for visual
recognition", arXiv 1908.07919.

Branches of four resolutions run side by side and exchange what they see after every few blocks.
"""

from collections.abc import Sequence

from keras import layers

from zoo.architectures.resnet import basic, bottleneck
from zoo.blocks import Net, Tensor, whole_steps

STRIDE = 32
HEAD = (32, 64, 128, 256)


def hrnet(
    net: Net,
    images: Tensor,
    *,
    width: int,
    modules: Sequence[int] = (1, 4, 3),
    depths: Sequence[int] = (4, 4),
    planes: int = 64,
    bias: bool = True,
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048].

    width: channels of the branch of the highest resolution, H/4; modules of the stages of two, three and four
    branches; depths of the first stage, bottlenecks of `planes`, and of every branch of a module; bias: of
    the head's convolutions. Raises ZooError unless H and W are multiples of 32.
    """
    images = whole_steps(images, STRIDE)
    x = images
    for i in (1, 2):
        x = net.act(net.conv_norm(x, 64, 3, f"conv{i}", f"bn{i}", 2), f"act{i}")
    first, depth = depths
    for i in range(first):
        x = block(net, x, planes, f"layer1.{i}", wide=True)
    branches = [x]
    for stage, count in enumerate(modules, start=2):
        branches = transition(net, branches, [width * 2**i for i in range(stage)], f"transition{stage - 1}")
        for i in range(count):
            branches = module(net, branches, depth, f"stage{stage}.{i}")
    return head(net, branches, bias)


def block(net: Net, x: Tensor, planes: int, name: str, *, wide: bool = False) -> Tensor:
    """A residual block of ResNet; the wide one is a bottleneck."""
    y = (bottleneck if wide else basic)(net, x, planes, 1, name)
    if x.shape[-1] != y.shape[-1]:
        x = net.conv_norm(x, y.shape[-1], 1, f"{name}.downsample.0", f"{name}.downsample.1")
    return net.act(layers.Add(name=f"{name}.add")([x, y]), f"{name}.act")


def transition(net: Net, branches: Sequence[Tensor], widths: Sequence[int], name: str) -> list[Tensor]:
    """To the widths of the next stage, with one more branch, of half the lowest resolution."""
    out = []
    for i, width in enumerate(widths):
        if i == len(branches):
            x = unit(net, branches[-1], width, f"{name}.{i}.0", 2)
        elif branches[i].shape[-1] != width:
            x = unit(net, branches[i], width, f"{name}.{i}")
        else:
            x = branches[i]
        out.append(x)
    return out


def unit(net: Net, x: Tensor, width: int, name: str, stride: int = 1) -> Tensor:
    return net.act(net.conv_norm(x, width, 3, f"{name}.0", f"{name}.1", stride), f"{name}.2")


def module(net: Net, branches: Sequence[Tensor], depth: int, name: str) -> list[Tensor]:
    """Residual blocks in every branch, then each branch takes the sum of what all bring to its shape."""
    deep = []
    for i, x in enumerate(branches):
        width = x.shape[-1]
        for k in range(depth):
            x = block(net, x, width, f"{name}.branches.{i}.{k}")
        deep.append(x)
    return [fuse(net, deep, i, name) for i in range(len(deep))]


def fuse(net: Net, branches: Sequence[Tensor], i: int, name: str) -> Tensor:
    width = branches[i].shape[-1]
    brought = [bring(net, x, width, i - j, f"{name}.fuse_layers.{i}.{j}") for j, x in enumerate(branches)]
    total = layers.Add(name=f"{name}.fuse_layers.{i}.add")(brought)
    return net.act(total, f"{name}.fuse_act.{i}")


def bring(net: Net, x: Tensor, width: int, halvings: int, name: str) -> Tensor:
    """Down by strided convolutions, or up by repeating pixels."""
    if halvings < 0:
        x = net.conv_norm(x, width, 1, f"{name}.0", f"{name}.1")
        return layers.UpSampling2D(2**-halvings, name=f"{name}.2")(x)
    for k in range(halvings - 1):
        x = unit(net, x, x.shape[-1], f"{name}.{k}", 2)
    if halvings:
        last = f"{name}.{halvings - 1}"
        x = net.conv_norm(x, width, 3, f"{last}.0", f"{last}.1", 2)
    return x


def head(net: Net, branches: Sequence[Tensor], bias: bool) -> Tensor:
    """For classification: the branches widened, and joined from the highest resolution down."""
    wide = [
        block(net, x, planes, f"incre_modules.{i}.0", wide=True)
        for i, (x, planes) in enumerate(zip(branches, HEAD, strict=True))
    ]
    x = wide[0]
    for i, branch in enumerate(wide[1:]):
        y = widened(net, x, branch.shape[-1], 3, f"downsamp_modules.{i}", 2, bias=bias)
        x = layers.Add(name=f"downsamp_modules.{i}.add")([branch, y])
    return widened(net, x, 2048, 1, "final_layer", bias=bias)


def widened(
    net: Net, x: Tensor, width: int, kernel: int, name: str, stride: int = 1, *, bias: bool
) -> Tensor:
    x = net.conv(x, width, kernel, f"{name}.0", stride, bias=bias)
    return net.act(net.norm(x, f"{name}.1"), f"{name}.2")
