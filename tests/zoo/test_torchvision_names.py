"""torchvision's names of RegNet and EfficientNet, which its files have, fit the networks by the renames."""

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


def fits(name, keys):
    architecture, weights = resolve(name)
    with keras.StatelessScope(initialize_variables=False):
        network = build(architecture, weights, classes=1000, input_size=(64, 64))
    theirs = {key: np.zeros(()) for key in keys}
    assert renamed(network, theirs, weights.renames).keys() == {slot.key for slot in slots(network)}


def unit(name):
    return [f"{name}.0.weight", *(f"{name}.1.{k}" for k in ("weight", "bias", "running_mean", "running_var"))]


def squeeze(name):
    return [f"{name}.{layer}.{kind}" for layer in ("fc1", "fc2") for kind in ("weight", "bias")]
