"""An ONNX file by ONNX Runtime."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from serving.errors import Code, ServingError, invalid
from serving.machine import cores
from serving.runtimes import pictures
from serving.runtimes.base import Arrays, Call, OfCalls, Signature, TensorSpec, check_shapes, failed_on
from serving.tensors import DType, by_name

SPIN = "1"  # microseconds: more slows large networks down where many ask
_ORT_NAMES = {"float16": "half"}

# One arena for all models: with their own, each keeps more than its weights for its intermediate results.
ort.create_and_register_allocator(
    ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT), None
)


class OnnxRuntime(OfCalls):
    """An ONNX file as a Runtime: `serving_default` from the file's own inputs and outputs, or a zoo model's
    signatures.
    """

    name = "onnx"

    def __init__(self, version_dir: Path, file: str = "model.onnx") -> None:
        opened = session(version_dir / file)
        super().__init__(pictures.of_directory(version_dir, file, plain_calls(opened)))


def session(file: Path) -> ort.InferenceSession:
    """Raises ServingError, DATA_LOSS, for a file that cannot be loaded."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = cores()
    options.inter_op_num_threads = 1
    # From one operator to the next a thread is cheaper kept than woken; spinning for longer it steals the
    # cores from decoding and from the other requests.
    options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN)
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ServingError(Code.DATA_LOSS, f"{file} cannot be loaded by ONNX Runtime: {error}") from error


def plain_calls(session: ort.InferenceSession) -> dict[str, Call]:
    """serving_default with the file's own names."""
    signature = Signature(
        {node.name: _spec(node) for node in session.get_inputs()},
        {node.name: _spec(node) for node in session.get_outputs()},
    )
    return {"serving_default": Call(signature, partial(_run, session, signature))}


def _spec(node: ort.NodeArg) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return TensorSpec(node.name, _dtype(node), shape)


def _dtype(node: ort.NodeArg) -> DType:
    name = node.type.removeprefix("tensor(").removesuffix(")")
    try:
        return by_name(_ORT_NAMES.get(name, name))
    except KeyError:
        raise ServingError(
            Code.UNIMPLEMENTED, f'"{node.name}" is a {node.type}: only tensors are served'
        ) from None


def _run(
    session: ort.InferenceSession, signature: Signature, inputs: Arrays, outputs: Sequence[str]
) -> dict[str, np.ndarray]:
    check_shapes(signature, inputs)
    feeds = {alias: _as_text(alias, array) for alias, array in inputs.items()}
    try:
        return dict(zip(outputs, session.run(list(outputs), feeds), strict=True))
    except ort.capi.onnxruntime_pybind11_state.InvalidArgument as error:
        raise invalid(str(error)) from error
    except Exception as error:
        raise failed_on(feeds, error) from error


def _as_text(alias: str, array: np.ndarray) -> np.ndarray:
    """ONNX strings are text, TensorFlow's are bytes."""
    if array.dtype != object:
        return array
    try:
        text = [value.decode() for value in array.reshape(-1)]
    except UnicodeDecodeError as error:
        raise invalid(f'Input "{alias}" is not UTF-8: {error}') from error
    return np.array(text, object).reshape(array.shape)
