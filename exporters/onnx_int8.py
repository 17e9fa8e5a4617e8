"""model_int8.onnx: the network in whole numbers, calibrated by pictures; tensors as in model.onnx.

Between QuantizeLinear and DequantizeLinear every runtime finds its own int8 kernels. Weights are int8 with a
scale for each channel, activations uint8, for which x86 processors have the fast instruction; inputs and
outputs are float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from exporters import onnx as network
from exporters.batches import filled
from exporters.onnx_order import canonical
from exporters.subject import Subject
from exporters.tracing import check_size

# What has an int8 kernel, or passes whole numbers on. The rest, softmax and sigmoid first, stays exact.
QUANTIZED = [
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "Relu",
    "Clip",
    "MaxPool",
    "GlobalAveragePool",
    "AveragePool",
    "Concat",
]


class Images(CalibrationDataReader):
    """As many pictures at a time as the network takes."""

    def __init__(self, images: np.ndarray, count: int) -> None:
        self.rest: Iterator[np.ndarray] = filled(images, count)

    def get_next(self) -> dict[str, np.ndarray] | None:
        images: Any = next(self.rest, None)
        return None if images is None else {"images": images}


def write(model: Subject, file: Path) -> None:
    check_size(model, "ONNX in whole numbers")
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".onnx_int8-") as staging:
        exact, ready, rounded = (Path(staging) / f"{name}.onnx" for name in ("exact", "ready", "rounded"))
        exact.write_bytes(network.finished(model).SerializeToString())
        quant_pre_process(exact, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            rounded,
            Images(model.calibration, model.batch or 1),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=QUANTIZED,
        )
        proto = onnx.load(rounded)
    canonical(proto)
    network.save(model, proto, file)
