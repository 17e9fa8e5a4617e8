"""model.keras and model.h5, opened by plain Keras 3 in a process that never imports this library."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import exporters
import zoo

PLAIN = """
import sys
import keras, numpy as np
images, *files = sys.argv[1:]
for file in files:
    np.save(file.replace("/", "_"), keras.saving.load_model(file).predict(np.load(images), verbose=0))
assert not {"zoo", "exporters"} & set(sys.modules)
"""


def test_plain_keras_opens_both(exported, tmp_path):
    images = np.random.default_rng(6).integers(0, 256, (3, 64, 64, 3)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    files = [str(exported.path / "model.keras"), str(exported.path / "model.h5")]
    subprocess.run([sys.executable, "-c", PLAIN, "images.npy", *files], check=True, cwd=tmp_path)
    for file in files:
        found = np.load(tmp_path / (file.replace("/", "_") + ".npy"))
        np.testing.assert_allclose(found, exported.model(images), atol=1e-6)


@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
def test_the_facts_come_back(exported, file):
    assert zoo.load(exported.path / file).zoo == exported.model.zoo


def test_a_compiled_model_travels_without_its_optimizer(tiny, tmp_path):
    tiny.compile("adam", "sparse_categorical_crossentropy")
    tiny.fit(np.zeros((4, 32, 40, 3)), np.zeros(4), verbose=0)
    export = exporters.export(tiny, tmp_path / "tiny", ("h5", "keras"))
    assert tiny.optimizer is not None
    for file in ("model.h5", "model.keras"):
        assert export.files[file].bytes < 4 * tiny.count_params() + 50_000
        assert not keras.saving.load_model(export.path / file).compiled


KERAS_2 = """
import sys
import numpy as np
import tf_keras

file, images, found = sys.argv[1:]
try:
    tf_keras.models.load_model(file)
except TypeError as error:
    assert "InputLayer" in str(error)
else:
    raise AssertionError("tf_keras reads whole models of Keras 3 now: say so in docs/keras_files.md")
model = tf_keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=3)
model.load_weights(file)
np.save(found, model(tf_keras.applications.mobilenet_v2.preprocess_input(np.load(images))))
"""


def test_keras_2_reads_the_weights_into_its_own_network(tmp_path):
    keras.utils.set_random_seed(5)
    model = zoo.load("mobilenetv2_035.keras_in1k", weights=None, input_size=96, classes=3)
    draws = np.random.default_rng(7)
    images = (draws.uniform(0, 255, (3, 96, 96, 3)) * draws.uniform(0, 1, (3, 1, 1, 3))).astype(np.float32)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.gamma.assign(draws.uniform(0.5, 2, layer.gamma.shape))
        # The statistics of these pictures: under those of a fresh layer little but rounding comes through.
        layer.momentum = 0.0
    model.trainable = True
    model(images, training=True)
    # Fresh weights hardly tell pictures apart: logits of mean 0 and deviation 1 do.
    logits, classifier = np.array(zoo.heads(model)(images)["logits"]), model.get_layer("classifier")
    classifier.kernel.assign(classifier.kernel / logits.std(0))
    classifier.bias.assign(-logits.mean(0) / logits.std(0))
    export = exporters.export(model, tmp_path / "flowers", ("h5",))
    np.save(tmp_path / "images.npy", images)
    arguments = [export.path / "model.h5", tmp_path / "images.npy", tmp_path / "found.npy"]
    subprocess.run([sys.executable, "-c", KERAS_2, *arguments], check=True)
    expected = np.array(model(images))
    assert np.ptp(expected, axis=0).min() > 0.1
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-4)
