"""RDNet. Kim et al., "DenseNets reloaded: paradigm shift beyond ResNets and ViTs", arXiv 2403.19588: DenseNet
with ConvNeXt's means.
"""

from collections.abc import Sequence

from keras import layers

from zoo.architectures.convnext import stem
from zoo.blocks import LayerNet, Net, Tensor, concatenate
from zoo.layers import Scale

BLOCKS = 3
EXPANSION = 4
UNWEIGHED = 2  # the first stages, whose blocks have no attention


def rdnet(net: Net, images: Tensor, *, width: int, growths: Sequence[int], halved: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> vectors [N, C]. growths: each stage's; halved: which stages begin
    with half of the map.
    """
    net = LayerNet(**vars(net))
    x = stem(net, images, width)
    for stage, growth in enumerate(growths):
        name = f"dense_stages.{stage}"
        if stage:
            x = transition(net, x, 2 if stage in halved else 1, name)
        for i in range(BLOCKS):
            block = f"{name}.{2 if stage else 0}.dense_block{i}"
            new = mixed(net, x, growth, block, attention=stage >= UNWEIGHED)
            x = concatenate([x, new], block)
    return net.norm(net.global_pool(x), "head.norm")


def transition(net: Net, x: Tensor, stride: int, name: str) -> Tensor:
    """Half of the channels, also where the map keeps its size."""
    x = net.norm(x, f"{name}.0")
    return net.conv(x, multiple(x.shape[-1] / 2), stride, f"{name}.1", stride, bias=True, padding="valid")


def mixed(net: Net, x: Tensor, growth: int, name: str, *, attention: bool) -> Tensor:
    """ConvNeXt's block, which gives `growth` channels."""
    part = f"{name}.layers.layers"
    y = net.norm(net.depthwise(x, 7, f"{part}.0", bias=True), f"{part}.1")
    y = net.conv(y, multiple(EXPANSION * x.shape[-1]), 1, f"{part}.2", bias=True)
    y = layers.Activation("gelu", name=f"{part}.3")(y)
    y = net.conv(y, growth, 1, f"{part}.4", bias=True)
    y = net.excite(y, f"{part}.5", gate="hard_sigmoid") if attention else y
    return Scale(name=name)(y)


def multiple(channels: float) -> int:
    return int(channels / 8) * 8
