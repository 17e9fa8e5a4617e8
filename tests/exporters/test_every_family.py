"""The smallest network of every family as ONNX, the light ones as SavedModel too, each compared in its own
runtime with logits of a usual size. Keras's files of every network: tests/zoo/test_every_architecture.py; all
formats: docs/exports.md.
"""

import keras
import numpy as np
import pytest

import exporters
import zoo
from zoo.outputs import classifier_layer
from zoo.registry import resolve

LARGE_MACS, LARGE_PARAMS = 9e9, 60e6
LIGHT_MACS = 6e8  # a SavedModel is traced, saved and loaded for three times as long as ONNX
SPREAD = 2.5  # standard deviation of the logits
# Under the usual larger kernels their own float32 is 1e-3 from their float64.
KERNELS = dict.fromkeys(("scnet50", "efficientvit_m0", "lsnet_t"), "glorot_uniform")


def smallest_of_every_family():
    families = {}
    for name in zoo.list_models():
        architecture, _ = resolve(name)
        families.setdefault(architecture.family, []).append(architecture)
    for variants in families.values():
        smallest = min(variants, key=lambda a: (a.params, a.macs))
        large = smallest.macs > LARGE_MACS or smallest.params > LARGE_PARAMS
        yield pytest.param(smallest, id=smallest.name, marks=[pytest.mark.large] if large else [])


@pytest.mark.parametrize("architecture", smallest_of_every_family())
def test_its_files_are_equal(architecture, tmp_path):
    size = 36 if architecture.macs_size < 64 else max(64, architecture.smallest)
    keras.utils.set_random_seed(0)
    kernels = KERNELS.get(architecture.name)
    model = zoo.load(architecture.name, weights=None, classes=10, input_size=size, initializer=kernels)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, size, size, 3), np.uint8)
    logits = np.asarray(zoo.heads(model)(pictures, training=False)["logits"])
    for weight in classifier_layer(model).weights:
        weight.assign(weight * (SPREAD / logits.std()))
    formats = ("onnx", "saved_model") if architecture.macs < LIGHT_MACS else ("onnx",)
    done = exporters.export(model, tmp_path / "model", formats, pictures=list(pictures))
    assert set(formats) <= done.parity.keys()
    assert max(figures.max_rel for figures in done.parity.values()) < 1e-4
    keras.utils.clear_session()
