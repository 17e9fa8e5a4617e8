"""ProxylessNAS. Cai et al., "ProxylessNAS: direct neural architecture search on target task and hardware",
arXiv 1812.00332, figure 4: networks found for a GPU, a CPU and a phone.
"""

from collections.abc import Sequence
from dataclasses import replace

from keras import layers

from zoo.blocks import Net, Tensor


def proxylessnas(
    net: Net,
    images: Tensor,
    *,
    stem: int,
    widths: Sequence[Sequence[int]],
    kernels: Sequence[Sequence[int]],
    expansions: Sequence[Sequence[int]],
    last: int,
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, last]. Widths, depthwise windows and
    expansions by stages and blocks; a window of 0 is a block that the search left out.
    """
    net = replace(net, activation="relu6")
    x = net.unit(images, stem, 3, "features.init_block", 2)
    for stage, blocks in enumerate(zip(widths, kernels, expansions, strict=True), start=1):
        for i, (width, kernel, expansion) in enumerate(zip(*blocks, strict=True), start=1):
            stride = 2 if i == 1 and stage > 1 else 1
            if kernel:
                x = inverted(net, x, width, kernel, expansion, stride, f"features.stage{stage}.unit{i}")
    return net.unit(x, last, 1, "features.final_block")


def inverted(net: Net, x: Tensor, width: int, kernel: int, expansion: int, stride: int, name: str) -> Tensor:
    """MobileNetV2's block, without an expansion where it is 1."""
    inner = expansion * x.shape[-1]
    y = net.unit(x, inner, 1, f"{name}.body.bc_conv") if expansion > 1 else x
    y = net.depthwise(y, kernel, f"{name}.body.dw_conv.conv", stride)
    y = net.norm_act(y, f"{name}.body.dw_conv.bn")
    y = net.conv_norm(y, width, 1, f"{name}.body.pw_conv.conv", f"{name}.body.pw_conv.bn")
    return layers.Add(name=f"{name}.add")([x, y]) if stride == 1 and x.shape[-1] == width else y
