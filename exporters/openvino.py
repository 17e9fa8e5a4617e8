"""model.xml and model.bin for OpenVINO: the function of model.onnx, its weights in float16.

Needs the package openvino. Compiled with float32 asked for: on processors with bfloat16 OpenVINO would
otherwise compute in that, with other classes for some pictures.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from exporters import onnx as network
from exporters.batches import in_batches
from exporters.errors import ExportError
from exporters.subject import OUTPUTS, Run, Subject


def write(model: Subject, file: Path) -> None:
    """file: of the .xml; the .bin is beside it."""
    openvino = _openvino()
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".openvino-") as staging:
        exact = Path(staging) / "model.onnx"
        network.save(model.deployed, network.finished(model.deployed), exact)
        converted = openvino.convert_model(exact)
        openvino.save_model(converted, file, compress_to_fp16=True)


def reopen(model: Subject, file: Path) -> Run:
    core = _openvino().Core()
    compiled = core.compile_model(os.fspath(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = compiled({"images": images})
        return {name: outputs[name] for name in OUTPUTS}

    count = compiled.input("images").partial_shape[0]
    return in_batches(run, None if count.is_dynamic else count.get_length())


def _openvino() -> Any:
    try:
        import openvino
    except ImportError:
        raise ExportError(
            "the format openvino needs the package openvino; install it: pip install cnn-zoo[openvino]"
        ) from None
    return openvino
