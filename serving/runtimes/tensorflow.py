"""Any SavedModel by TensorFlow, which is imported here and nowhere else in the server."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import Code, ServingError, invalid
from serving.runtimes.base import Signature, TensorSpec, conform
from serving.tensors import by_number, to_array


class TensorFlowRuntime:
    """The signatures of saved_model.pb, with the tensor names, defaults and method names that the file
    states.
    """

    name = "tensorflow"

    def __init__(self, version_dir: Path) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf

        self._tf = tf
        self.signatures: Mapping[str, Signature] = _read_signatures(version_dir)
        try:
            # Signatures live as long as the object they were restored with.
            self._model = tf.saved_model.load(os.fspath(version_dir), tags=["serve"])
        except Exception as error:
            raise ServingError(
                Code.DATA_LOSS, f"{version_dir} cannot be loaded by TensorFlow: {error}"
            ) from error
        self._functions = self._model.signatures

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        if signature not in self._functions:
            raise invalid(f'Signature "{signature}" cannot be called')
        specs = self.signatures[signature].inputs
        fitted = {alias: conform(alias, array, specs[alias]) for alias, array in inputs.items()}
        results = self._call(signature, fitted)
        return {alias: _array(results[alias]) for alias in outputs}

    def _call(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        tf = self._tf
        try:
            feeds = {alias: tf.constant(array) for alias, array in inputs.items()}
            return self._functions[signature](**feeds)
        except (tf.errors.OpError, TypeError, ValueError) as error:
            code = Code(error.error_code) if isinstance(error, tf.errors.OpError) else Code.INVALID_ARGUMENT
            specs = self.signatures[signature].inputs
            expected = ", ".join(f'"{alias}" {spec}' for alias, spec in specs.items())
            given = ", ".join(f'"{alias}" {list(array.shape)}' for alias, array in inputs.items())
            reason = getattr(error, "message", None) or str(error)
            raise ServingError(code, f"{reason} (expected {expected}; given {given})") from error


def _read_signatures(version_dir: Path) -> dict[str, Signature]:
    """Read from the file, because a loaded SavedModel no longer knows tensor names, defaults and method
    names.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        saved = saved_model_pb2.SavedModel.FromString((version_dir / "saved_model.pb").read_bytes())
    except Exception as error:
        raise ServingError(Code.DATA_LOSS, f"{version_dir}/saved_model.pb cannot be read: {error}") from error
    for graph in saved.meta_graphs:
        if "serve" in graph.meta_info_def.tags:
            return {name: _signature(signature) for name, signature in graph.signature_def.items()}
    raise ServingError(
        Code.NOT_FOUND, f'{version_dir}/saved_model.pb holds no graph tagged "serve": export it for serving'
    )


def _signature(definition: Any) -> Signature:
    return Signature(
        {alias: _spec(info) for alias, info in definition.inputs.items()},
        {alias: _spec(info) for alias, info in definition.outputs.items()},
        definition.method_name,
        {alias: to_array(proto, alias) for alias, proto in definition.defaults.items()},
    )


def _spec(info: Any) -> TensorSpec:
    shape = None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
    return TensorSpec(info.name, by_number(info.dtype), shape)


def _array(tensor: Any) -> np.ndarray:
    value = tensor.numpy()
    return np.asarray(value, object) if isinstance(value, bytes | str) else np.asarray(value)
