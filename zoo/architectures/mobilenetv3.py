"""MobileNetV3. Howard et al., "Searching for MobileNetV3", arXiv 1905.02244."""

from dataclasses import replace

from zoo.blocks import Net, Tensor, round_channels
from zoo.blocks.mobile import (
    Stage,
    Stages,
    conv_block,
    hard_attention,
    inverted_residual,
    late_head,
    scaled,
    separable,
    trunk,
)


def mobilenetv3(net: Net, images: Tensor, *, size: str, width: float, depth: float = 1) -> Tensor:
    """Images, normalised -> [N, 1, 1, C]. Widths below 0.75 keep the stem."""
    stages = scaled(STAGES[size], width, depth)
    return _network(replace(net, activation="hard_swish"), images, size, stages, width)


def mobilenetv3_early(net: Net, images: Tensor) -> Tensor:
    """timm's, from before the authors' release: another attention, no bias in the head."""
    stages = [
        tuple(replace(row, attention=early_attention) if row.attention else row for row in stage)
        for stage in scaled(STAGES["large"])
    ]
    stages[0] = (replace(stages[0][0], skip=False),)
    return _network(replace(net, activation="hard_swish"), images, "large", stages, 1, bias=False)


def mobilenetv3_minimalistic(net: Net, images: Tensor, *, size: str) -> Tensor:
    """Without what is slow where only plain operations are fast: ReLU, 3x3 kernels, no attention."""
    stages = [
        tuple(map(_plain, stage)) if isinstance(stage, tuple) else _plain(stage) for stage in STAGES[size]
    ]
    return _network(net, images, size, stages, 1)


def _network(net: Net, images: Tensor, size: str, stages: Stages, width: float, bias: bool = True) -> Tensor:
    stem = round_channels(16 * width) if width >= 0.75 else 16
    x = net.conv_norm_act(images, stem, 3, "conv_stem", "bn1", stride=2)
    return late_head(net, trunk(net, x, stages), HEADS[size], bias=bias)


def _plain(stage: Stage) -> Stage:
    return replace(stage, kernel=min(stage.kernel, 3), attention=None, activation=None)


def early_attention(net: Net, y: Tensor, entering: int, name: str) -> Tensor:
    """Not rounded, and activated as the network is."""
    return net.squeeze_excite(y, y.shape[-1] // 4, name, gate="hard_sigmoid")


HEADS = {"large": 1280, "small": 1024}

STAGES: dict[str, Stages] = {
    "large": [
        Stage(separable, 3, 16, activation="relu"),
        (
            Stage(inverted_residual, 3, 24, 1, 2, 4, activation="relu"),
            Stage(inverted_residual, 3, 24, 1, 1, 3, activation="relu"),
        ),
        Stage(inverted_residual, 5, 40, 3, 2, 3, hard_attention, activation="relu"),
        (
            Stage(inverted_residual, 3, 80, 1, 2, 6),
            Stage(inverted_residual, 3, 80, 1, 1, 2.5),
            Stage(inverted_residual, 3, 80, 2, 1, 2.3),
        ),
        Stage(inverted_residual, 3, 112, 2, 1, 6, hard_attention),
        Stage(inverted_residual, 5, 160, 3, 2, 6, hard_attention),
        Stage(conv_block, 1, 960, skip=False),
    ],
    "small": [
        Stage(separable, 3, 16, 1, 2, 1, hard_attention, activation="relu"),
        (
            Stage(inverted_residual, 3, 24, 1, 2, 4.5, activation="relu"),
            Stage(inverted_residual, 3, 24, 1, 1, 3.67, activation="relu"),
        ),
        (
            Stage(inverted_residual, 5, 40, 1, 2, 4, hard_attention),
            Stage(inverted_residual, 5, 40, 2, 1, 6, hard_attention),
        ),
        Stage(inverted_residual, 5, 48, 2, 1, 3, hard_attention),
        Stage(inverted_residual, 5, 96, 3, 2, 6, hard_attention),
        Stage(conv_block, 1, 576, skip=False),
    ],
}
