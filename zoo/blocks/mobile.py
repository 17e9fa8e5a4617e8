"""What the networks built of inverted residuals share: MobileNet, MnasNet, EfficientNet.

A network is a list of stages, the rows of its paper's table; block I of stage S is named blocks.S.I.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from zoo.blocks import Net, Tensor, round_channels, smoothed


@dataclass(frozen=True)
class Stage:
    """A row of the papers' tables: operator, kernel, channels, repeats, stride of the first block, expansion,
    attention after the depthwise convolution, whether blocks that keep the shape add their input, the
    activation where it is not the network's, and what halves the map where it is no stride (a key of
    zoo.blocks.SMOOTHINGS).
    """

    block: Callable[[Net, Tensor, Stage, str], Tensor]
    kernel: int
    channels: int
    depth: int = 1
    stride: int = 1
    expand: float = 1
    attention: Callable[[Net, Tensor, int, str], Tensor] | None = None
    skip: bool = True
    activation: str | None = None
    smooth: str = ""

    @property
    def conv_stride(self) -> int:
        return 1 if self.smooth else self.stride


# A stage that needs several rows is a tuple of them.
Stages = Sequence[Stage | tuple[Stage, ...]]


def network(net: Net, images: Tensor, stem: int, stages: Stages, head: int, stem_kernel: int = 3) -> Tensor:
    """Images, normalised -> feature map [N, H/32, W/32, head]; stem_kernel is the stem's convolution's."""
    x = net.conv_norm_act(images, stem, stem_kernel, "conv_stem", "bn1", stride=2)
    x = trunk(net, x, stages)
    return net.conv_norm_act(x, head, 1, "conv_head", "bn2")


def trunk(net: Net, x: Tensor, stages: Stages) -> Tensor:
    return ends_of_stages(net, x, stages)[-1]


def ends_of_stages(net: Net, x: Tensor, stages: Stages) -> list[Tensor]:
    """The last map of each."""
    ends: dict[str, Tensor] = {}
    blocks = list(named_blocks(stages))
    for number, (name, block) in enumerate(blocks):
        y = block.block(replace(net, activation=block.activation or net.activation), x, block, name)
        same_shape = block.stride == 1 and x.shape[-1] == y.shape[-1]
        x = net.add(x, y, name, number / len(blocks)) if same_shape and block.skip else y
        ends[name.rpartition(".")[0]] = x
    return list(ends.values())


def named_blocks(stages: Stages) -> Iterator[tuple[str, Stage]]:
    """Every block in order, as a stage of one: only the first of a row has the stride."""
    for index, stage in enumerate(stages):
        rows = stage if isinstance(stage, tuple) else (stage,)
        blocks = [
            replace(row, depth=1, stride=row.stride if i == 0 else 1)
            for row in rows
            for i in range(row.depth)
        ]
        yield from ((f"blocks.{index}.{i}", block) for i, block in enumerate(blocks))


def scaled(
    stages: Stages,
    width: float = 1,
    depth: float = 1,
    *,
    ends: bool = True,
    rounded: Callable[[float], int] = round_channels,
) -> list[tuple[Stage, ...]]:
    """Channels times the width, repeats times the depth; the repeats of the first and the last stage only
    with ends.
    """
    last = len(stages) - 1

    def scale(stage: Stage | tuple[Stage, ...], factor: float) -> tuple[Stage, ...]:
        rows = stage if isinstance(stage, tuple) else (stage,)
        repeats = shared_out([row.depth for row in rows], factor)
        return tuple(
            replace(row, channels=rounded(row.channels * width), depth=repeat)
            for row, repeat in zip(rows, repeats, strict=True)
        )

    return [scale(stage, depth if ends or 0 < i < last else 1) for i, stage in enumerate(stages)]


def shared_out(depths: Sequence[int], factor: float) -> list[int]:
    """The repeats of a stage's rows times the factor, rounded up for the stage, and dealt from its last
    row on.
    """
    before, after = sum(depths), math.ceil(sum(depths) * factor)
    dealt: list[int] = []
    for depth in reversed(depths):
        share = max(1, round(depth / before * after))
        dealt.insert(0, share)
        before, after = before - depth, after - share
    return dealt


def conv_block(net: Net, x: Tensor, stage: Stage, name: str) -> Tensor:
    width, stride = stage.channels, stage.conv_stride
    y = net.conv_norm_act(x, width, stage.kernel, f"{name}.conv", f"{name}.bn1", stride)
    return smoothed(y, stage.smooth, stage.stride, f"{name}.aa")


def separable(net: Net, x: Tensor, stage: Stage, name: str) -> Tensor:
    """Depthwise, attention, linear projection."""
    y = net.norm_act(net.depthwise(x, stage.kernel, f"{name}.conv_dw", stage.conv_stride), f"{name}.bn1")
    y = attend(net, smoothed(y, stage.smooth, stage.stride, f"{name}.aa"), x, stage, name)
    return net.conv_norm(y, stage.channels, 1, f"{name}.conv_pw", f"{name}.bn2")


def inverted_residual(net: Net, x: Tensor, stage: Stage, name: str, width: int | None = None) -> Tensor:
    """Expand, depthwise, attention, linear projection. Sandler et al., arXiv 1801.04381. width: where the
    expansion is to so many channels, not by a factor.
    """
    y = net.conv_norm_act(x, width or expanded(x, stage), 1, f"{name}.conv_pw", f"{name}.bn1")
    y = net.norm_act(net.depthwise(y, stage.kernel, f"{name}.conv_dw", stage.conv_stride), f"{name}.bn2")
    y = attend(net, smoothed(y, stage.smooth, stage.stride, f"{name}.aa"), x, stage, name)
    return net.conv_norm(y, stage.channels, 1, f"{name}.conv_pwl", f"{name}.bn3")


def fused(net: Net, x: Tensor, stage: Stage, name: str, group_size: int = 0) -> Tensor:
    """One convolution instead of expansion and depthwise: full, or in groups of so many channels."""
    width = expanded(x, stage)
    groups = width // group_size if group_size else 1
    y = net.conv(x, width, stage.kernel, f"{name}.conv_exp", stage.conv_stride, groups=groups)
    y = smoothed(net.norm_act(y, f"{name}.bn1"), stage.smooth, stage.stride, f"{name}.aa")
    y = attend(net, y, x, stage, name)
    return net.conv_norm(y, stage.channels, 1, f"{name}.conv_pwl", f"{name}.bn2")


def expanded(x: Tensor, stage: Stage) -> int:
    return round_channels(x.shape[-1] * stage.expand)


def attend(net: Net, y: Tensor, block_input: Tensor, stage: Stage, name: str) -> Tensor:
    return stage.attention(net, y, block_input.shape[-1], f"{name}.se") if stage.attention else y


def quarter_of_input(net: Net, y: Tensor, entering: int, name: str) -> Tensor:
    """The squeeze is a quarter of the channels that enter the block, not of the expanded ones."""
    return net.squeeze_excite(y, entering // 4, name)


def context_of_input(net: Net, y: Tensor, entering: int, name: str) -> Tensor:
    """Channel attention to where it matters: the squeeze is a mean whose weights are a softmax over all
    places. Cao et al., arXiv 1904.11492.
    """
    return net.global_context(y, entering // 4, name)


def hard_attention(net: Net, y: Tensor, entering: int, name: str) -> Tensor:
    """A quarter of the expanded channels, and a gate of straight lines. Howard et al., arXiv 1905.02244."""
    squeezed = round_channels(y.shape[-1] / 4)
    return net.squeeze_excite(y, squeezed, name, activation="relu", gate="hard_sigmoid")


def late_head(net: Net, x: Tensor, channels: int, *, bias: bool = True) -> Tensor:
    """Pool, then the last convolution: [N, H, W, C] -> [N, 1, 1, channels]. Howard et al., arXiv
    1905.02244.
    """
    x = net.global_pool(x, "head_pool", keepdims=True)
    return net.act(net.conv(x, channels, 1, "conv_head", bias=bias), "act2")
