"""MENet. Qin et al., "Merging and evolution: improving CNNs for mobile applications",
arXiv 1803.09127: ShuffleNet's unit, and beside its groups a narrow path that sees all of them.
"""

from keras import layers

from zoo.blocks import Net, Tensor, average_around, concatenate, gated, max_pool, shuffle

DEPTHS = (4, 8, 4)


def menet(net: Net, images: Tensor, *, stem: int, width: int, side: int, groups: int) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 4 * width]. width: of the first stage;
    side: of the path beside the groups.
    """
    name = "features.init_block"
    x = net.conv_norm_act(images, stem, 3, f"{name}.conv", f"{name}.bn", 2)
    x = max_pool(x, 3, 2, f"{name}.pool", pad=1)
    for stage, depth in enumerate(DEPTHS, start=1):
        for i in range(1, depth + 1):
            # The stem is too thin for groups.
            first = 1 if (stage, i) == (1, 1) else groups
            stride = 2 if i == 1 else 1
            name = f"features.stage{stage}.unit{i}"
            x = unit(net, x, width * 2 ** (stage - 1), side, first, groups, stride, name)
    return x


def unit(
    net: Net, x: Tensor, width: int, side: int, first: int, groups: int, stride: int, name: str
) -> Tensor:
    """Figure 3. With a stride, the averaged input stands behind the new channels."""
    inner, new = width // 4, width - x.shape[-1] if stride > 1 else width
    y = net.conv(x, inner, 1, f"{name}.compress_conv1", groups=first)
    y = shuffle(net.norm_act(y, f"{name}.compress_bn1"), groups, f"{name}.c_shuffle")
    gate = merge_and_evolve(net, y, side, stride, name)
    y = net.norm(net.depthwise(y, 3, f"{name}.dw_conv2", stride), f"{name}.dw_bn2")
    y = net.conv(gated(y, gate, "sigmoid", name), new, 1, f"{name}.expand_conv3", groups=groups)
    y = net.norm(y, f"{name}.expand_bn3")
    if stride > 1:
        x = average_around(x, f"{name}.avgpool", 2, count_border=True)
        return net.act(concatenate([y, x], name), f"{name}.act")
    return net.act(layers.Add(name=f"{name}.add")([x, y]), f"{name}.act")


def merge_and_evolve(net: Net, x: Tensor, side: int, stride: int, name: str) -> Tensor:
    """Logits of a gate for the grouped path, from all of its channels."""
    s = net.conv_norm_act(x, side, 1, f"{name}.s_merge_conv", f"{name}.s_merge_bn")
    s = net.conv_norm_act(s, side, 3, f"{name}.s_conv", f"{name}.s_conv_bn", stride)
    return net.conv_norm(s, x.shape[-1], 1, f"{name}.s_evolve_conv", f"{name}.s_evolve_bn")
