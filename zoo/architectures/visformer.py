"""Visformer. Chen et al., "Visformer: The vision-friendly transformer", arXiv 2104.12533: a transformer
turned into a ResNet step by step: stages, norms over the batch, grouped convolutions early, attention late.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from zoo.blocks import Net, Tensor
from zoo.initializers import he_fan_out
from zoo.layers import Attention, LearnedPositions

GROUPS = 8  # of the convolutions of 3x3
SIDES = (28, 14, 7)  # of each stage's map, of 224 pixels: where places are learned for


def visformer(
    net: Net, images: Tensor, *, stem: int, widths: Sequence[int], depths: Sequence[int], heads: int
) -> Tensor:
    """Images [N, H, W, 3], normalised -> feature map [N, H/32, W/32, C]. stem: its channels."""
    x = net.conv_norm_act(images, stem, 7, "stem.0", "stem.1", 2)
    net = replace(net, activation="gelu", start=he_fan_out)
    done, last = count(), sum(depths) - 1
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        x = embed(net, x, width, stage, patch=4 if stage == 1 else 2)
        block = convolutions if stage == 1 else partial(transformer, heads=heads)
        for i in range(depth):
            x = block(net, x, f"stage{stage}.{i}", next(done) / last)
    return net.norm(x, "norm")


def embed(net: Net, x: Tensor, width: int, stage: int, patch: int) -> Tensor:
    """Every patch of places becomes one place that knows where it is."""
    name = f"patch_embed{stage}"
    x = net.conv(x, width, patch, f"{name}.proj", patch, bias=True, padding="valid")
    x = net.norm(x, f"{name}.norm")
    return LearnedPositions(SIDES[stage - 1], name=f"pos_embed{stage}")(x)


def convolutions(net: Net, x: Tensor, name: str, position: float) -> Tensor:
    """Twice the channels, grouped, and back."""
    y = net.norm(x, f"{name}.norm2")
    y = net.act(net.conv(y, 2 * x.shape[-1], 1, f"{name}.mlp.conv1"), f"{name}.mlp.act1")
    y = net.act(net.conv(y, y.shape[-1], 3, f"{name}.mlp.conv2", groups=GROUPS), f"{name}.mlp.act2")
    return net.add(x, net.conv(y, x.shape[-1], 1, f"{name}.mlp.conv3"), name, position)


def transformer(net: Net, x: Tensor, name: str, position: float, *, heads: int) -> Tensor:
    width = x.shape[-1]
    y = net.conv(net.norm(x, f"{name}.norm1"), 3 * width, 1, f"{name}.attn.qkv")
    y = net.conv(Attention(heads, name=f"{name}.attn")(y), width, 1, f"{name}.attn.proj")
    x = net.add(x, y, f"{name}.sum1", position)
    y = net.conv(net.norm(x, f"{name}.norm2"), 4 * width, 1, f"{name}.mlp.conv1")
    y = net.conv(net.act(y, f"{name}.mlp.act1"), width, 1, f"{name}.mlp.conv3")
    return net.add(x, y, f"{name}.sum2", position)
