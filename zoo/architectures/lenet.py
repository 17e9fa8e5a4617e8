"""LeNet-5. LeCun et al., "Gradient-based learning applied to document recognition", Proceedings of the IEEE
86 (1998), figure 2 and section II.B: layers C1 to F6, of 60,000 weights.

Colours become grey first. The paper's output compares F6 with fixed drawings of the characters; a linear
layer stands for it, so that the classes may be others.
"""

from keras import layers

from zoo.blocks import Net, Tensor, concatenate, parts
from zoo.layers import Grey

# Table I: the maps of S2 that each map of C3 sees.
SEEN = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)


def lenet5(net: Net, images: Tensor) -> Tensor:
    """Images [N, H, W, 3], normalised -> [N, h, w, 84]: one place for 32 x 32 pixels."""
    x = Grey(name="grey")(images)
    x = squash(net.conv(x, 6, 5, "c1", bias=True, padding="valid"), "c1.act")
    x = subsample(net, x, "s2")
    x = partly_connected(net, x, "c3")
    x = subsample(net, x, "s4")
    x = squash(net.conv(x, 120, 5, "c5", bias=True, padding="valid"), "c5.act")
    return squash(net.conv(x, 84, 1, "f6", bias=True), "f6.act")


def subsample(net: Net, x: Tensor, name: str) -> Tensor:
    """Four pixels to one, times a learned coefficient of the map, plus its bias."""
    x = layers.AveragePooling2D(2, name=f"{name}.pool")(x)
    return squash(net.depthwise(x, 1, name, bias=True), f"{name}.act")


def partly_connected(net: Net, x: Tensor, name: str) -> Tensor:
    """Each map sees others than its neighbours, so that they learn different features."""
    maps = parts(x, 6, f"{name}.in")
    seen = [concatenate([maps[i] for i in chosen], f"{name}.{n}") for n, chosen in enumerate(SEEN)]
    found = [net.conv(x, 1, 5, f"{name}.{n}", bias=True, padding="valid") for n, x in enumerate(seen)]
    return squash(concatenate(found, name), f"{name}.act")


def squash(x: Tensor, name: str) -> Tensor:
    """1.7159 tanh(2 x / 3), which keeps -1 and 1 where they are. LeCun et al., appendix A."""
    x = layers.Rescaling(2 / 3, name=f"{name}.in")(x)
    return layers.Rescaling(1.7159, name=f"{name}.out")(layers.Activation("tanh", name=name)(x))
