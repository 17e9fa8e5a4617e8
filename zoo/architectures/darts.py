"""DARTS. Liu et al., "DARTS: differentiable architecture search", arXiv 1806.09055: cells found by gradients
on CIFAR-10 (figures 4 and 5), stacked for ImageNet.
"""

from keras import layers

from zoo.blocks import Net, Tensor, concatenate, max_pool_signed, whole_steps

DEPTHS = (4, 5, 5)
STEM = 48
# Each new state is the sum of two operations on earlier ones: 0 is the cell before the last, 1 the last.
NORMAL = (
    (("separable", 0), ("separable", 1)),
    (("separable", 0), ("separable", 1)),
    (("separable", 1), ("skip", 0)),
    (("skip", 0), ("dilated", 2)),
)
REDUCTION = (
    (("max_pool", 0), ("max_pool", 1)),
    (("skip", 2), ("max_pool", 1)),
    (("max_pool", 0), ("skip", 2)),
    (("skip", 2), ("max_pool", 1)),
)


def darts(net: Net, images: Tensor) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 768]; H and W multiples of 32."""
    images = whole_steps(images, 32)
    stem = "features.stem1_unit"
    before = net.conv_norm(images, STEM // 2, 3, f"{stem}.conv1.conv", f"{stem}.conv1.bn", 2)
    before = act_conv_norm(net, before, STEM, 3, f"{stem}.conv2", 2)
    x = act_conv_norm(net, before, STEM, 3, "features.stem2_unit", 2)
    halved = True
    for stage, depth in enumerate(DEPTHS, start=1):
        for i in range(1, depth + 1):
            reduces = stage > 1 and i == 1
            name = f"features.stage{stage}.unit{i}"
            x, before = cell(net, x, before, STEM * 2 ** (stage - 1), reduces, halved, name), x
            halved = reduces
    return x


def cell(net: Net, x: Tensor, before: Tensor, width: int, reduces: bool, halved: bool, name: str) -> Tensor:
    """Four new states of `width` channels, joined. halved: x has half of the sides of what was before."""
    before = (factorized if halved else pointwise)(net, before, width, f"{name}.preprocess_prev")
    states = [before, pointwise(net, x, width, f"{name}.preprocess")]
    for step, pair in enumerate(REDUCTION if reduces else NORMAL):
        terms = [
            OPERATIONS[operation](
                net, states[state], 2 if reduces and state < 2 else 1, f"{name}.body.ops.{2 * step + i}"
            )
            for i, (operation, state) in enumerate(pair)
        ]
        states.append(layers.Add(name=f"{name}.body.add.{step}")(terms))
    return concatenate(states[2:], name)


def act_conv_norm(net: Net, x: Tensor, filters: int, kernel: int, name: str, stride: int = 1) -> Tensor:
    x = net.act(x, f"{name}.activ")
    return net.conv_norm(x, filters, kernel, f"{name}.conv", f"{name}.bn", stride)


def pointwise(net: Net, x: Tensor, filters: int, name: str) -> Tensor:
    return act_conv_norm(net, x, filters, 1, name)


def factorized(net: Net, x: Tensor, filters: int, name: str) -> Tensor:
    """Halves a map by two pointwise convolutions that see places apart by one row and one column."""
    x = net.act(x, f"{name}.activ")
    shifted = layers.Cropping2D(((1, 0), (1, 0)), name=f"{name}.shifted")(x)
    halves = [
        net.conv(x, filters // 2, 1, f"{name}.conv1", 2),
        net.conv(shifted, filters // 2, 1, f"{name}.conv2", 2),
    ]
    return net.norm(concatenate(halves, name), f"{name}.bn")


def separable(net: Net, x: Tensor, stride: int, name: str) -> Tensor:
    """Twice depthwise and pointwise."""
    x = depthwise_pointwise(net, x, stride, 1, f"{name}.conv1")
    return depthwise_pointwise(net, x, 1, 1, f"{name}.conv2")


def dilated(net: Net, x: Tensor, stride: int, name: str) -> Tensor:
    return depthwise_pointwise(net, x, stride, 2, name)


def depthwise_pointwise(net: Net, x: Tensor, stride: int, dilation: int, name: str) -> Tensor:
    y = net.depthwise(net.act(x, f"{name}.activ"), 3, f"{name}.conv.dw_conv", stride, dilation=dilation)
    return net.conv_norm(y, x.shape[-1], 1, f"{name}.conv.pw_conv", f"{name}.bn")


def max_pool(net: Net, x: Tensor, stride: int, name: str) -> Tensor:
    return max_pool_signed(x, name)


def skip(net: Net, x: Tensor, stride: int, name: str) -> Tensor:
    return x


OPERATIONS = {"separable": separable, "dilated": dilated, "max_pool": max_pool, "skip": skip}
