"""Big Transfer. Kolesnikov et al., "Big transfer (BiT): general visual representation learning", arXiv
1912.11370.

ResNet V2 without batch statistics: group normalisation, and convolutions of standardised weights (Qiao et
al., arXiv 1903.10520).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from keras import layers

from zoo.architectures.resnetv2 import bottleneck, stages
from zoo.blocks import GroupNet, Net, Tensor
from zoo.layers import StandardizedConv2D


@dataclass(frozen=True)
class BatchFree(GroupNet):
    """Standardised filters, too."""

    def conv_layer(self, groups: int) -> Callable[..., Any]:
        return partial(StandardizedConv2D, groups=groups, epsilon=1e-8)


def bit(net: Net, images: Tensor, *, depths: Sequence[int], width: int) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 2048 * width]."""
    free = BatchFree(**vars(net))
    x = free.conv(images, 64 * width, 7, "stem.conv", stride=2)
    # The pool's border is zeros although the map is not yet activated: as released.
    x = layers.ZeroPadding2D(1, name="stem.pad")(x)
    x = layers.MaxPooling2D(3, 2, name="stem.pool")(x)
    return stages(free, x, depths, bottleneck, width)
