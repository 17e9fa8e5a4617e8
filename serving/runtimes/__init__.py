"""The engines that run a model directory. Each is imported when a directory needs it, and no sooner."""

from pathlib import Path

from serving.runtimes.base import DEFAULT_ENGINES, Engines, Runtime, Signature, TensorSpec
from serving.runtimes.candidates import FIDELITIES, NAMES, Candidate, check_names, found
from zoo.quiet import untold

__all__ = [
    "FIDELITIES",
    "NAMES",
    "Candidate",
    "Runtime",
    "Signature",
    "TensorSpec",
    "check_names",
    "found",
    "load",
    "start",
]

untold()


def load(version_dir: Path, runtime: str | None = None, engines: Engines = DEFAULT_ENGINES) -> Runtime:
    """Loads BASE/NAME/VERSION/ with the preferred of its files, or that of the runtime named. Nothing is
    measured; `serving.models.choosing.load` does.

    Raises ServingError (INVALID_ARGUMENT, FAILED_PRECONDITION, NOT_FOUND or DATA_LOSS) that says what the
    directory lacks.
    """
    preferred = found(version_dir, engines.fidelity, runtime, engines.prefer_tflite)[0]
    return start(preferred, version_dir, engines)


def start(candidate: Candidate, version_dir: Path, engines: Engines = DEFAULT_ENGINES) -> Runtime:
    """An engine with a version's file; ServingError when the file cannot be loaded."""
    if candidate.runtime == "onnx":
        from serving.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(version_dir, candidate.file)
    if candidate.runtime == "openvino":
        from serving.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(
            version_dir, candidate.file, "bf16" if candidate.precision == "bf16" else "f32"
        )
    if candidate.runtime == "litert":
        from serving.runtimes.litert import LiteRuntime

        return LiteRuntime(version_dir, candidate.file, engines)
    from serving.runtimes.tensorflow import TensorFlowRuntime

    return TensorFlowRuntime(version_dir, engines)
