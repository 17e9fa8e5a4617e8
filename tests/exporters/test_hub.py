"""A module of TensorFlow Hub, exported."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import exporters
import zoo

SIZE = 32


def publish(folder: Path) -> None:
    """A reusable SavedModel: pictures in 0..1 -> vectors of 8, with BatchNorm."""
    keras.utils.set_random_seed(0)
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, 2)(images))
    net = keras.Model(images, keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x)))
    spec = tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32)
    call = tf.function(lambda inputs, training=False: net(inputs, training=training))
    for training in (False, True):
        call.get_concrete_function(spec, training=training)
    module = tf.train.Checkpoint()
    setattr(module, "__call__", call)  # noqa: B010
    module.variables = [variable.value for variable in net.variables]
    tf.saved_model.save(module, os.fspath(folder))


@pytest.fixture
def model(tmp_path, monkeypatch) -> keras.Model:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    publish(tmp_path / "module")
    return zoo.load(f"hub:{tmp_path / 'module'}", classes=("daisy", "rose", "tulip"))


def test_it_exports_as_a_whole(model, tmp_path):
    export = exporters.export(model, tmp_path / "flowers", ("saved_model", "onnx"))
    assert export.parity["onnx"].max_rel < 1e-5
    (tmp_path / "module").rename(tmp_path / "gone")
    images = np.random.default_rng(1).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    loaded = tf.saved_model.load(os.fspath(export.path))
    np.testing.assert_allclose(loaded(images), model(images), atol=1e-6)
    assert len(loaded.trainable_variables) == 6
    stored = (export.path / "variables" / "variables.data-00000-of-00001").stat().st_size
    assert stored < 4 * model.count_params() + 2000


def test_its_own_classes_export_too(model, tmp_path):
    own = zoo.load(model.zoo.name)
    export = exporters.export(own, tmp_path / "flowers", ("saved_model",))
    images = np.zeros((1, SIZE, SIZE, 3), np.float32)
    loaded = tf.saved_model.load(os.fspath(export.path))
    np.testing.assert_allclose(loaded(images), own(images), atol=1e-6)


@pytest.mark.parametrize("format_", ["keras", "h5"])
def test_keras_files_would_only_refer_to_it(model, tmp_path, format_):
    message = f"model.{format_} cannot hold the module of TensorFlow Hub .* export saved_model or onnx"
    with pytest.raises(exporters.ExportError, match=message):
        exporters.export(model, tmp_path / "flowers", (format_,))
    assert not (tmp_path / "flowers").exists()
