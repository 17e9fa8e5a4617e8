"""PeleeNet. Wang et al., "Pelee: a real-time object detection system on mobile devices", arXiv 1804.06882."""

from keras import layers

from zoo.blocks import Net, Tensor, concatenate

GROWTH = 32
STAGES = ((3, 1), (4, 2), (8, 4), (6, 4))  # dense layers; how wide their bottlenecks are, in growth rates


def peleenet(net: Net, images: Tensor) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 704]."""
    x = stem(net, images, "features.init_block")
    for stage, (depth, bottleneck) in enumerate(STAGES, start=1):
        name = f"features.stage{stage}"
        if stage > 1:
            x = net.unit(x, x.shape[-1], 1, f"{name}.trans{stage}.conv")
            x = layers.AveragePooling2D(2, name=f"{name}.trans{stage}.pool")(x)
        for i in range(1, depth + 1):
            x = two_way_dense(net, x, bottleneck * GROWTH // 2, f"{name}.unit{i}")
    return net.unit(x, x.shape[-1], 1, "features.final_block")


def stem(net: Net, x: Tensor, name: str) -> Tensor:
    """Figure 4: a convolution and a maximum halve the map side by side."""
    x = net.unit(x, 32, 3, f"{name}.first_conv", 2)
    y = net.unit(x, 16, 1, f"{name}.branches.branch1.conv1")
    y = net.unit(y, 32, 3, f"{name}.branches.branch1.conv2", 2)
    x = layers.MaxPooling2D(2, 2, "same", name=f"{name}.branches.branch2")(x)
    return net.unit(concatenate([y, x], name), 32, 1, f"{name}.last_conv")


def two_way_dense(net: Net, x: Tensor, inner: int, name: str) -> Tensor:
    """Figure 2: one 3x3 window for small objects, two for larger ones."""
    y = net.unit(net.unit(x, inner, 1, f"{name}.branch1.conv1"), GROWTH // 2, 3, f"{name}.branch1.conv2")
    z = net.unit(net.unit(x, inner, 1, f"{name}.branch2.conv1"), GROWTH // 2, 3, f"{name}.branch2.conv2")
    z = net.unit(z, GROWTH // 2, 3, f"{name}.branch2.conv3")
    return concatenate([x, y, z], name)
