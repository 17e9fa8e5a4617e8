"""The engines that run a model directory. Each is imported when a directory needs it, and no sooner."""

from pathlib import Path

from serving.errors import Code, ServingError
from serving.runtimes.base import Runtime, Signature, TensorSpec

__all__ = ["NAMES", "Runtime", "Signature", "TensorSpec", "load"]

NAMES = ("onnx", "tensorflow")


def load(version_dir: Path, runtime: str | None = None) -> Runtime:
    """Loads BASE/NAME/VERSION/ with ONNX Runtime where model.onnx is there, else with TensorFlow; or with the
    runtime named.

    Raises ServingError (FAILED_PRECONDITION, NOT_FOUND or DATA_LOSS) that says what the directory lacks.
    """
    name = runtime or _choose(version_dir)
    if name == "onnx":
        from serving.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(version_dir)
    if name == "tensorflow":
        from serving.runtimes.tensorflow import TensorFlowRuntime

        return TensorFlowRuntime(version_dir)
    raise ServingError(Code.INVALID_ARGUMENT, f"No runtime is named {name}; there are {', '.join(NAMES)}")


def _choose(version_dir: Path) -> str:
    if (version_dir / "model.onnx").is_file():
        return "onnx"
    if (version_dir / "saved_model.pb").is_file():
        return "tensorflow"
    raise ServingError(
        Code.NOT_FOUND,
        f"Could not find SavedModel .pb or model.onnx at supplied export directory path: {version_dir}",
    )
