"""model.xml and model.bin, or a clear word where OpenVINO is not installed."""

import sys

import numpy as np
import pytest

import exporters
import zoo
from zoo.outputs import heads


def test_without_the_package(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(exporters.ExportError, match=r"needs the package openvino; install it: pip install"):
        exporters.export(tiny, tmp_path / "tiny", "openvino")
    assert list(tmp_path.iterdir()) == []


def test_openvino_runs_it(tiny, tmp_path):
    openvino = pytest.importorskip("openvino")
    done = exporters.export(tiny, tmp_path / "tiny", "openvino")
    assert set(done.files) == {"model.bin", "model.xml"}
    assert done.files["model.bin"].bytes < 2.2 * tiny.count_params()
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 40, 3)).astype(np.float32)
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    found = openvino.Core().compile_model(done.path / "model.xml", "CPU", config)({"images": images})
    expected = heads(tiny)(images)
    for name in ("features", "logits", "probabilities"):
        np.testing.assert_allclose(found[name], expected[name], rtol=0.01, atol=0.01)
    assert 0 < done.parity["openvino"].max_rel < 0.01


def test_attention_among_channels_is_compiled(tmp_path):
    """OpenVINO 2026.4 compiles no factor that is a reciprocal root, as of lengths."""
    pytest.importorskip("openvino")
    model = zoo.load("edgenext_xx_small", weights=None, classes=3, input_size=64)
    done = exporters.export(model, tmp_path / "model", "openvino")
    assert 0 < done.parity["openvino"].max_rel < 0.05
