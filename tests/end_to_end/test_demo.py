"""The whole way in a fresh process, as `make demo` goes it; then what it left is used by other tools."""

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest

import serving
import zoo
from zoo.preprocessing import load_images


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder that the demo left, and what it said."""
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [Path(sys.executable).with_name("zoo"), "demo", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def test_it_names_the_photos(demo):
    assert re.search(r"china\.png: palace 0\.\d\d", demo[1])
    assert re.search(r"flower\.png: daisy 0\.\d\d", demo[1])


def test_it_learns_the_digits(demo):
    out, said = demo
    accuracy = float(re.search(r"held-out accuracy (\d\.\d+)", said)[1])
    assert accuracy > 0.93
    assert json.loads((out / "digits/result.json").read_text())["metrics"]["accuracy"] == pytest.approx(
        accuracy, abs=1e-4
    )


def test_the_report_stands_alone(demo):
    page = (demo[0] / "digits/report.html").read_text()
    assert "Confusion matrix" in page
    assert "Worst mistakes" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_the_endpoint_agreed_and_was_stopped(demo):
    answers = re.findall(r"(?:gRPC|REST) \S+: (\S+) ", demo[1])
    assert answers == ["7", "7"]
    address = re.search(r"gRPC (\S+):", demo[1])[1]
    with serving.Client(address, timeout=5) as client, pytest.raises(serving.ServingError) as refused:
        client.status("digits")
    assert refused.value.code == serving.Code.UNAVAILABLE


def test_every_file_it_left_gives_the_same_answer(demo):
    out, _ = demo
    version = out / "models/digits/1"
    model = zoo.load(out / "digits")
    known = zoo.facts(model)
    assert known.labels == tuple("0123456789")
    images = load_images(known.preprocessing, sorted((out / "pictures/3").iterdir())[:4]).astype(np.float32)
    expected = model.predict_on_batch(images)
    (by_onnx,) = onnxruntime.InferenceSession(version / "model.onnx").run(
        ["probabilities"], {"images": images}
    )
    np.testing.assert_allclose(by_onnx, expected, atol=1e-4)
    by_h5 = keras.saving.load_model(version / "model.h5", compile=False).predict_on_batch(images)
    np.testing.assert_allclose(by_h5, expected, atol=1e-5)
    assert (version / "saved_model.pb").is_file()
    assert json.loads((version / "card.json").read_text())["labels"] == list("0123456789")
