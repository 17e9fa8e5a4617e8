"""Another activation and other initial kernels than a network's own."""

import keras
import numpy as np
import pytest

import zoo

SMALL = {"weights": None, "input_size": 32, "classes": 3}


def activations(model):
    return {
        layer.get_config()["activation"]
        for layer in model.layers
        if isinstance(layer, keras.layers.Activation)
    }


def test_an_activation_by_name_replaces_those_between_layers_and_no_gate():
    own = zoo.load("mobilenetv3_small_050", **SMALL)
    assert {"relu", "hard_silu", "hard_sigmoid", "softmax"} == activations(own)
    changed = zoo.load("mobilenetv3_small_050", activation="mish", **SMALL)
    assert {"mish", "hard_sigmoid", "softmax"} == activations(changed)
    assert [layer.name for layer in changed.layers] == [layer.name for layer in own.layers]
    assert zoo.facts(changed).labels == ("0", "1", "2")
    probabilities = changed.predict(np.zeros((1, 32, 32, 3)), verbose=0)
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-5)


def test_a_registered_function_is_an_activation_and_survives_saving(tmp_path):
    @keras.saving.register_keras_serializable("test_variations")
    def wave(x):
        return keras.ops.sin(x)

    model = zoo.load("resnet18", activation="test_variations>wave", **SMALL)
    pictures = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)
    saved = zoo.load(zoo.save(model, tmp_path / "wave.keras"))
    np.testing.assert_allclose(
        saved.predict(pictures, verbose=0), model.predict(pictures, verbose=0), rtol=1e-5
    )


@pytest.mark.parametrize("name", ["glorot_uniform", "he_normal"])
def test_kernels_start_as_the_initializer_says(name):
    keras.utils.set_random_seed(0)
    model = zoo.load("resnet18", initializer=name, **SMALL)
    kernel = np.asarray(model.get_layer("layer3.0.conv2").kernel)
    receptive, entering, leaving = 9, 256, 256
    variance = {
        "glorot_uniform": 2 / (receptive * (entering + leaving)),
        "he_normal": 2 / (receptive * entering),
    }
    assert kernel.var() == pytest.approx(variance[name], rel=0.02)
    limit = np.sqrt(3 * variance[name])
    assert (np.abs(kernel).max() <= limit) == (name == "glorot_uniform")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "relv"}, r'unknown activation "relv"; did you mean "relu"\?'),
        ({"initializer": "he_norml"}, r'unknown initializer "he_norml"; did you mean "he_normal"\?'),
        ({"initializer": "he_normal", "weights": "default"}, "is for a fresh network: give weights=None"),
    ],
    ids=["activation", "initializer", "with-weights"],
)
def test_unknown_names_are_refused(options, message):
    with pytest.raises(zoo.ZooError, match=message):
        zoo.load("efficientnet_lite0", **SMALL | options)
