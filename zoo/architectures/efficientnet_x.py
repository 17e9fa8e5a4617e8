"""EfficientNet-X. Li et al., "Searching for fast model families on datacenter accelerators", arXiv
2102.05610.
"""

from dataclasses import replace

from zoo.architectures.efficientnet import B0
from zoo.blocks import Net, Tensor, round_channels
from zoo.blocks.mobile import Stage, Stages, attend, fused, network, quarter_of_input, scaled


def efficientnet_x(net: Net, images: Tensor, *, width: float, depth: float, expand: int = 6) -> Tensor:
    """EfficientNet with patches instead of its second large map, and full convolutions early. expand: of the
    stages 2 to 4, less in -H. Images, normalised -> feature map [N, H/32, W/32, C].
    """
    dense = Stage(fused, 5, 40, 2, 2, expand, quarter_of_input, activation="relu")
    table = [B0[0], replace(dense, kernel=3, channels=24), dense, replace(B0[3], expand=expand), *B0[4:]]
    (first,), (second,), *later = scaled(table, width, depth)
    first = replace(first, channels=4 * first.channels)
    stages: Stages = [
        (replace(first, block=patches, depth=1, skip=False), replace(first, depth=first.depth - 1)),
        (
            replace(second, depth=1, stride=1, expand=expand / 4),
            replace(second, depth=second.depth - 1, stride=1),
        ),
        *later,
    ]
    stem, head = round_channels(32 * width), round_channels(1280 * width)
    return network(replace(net, activation="silu"), images, stem, stages, head)


def patches(net: Net, x: Tensor, stage: Stage, name: str) -> Tensor:
    """2x2 places become one of four times the channels, learned; then depthwise, attention, projection."""
    y = net.conv(x, 4 * x.shape[-1], 2, f"{name}.conv_s2d", 2, padding="same")
    y = net.depthwise(net.norm_act(y, f"{name}.bn_s2d"), 2, f"{name}.conv_dw")
    y = attend(net, net.norm_act(y, f"{name}.bn1"), x, stage, name)
    return net.conv_norm(y, stage.channels, 1, f"{name}.conv_pw", f"{name}.bn2")
