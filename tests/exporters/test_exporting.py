"""`export` as a user calls it: what it gives, what it refuses, and what it leaves behind when it fails."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from PIL import Image

import exporters
import zoo
from exporters.parity import FLOAT16, FLOAT32, INT8, Limits, compare, reference, require, require_all
from exporters.pictures import given, png
from exporters.subject import subject

ExportError = exporters.ExportError


PLAIN = {"labels": list("abcd"), "preprocessing": zoo.Preprocessing((32, 32))}


def refused(model, base, formats=("keras",), *, match: str, **options) -> None:
    with pytest.raises(zoo.ZooError, match=match):
        exporters.export(model, base, formats, **options)


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_layers_that_keras_quantized_are_named_where_a_format_cannot_hold_them(format, tmp_path):
    images = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(16, 7)(images))
    model = keras.Model(images, keras.layers.Dense(4, activation="softmax", name="top")(x))
    model.quantize("float8")
    exporters.export(model, tmp_path / "tensorflows", "saved_model", **PLAIN)
    told = f'^{format} cannot hold the layer "top", which Keras quantized to float8; export the model without'
    refused(model, tmp_path / "rounded", format, match=told, **PLAIN)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_a_classifier_that_keras_quantized_with_its_activation_inside(mode, tmp_path):
    keras.utils.set_random_seed(0)
    images = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(16, 7)(images))
    model = keras.Model(images, keras.layers.Dense(4, activation="softmax", name="top")(x))
    pictures = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    exact = zoo.heads(model)(pictures)["logits"]
    model.quantize(mode)
    found = zoo.heads(model)(pictures)
    np.testing.assert_allclose(found["logits"], exact, rtol={"int8": 0.05, "int4": 0.3}[mode])
    np.testing.assert_allclose(found["probabilities"], model(pictures), atol=1e-6)
    exporters.export(model, tmp_path / mode, ("saved_model", "onnx", "keras"), **PLAIN)


# --- what it gives --------------------------------------------------------------------------------------


def test_a_version_is_complete(exported):
    found = {
        path.relative_to(exported.path).as_posix() for path in exported.path.rglob("*") if path.is_file()
    }
    assert found == {
        "assets.extra/tf_serving_warmup_requests",
        "assets/labels.txt",
        "card.json",
        "fingerprint.pb",
        "model.h5",
        "model.keras",
        "model.onnx",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    }
    assert set(exported.export.files) == found - {"card.json"}
    assert os.listdir(exported.path.parent.parent) == ["flowers"]
    assert (exported.path / "assets/labels.txt").read_text("utf-8") == "daisy\nrosé\ntulip\n"


def test_the_result(exported):
    export = exported.export
    assert (export.name, export.version) == ("flowers", 1)
    assert export.path.parts[-2:] == ("flowers", "1")
    assert set(export.parity) == {"saved_model", "saved_model from encoded pictures", "onnx", "h5", "keras"}
    for figures in export.parity.values():
        assert figures.max_rel <= 1e-5
        assert figures.max_probability <= 1e-5
        assert (figures.top1, figures.pictures) == (1.0, 4)


def test_card(exported):
    card = json.loads((exported.path / "card.json").read_text("utf-8"))
    assert card["format"] == 1
    assert (card["name"], card["version"], card["architecture"]) == ("flowers", 1, "resnet18")
    assert card["labels"] == ["daisy", "rosé", "tulip"]
    assert zoo.Preprocessing.from_dict(card["preprocessing"]) == exported.model.zoo.preprocessing
    assert card["card"]["paper"] == exported.model.zoo.card["paper"]
    assert card["metrics"] == {"accuracy": 0.5}
    assert card["parity"] == {name: asdict(figures) for name, figures in exported.export.parity.items()}
    assert card["versions"]["tensorflow"] == tf.__version__
    assert datetime.fromisoformat(card["created"]).tzinfo is not None


def test_card_hashes_every_file(exported):
    files = json.loads((exported.path / "card.json").read_text("utf-8"))["files"]
    for name, facts in files.items():
        data = (exported.path / name).read_bytes()
        assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_metrics_of_the_training_are_the_default(tiny, tmp_path):
    facts = zoo.Facts("tiny", tiny.zoo.labels, tiny.zoo.preprocessing, {"metrics": {"top1": 0.75}})
    export = exporters.export(zoo.attach(tiny, facts), tmp_path / "tiny", "keras")
    assert json.loads((export.path / "card.json").read_text())["metrics"] == {"top1": 0.75}


def test_the_next_version_is_beside_the_first(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = exporters.export(tiny, "flowers", ["keras", "keras"])
    second = exporters.export(tiny, "flowers/", "keras")
    assert [first.path, second.path] == [tmp_path / "flowers" / "1", tmp_path / "flowers" / "2"]
    assert json.loads((second.path / "card.json").read_text())["version"] == 2


def test_real_weights_on_real_photos(photos, tmp_path):
    model = zoo.load("efficientnet_lite0")
    encoded = [png(photo) for photo in photos]
    export = exporters.export(model, tmp_path / "lite0", ("saved_model", "onnx"), pictures=encoded)
    for figures in export.parity.values():
        assert figures.max_rel <= 2e-5
        assert figures.pictures == 2
    loaded = tf.saved_model.load(os.fspath(export.path))
    outputs = loaded.signatures["serving_default"](image_bytes=tf.constant(encoded))
    assert outputs["classes"].shape == (2, 5)
    assert [row[0].numpy().decode() for row in outputs["classes"]] == ["palace", "daisy"]
    session = onnxruntime.InferenceSession(export.path / "model.onnx")
    images = np.stack([zoo.preprocessing.evaluate(model.zoo.preprocessing, photo) for photo in photos])
    (probabilities,) = session.run(["probabilities"], {"images": images.astype(np.float32)})
    np.testing.assert_allclose(probabilities, outputs["probabilities"], atol=0.01)


def test_logits_out_are_exported_with_probabilities(tiny, tmp_path):
    model = keras.Model(tiny.input, tiny.get_layer("fc").output)
    export = exporters.export(zoo.attach(model, tiny.zoo), tmp_path / "logits", "onnx")
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 40, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(export.path / "model.onnx")
    logits, probabilities = session.run(["logits", "probabilities"], {"images": images})
    np.testing.assert_allclose(logits, model(images), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)


# --- what it refuses ------------------------------------------------------------------------------------


def test_formats(tiny, tmp_path):
    refused(tiny, tmp_path / "x", ("onx",), match='unknown format "onx"; did you mean "onnx"?')
    refused(tiny, tmp_path / "x", ("savedmodel",), match='did you mean "saved_model"?')
    refused(
        tiny,
        tmp_path / "x",
        ("zip",),
        match='unknown format "zip"; there are: saved_model, onnx, h5, keras, onnx_any_size',
    )
    refused(tiny, tmp_path / "x", (), match="no format was given")
    assert os.listdir(tmp_path) == []


def test_places(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    refused(tiny, tmp_path / "file", match='file" is a file; give a folder BASE/NAME')
    refused(tiny, "/", match='"/" is no folder to export to')
    refused(tiny, "/proc/models/flowers", match='cannot write to "/proc/models": ')


def test_models(tiny, tmp_path):
    base, facts = tmp_path / "x", tiny.zoo
    images = keras.Input((32, 40, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    plain = keras.Model(images, keras.layers.Dense(3)(pooled), name="plain")
    refused(
        plain,
        base,
        match=re.escape('"plain" does not know its labels and preprocessing; give them: exporters.export('),
    )
    fits = {"preprocessing": facts.preprocessing}
    refused(
        plain, base, labels="ab", **fits, match="plain has 3 classes and 2 labels; give one label per class"
    )
    line = re.escape(r"the label 'b\nc' cannot be written as a line of text")
    refused(plain, base, labels=("a", "b\nc", "d"), **fits, match=line)
    turned = re.escape("its preprocessing gives [None, 40, 32, 3]")
    refused(plain, base, preprocessing=zoo.Preprocessing((40, 32)), match=turned)
    refused(zoo.embedder(tiny), base, match="the model has no labels; give one label per class")
    assert os.listdir(tmp_path) == []


def test_pictures(tiny, tmp_path):
    base = tmp_path / "x"
    refused(tiny, base, pictures=[], match="pictures is empty")
    refused(tiny, base, pictures=Image.new("RGB", (8, 8)), match="is no list of pictures; give")
    refused(
        tiny,
        base,
        pictures=[np.zeros((8, 8, 4))],
        match=r"pictures\[0\]: a picture is an array \[height, .*, not float64 \[8, 8, 4\]; of .* take array",
    )
    refused(tiny, base, pictures=[tmp_path / "none.png"], match='none.png" does not exist')
    assert os.listdir(tmp_path) == []


def test_metrics_that_json_cannot_hold(tiny, tmp_path):
    refused(
        tiny,
        tmp_path / "x",
        metrics={"when": datetime.now()},
        match="datetime .* cannot be written into card.json",
    )
    assert os.listdir(tmp_path) == []


# --- what it leaves behind when it fails ----------------------------------------------------------------


@pytest.mark.parametrize("earlier", [False, True])
def test_an_export_that_is_not_equal_leaves_nothing(tiny, tmp_path, earlier):
    base = tmp_path / "models" / "flowers"
    if earlier:
        exporters.export(tiny, base, "keras")
    refused(
        tiny,
        base,
        ("onnx",),
        tolerance=0.0,
        match=r"onnx is not equal to the model: max_rel \d.*e-\d+, allowed is 0",
    )
    assert os.listdir(tmp_path) == (["models"] if earlier else [])
    assert not earlier or [os.listdir(tmp_path / "models"), os.listdir(base)] == [["flowers"], ["1"]]


def test_a_model_that_answers_nan_is_refused(tiny, tmp_path):
    tiny.get_layer("fc").bias.assign([0.0, np.nan, 0.0])
    refused(tiny, tmp_path / "x", match="tiny answers with NaN or infinity")
    assert os.listdir(tmp_path) == []


FULL_DISK = """
import resource, sys
import exporters, zoo
model = zoo.load(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for name in ("saved_model", "onnx", "h5", "keras"):
    try:
        exporters.export(model, sys.argv[2], (name,))
    except exporters.ExportError as error:
        print(error)
"""


def test_a_full_disk_leaves_nothing(tiny, tmp_path):
    """The limit stops every file at 0.1 MB, as a disk without room would."""
    zoo.save(tiny, tmp_path / "tiny.keras")
    base = tmp_path / "models" / "flowers"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "tiny.keras", base],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    for name in ("saved_model", "onnx", "h5", "keras"):
        assert f'{name} for "{base}" failed, nothing was published: ' in done.stdout
    assert os.listdir(tmp_path) == ["tiny.keras"]


EXPORT_ALL = """
import sys
import exporters, zoo
exporters.export(zoo.load(sys.argv[1]), sys.argv[2], ("keras", "h5", "saved_model", "onnx"))
"""


@pytest.mark.parametrize("reached", ["model.keras", "variables"])
def test_a_killed_export_leaves_nothing_that_a_server_sees(tiny, tmp_path, reached):
    zoo.save(tiny, tmp_path / "tiny.keras")
    models = tmp_path / "models"
    command = [sys.executable, "-c", EXPORT_ALL, tmp_path / "tiny.keras", models / "flowers"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: list(models.glob(f".flowers.partial-*/{reached}")), process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (left,) = os.listdir(models)
    assert left.startswith(".flowers.partial-")
    assert exporters.export(tiny, models / "flowers", "keras").version == 1
    assert os.listdir(models) == ["flowers"]


def wait_for(reached, process: subprocess.Popen) -> None:
    limit = time.monotonic() + 120
    while not reached():
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.001)


def test_exports_at_once_get_different_versions(tiny, tmp_path):
    with ThreadPoolExecutor(3) as pool:
        exports = list(pool.map(lambda _: exporters.export(tiny, tmp_path / "x", "keras"), range(3)))
    assert sorted(export.version for export in exports) == [1, 2, 3]
    assert {json.loads((e.path / "card.json").read_text())["version"] == e.version for e in exports} == {True}
    assert os.listdir(tmp_path) == ["x"]


# --- the comparison -------------------------------------------------------------------------------------


def outputs(logits) -> dict[str, np.ndarray]:
    logits = np.array(logits, np.float32)
    return {"logits": logits, "probabilities": np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)}


def test_differences_are_relative_to_the_largest_logit():
    figures = compare(outputs([[8.0, 4.002]]), outputs([[8.0, 4.0]]))
    assert figures.max_abs == pytest.approx(0.002, rel=1e-3)
    assert figures.max_rel == pytest.approx(0.00025, rel=1e-3)
    assert compare(outputs([[0.1, 0.0]]), outputs([[0.11, 0.0]])).max_rel == pytest.approx(0.01, rel=1e-3)


def test_another_class_is_told_unless_the_first_two_are_too_close():
    assert compare(outputs([[1.0, 0.0], [0.0, 1.0]]), outputs([[0.0, 1.0], [0.0, 1.0]])).top1 == 1.0
    assert compare(outputs([[0.5, 0.51], [0.0, 9.0]]), outputs([[0.6, 0.5], [0.0, 9.0]])).top1 == 1.0
    off = compare(outputs([[5.0, 6.0], [0.0, 50.0]]), outputs([[6.0, 5.0], [0.0, 50.0]]))
    assert off.top1 == 0.5


def test_nan_is_beyond_any_tolerance():
    figures = compare(outputs([[np.nan, 0.0]]), outputs([[1.0, 0.0]]))
    with pytest.raises(ExportError, match="onnx is not equal to the model: max_rel nan, allowed is 1"):
        require(figures, "onnx", Limits(difference=1.0))


def restless(turns: int) -> keras.Model:
    """Differences double with every turn of the logistic map x -> 4x(1 - x)."""
    keras.utils.set_random_seed(3)
    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(16, 7, activation="relu")(keras.layers.Rescaling(1 / 255)(images))
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(16, activation="sigmoid")(keras.layers.LayerNormalization()(x))
    for _ in range(turns):
        x = 4 * x * (1 - x)
    return keras.Model(images, keras.layers.Dense(4, activation="softmax")(x), name="restless")


def test_a_file_may_be_as_far_off_as_the_model_is_from_itself(tmp_path):
    export = exporters.export(restless(11), tmp_path / "restless", ("onnx", "keras"), **PLAIN)
    assert 1e-4 < export.parity["onnx"].max_rel < 1e-2
    assert not any(version.problems for version in exporters.check(tmp_path / "restless"))
    refused(
        restless(11),
        tmp_path / "tight",
        ("onnx",),
        match=r"onnx is not equal to the model: max_rel .*, allowed is 1e-05$",
        tolerance=1e-5,
        **PLAIN,
    )


def test_a_model_that_float32_cannot_tell_from_itself_is_refused(tmp_path):
    told = r"allowed is 0.0001; the model's own answers change by .* train it"
    refused(restless(30), tmp_path / "restless", ("onnx",), match=told, **PLAIN)


def test_a_file_further_off_than_the_models_own_rounding_is_refused():
    model = subject(restless(0), **PLAIN)
    known = reference(model, given(None, model.facts))
    off = {name: values + np.float32(2e-4) for name, values in known.outputs.items()}
    with pytest.raises(ExportError, match=r"x is not equal to the model: max_rel 0.0002, allowed is 0.0001$"):
        require_all({"x": compare(off, known.outputs)}, FLOAT32, known)


def test_rounding_formats_are_measured_by_angle_and_class():
    want = outputs([[8.0, 1.0, 0.0], [0.0, 9.0, 8.9]])
    turned = compare(outputs([[8.0, 2.0, 0.0], [0.0, 9.0, 9.1]]), want)
    assert turned.cosine == pytest.approx(0.9927, abs=1e-4)
    assert (turned.top1, turned.agreement) == (1.0, 0.5)
    require(turned, "x", FLOAT16, real=False)
    with pytest.raises(ExportError, match=r"the same class for only 50.0% of the pictures, 98.0% are asked"):
        require(turned, "x", FLOAT16)
    with pytest.raises(ExportError, match=r"x is not equal .*: cosine 0\.992734, asked for is 0\.999"):
        require(turned, "x", INT8.with_tolerance(0.001))
    with pytest.raises(ExportError, match=r"cosine nan, asked for is 0\.95"):
        require(compare(outputs([[np.nan, 0.0]]), outputs([[1.0, 0.0]])), "x", INT8)


def test_accuracy_is_told_where_the_classes_are_known():
    want = outputs([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    got = outputs([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    figures = compare(got, want, np.array([0, 0, 1, 0]))
    assert (figures.accuracy, figures.model_accuracy) == (0.75, 0.75)
    assert (compare(got, want).accuracy, figures.agreement) == (None, 0.5)


def test_the_probabilities_count_where_there_are_no_logits():
    want = outputs([[3.0, 1.0]])
    figures = compare({"probabilities": want["probabilities"] + np.float32(0.01)}, want)
    assert figures.max_abs == pytest.approx(0.01, rel=1e-3)
    with pytest.raises(ExportError, match=r"max_rel 0\.01, allowed is 0\.0001"):
        require(figures, "x", Limits(difference=1e-4))


def test_nothing_is_said_where_nobody_watches(tiny, tmp_path):
    zoo.save(tiny, tmp_path / "tiny.keras")
    command = [sys.executable, "-c", EXPORT_ALL, tmp_path / "tiny.keras", tmp_path / "x"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    # TensorFlow's own C++ log lines (I0000 ...) cannot be silenced from Python once it is loaded.
    said = [
        line for line in done.stderr.splitlines() if "0000 00:00:" not in line and "InitializeLog" not in line
    ]
    assert (done.stdout, [line for line in said if "AVX" not in line]) == ("", [])
    assert Path(tmp_path / "x" / "1" / "card.json").is_file()
