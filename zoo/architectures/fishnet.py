"""FishNet. Sun et al., "FishNet: a versatile backbone for image, region, and pixel level prediction", arXiv
1901.03495: a tail that goes down to 1/32, a body back up to 1/4, a head down again. Every map is kept and
joined, so that gradients reach the first layers directly.
"""

from collections.abc import Sequence

from keras import layers

from zoo.blocks import Net, Tensor, concatenate, max_pool, whole_steps
from zoo.layers import PairSum

TAIL = (128, 256, 512)
BODY = (512, 384, 256)
HEAD = (320, 832, 1600)
TAIL_KEPT = (64, 128, 256, 512)  # what is kept of the tail's maps for the body
BODY_KEPT = (512, 768, 512)  # and of the body's for the head
HG = "features.hg"


def fishnet(
    net: Net,
    images: Tensor,
    *,
    tail: Sequence[int],
    body: Sequence[int],
    head: Sequence[int],
    tail_kept: Sequence[int],
    body_kept: Sequence[int],
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 1056]; H and W multiples of 32. All
    arguments are numbers of blocks.
    """
    images = whole_steps(images, 32)
    x = stem(net, images, "features.init_block")
    kept = []
    for i, depth in enumerate(tail):
        kept.append(blocks(net, x, [TAIL_KEPT[i]] * tail_kept[i], f"{HG}.skip1_seq.unit{i + 1}"))
        x = blocks(net, x, [TAIL[i]] * depth, f"{HG}.down1_seq.unit{i + 1}")
        x = layers.MaxPooling2D(2, name=f"{HG}.down1_seq.unit{i + 1}.pool")(x)
    x = bridge(net, x, [TAIL_KEPT[-1]] * tail_kept[-1], f"{HG}.skip1_seq.unit4")
    kept_again = []
    for i, depth in enumerate(body):
        kept_again.append(blocks(net, x, [BODY_KEPT[i]] * body_kept[i], f"{HG}.skip2_seq.unit{i + 1}"))
        x = blocks(net, x, [BODY[i]] * depth, f"{HG}.up_seq.unit{i + 1}", dilation=2**i)
        x = layers.UpSampling2D(2, name=f"{HG}.up_seq.unit{i + 1}.upsample")(x)
        x = concatenate([x, kept.pop()], f"{HG}.up_seq.unit{i + 1}")
    for i, depth in enumerate(head):
        x = blocks(net, x, [HEAD[i]] * depth, f"{HG}.down2_seq.unit{i + 1}")
        x = layers.MaxPooling2D(2, name=f"{HG}.down2_seq.unit{i + 1}.pool")(x)
        x = concatenate([x, kept_again.pop()], f"{HG}.down2_seq.unit{i + 1}")
    x = net.pre_unit(x, x.shape[-1] // 2, 1, "features.final_block.conv1")
    return net.norm_act(x, "features.final_block.preactiv.bn")


def stem(net: Net, x: Tensor, name: str) -> Tensor:
    x = net.unit(x, 32, 3, f"{name}.conv1", 2)
    x = net.unit(net.unit(x, 32, 3, f"{name}.conv2"), 64, 3, f"{name}.conv3")
    return max_pool(x, 3, 2, f"{name}.pool", pad=1)


def blocks(net: Net, x: Tensor, widths: Sequence[int], name: str, dilation: int = 1) -> Tensor:
    for i, width in enumerate(widths, start=1):
        x = residual(net, x, width, dilation, f"{name}.blocks.block{i}")
    return x


def residual(net: Net, x: Tensor, width: int, dilation: int, name: str) -> Tensor:
    """Where the body, dilated, halves its channels, the shortcut sums pairs of them: section 3.2."""
    y = net.pre_unit(x, width // 4, 1, f"{name}.body.conv1")
    y = net.pre_unit(y, width // 4, 3, f"{name}.body.conv2", dilation=dilation)
    y = net.pre_unit(y, width, 1, f"{name}.body.conv3")
    if dilation > 1 and x.shape[-1] == 2 * width:
        x = PairSum(name=f"{name}.c_squeeze")(x)
    elif x.shape[-1] != width:
        x = net.pre_unit(x, width, 1, f"{name}.identity_conv")
    return layers.Add(name=f"{name}.add")([x, y])


def bridge(net: Net, x: Tensor, widths: Sequence[int], name: str) -> Tensor:
    """Between tail and body: the map, gated by channels, and the gate itself."""
    channels = x.shape[-1]
    x = net.pre_unit(x, channels // 2, 1, f"{name}.conv1")
    x = net.pre_unit(x, 2 * channels, 1, f"{name}.conv2", bias=True)
    s = net.norm_act(x, f"{name}.se.bn")
    s = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.se.pool")(s)
    s = net.act(net.conv(s, widths[-1] // 16, 1, f"{name}.se.conv1", bias=True), f"{name}.se.act")
    s = net.conv(s, widths[-1], 1, f"{name}.se.conv2", bias=True)
    gate = layers.Activation("sigmoid", name=f"{name}.se.gate")(s)
    x = layers.Multiply(name=f"{name}.scale")([blocks(net, x, widths, name), gate])
    return layers.Add(name=f"{name}.add")([x, gate])
