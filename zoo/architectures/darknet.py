"""Darknet Tiny and Darknet-19. Redmon and Farhadi, "YOLO9000: better, faster, stronger", arXiv 1612.08242,
table 6; Redmon, "Darknet: open source neural networks in C". (Darknet-53: see cspdarknet.)
"""

from collections.abc import Sequence

from keras import layers

from zoo.blocks import LeakyNet, Net, Tensor

SLOPE = 0.1


def darknet(net: Net, images: Tensor, *, stages: Sequence[Sequence[int]], wide_first: bool) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/2**(stages - 1), ..., C].

    stages: channels of every convolution. Those of a long stage are 3x3 and 1x1 in turns, 3x3 first with
    `wide_first`; a lone one is 3x3.
    """
    net = LeakyNet(**vars(net), slope=SLOPE)
    x = images
    for stage, widths in enumerate(stages, start=1):
        for i, width in enumerate(widths):
            wide = (i % 2 == 0) == wide_first or len(widths) == 1
            x = net.unit(x, width, 3 if wide else 1, f"features.stage{stage}.unit{i + 1}")
        if stage < len(stages):
            # Below zero, too: nothing is padded.
            x = layers.MaxPooling2D(2, name=f"features.stage{stage}.pool{stage}")(x)
    return x
