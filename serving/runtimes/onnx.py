"""An ONNX file by ONNX Runtime."""

import logging
import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from serving.errors import Code, ServingError, invalid
from serving.machine import cores
from serving.runtimes import pictures
from serving.runtimes.base import (
    Arrays,
    Call,
    FewOrMany,
    OfCalls,
    Signature,
    TensorSpec,
    check_shapes,
    failed_on,
)
from serving.runtimes.shared_weights import optimised
from serving.wire.tensors import DType, by_name

log = logging.getLogger("serving")

# Microseconds for which a thread waits awake for the next operator's work.
SPIN = 20
SPIN_IN_CROWD = 1  # awake for longer, it slows large networks down where many ask
SMALL = 4 << 20  # bytes of a file whose weights may be there twice
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
        opened = sessions(version_dir / file)
        super().__init__(pictures.of_directory(version_dir, file, plain_calls(opened)))


Sessions = FewOrMany[ort.InferenceSession]


def sessions(file: Path) -> Sessions:
    """An ONNX file's network; raises ServingError, DATA_LOSS, for a file that cannot be loaded."""
    if cores() > 1:
        if _size(file) < SMALL:
            return FewOrMany(_session(file, cores(), SPIN), _session(file, 1))
        if shared := _sharing(file):
            return shared
    both = _session(file, cores(), SPIN_IN_CROWD)
    return FewOrMany(both, both)


def _size(file: Path) -> int:
    """Bytes, with those of the files beside it that hold its weights."""
    return sum(path.stat().st_size for path in file.parent.glob(f"{file.name}*"))


def _sharing(file: Path) -> Sessions | None:
    """Two sessions with the same weights; None where that cannot be, or is not worth it."""
    try:
        with optimised(file) as found:
            if not found:
                return None
            graph, weights = found.graph, found.weights
            return FewOrMany(_session(graph, cores(), SPIN, weights), _session(graph, 1, weights=weights))
    except (OSError, ValueError, subprocess.TimeoutExpired, ServingError) as error:
        log.info("%s is served by one session, not by two that share its weights: %s", file, error)
        return None


def _session(
    file: Path, threads: int, spin: int = 0, weights: Mapping[str, ort.OrtValue] | None = None
) -> ort.InferenceSession:
    """`weights`: those of a file that is optimised, by name."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin))
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = 3
    if weights:
        # Packed, they would be there again for each session.
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        for name, value in weights.items():
            options.add_initializer(name, value)
    try:
        opened = ort.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ServingError(Code.DATA_LOSS, f"{file} cannot be loaded by ONNX Runtime: {error}") from error
    # It reads them where they are and does not keep them itself.
    opened.weights = weights
    return opened


def plain_calls(sessions: Sessions) -> dict[str, Call]:
    """serving_default with the file's own names."""
    signature = Signature(
        {node.name: _spec(node) for node in sessions.for_few.get_inputs()},
        {node.name: _spec(node) for node in sessions.for_few.get_outputs()},
    )
    return {"serving_default": Call(signature, partial(_run, sessions, signature))}


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
    sessions: Sessions, signature: Signature, inputs: Arrays, outputs: Sequence[str]
) -> dict[str, np.ndarray]:
    check_shapes(signature, inputs)
    feeds = {alias: _as_text(alias, array) for alias, array in inputs.items()}
    try:
        with sessions.fitting() as session:
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
