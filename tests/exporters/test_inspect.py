"""What files of every format say of themselves."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

import exporters
from exporters.inspecting import Tensor
from zoo_cli.main import main

IMAGES = Tensor("images", "float32", (None, None, None, 3))
NAMED = (Tensor("classes", "string", (None, 3)), Tensor("scores", "float32", (None, 3)))


def test_a_version_tells_of_all_its_files(exported):
    found = exporters.inspect(exported.path.parent)
    assert found.path == str(exported.path)
    assert found.labels == ("daisy", "rosé", "tulip")
    assert found.card["metrics"] == {"accuracy": 0.5}
    assert [part.format for part in found.parts] == ["SavedModel", "Keras .h5", "Keras .keras", "ONNX"]
    assert {part.labels for part in found.parts} == {("daisy", "rosé", "tulip")}
    assert found.bytes == sum(path.stat().st_size for path in exported.path.rglob("*") if path.is_file())


def test_a_saved_model(exported):
    found = exporters.inspect(exported.path).parts[0]
    assert {signature.name: signature.inputs for signature in found.signatures} == {
        "classify": (Tensor("inputs", "string", (None,)),),
        "features": (IMAGES,),
        "predict_images": (IMAGES,),
        "serving_default": (Tensor("image_bytes", "string", (None,)),),
    }
    assert found.signatures[0].outputs == NAMED
    assert found.facts["tags"] == ["serve"]
    assert found.facts["methods"]["classify"] == "tensorflow/serving/classify"


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_keras_file(exported, name):
    found = exporters.inspect(exported.path / name)
    (signature,) = found.signatures
    assert signature.inputs == (Tensor("images", "float32", (None, 64, 64, 3)),)
    assert [(t.dtype, t.shape) for t in signature.outputs] == [("float32", (None, 3))]
    assert len(found.weights) == len(exported.model.variables)
    assert Tensor("fc/kernel", "float32", (512, 3)) in found.weights


def test_an_onnx_file(exported):
    found = exporters.inspect(exported.path / "model.onnx")
    (signature,) = found.signatures
    assert signature.inputs == (Tensor("images", "float32", ("batch", 64, 64, 3)),)
    assert signature.outputs == (
        Tensor("features", "float32", ("batch", 512)),
        Tensor("logits", "float32", ("batch", 3)),
        Tensor("probabilities", "float32", ("batch", 3)),
    )
    assert found.facts["opset"]["ai.onnx"] == 17
    assert sum(np.prod(t.shape) for t in found.weights) > 11e6


def test_weights_alone(tiny, tmp_path):
    tiny.save_weights(tmp_path / "tiny.weights.h5")
    found = exporters.inspect(tmp_path / "tiny.weights.h5")
    assert sorted(t.shape for t in found.weights) == sorted(tuple(v.shape) for v in tiny.weights)
    save_file(
        {"a.weight": np.zeros((2, 3), np.float32), "a.count": np.zeros((), np.int64)},
        tmp_path / "x.safetensors",
        {"format": "np"},
    )
    found = exporters.inspect(tmp_path / "x.safetensors")
    assert set(found.weights) == {Tensor("a.weight", "float32", (2, 3)), Tensor("a.count", "int64", ())}
    assert found.facts == {"format": "np"}


def test_a_tflite_file(tiny, tmp_path):
    import tensorflow as tf

    data = tf.lite.TFLiteConverter.from_keras_model(tiny).convert()
    (tmp_path / "tiny.tflite").write_bytes(data)
    found = exporters.inspect(tmp_path / "tiny.tflite")
    assert found.labels == ()
    (signature,) = found.signatures
    assert signature.name == "serving_default"
    assert signature.inputs == (Tensor("images", "float32", (None, 32, 40, 3)),)
    with zipfile.ZipFile(tmp_path / "tiny.tflite", "a") as archive:
        archive.writestr("labels.txt", "daisy\nrosé\n")
    assert exporters.inspect(tmp_path / "tiny.tflite").labels == ("daisy", "rosé")


def test_a_saved_model_of_other_tools(tmp_path):
    model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2)])
    model.export(tmp_path / "plain", verbose=False)
    found = exporters.inspect(tmp_path / "plain")
    named = {signature.name: signature for signature in found.signatures}
    assert [t.shape for t in named["serving_default"].inputs] == [(None, 4)]
    assert (found.labels, found.card, found.parts) == ((), {}, ())


def test_refusals(tmp_path):
    (tmp_path / "model.txt").write_text("")
    for name in ("model.txt", "absent.onnx"):
        with pytest.raises(exporters.ExportError, match="is no model; give a file"):
            exporters.inspect(tmp_path / name)
    with pytest.raises(exporters.ExportError, match="is no model: it holds neither"):
        exporters.inspect(tmp_path)


@pytest.mark.parametrize("name", ["x.onnx", "x.tflite", "x.safetensors", "x.weights.h5", "saved_model.pb"])
def test_damaged_files_are_named(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(b"\xff" * 100)
    with pytest.raises(exporters.ExportError, match="damaged"):
        exporters.inspect(tmp_path if name == "saved_model.pb" else file)


def test_the_command(exported, tmp_path):
    done = CliRunner().invoke(main, ["inspect", str(exported.path / "model.onnx")])
    assert done.exit_code == 0
    assert "takes  images: float32 [batch, 64, 64, 3]\n" in done.output
    assert "3 labels: daisy, rosé, tulip\n" in done.output
    done = CliRunner().invoke(main, ["inspect", str(exported.path), "--json"])
    assert json.loads(done.stdout)["parts"][0]["signatures"][0]["name"] == "classify"
    with h5py.File(tmp_path / "empty.weights.h5", "w"):
        pass
    done = CliRunner().invoke(main, ["inspect", str(tmp_path / "empty.weights.h5")])
    assert done.exit_code == 0
