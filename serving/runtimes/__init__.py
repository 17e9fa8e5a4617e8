"""The engines that run a model directory. Each is imported when a directory needs it, and no sooner."""

from pathlib import Path

from serving.errors import Code, ServingError
from serving.runtimes.base import DEFAULT_ENGINES, Engines, Runtime, Signature, TensorSpec

__all__ = ["NAMES", "Runtime", "Signature", "TensorSpec", "load"]

NAMES = ("onnx", "tensorflow", "litert")


def load(version_dir: Path, runtime: str | None = None, engines: Engines = DEFAULT_ENGINES) -> Runtime:
    """Loads BASE/NAME/VERSION/ with ONNX Runtime where model.onnx is there, else with TensorFlow or LiteRT,
    by its files; or with the runtime named.

    Raises ServingError (FAILED_PRECONDITION, NOT_FOUND or DATA_LOSS) that says what the directory lacks.
    """
    name = runtime or _choose(version_dir, engines.prefer_tflite)
    if name == "onnx":
        from serving.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(version_dir)
    if name == "tensorflow":
        from serving.runtimes.tensorflow import TensorFlowRuntime

        return TensorFlowRuntime(version_dir, engines)
    if name == "litert":
        from serving.runtimes.litert import LiteRuntime

        return LiteRuntime(version_dir, engines)
    raise ServingError(Code.INVALID_ARGUMENT, f"No runtime is named {name}; there are {', '.join(NAMES)}")


def _choose(version_dir: Path, prefer_tflite: bool) -> str:
    has_lite = (version_dir / "model.tflite").is_file()
    if prefer_tflite and has_lite:
        return "litert"
    if (version_dir / "model.onnx").is_file():
        return "onnx"
    if any((version_dir / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        return "tensorflow"
    if has_lite:
        return "litert"
    raise ServingError(
        Code.NOT_FOUND,
        f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {version_dir}; "
        "model.onnx or model.tflite would do too",
    )
