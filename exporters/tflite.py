"""model*.tflite for LiteRT (TensorFlow Lite): images [N, h, w, 3], RGB 0..255 -> features, logits,
probabilities, with any N, or with that of the model's `batch`.

Four sorts: float32; weights in float16; weights in int8 (`dynamic`, which computes in float32 or, in some
kernels, in int8); and int8 all through, calibrated, whose input and outputs are uint8 with a scale and a zero
point. The graph is frozen first: converted with its variables, it gives NaN without an error.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from exporters import tflite_metadata
from exporters.batches import filled, in_batches
from exporters.subject import OUTPUTS, Run, Subject
from exporters.tracing import check_size, frozen

SIGNATURE = "serving_default"
# TensorFlow orders a dictionary's tensors by key.
NAMES = sorted(OUTPUTS)


def write(model: Subject, file: Path) -> None:
    _write(model.deployed.in_tflite, file, lambda converter: None)


def write_float16(model: Subject, file: Path) -> None:
    def settings(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]

    _write(model.deployed.in_tflite, file, settings)


def write_dynamic(model: Subject, file: Path) -> None:
    def settings(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]

    _write(model, file, settings)


def write_int8(model: Subject, file: Path) -> None:
    def settings(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = partial(_fed, model.calibration, model.batch or 1)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8

    _write(model, file, settings)


def _write(model: Subject, file: Path, settings: Callable[[Any], None]) -> None:
    check_size(model, "TFLite")
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen(model)])
    settings(converter)
    with warnings.catch_warnings():
        # Statistics for a way of quantising that is not used here.
        warnings.simplefilter("ignore", UserWarning)
        converted = converter.convert()
    proto = flatbuffer_utils.read_model_from_bytearray(bytearray(converted))
    _name(proto)
    _add_metadata(proto, tflite_metadata.described(model.facts, NAMES))
    with file.open("wb") as out:
        out.write(flatbuffer_utils.convert_object_to_bytearray(proto))
        out.write(tflite_metadata.archive(model.facts))


def _fed(images: np.ndarray, count: int) -> Iterator[list[np.ndarray]]:
    return ([part] for part in filled(images, count))


def _name(proto: Any) -> None:
    """The outputs, and a signature; the converter calls them Identity_1 and so on."""
    (graph,) = proto.subgraphs
    for index, name in zip(graph.outputs, NAMES, strict=True):
        graph.tensors[index].name = name
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs = [_entry("images", graph.inputs[0])]
    signature.outputs = [_entry(name, index) for name, index in zip(NAMES, graph.outputs, strict=True)]
    proto.signatureDefs = [signature]


def _entry(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


def _add_metadata(proto: Any, described: bytes) -> None:
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(described, np.uint8)
    proto.buffers.append(buffer)
    entry.name, entry.buffer = tflite_metadata.BUFFER, len(proto.buffers) - 1
    proto.metadata = [*(proto.metadata or []), entry]


def reopen(model: Subject, file: Path) -> Run:
    interpreter = interpreter_class()(model_path=os.fspath(file), num_threads=1)
    signature = interpreter.get_signature_runner(SIGNATURE)
    (taken,) = signature.get_input_details().values()
    given = signature.get_output_details()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = signature(images=quantized(images, taken))
        return {name: dequantized(outputs[name], given[name]) for name in OUTPUTS}

    count = int(taken["shape_signature"][0])
    return in_batches(run, count if count > 0 else None)


def interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return tf.lite.Interpreter
    return Interpreter


def quantized(values: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    """float32 -> what the tensor holds; details: LiteRT's description of the tensor."""
    scale, zero_point = details["quantization"]
    if details["dtype"] == np.float32:
        return values
    limits = np.iinfo(details["dtype"])
    return np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(details["dtype"])


def dequantized(values: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    scale, zero_point = details["quantization"]
    if details["dtype"] == np.float32:
        return values
    return ((values.astype(np.float32) - zero_point) * scale).astype(np.float32)
