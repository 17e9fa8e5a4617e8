"""Network in network. Lin et al., arXiv 1312.4400, figure 2: behind every convolution two more of 1x1, a
small network at each place; the last one's maps, pooled, are the classes. Layers are named as pytorchcv's.
"""

from collections.abc import Sequence

from keras import layers

from zoo.blocks import Net, Tensor, average_around, max_pool

DROPOUT = 0.5


def cifar(net: Net, images: Tensor) -> Tensor:
    """For pictures of 32 pixels: [N, H, W, 3], normalised -> [N, H/4, W/4, 192]."""
    x = mlpconv(net, images, 5, (192, 160, 96), "features.stage1")
    x = max_pool(x, 3, 2, "features.stage2.pool", pad=1)
    x = mlpconv(net, dropped(x, "features.stage2"), 5, (192, 192, 192), "features.stage2")
    x = average_around(x, "features.stage3.pool", 2, count_border=True)
    return mlpconv(net, dropped(x, "features.stage3"), 3, (192, 192), "features.stage3")


def mlpconv(net: Net, x: Tensor, kernel: int, widths: Sequence[int], name: str) -> Tensor:
    for number, width in enumerate(widths, start=1):
        conv = f"{name}.unit{number}.conv"
        x = net.act(net.conv(x, width, kernel if number == 1 else 1, conv, bias=True), f"{conv}.act")
    return x


def dropped(x: Tensor, name: str) -> Tensor:
    """Between the stages, where the paper has its dropout, and not before the classifier."""
    return layers.Dropout(DROPOUT, name=f"{name}.drop")(x)
