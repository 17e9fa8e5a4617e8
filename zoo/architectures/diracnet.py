"""DiracNet. Zagoruyko and Komodakis, "DiracNets: training very deep neural networks without
skip-connections", arXiv 1706.00388. The published weights are of the second version, the Dirac
parametrisation folded into kernels and biases: a plain chain of convolutions.
"""

from collections.abc import Sequence

from keras import layers

from zoo.blocks import Net, Tensor, max_pool_signed


def diracnet(net: Net, images: Tensor, *, depths: Sequence[int]) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, 512]."""
    x = net.conv(images, 64, 7, "features.init_block.conv", 2, bias=True)
    x = max_pool_signed(x, "features.init_block.pool")
    for stage, depth in enumerate(depths, start=1):
        for i in range(1, depth + 1):
            name = f"features.stage{stage}.unit{i}"
            x = net.conv(net.act(x, f"{name}.act"), 64 * 2 ** (stage - 1), 3, f"{name}.conv", bias=True)
        if stage < len(depths):
            x = layers.MaxPooling2D(2, name=f"features.stage{stage}.pool{stage}")(x)
    return net.act(x, "features.final_activ")
