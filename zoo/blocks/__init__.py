"""What several papers share. A `Net` carries the conventions of one set of weights, so that a family speaks
of its paper only.

Every weighted layer is named as the module path of its reference implementation: the converter needs no
table.
"""

from zoo.blocks.channelwise import (
    Tensor,
    channels,
    concatenate,
    gated,
    pad_channels,
    parts,
    round_channels,
    select,
    shuffle,
    split,
)
from zoo.blocks.net import NORMS, EvoNet, GroupNet, LayerNet, LeakyNet, Net, RootNet, instance_norm, map_norm
from zoo.blocks.pools import (
    POOLINGS,
    SMOOTHINGS,
    average_around,
    flatten,
    max_pool,
    max_pool_blurred,
    max_pool_signed,
    smoothed,
    whole_steps,
)

__all__ = [
    "NORMS",
    "POOLINGS",
    "SMOOTHINGS",
    "EvoNet",
    "GroupNet",
    "LayerNet",
    "LeakyNet",
    "Net",
    "RootNet",
    "Tensor",
    "average_around",
    "channels",
    "concatenate",
    "flatten",
    "gated",
    "instance_norm",
    "map_norm",
    "max_pool",
    "max_pool_blurred",
    "max_pool_signed",
    "pad_channels",
    "parts",
    "round_channels",
    "select",
    "shuffle",
    "smoothed",
    "split",
    "whole_steps",
]
