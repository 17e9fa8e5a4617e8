"""The networks of 2012 to 2017: what their golden files do not show."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from zoo.build import build
from zoo.errors import ZooError
from zoo.layers import LocalResponseNormalization
from zoo.loading import load_file
from zoo.outputs import classifier_layer
from zoo.registry import Weights, resolve
from zoo.weights.convert import assign, renamed

HERE = Path(__file__).parent.parent
sys.path.insert(0, str(HERE))
import golden_rule  # noqa: E402

# All have their kin in test_every_architecture, which trains step by step on square pictures.
OTHERS = (
    *("squeezenet1_0", "inception_v1", "inception_v2", "inception_v3", "inception_v4", "inception_resnet_v2"),
    *("alexnet", "alexnet_2012", "zfnet", "vgg11_bn"),
)
EVERY = ["squeezenet1_1", *(pytest.param(name, marks=pytest.mark.large) for name in OTHERS)]
# Published counts: facts of the papers' layer tables.
WITHOUT_REFERENCE = {"alexnet_2012": 60_965_224}


@pytest.mark.parametrize(("name", "params"), WITHOUT_REFERENCE.items())
def test_networks_without_a_reference_have_the_published_size(name, params):
    """That the network has as many is tested in test_every_architecture."""
    architecture, weights = resolve(name)
    assert (weights, architecture.params) == (None, params)


@pytest.mark.parametrize(
    ("name", "sides"),
    [("alexnet_2012", (55, 27, 13, 6)), ("zfnet", (110, 55, 26, 13, 6)), ("inception_v2", (112, 56, 28))],
)
def test_their_maps_have_the_papers_sides(name, sides):
    architecture, _ = resolve(name)
    size = (architecture.macs_size,) * 2
    with keras.StatelessScope(initialize_variables=False):
        network = build(architecture, Weights(name, "none"), classes=10, input_size=size)
    found = [v.output.shape[1] for v in network.layers if len(v.output.shape) == 4 and ".pad" not in v.name]
    assert list(dict.fromkeys(found))[1 : 1 + len(sides)] == list(sides)


def test_local_response_normalisation_is_tensorflows():
    import tensorflow as tf

    x = np.random.default_rng(0).normal(0, 30, (2, 5, 4, 11)).astype("float32")
    expected = tf.nn.local_response_normalization(x, depth_radius=2, bias=2.0, alpha=1e-4, beta=0.75)
    np.testing.assert_allclose(LocalResponseNormalization()(x), expected, rtol=1e-6)


def test_two_groups_of_2012_do_not_meet_in_conv2():
    architecture, _ = resolve("alexnet_2012")
    network = build(architecture, Weights("alexnet_2012", "none"), classes=2, input_size=(67, 67))
    conv = network.get_layer("conv2")
    x = np.random.default_rng(0).normal(size=(1, 7, 7, 96)).astype("float32")
    other = x.copy()
    other[..., 48:] += 1.0
    changed = np.abs(np.asarray(conv(x)) - np.asarray(conv(other))).max((0, 1, 2)) > 0
    assert not changed[:128].any()
    assert changed[128:].all()


@pytest.mark.large
def test_torchvision_s_vgg_file_fits_by_its_renames():
    golden = json.loads((HERE / "golden" / "renamed" / "vgg16.json").read_text())
    architecture, weights = resolve(golden["name"])
    tensors = {key: golden_rule.tensor(key, shape) for key, shape in golden["keys"]}
    assert tensors["classifier.0.weight"].shape == (4096, 25088)
    for run in golden["runs"]:
        size = (run["size"], run["size"])
        network = build(architecture, weights, classes=1000, input_size=size, classifier_activation=None)
        assign(network, renamed(network, tensors, weights.renames))
        logits = network.predict_on_batch(golden_rule.picture(*size))
        error = np.abs(logits[:, :16] - np.array(run["logits"])) / np.reshape(run["std"], (-1, 1))
        assert error.max() < 1e-4, f"at {size}"


@pytest.mark.parametrize("name", EVERY)
def test_it_learns_and_reloads(name, tmp_path):
    smallest = resolve(name)[0].smallest
    size = (smallest + 33, smallest + 50)
    model = zoo.load(name, weights=None, classes=3, input_size=size, drop_rate=0.0)
    pictures = np.random.default_rng(0).uniform(0, 255, (6, *size, 3)).astype("float32")
    labels = np.arange(6) % 3
    steady = keras.optimizers.SGD(1e-2, global_clipnorm=1.0)
    model.compile(steady, "sparse_categorical_crossentropy")
    first, *_, last = (model.train_on_batch(pictures, labels) for _ in range(4))
    assert last < first
    expected = model.predict_on_batch(pictures)
    assert expected.shape == (6, 3)
    for ending in (".keras", ".h5"):
        path = zoo.save(model, tmp_path / f"model{ending}")
        again = load_file(path)
        np.testing.assert_allclose(again.predict_on_batch(pictures), expected, atol=1e-6)
        assert zoo.facts(again) == zoo.facts(model)
        path.unlink()


def test_a_classifier_that_is_a_convolution_has_features_and_logits():
    model = zoo.load("squeezenet1_1", weights=None, classes=4, input_size=96)
    assert isinstance(classifier_layer(model), keras.layers.Conv2D)
    picture = np.random.default_rng(0).uniform(0, 255, (1, 96, 96, 3)).astype("float32")
    found = zoo.heads(model).predict_on_batch(picture)
    assert found["features"].shape == (1, 512)
    assert found["logits"].shape == (1, 4)
    np.testing.assert_allclose(found["probabilities"], model.predict_on_batch(picture), atol=1e-6)


@pytest.mark.parametrize("name", ["squeezenet1_1", pytest.param("alexnet", marks=pytest.mark.large)])
def test_weights_of_keras_with_other_classes_keep_the_backbone(name, tmp_path, caplog):
    source = zoo.load(name, weights=None, classes=5, input_size=64)
    path = tmp_path / "five.weights.h5"
    source.save_weights(path)
    model = zoo.load(name, weights=path, classes=3, input_size=64)
    assert [record.args[2:] for record in caplog.records] == [(3, 5)]
    first = model.get_layer("features.0").kernel
    np.testing.assert_array_equal(first, source.get_layer("features.0").kernel)


@pytest.mark.parametrize(("name", "least"), [("inception_v3", 75), ("alexnet", 63), ("alexnet_2012", 67)])
def test_too_small_pictures_are_refused(name, least):
    with pytest.raises(ZooError, match=rf"{name} needs pictures of at least {least} x {least} pixels"):
        zoo.load(name, weights=None, input_size=least - 1)
    with keras.StatelessScope(initialize_variables=False):
        zoo.load(name, weights=None, input_size=least, classes=2)
