"""Cross stage partial networks. Wang et al., "CSPNet: a new backbone that can enhance learning capability of
CNN", arXiv 1911.11929.
"""

from collections.abc import Sequence
from itertools import count

from keras import layers

from zoo.blocks import Net, Tensor, parts


class LeakyNet(Net):
    """A hundredth of what is negative passes, as the public weights were trained; Darknet's own nets let a
    tenth pass.
    """

    def act(self, x: Tensor, name: str) -> Tensor:
        return layers.LeakyReLU(0.01, name=name)(x)


def cspdarknet(net: Net, images: Tensor, *, depths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 1024]."""
    net, done, last = LeakyNet(**vars(net)), count(), sum(depths) - 1
    x = net.unit(images, 32, 3, "stem.conv1")
    for stage, depth in enumerate(depths):
        width, name = 64 * 2**stage, f"stages.{stage}"
        # The first stage is too narrow to be halved.
        part, inner = (width, width // 2) if stage == 0 else (width // 2, width // 2)
        x = net.unit(x, width, 3, f"{name}.conv_down", 2)
        kept, y = parts(net.unit(x, 2 * part, 1, f"{name}.conv_exp"), 2, f"{name}.split")
        for i in range(depth):
            y = block(net, y, inner, f"{name}.blocks.{i}", next(done) / last)
        y = net.unit(y, part, 1, f"{name}.conv_transition_b")
        joined = layers.Concatenate(name=f"{name}.cat")([kept, y])
        x = net.unit(joined, width, 1, f"{name}.conv_transition")
    return x


def block(net: Net, x: Tensor, inner: int, name: str, position: float) -> Tensor:
    y = net.unit(x, inner, 1, f"{name}.conv1")
    y = net.unit(y, x.shape[-1], 3, f"{name}.conv2")
    return net.add(x, y, name, position)
