"""MobileNetV5, the eyes of Gemma 3n (Google, 2025): MobileNetV4's blocks made large, with norms that keep the
mean, and the last two stages fused into one map of 16 x 16 places.
"""

from dataclasses import replace

from zoo.architectures.mobilenetv4 import hib, mqa, uib
from zoo.blocks import Net, RootNet, Tensor, concatenate
from zoo.blocks.mobile import Stage, Stages, ends_of_stages, fused
from zoo.layers import Nearest, ToGrid, gelu_tanh

GRID = 16  # sides of the map that comes out
FEATURES = 2048  # its channels


def mobilenetv5(net: Net, images: Tensor) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, 16, 16, 2048]."""
    net = replace(RootNet(**vars(net)), activation=gelu_tanh)
    x = net.norm_act(net.conv(images, 64, 3, "conv_stem.conv", 2, bias=True), "conv_stem.bn")
    *_, late, last = ends_of_stages(net, x, STAGES)
    return fusion(net, late, last, "msfa")


def fusion(net: Net, fine: Tensor, coarse: Tensor, name: str) -> Tensor:
    """Both scales side by side, and a perceptron over them at each place."""
    coarse = Nearest(name=f"{name}.stretch")([coarse, fine])
    perceptron = uib(0, 0, FEATURES, 2)
    x = perceptron.block(net, concatenate([fine, coarse], name), perceptron, f"{name}.ffn")
    return net.norm(ToGrid(GRID, name=f"{name}.grid")(x), f"{name}.norm")


STAGES: Stages = [
    Stage(fused, 3, 128, 3, 2, 4),
    (hib(3, 5, 256, 6, 2), *(hib(kernel, 0, 256, 4) for kernel in (5, 3, 5, 3))),
    (
        hib(5, 5, 640, 6, 2),
        hib(5, 0, 640, 4, depth=7),
        hib(0, 0, 640, 1),
        *(mqa(3, 640, 12, 64), hib(0, 0, 640, 2)) * 14,
    ),
    (hib(5, 5, 1280, 6, 2), *(mqa(0, 1280, 16, 96), hib(0, 0, 1280, 2)) * 19),
]
