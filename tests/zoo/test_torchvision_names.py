"""torchvision's names of RegNet, EfficientNet and MaxViT, in its files, fit the networks by the renames."""

import keras
import numpy as np
import pytest

from zoo.build import build
from zoo.registry import resolve
from zoo.weights.convert import renamed, slots

# A stage is the units of its blocks, and how many blocks there are.
PLAIN, FUSED, ATTENDED, INVERTED = (
    ("unit",),
    ("unit", "unit"),
    ("unit", "se", "unit"),
    ("unit", "unit", "se", "unit"),
)
EFFICIENTNETS = {
    "efficientnet_b1.tv2_in1k": [(ATTENDED, 2), *((INVERTED, n) for n in (3, 3, 4, 4, 5, 2))],
    "efficientnetv2_s.tv_in1k": [(PLAIN, 2), (FUSED, 4), (FUSED, 4), *((INVERTED, n) for n in (6, 9, 15))],
    "efficientnetv2_m.tv_in1k": [
        (PLAIN, 3),
        (FUSED, 5),
        (FUSED, 5),
        *((INVERTED, n) for n in (7, 14, 18, 5)),
    ],
}
REGNETS = {"regnetx_008.tv_in1k": ("abc", (1, 3, 7, 5)), "regnety_004.tv_in1k": ("abc+", (1, 3, 6, 6))}


@pytest.mark.parametrize("name", EFFICIENTNETS)
def test_names_of_efficientnet_fit(name):
    keys = [*unit("features.0"), "classifier.1.weight", "classifier.1.bias"]
    for stage, (units, blocks) in enumerate(EFFICIENTNETS[name], start=1):
        for i in range(blocks):
            for k, kind in enumerate(units):
                part = f"features.{stage}.{i}.block.{k}"
                keys += unit(part) if kind == "unit" else squeeze(part)
    fits(name, [*keys, *unit(f"features.{len(EFFICIENTNETS[name]) + 1}")])


@pytest.mark.parametrize("name", REGNETS)
def test_names_of_regnet_fit(name):
    units, depths = REGNETS[name]
    keys = [*unit("stem"), "fc.weight", "fc.bias"]
    for stage, depth in enumerate(depths, start=1):
        keys += unit(f"trunk_output.block{stage}.block{stage}-0.proj")
        for i in range(depth):
            block = f"trunk_output.block{stage}.block{stage}-{i}.f"
            for letter in units:
                keys += squeeze(f"{block}.se") if letter == "+" else unit(f"{block}.{letter}")
    fits(name, keys)


def test_names_of_maxvit_fit():
    keys = [*unit("stem.0"), *linear("stem.1.0"), "classifier.5.weight"]
    keys += [*linear("classifier.2"), *linear("classifier.3")]
    for stage, depth in enumerate((2, 2, 5, 2)):
        for i in range(depth):
            block = f"blocks.{stage}.layers.{i}.layers"
            conv = f"{block}.MBconv.layers"
            keys += linear(f"{block}.MBconv.proj.1") if i == 0 else []
            keys += [*norm(f"{conv}.pre_norm"), *unit(f"{conv}.conv_a"), *unit(f"{conv}.conv_b")]
            keys += [*squeeze(f"{conv}.squeeze_excitation"), *linear(f"{conv}.conv_c")]
            for attention in (f"{block}.window_attention", f"{block}.grid_attention"):
                among = f"{attention}.attn_layer.1"
                keys += [f"{among}.relative_position_{what}" for what in ("bias_table", "index")]
                parts = ("attn_layer.0", "attn_layer.1.to_qkv", "attn_layer.1.merge")
                for part in (*parts, "mlp_layer.0", "mlp_layer.1", "mlp_layer.3"):
                    keys += linear(f"{attention}.{part}")
    fits("maxvit_t", keys)


def fits(name, keys):
    architecture, weights = resolve(name)
    with keras.StatelessScope(initialize_variables=False):
        network = build(architecture, weights, classes=1000, input_size=(64, 64))
    theirs = {key: np.zeros(()) for key in keys}
    assert renamed(network, theirs, weights.renames).keys() == {slot.key for slot in slots(network)}


def unit(name):
    return [f"{name}.0.weight", *norm(f"{name}.1")]


def norm(name):
    return [f"{name}.{kind}" for kind in ("weight", "bias", "running_mean", "running_var")]


def squeeze(name):
    return [*linear(f"{name}.fc1"), *linear(f"{name}.fc2")]


def linear(name):
    return [f"{name}.weight", f"{name}.bias"]
