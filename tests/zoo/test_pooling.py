"""How the last map becomes a vector: by average, maximum, both, or the generalised mean."""

import re

import keras
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

import zoo
from zoo.backbone import maps_of
from zoo.layers import GeneralizedMeanPooling2D
from zoo.preprocessing import evaluate

MAPS = np.random.default_rng(0).uniform(0.1, 3, (2, 5, 4, 6)).astype(np.float32)
POOLED = {
    "avg": lambda x: x.mean((1, 2)),
    "max": lambda x: x.max((1, 2)),
    "avgmax": lambda x: (x.mean((1, 2)) + x.max((1, 2))) / 2,
    "gem": lambda x: (np.maximum(x, 1e-6) ** 3).mean((1, 2)) ** (1 / 3),
}


@pytest.mark.parametrize("pooling", POOLED)
def test_the_features_are_the_pooled_last_map(pooling):
    model = zoo.load("resnet18", weights=None, classes=3, input_size=96, pooling=pooling)
    picture = np.random.default_rng(1).uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)
    heads = zoo.heads(model)(picture)
    last = keras.Model(model.input, maps_of(model)[5])(picture)
    np.testing.assert_allclose(heads["features"], POOLED[pooling](np.asarray(last)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["max", "avgmax", "gem"])
@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv3_small_050", "squeezenet1_1", "vgg11"])
def test_networks_with_heads_of_their_own_pool_as_asked(name, pooling):
    with keras.StatelessScope(initialize_variables=False):
        model = zoo.load(name, weights=None, input_size=256, pooling=pooling)
        features = zoo.heads(model).output["features"]
    kinds = {"max": "GlobalMaxPooling2D", "avgmax": "Average", "gem": "GeneralizedMeanPooling2D"}
    pools = [layer for layer in model.layers if layer.name in ("global_pool", "head_pool")]
    assert type(pools[0]).__name__ == kinds[pooling]
    assert len(features.shape) == 2


def test_pretrained_weights_fit_whatever_pools():
    picture = load_sample_images().images[1]
    for pooling in POOLED:
        model = zoo.load("efficientnet", pooling=pooling)
        known = zoo.facts(model)
        probabilities = np.asarray(model(evaluate(known.preprocessing, picture)[None].astype(np.float32)))[0]
        assert probabilities.sum() == pytest.approx(1, abs=1e-5)
        if pooling == "avg":
            assert known.labels[probabilities.argmax()] == "daisy"
    assert np.asarray(model.get_layer("global_pool").power) == pytest.approx(3)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_the_learned_power_is_saved(ending, tmp_path):
    model = zoo.load("resnet18", weights=None, classes=3, input_size=64, pooling="gem")
    model.get_layer("global_pool").power.assign([4.5])
    loaded = zoo.load(zoo.save(model, tmp_path / f"gem.{ending}"))
    assert float(loaded.get_layer("global_pool").power[0]) == 4.5
    picture = np.full((1, 64, 64, 3), 90, np.float32)
    np.testing.assert_array_equal(loaded(picture), model(picture))


def test_the_power_learns_and_low_precision_stays_finite():
    layer = GeneralizedMeanPooling2D(dtype="mixed_bfloat16")
    model = keras.Sequential([keras.Input((5, 4, 6)), layer, keras.layers.Dense(1, dtype="float32")])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(MAPS, np.ones((2, 1)), verbose=0)
    power = float(layer.power[0])
    assert power != 3.0
    assert np.isfinite(power)
    assert np.isfinite(np.asarray(layer(np.zeros((1, 5, 4, 6), np.float32)), np.float32)).all()


@pytest.mark.parametrize("name", ["alexnet", "alexnet_2012", "zfnet"])
def test_a_network_that_flattens_has_no_pooling_to_choose(name):
    message = f"{name} does not pool its last map: it has no pooling to choose"
    with keras.StatelessScope(initialize_variables=False), pytest.raises(zoo.ZooError, match=message):
        zoo.load(name, weights=None, pooling="avg")


def test_an_unknown_pooling_names_those_there_are():
    message = 'unknown pooling "mean"; there are: avg, max, avgmax, gem'
    with pytest.raises(zoo.ZooError, match=re.escape(message)):
        zoo.load("resnet18", weights=None, pooling="mean")


def test_a_saved_network_keeps_its_own_pooling(tmp_path):
    path = zoo.save(zoo.load("resnet18", weights=None, classes=3, input_size=64), tmp_path / "own.keras")
    with pytest.raises(zoo.ZooError, match="pooling go with a name"):
        zoo.load(path, pooling="max")
