"""TResNet. Ridnik et al., "TResNet: high performance GPU-dedicated architecture", arXiv 2003.13630."""

from collections.abc import Callable, Sequence
from itertools import count

from zoo.blocks import LeakyNet, Net, Tensor, smoothed, whole_steps
from zoo.layers import SpaceToDepth

PATCH = 4
SLOPE = 1e-3


def tresnet(net: Net, images: Tensor, *, depths: Sequence[int], width: int, bottlenecks: int = 2) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 32 * width]. The last `bottlenecks`
    stages are of them, the others of basic blocks. The sides must be multiples of 4.
    """
    images = whole_steps(images, PATCH)
    x = SpaceToDepth(PATCH, name="body.s2d")(images)
    x = LeakyNet(**vars(net)).unit(x, width, 3, "body.conv1")
    leaky, done = LeakyNet(**vars(net), slope=SLOPE), count()
    for stage, depth in enumerate(depths):
        block: Callable[..., Tensor] = basic if stage < len(depths) - bottlenecks else bottleneck
        for i in range(depth):
            stride = 2 if i == 0 and stage > 0 else 1
            name = f"body.layer{stage + 1}.{i}"
            y = block(leaky, x, width * 2**stage, stride, name, attention=stage < len(depths) - 1)
            x = shortcut(net, x, y.shape[-1], stride, f"{name}.downsample")
            x = net.act(net.add(x, y, name, next(done) / (sum(depths) - 1)), f"{name}.act")
    return x


def basic(net: Net, x: Tensor, width: int, stride: int, name: str, *, attention: bool) -> Tensor:
    y = smoothed(net.unit(x, width, 3, f"{name}.conv1"), "blur", stride, f"{name}.aa")
    y = net.conv_norm(y, width, 3, f"{name}.conv2.conv", f"{name}.conv2.bn")
    return squeezed(net, y, max(width // 4, 64), name) if attention else y


def bottleneck(net: Net, x: Tensor, width: int, stride: int, name: str, *, attention: bool) -> Tensor:
    y = net.unit(x, width, 1, f"{name}.conv1")
    y = smoothed(net.unit(y, width, 3, f"{name}.conv2"), "blur", stride, f"{name}.aa")
    y = squeezed(net, y, max(width // 2, 64), name) if attention else y
    return net.conv_norm(y, 4 * width, 1, f"{name}.conv3.conv", f"{name}.conv3.bn")


def squeezed(net: Net, y: Tensor, channels: int, name: str) -> Tensor:
    return net.squeeze_excite(y, channels, f"{name}.se", convs=("fc1", "fc2"), activation="relu")


def shortcut(net: Net, x: Tensor, channels: int, stride: int, name: str) -> Tensor:
    if stride == 1 and x.shape[-1] == channels:
        return x
    x = smoothed(x, "average", stride, f"{name}.0")
    name = f"{name}.{1 if stride > 1 else 0}"
    return net.conv_norm(x, channels, 1, f"{name}.conv", f"{name}.bn")
