"""model.onnx, opened by ONNX Runtime in a process that has neither TensorFlow nor this library."""

import json
import subprocess
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

import exporters
import zoo
from zoo.classifier import heads
from zoo.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def proto(exported):
    return onnx.load(exported.path / "model.onnx")


def shape(value) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_inputs_and_outputs(proto):
    assert {value.name: shape(value) for value in proto.graph.input} == {"images": ["batch", 64, 64, 3]}
    assert {value.name: shape(value) for value in proto.graph.output} == {
        "features": ["batch", 512],
        "logits": ["batch", 3],
        "probabilities": ["batch", 3],
    }
    assert [(entry.domain, entry.version) for entry in proto.opset_import if entry.domain == ""] == [("", 17)]


def test_graph_is_plain(proto):
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds.count("Conv") == 20
    assert kinds.count("Transpose") <= 1
    assert "BatchNormalization" not in kinds


def test_metadata(proto):
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert metadata["name"] == "resnet18"
    assert json.loads(metadata["labels"]) == ["daisy", "rosé", "tulip"]
    assert Preprocessing.from_dict(json.loads(metadata["preprocessing"])).input_size == (64, 64)


PLAIN = """
import sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
images = np.load(sys.argv[2])
parts = [session.run(None, {"images": images[i : i + n]}) for i, n in ((0, 1), (1, 2), (3, 5))]
names = [o.name for o in session.get_outputs()]
np.savez(sys.argv[3], **{name: np.concatenate([p[i] for p in parts]) for i, name in enumerate(names)})
assert not {"tensorflow", "keras", "zoo"} & set(sys.modules)
"""


def test_any_batch_equals_the_model(exported, tmp_path):
    images = np.random.default_rng(5).integers(0, 256, (8, 64, 64, 3)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    paths = [exported.path / "model.onnx", tmp_path / "images.npy", tmp_path / "out.npz"]
    subprocess.run([sys.executable, "-c", PLAIN, *paths], check=True)
    found, expected = np.load(paths[2]), heads(exported.model)(images)
    for name in ("features", "logits", "probabilities"):
        scale = max(1.0, np.abs(expected[name]).max())
        assert np.abs(found[name] - expected[name]).max() / scale < 1e-5


def test_captured_constants_do_not_become_inputs(tmp_path):
    images = keras.Input((32, 32, 3))
    x = keras.layers.Normalization(mean=[120.0, 110, 100], variance=[3600.0, 3500, 3400])(images)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3)(x))
    model = keras.Model(images, keras.layers.Dense(2)(x))
    zoo.attach(model, zoo.Facts("normalised", ("a", "b"), zoo.Preprocessing((32, 32))))
    export = exporters.export(model, tmp_path / "normalised", "onnx")
    session = onnxruntime.InferenceSession(export.path / "model.onnx")
    assert [value.name for value in session.get_inputs()] == ["images"]


@keras.saving.register_keras_serializable("tests")
class Spectrum(keras.layers.Layer):
    """What neither ONNX nor LiteRT's built-in operations can say."""

    def call(self, x):
        return x + tf.linalg.svd(x, compute_uv=False)[:, :, :1, None] * 1e-3


def test_what_onnx_cannot_say_is_refused(tmp_path):
    images = keras.Input((32, 32, 3))
    x = Spectrum()(keras.layers.Conv2D(8, 3)(images))
    model = keras.Model(images, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    zoo.attach(model, zoo.Facts("spectrum", ("a", "b"), zoo.Preprocessing((32, 32))))
    message = r"cannot be expressed in ONNX: unknown operations \['Svd'\]"
    with pytest.raises(exporters.ExportError, match=message):
        exporters.export(model, tmp_path / "spectrum", "onnx")
    with pytest.raises(exporters.ExportError, match=r"tflite for .* failed, nothing was published"):
        exporters.export(model, tmp_path / "spectrum", "tflite")
    assert list(tmp_path.iterdir()) == []
