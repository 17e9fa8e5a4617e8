"""ResNets with attention to channels and places. Park et al., "BAM: bottleneck attention module", arXiv
1807.06514; Woo et al., "CBAM: convolutional block attention module", arXiv 1807.06521.
"""

from collections.abc import Sequence

from keras import layers

from zoo.architectures.resnet import basic, bottleneck, entry, projected, residual_stage, residual_stages
from zoo.blocks import Net, Tensor, gated
from zoo.layers import AcrossChannels

REDUCTION = 16
DILATION = 4
BLOCKS = {"basic": basic, "bottleneck": bottleneck}


def bam_resnet(net: Net, images: Tensor, *, block: str, depths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]. Attention before each halving."""
    x = entry(net, images)
    for stage in range(1, len(depths) + 1):
        x = bam(net, x, f"layer{stage}.bam") if stage > 1 else x
        x = residual_stage(net, x, stage, depths, BLOCKS[block], projected)
    return x


def bam(net: Net, x: Tensor, name: str) -> Tensor:
    """x * (1 + sigmoid(channels * places)): figure 2."""
    logits = layers.Multiply(name=f"{name}.logits")(
        [channel_logits(net, x, f"{name}.ch_att"), place_logits(net, x, f"{name}.sp_att")]
    )
    return layers.Add(name=f"{name}.add")([x, gated(x, logits, "sigmoid", name)])


def channel_logits(net: Net, x: Tensor, name: str) -> Tensor:
    """[N, 1, 1, C]."""
    channels = x.shape[-1]
    s = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.pool")(x)
    s = net.conv(s, channels // REDUCTION, 1, f"{name}.init_fc.fc", bias=True)
    s = net.norm_act(s, f"{name}.init_fc.bn")
    return net.conv(s, channels, 1, f"{name}.final_fc", bias=True)


def place_logits(net: Net, x: Tensor, name: str) -> Tensor:
    """[N, H, W, 1], from far around: the 3x3 windows are dilated."""
    inner = x.shape[-1] // REDUCTION
    s = net.conv(x, inner, 1, f"{name}.init_conv.conv", bias=True)
    s = net.norm_act(s, f"{name}.init_conv.bn")
    for conv in (f"{name}.dil_convs.conv1", f"{name}.dil_convs.conv2"):
        s = net.norm_act(net.conv(s, inner, 3, f"{conv}.conv", bias=True, dilation=DILATION), f"{conv}.bn")
    return net.conv(s, 1, 1, f"{name}.final_conv", bias=True)


def cbam_resnet(net: Net, images: Tensor, *, block: str, depths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]. Attention ends each residual."""

    def attended(net: Net, x: Tensor, planes: int, stride: int, name: str) -> Tensor:
        y = BLOCKS[block](net, x, planes, stride, name)
        return place_gate(net, channel_gate(net, y, f"{name}.cbam.ch_gate"), f"{name}.cbam.sp_gate")

    return residual_stages(net, entry(net, images), depths, attended, projected)


def channel_gate(net: Net, x: Tensor, name: str) -> Tensor:
    """One perceptron for the channels' means and their maxima."""
    channels = x.shape[-1]
    pools = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)
    both = [pool(keepdims=True, name=f"{name}.{pool.__name__}")(x) for pool in pools]
    s = layers.Concatenate(axis=2, name=f"{name}.both")(both)
    s = net.conv(s, channels // REDUCTION, 1, f"{name}.mlp.fc1", bias=True)
    s = net.conv(net.act(s, f"{name}.mlp.act"), channels, 1, f"{name}.mlp.fc2", bias=True)
    mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.mean")(s)
    return gated(x, layers.Rescaling(len(pools), name=f"{name}.sum")(mean), "sigmoid", name)


def place_gate(net: Net, x: Tensor, name: str) -> Tensor:
    s = net.conv_norm(AcrossChannels(name=f"{name}.pool")(x), 1, 7, f"{name}.conv.conv", f"{name}.conv.bn")
    return gated(x, s, "sigmoid", name)
