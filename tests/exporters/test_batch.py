"""Files for a fixed number of pictures, as their own runtimes see them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import exporters
import zoo
from exporters.exporting import FORMATS
from zoo.outputs import heads

BATCH = 3
CHOSEN = ("onnx", "onnx_any_size", "onnx_pictures", "onnx_int8", "tflite", "tflite_int8", "saved_model", "h5")


@pytest.fixture(scope="module")
def model(make_tiny):
    return make_tiny()


@pytest.fixture(scope="module")
def done(model, photos, tmp_path_factory):
    """Two pictures to calibrate with, fewer than go into the network at once."""
    base = tmp_path_factory.mktemp("batch") / "tiny"
    loose = {"onnx_int8": 0.6, "tflite_int8": 0.6}
    return exporters.export(model, base, CHOSEN, calibrate=photos, tolerance=loose, batch=BATCH)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(0, 255, (BATCH, 32, 40, 3)).astype(np.float32)


def session_of(done, name):
    return onnxruntime.InferenceSession(done.path / FORMATS[name].file, providers=["CPUExecutionProvider"])


def test_onnx_says_the_number(done):
    taken = {name: session_of(done, name).get_inputs()[0].shape for name in CHOSEN[:4]}
    assert taken == {
        "onnx": [3, 32, 40, 3],
        "onnx_any_size": [3, "height", "width", 3],
        "onnx_pictures": [3, "height", "width", 3],
        "onnx_int8": [3, 32, 40, 3],
    }
    for name in CHOSEN[:4]:
        assert [value.shape[0] for value in session_of(done, name).get_outputs()] == [3, 3, 3]


def test_no_size_of_model_onnx_is_free(done):
    inferred = onnx.shape_inference.infer_shapes(onnx.load(done.path / "model.onnx"), data_prop=True).graph
    values = [*inferred.input, *inferred.output, *inferred.value_info]
    assert len(values) > len(inferred.input) + len(inferred.output)
    assert all(dim.dim_value for value in values for dim in value.type.tensor_type.shape.dim)


def test_onnxruntime_runs_that_many_alone(done, model, images):
    session = session_of(done, "onnx")
    expected = heads(model)(images)
    for name in ("features", "logits", "probabilities"):
        (found,) = session.run([name], {"images": images})
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-4)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument, match="index: 0 Got: 1"):
        session.run(None, {"images": images[:1]})


@pytest.mark.parametrize("name", ["tflite", "tflite_int8"])
def test_litert_says_the_number_and_runs_it(done, model, images, name):
    interpreter_class = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    runner = interpreter_class(model_path=str(done.path / FORMATS[name].file)).get_signature_runner()
    (taken,) = runner.get_input_details().values()
    given = runner.get_output_details()
    assert list(taken["shape_signature"]) == [3, 32, 40, 3]
    assert all(details["shape_signature"][0] == 3 for details in given.values())
    if name == "tflite":
        found = runner(images=images)["logits"]
        np.testing.assert_allclose(found, heads(model)(images)["logits"], rtol=1e-4, atol=1e-4)


def test_openvino_says_the_number(model, tmp_path):
    openvino = pytest.importorskip("openvino")
    done = exporters.export(model, tmp_path / "tiny", "openvino", batch=BATCH)
    read = openvino.Core().read_model(done.path / "model.xml")
    assert list(read.input("images").shape) == [3, 32, 40, 3]
    assert done.parity["openvino"].pictures == 4


def test_saved_model_and_keras_take_any_number(done):
    parts = exporters.inspect(done.path).parts
    kinds = {part.format: part.signatures for part in parts}
    (images,) = next(s for s in kinds["SavedModel"] if s.name == "predict_images").inputs
    assert images.shape == (None, None, None, 3)
    assert kinds["Keras .h5"][0].inputs[0].shape == (None, 32, 40, 3)


def test_it_is_recorded_and_checked_again(done):
    assert json.loads((done.path / "card.json").read_text())["batch"] == 3
    # Two pictures were compared, and as many as the check generates: neither fills a batch.
    assert done.parity["onnx"].pictures == 2
    assert all(done.parity[name].max_rel < 1e-4 for name in ("onnx", "onnx_any_size", "tflite"))
    (checked,) = exporters.check(done.path)
    assert [problem for problem in checked.problems if "int8" not in problem] == []
    assert checked.parity["onnx"].pictures == 4
    assert checked.parity["onnx"].max_rel < 1e-4


def test_without_it_there_is_none(exported):
    assert json.loads((exported.path / "card.json").read_text())["batch"] is None


@pytest.mark.parametrize("batch", [0, -1, 2.5, "2", True])
def test_what_is_no_number_of_pictures_is_refused(tiny, tmp_path, batch):
    with pytest.raises(exporters.ExportError, match=r"batch is .*; give how many pictures a file takes"):
        exporters.export(tiny, tmp_path / "tiny", "onnx", batch=batch)
    assert list(tmp_path.iterdir()) == []


def test_the_command_line(tiny, tmp_path):
    zoo.save(tiny, tmp_path / "tiny.keras")

    def run(*arguments):
        command = [Path(sys.executable).with_name("zoo"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=240)

    chosen = (tmp_path / "tiny.keras", tmp_path / "models" / "tiny", "--format", "onnx", "--batch")
    refused = run("export", *chosen, 0)
    assert refused.returncode == 2
    assert "'--batch': 0 is not in the range x>=1" in refused.stderr
    assert run("export", *chosen, 5).returncode == 0
    shown = run("inspect", tmp_path / "models" / "tiny").stdout
    assert "takes  images: float32 [5, 32, 40, 3]" in shown
    assert "batch: 5" in shown


def test_a_batch_for_no_file_is_refused(tiny, tmp_path):
    message = r"batch \(--batch\) fixes nothing in saved_model, h5, .* or add one of onnx, onnx_any_size"
    with pytest.raises(exporters.ExportError, match=message):
        exporters.export(tiny, tmp_path / "tiny", ("saved_model", "h5"), batch=4)
    assert list(tmp_path.iterdir()) == []
