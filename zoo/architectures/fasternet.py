"""FasterNet. Chen et al., "Run, don't walk: chasing higher FLOPS for faster neural networks", arXiv
2303.03667.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from zoo.blocks import Net, Tensor, concatenate, split
from zoo.blocks.mobile import late_head

PART = 4
EXPANSION = 2


def fasternet(
    net: Net, images: Tensor, *, width: int, depths: Sequence[int], activation: str = "relu"
) -> Tensor:
    """Images [N, H, W, 3], normalised -> [N, 1, 1, 1280]."""
    net, done = replace(net, activation=activation), count()
    x = merged(net, images, width, 4, "patch_embed.proj", "patch_embed.norm")
    for stage, depth in enumerate(depths):
        name = f"stages.{stage}"
        if stage:
            norm = f"{name}.downsample.norm"
            x = merged(net, x, width * 2**stage, 2, f"{name}.downsample.reduction", norm)
        for i in range(depth):
            block = f"{name}.blocks.{i}"
            x = net.add(x, mixed(net, x, block), block, next(done) / (sum(depths) - 1))
    return late_head(net, x, 1280, bias=False)


def merged(net: Net, x: Tensor, width: int, patch: int, conv: str, norm: str) -> Tensor:
    """Patches that do not overlap become places."""
    return net.norm(net.conv(x, width, patch, conv, patch, padding="valid"), norm)


def mixed(net: Net, x: Tensor, name: str) -> Tensor:
    """A partial convolution: a quarter of the channels meets its neighbours, then all meet each other."""
    channels = x.shape[-1]
    part = channels // PART
    seen, rest = split(x, [part, channels - part], f"{name}.split")
    seen = net.conv(seen, part, 3, f"{name}.spatial_mixing.partial_conv3")
    y = concatenate([seen, rest], name)
    y = net.conv_norm_act(y, EXPANSION * channels, 1, f"{name}.mlp.0", f"{name}.mlp.1")
    return net.conv(y, channels, 1, f"{name}.mlp.3")
