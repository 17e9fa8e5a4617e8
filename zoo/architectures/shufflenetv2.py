"""ShuffleNet V2. Ma et al., "Practical guidelines for efficient CNN architecture design", arXiv
1807.11164.
"""

from collections.abc import Sequence

from keras import layers

from zoo.blocks import Net, Tensor, channels, max_pool, shuffle

DEPTHS = (4, 8, 4)


def shufflenetv2(net: Net, images: Tensor, *, widths: Sequence[int], head: int) -> Tensor:
    """Images, normalised -> feature map [N, H/32, W/32, head]."""
    x = net.conv_norm_act(images, 24, 3, "conv1.0", "conv1.1", stride=2)
    x = max_pool(x, 3, 2, "maxpool", pad=1)
    for stage, (depth, width) in enumerate(zip(DEPTHS, widths, strict=True), start=2):
        x = downsampling(net, x, width, f"stage{stage}.0")
        for i in range(1, depth):
            x = unit(net, x, width, f"stage{stage}.{i}")
    return net.conv_norm_act(x, head, 1, "conv5.0", "conv5.1")


def unit(net: Net, x: Tensor, width: int, name: str) -> Tensor:
    """Half the channels pass untouched; the halves are mixed by the shuffle."""
    passed = channels(x, 0, width // 2, f"{name}.passed")
    y = channels(x, width // 2, width, f"{name}.changed")
    return mix([passed, branch(net, y, width // 2, 1, f"{name}.branch2")], name)


def downsampling(net: Net, x: Tensor, width: int, name: str) -> Tensor:
    """Both halves are made from the whole map, each with half as many channels as come out."""
    y = net.norm(net.depthwise(x, 3, f"{name}.branch1.0", 2), f"{name}.branch1.1")
    y = net.conv_norm_act(y, width // 2, 1, f"{name}.branch1.2", f"{name}.branch1.3")
    return mix([y, branch(net, x, width // 2, 2, f"{name}.branch2")], name)


def branch(net: Net, x: Tensor, width: int, stride: int, name: str) -> Tensor:
    x = net.conv_norm_act(x, width, 1, f"{name}.0", f"{name}.1")
    x = net.norm(net.depthwise(x, 3, f"{name}.3", stride), f"{name}.4")
    return net.conv_norm_act(x, width, 1, f"{name}.5", f"{name}.6")


def mix(halves: list[Tensor], name: str) -> Tensor:
    return shuffle(layers.Concatenate(name=f"{name}.concat")(halves), 2, f"{name}.shuffle")
