"""Networks whose weights do not fit into one file: ONNX keeps them beside it, the others say why not."""

import hashlib
import json

import keras
import numpy as np
import onnx
import pytest

import exporters
import exporters.tracing
import serving
import zoo

LIMITED = 100_000  # bytes, instead of 2 GiB
BESIDE = ("conv1/kernel", "conv2/kernel", "fc/kernel")


@pytest.fixture
def limited(monkeypatch):
    monkeypatch.setattr(exporters.tracing, "MOST_BYTES", LIMITED)


@pytest.mark.usefixtures("limited")
def test_onnx_keeps_them_beside_the_file(tiny, photos, tmp_path):
    done = exporters.export(tiny, tmp_path / "tiny", ("onnx", "onnx_any_size"))
    assert max(figures.max_rel for figures in done.parity.values()) < 1e-5
    file = onnx.load(done.path / "model.onnx", load_external_data=False)
    beside = {t.name: t for t in file.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL}
    assert sorted(beside) == sorted(BESIDE)
    assert [value.name for value in file.graph.input] == ["images"]
    for name, tensor in beside.items():
        entries = {entry.key: entry.value for entry in tensor.external_data}
        assert entries["location"] == "model.onnx.data"
        assert int(entries["offset"]) % 4096 == 0
        stored = np.fromfile(
            done.path / "model.onnx.data",
            np.float32,
            int(np.prod(tensor.dims)),
            offset=int(entries["offset"]),
        )
        (expected,) = (variable for variable in tiny.variables if variable.path == name)
        np.testing.assert_array_equal(stored.reshape(tensor.dims), expected)
    data = (done.path / "model.onnx.data").read_bytes()
    card = json.loads((done.path / "card.json").read_text("utf-8"))
    assert card["files"]["model.onnx.data"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert done.costs["onnx"].bytes == len(data) + (done.path / "model.onnx").stat().st_size
    assert exporters.inspect(done.path / "model.onnx").bytes == done.costs["onnx"].bytes
    assert [checked.problems for checked in exporters.check(done.path)] == [()]
    images = exporters.pictures.fit(tiny.zoo.preprocessing, photos)
    with serving.deploy(tmp_path / "tiny") as endpoint, serving.Client(endpoint.grpc_address) as client:
        for photo, expected in zip(photos, np.asarray(tiny(images)), strict=True):
            found = dict(client.classify("tiny", exporters.pictures.png(photo), top=3))
            assert [found[label] for label in tiny.zoo.labels] == pytest.approx(expected, abs=0.01)


@pytest.mark.usefixtures("limited")
def test_the_same_model_gives_the_same_bytes(tiny, tmp_path):
    first, second = (exporters.export(tiny, tmp_path / name, "onnx") for name in "ab")
    for file in ("model.onnx", "model.onnx.data"):
        assert first.files[file] == second.files[file]


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("tflite", "TFLite"),
        ("onnx_pictures", "ONNX with the resizing inside"),
        ("onnx_int8", "ONNX in whole numbers"),
    ],
)
def test_other_formats_say_why_not(tiny, photos, tmp_path, name, what):
    message = f"tiny has .* GiB of weights, a file of {what} holds 2; export it as saved_model, onnx, h5"
    with pytest.raises(exporters.ExportError, match=message):
        exporters.export(tiny, tmp_path / "tiny", name, calibrate=photos)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def hidden_layers():
    """As VGG has them: convolutions of all that is left of the map, with biases."""
    layers = keras.layers
    images = keras.Input((32, 32, 3), name="images")
    x = layers.Conv2D(8, 3, 4, activation="relu", name="conv")(layers.Rescaling(1 / 255)(images))
    x = layers.Conv2D(24, 8, activation="relu", name="hidden")(x)
    x = layers.Dense(16, activation="relu", name="narrow")(layers.Flatten()(x))
    return keras.Model(images, layers.Dense(3, "softmax", name="predictions")(x), name="vgg")


def test_large_kernels_are_in_the_file_as_if_they_had_been_constants(
    hidden_layers, photos, monkeypatch, tmp_path
):
    formats, facts = ("onnx", "onnx_int8", "tflite"), zoo.Preprocessing((32, 32))

    def exported(name):
        return exporters.export(
            hidden_layers, tmp_path / name, formats, preprocessing=facts, calibrate=photos, tolerance=1e-4
        )

    usual = exported("usual")
    monkeypatch.setattr(exporters.tracing, "LARGE_NETWORK", 1)
    monkeypatch.setattr(exporters.tracing, "LARGE_KERNEL", 4 * 16 * 24)
    spared = exported("spared")
    variables = [hidden_layers.get_layer(name).kernel for name in ("hidden", "narrow")]
    known = exporters.subject.subject(hidden_layers, preprocessing=facts)
    assert exporters.tracing.spared(known) == variables
    for name in ("model.onnx", "model_int8.onnx"):
        files = [onnx.load(done.path / name).graph for done in (usual, spared)]
        kinds = [[node.op_type for node in file.node] for file in files]
        assert kinds[0] == kinds[1]
        assert [value.name for value in files[1].input] == ["images"]
        weights = [{t.name: onnx.numpy_helper.to_array(t) for t in file.initializer} for file in files]
        assert weights[0].keys() == weights[1].keys()
        for key, array in weights[0].items():
            np.testing.assert_allclose(weights[1][key], array, rtol=1e-5, atol=1e-6)
    assert usual.files["model.tflite"].bytes == spared.files["model.tflite"].bytes


@pytest.mark.large
def test_more_than_two_gigabytes(tmp_path):
    images = keras.Input((32, 32, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    x = keras.layers.Dense(180_000, "relu", kernel_initializer=keras.initializers.Constant(1e-4))(x)
    model = keras.Model(images, keras.layers.Dense(2, kernel_initializer="random_normal")(x), name="huge")
    done = exporters.export(
        model, tmp_path / "huge", ("saved_model", "onnx"), preprocessing=zoo.Preprocessing((32, 32))
    )
    assert done.files["model.onnx.data"].bytes > 2**31
    assert done.parity["onnx"].max_rel < 1e-4
    assert [checked.problems for checked in exporters.check(done.path)] == [()]
    with pytest.raises(exporters.ExportError, match=r"huge has 2.1 GiB of weights, a file of TFLite holds 2"):
        exporters.export(model, tmp_path / "lite", "tflite", preprocessing=zoo.Preprocessing((32, 32)))
