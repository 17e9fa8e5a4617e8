"""`zoo export`: its options, and the table that it closes with."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import zoo
from zoo_cli.exports import calibrated, tolerance_of, with_quantized

ZOO = Path(sys.executable).with_name("zoo")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    keras.utils.set_random_seed(1)
    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, 2, activation="relu")(keras.layers.Rescaling(1 / 64, -2.0)(images))
    x = keras.layers.Dense(2, kernel_initializer="random_normal")(keras.layers.GlobalAveragePooling2D()(x))
    network = keras.Model(images, keras.layers.Activation("softmax")(x), name="small")
    facts = zoo.Facts("small", ("china", "flower"), zoo.Preprocessing((32, 32)))
    return zoo.save(zoo.attach(network, facts), tmp_path_factory.mktemp("export") / "small.keras")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name, photo in zip(("china", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir()
        Image.fromarray(photo).save(folder / name / "a.png")
    return folder


def export(*arguments) -> subprocess.CompletedProcess:
    command = [ZOO, "export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_the_closing_table(model, pictures, tmp_path):
    options = ("--format", "tflite, h5", "--format", "keras", "--quantize", "int8", "--calibrate", pictures)
    options += ("--tolerance", "tflite_int8=0.6")
    done = export(model, tmp_path / "models" / "small", *options)
    assert done.returncode == 0, done.stderr
    path, titles, *rows = done.stdout.splitlines()
    assert path == str(tmp_path / "models" / "small" / "1")
    assert titles.split() == ["format", "MB", "parity", "seconds", "ms", "a", "picture"]
    assert [row.split()[0] for row in rows] == ["tflite", "h5", "keras", "tflite_int8"]
    for row in rows:
        assert "same class for" in row
        assert "of 2, accuracy" in row


def test_a_temperature_flattens_what_is_exported(model, pictures, tmp_path):
    done = export(model, tmp_path / "small", "--format", "h5", "--temperature", "4")
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "small" / "1").glob("*.h5")
    images = zoo.preprocessing.load_images(zoo.Preprocessing((32, 32)), sorted(pictures.glob("*/*.png")))
    before, after = (zoo.load(file).predict(images, verbose=0) for file in (model, path))
    np.testing.assert_allclose(
        np.log(before[:, 0] / before[:, 1]) / 4, np.log(after[:, 0] / after[:, 1]), atol=1e-5
    )
    with pytest.raises(zoo.ZooError, match="no temperature was fitted for small"):
        calibrated(zoo.load(model), "fitted")
    with pytest.raises(zoo.ZooError, match='"warm" is no temperature; give a number, or fitted'):
        calibrated(zoo.load(model), "warm")


def test_int8_without_pictures(model, tmp_path):
    done = export(model, tmp_path / "small", "--format", "onnx_int8")
    assert done.returncode == 1
    assert "error: onnx_int8 needs pictures to calibrate with" in done.stderr
    assert "--calibrate" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_quantized_kin():
    assert with_quantized(("onnx", "h5", "tflite"), "int8") == (
        "onnx",
        "h5",
        "tflite",
        "onnx_int8",
        "tflite_int8",
    )
    assert with_quantized(("onnx", "tflite"), "float16") == ("onnx", "tflite", "tflite_float16")
    assert with_quantized(("h5",), None) == ("h5",)
    with pytest.raises(zoo.ZooError, match="none of h5 has a kin in dynamic; there are: tflite_dynamic"):
        with_quantized(("h5",), "dynamic")


def test_tolerances():
    assert tolerance_of(()) is None
    assert tolerance_of(("1e-5",)) == 1e-5
    assert tolerance_of(("tflite_int8=0.1", "onnx=1e-6")) == {"tflite_int8": 0.1, "onnx": 1e-6}
    with pytest.raises(zoo.ZooError, match='"much" is no tolerance; give 1e-5 or tflite_int8=0'):
        tolerance_of(("much",))
    with pytest.raises(zoo.ZooError, match="a tolerance without a format is for all in float32"):
        tolerance_of(("1e-5", "onnx=1e-6"))
