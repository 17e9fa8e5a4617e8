"""SqueezeNet. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", arXiv
1602.07360. 1.1 is the authors' later release, which pools earlier; with the simple bypass of figure 2 it is
also called SqueezeResNet. Layers are named as torchvision's.
"""

from collections.abc import Sequence

from keras import layers

from zoo.blocks import Net, Tensor, concatenate, max_pool

FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


def squeezenet(
    net: Net, images: Tensor, *, filters: int, kernel: int, pools: Sequence[int], bypass: bool = False
) -> Tensor:
    """Images [N, H, W, 3], normalised -> [N, H/16, W/16, 512].

    filters and kernel are the first convolution's; pools are the positions of the max pools behind it;
    bypass: around the fire modules that keep the number of channels.
    """
    x = net.conv(images, filters, kernel, "features.0", 2, bias=True, padding="valid")
    x = net.act(x, "features.1")
    fires = iter(FIRES)
    for place in range(2, 2 + len(FIRES) + len(pools)):
        if place in pools:
            x = max_pool(x, 3, 2, f"features.{place}", ceil=True)
        else:
            y = fire(net, x, *next(fires), f"features.{place}")
            same = y.shape[-1] == x.shape[-1]
            x = layers.Add(name=f"features.{place}.add")([x, y]) if bypass and same else y
    return x


def fire(net: Net, x: Tensor, squeezed: int, expanded: int, name: str) -> Tensor:
    x = net.act(net.conv(x, squeezed, 1, f"{name}.squeeze", bias=True), f"{name}.squeeze.act")
    branches = [
        net.act(net.conv(x, expanded, kernel, layer, bias=True), f"{layer}.act")
        for kernel, layer in ((1, f"{name}.expand1x1"), (3, f"{name}.expand3x3"))
    ]
    return concatenate(branches, name)
