"""keras.applications computes the same where it has the network: its seeded variables, read from the .h5 file
that it saves, give our network its outputs.
"""

import keras
import numpy as np
import pytest
from keras import applications

from zoo.build import build
from zoo.registry import Weights, resolve
from zoo.weights.readers import read

SIZE = 96
RAW = {"include_preprocessing": False}
CASES = {
    "mobilenetv1_025": (applications.MobileNet, {"alpha": 0.25}),
    "mobilenetv1_050": (applications.MobileNet, {"alpha": 0.5}),
    "mobilenetv1_075": (applications.MobileNet, {"alpha": 0.75}),
    "mobilenetv1_100": (applications.MobileNet, {}),
    "mobilenetv2_035": (applications.MobileNetV2, {"alpha": 0.35}),
    "mobilenetv2_050": (applications.MobileNetV2, {"alpha": 0.5}),
    "mobilenetv2_075": (applications.MobileNetV2, {"alpha": 0.75}),
    "mobilenetv2_100": (applications.MobileNetV2, {}),
    "mobilenetv2_130": (applications.MobileNetV2, {"alpha": 1.3}),
    "mobilenetv2_140": (applications.MobileNetV2, {"alpha": 1.4}),
    "mobilenetv3_large_075": (applications.MobileNetV3Large, {"alpha": 0.75, **RAW}),
    "mobilenetv3_large_100": (applications.MobileNetV3Large, RAW),
    "mobilenetv3_large_minimal_100": (applications.MobileNetV3Large, {"minimalistic": True, **RAW}),
    "mobilenetv3_small_075": (applications.MobileNetV3Small, {"alpha": 0.75, **RAW}),
    "mobilenetv3_small_100": (applications.MobileNetV3Small, RAW),
    "mobilenetv3_small_minimal_100": (applications.MobileNetV3Small, {"minimalistic": True, **RAW}),
    "efficientnetv2_b0": (applications.EfficientNetV2B0, RAW),
    "efficientnetv2_b1": (applications.EfficientNetV2B1, RAW),
    "efficientnetv2_b2": (applications.EfficientNetV2B2, RAW),
    "efficientnetv2_b3": (applications.EfficientNetV2B3, RAW),
    "efficientnetv2_s": (applications.EfficientNetV2S, RAW),
}


@pytest.mark.parametrize("name", CASES)
def test_networks_agree(name, tmp_path):
    """Theirs are fed (pictures / 127.5) - 1."""
    make, options = CASES[name]
    theirs = seeded(make(weights=None, input_shape=(SIZE, SIZE, 3), classifier_activation=None, **options))
    ours = network_of(name, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    take_variables(ours, theirs, tmp_path)
    pictures = np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    agree(ours.predict_on_batch(pictures), theirs.predict_on_batch(pictures / 127.5 - 1))


@pytest.mark.parametrize(("name", "make"), [("efficientnet_b0", "B0"), ("efficientnet_b3", "B3")])
def test_efficientnets_agree(name, make, tmp_path):
    """Keras's untrained EfficientNets divide by 255 themselves."""
    theirs = getattr(applications, f"EfficientNet{make}")(
        weights=None, input_shape=(SIZE, SIZE, 3), classifier_activation=None
    )
    ours = network_of(name, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    take_variables(ours, seeded(theirs), tmp_path)
    pictures = np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    agree(ours.predict_on_batch(pictures), theirs.predict_on_batch(pictures))


def network_of(name, **normalisation):
    architecture, _ = resolve(name)
    conventions = Weights(architecture.name, "keras", padding="same", epsilon=1e-3, **normalisation)
    size = (SIZE, SIZE)
    return build(architecture, conventions, classes=1000, input_size=size, classifier_activation=None)


def seeded(model):
    """Kernels under which the signal neither dies nor grows, and statistics unlike those of a fresh network.

    Where residuals add up undamped, the gates of squeeze-and-excitation become steps, which magnify rounding.
    """
    draws = np.random.default_rng(7)
    for variable in model.variables:
        if variable.name == "kernel":
            fan_in = np.prod(variable.shape[:-1] if variable.shape[-1] > 1 else variable.shape[:2])
            variable.assign(draws.normal(0, np.sqrt(2 / fan_in), variable.shape))
        elif variable.name in ("gamma", "moving_variance"):
            damping = 0.3 if "project" in variable.path else 1
            variable.assign(damping * draws.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "bias", "moving_mean"):
            variable.assign(draws.normal(0, 0.1, variable.shape))
    return model


def take_variables(ours, theirs, folder):
    """By position: both list their layers in the order of the computation."""
    theirs.save(folder / "theirs.h5")
    read_back = {k: v for k, v in read(folder / "theirs.h5").items() if not k.startswith("normalization/")}
    slots = [variable for layer in ours.layers for variable in layer.weights]
    assert len(slots) == len(read_back)
    for variable, (name, value) in zip(slots, read_back.items(), strict=True):
        assert name.endswith(f"/{variable.name}"), (variable.path, name)
        variable.assign(value.reshape(variable.shape))


def agree(ours, theirs):
    assert np.abs(ours - theirs).max() / theirs.std() < 1e-4
    assert keras.ops.convert_to_numpy(theirs).std() > 1e-3
