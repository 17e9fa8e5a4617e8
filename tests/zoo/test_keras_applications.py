"""Networks that keras.applications has in the same form, variable by variable from seeded ones to ours.

Its ResNet, Xception and others are other networks than the references; they are not here.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import applications, layers

from zoo.build import build
from zoo.registry import resolve
from zoo.weights.convert import assign

GOLDEN = Path(__file__).parent.parent / "golden"
TOLERANCE = 1e-4
WEIGHTED = (layers.Conv2D, layers.Dense, layers.BatchNormalization)

CASES = [
    pytest.param(applications.VGG16, "vgg16", 224, {}, marks=pytest.mark.large, id="VGG16"),
    pytest.param(applications.VGG19, "vgg19", 224, {}, marks=pytest.mark.large, id="VGG19"),
    pytest.param(applications.InceptionV3, "inception_v3", 107, {"padding": "same"}, id="InceptionV3"),
    pytest.param(applications.InceptionResNetV2, "inception_resnet_v2", 107, {}, id="InceptionResNetV2"),
]


@pytest.mark.parametrize(("theirs", "name", "size", "conventions"), CASES)
def test_seeded_variables_give_the_same_logits(theirs, name, size, conventions):
    keras.utils.set_random_seed(0)
    other = theirs(weights=None, input_shape=(size, size, 3), classifier_activation=None)
    for layer in other.layers:
        if isinstance(layer, layers.BatchNormalization):
            shake(layer, np.random.default_rng(len(layer.name)))
    architecture, weights = resolve(name)
    raw = replace(weights, mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3, **conventions)
    options = {"classes": 1000, "classifier_activation": None}
    network = build(architecture, raw, input_size=(size, size), **options)
    assign(network, reference_tensors(other, name))
    pictures = np.random.default_rng(1).uniform(-1, 1, (2, size, size, 3)).astype("float32")
    expected, logits = other.predict_on_batch(pictures), network.predict_on_batch(pictures)
    assert np.abs(logits - expected).max() / expected.std() < TOLERANCE


def shake(norm, random):
    norm.beta.assign(random.normal(0, 0.1, norm.beta.shape))
    norm.moving_mean.assign(random.normal(0, 0.1, norm.beta.shape))
    norm.moving_variance.assign(random.uniform(0.5, 1.5, norm.beta.shape))


def reference_tensors(model, name):
    """Their variables under the reference's keys: both name layers in the order of the paper's figures."""
    keys = [key for key, _ in json.loads((GOLDEN / f"{name}.json").read_text())["keys"]]
    modules = list(dict.fromkeys(key.rpartition(".")[0] for key in keys))
    shapes = dict(json.loads((GOLDEN / f"{name}.json").read_text())["keys"])
    norms = [m for m in modules if f"{m}.running_mean" in shapes]
    named = [m for m in modules if m.endswith("conv2d")]
    convs = [m for m in modules if m not in (*norms, *named)]
    tensors = {}
    ours = {"conv": iter(convs), "norm": iter(norms), "named": iter(named)}
    for layer in sorted(filter(weighted, model.layers), key=made):
        module = next(ours[kind(layer)])
        for suffix, value in parts(layer):
            tensors[f"{module}.{suffix}"] = value.reshape(shapes[f"{module}.{suffix}"])
    return tensors


def weighted(layer):
    return isinstance(layer, WEIGHTED)


def made(layer):
    """Automatic names are numbered in the order of making; named layers stand in order among themselves."""
    automatic = re.fullmatch(r"(?:conv2d|batch_normalization)(?:_(\d+))?", layer.name)
    return int(automatic.group(1) or 0) if automatic else 10**9


def kind(layer):
    if isinstance(layer, layers.BatchNormalization):
        return "norm"
    return "named" if re.fullmatch(r"block(35|17|8)_\d+_conv", layer.name) else "conv"


def parts(layer):
    if isinstance(layer, layers.BatchNormalization):
        yield "weight", np.ones(layer.beta.shape, "float32")
        yield "bias", np.asarray(layer.beta)
        yield "running_mean", np.asarray(layer.moving_mean)
        yield "running_var", np.asarray(layer.moving_variance)
        return
    kernel = np.asarray(layer.kernel)
    if layer.name == "fc1":
        kernel = kernel.reshape(7, 7, 512, -1)
    yield "weight", kernel.transpose(range(kernel.ndim)[::-1] if kernel.ndim == 2 else (3, 2, 0, 1))
    if layer.use_bias:
        yield "bias", np.asarray(layer.bias)
