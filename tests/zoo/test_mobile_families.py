"""RepGhost fused; and torchvision's names of MobileNetV3."""

import keras
import numpy as np
import pytest

import zoo
from zoo.build import build
from zoo.fusing import fuse
from zoo.registry import resolve
from zoo.weights.convert import renamed, slots


def test_repghost_fuses_its_branches():
    keras.utils.set_random_seed(6)
    model = zoo.load("repghostnet_050", weights=None, input_size=64, classifier_activation=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            spread = np.random.default_rng(len(layer.name)).uniform(0.5, 1.5, layer.gamma.shape)
            layer.moving_mean.assign(spread - 1)
            layer.moving_variance.assign(spread)
    fused = fuse(model)
    pictures = np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    before, after = (np.asarray(network(pictures, training=False)) for network in (model, fused))
    assert np.abs(before - after).max() / before.std() < 1e-4
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in fused.layers)
    assert fused.count_params() < model.count_params()


# Whether a block of torchvision's has an expansion, and attention; 1 to 15 and 1 to 11.
EXPANDS = {"large": [0] + [1] * 14, "small": [0] + [1] * 10}
ATTENDS = {"large": [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1], "small": [1, 0, 0, *[1] * 8]}


@pytest.mark.parametrize("size", ["large", "small"])
def test_torchvisions_names_of_mobilenetv3_fit(size):
    architecture, weights = resolve(f"mobilenetv3_{size}_100.tv_in1k")
    assert weights.epsilon == 1e-3
    with keras.StatelessScope(initialize_variables=False):
        network = build(architecture, weights, classes=1000, input_size=(64, 64))
    theirs = {key: np.zeros(()) for key in torchvision_keys(EXPANDS[size], ATTENDS[size])}
    assert renamed(network, theirs, weights.renames).keys() == {slot.key for slot in slots(network)}


def torchvision_keys(expands, attends):
    yield from unit("features.0")
    for number, (expand, attend) in enumerate(zip(expands, attends, strict=True), start=1):
        block, parts = f"features.{number}.block", ["unit"] * expand + ["unit"] + ["se"] * attend + ["unit"]
        for i, part in enumerate(parts):
            yield from unit(f"{block}.{i}") if part == "unit" else squeeze(f"{block}.{i}")
    yield from unit(f"features.{len(expands) + 1}")
    yield from (f"classifier.{i}.{kind}" for i in (0, 3) for kind in ("weight", "bias"))


def unit(name):
    yield f"{name}.0.weight"
    yield from (f"{name}.1.{kind}" for kind in ("weight", "bias", "running_mean", "running_var"))


def squeeze(name):
    yield from (f"{name}.{layer}.{kind}" for layer in ("fc1", "fc2") for kind in ("weight", "bias"))
