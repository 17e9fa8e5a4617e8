"""ConvMixer. Trockman and Kolter, "Patches are all you need?", arXiv 2201.09792."""

from dataclasses import replace

from zoo.blocks import Net, Tensor


def convmixer(
    net: Net, images: Tensor, *, width: int, depth: int, kernel: int, patch: int = 7, activation: str = "gelu"
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/patch, W/patch, width]: one resolution
    throughout. A depthwise convolution mixes places, a 1x1 convolution channels.
    """
    net = replace(net, activation=activation)
    x = net.conv(images, width, patch, "stem.0", patch, bias=True, padding="valid")
    x = net.norm(net.act(x, "stem.1"), "stem.2")
    for i in range(depth):
        name = f"blocks.{i}"
        y = net.act(net.depthwise(x, kernel, f"{name}.0.fn.0", bias=True), f"{name}.0.fn.1")
        x = net.add(x, net.norm(y, f"{name}.0.fn.2"), f"{name}.0", i / (depth - 1))
        y = net.act(net.conv(x, width, 1, f"{name}.1", bias=True), f"{name}.2")
        x = net.norm(y, f"{name}.3")
    return x
