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
