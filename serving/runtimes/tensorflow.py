"""Any SavedModel by TensorFlow, which is imported here and nowhere else in the server."""

import logging
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format

from serving.errors import Code, ServingError, invalid
from serving.machine import cores
from serving.runtimes.base import DEFAULT_ENGINES, Engines, Signature, TensorSpec, conform
from serving.wire.protos import POOL, message
from serving.wire.tensors import by_number, to_array

log = logging.getLogger("serving")

Call = Callable[[Mapping[str, np.ndarray], Sequence[str]], Mapping[str, np.ndarray]]

_PLACES = ('  File "', "<stack traces unavailable>", "Graph execution error")
_FUNCTION = re.compile(r" \[Op:__inference_\w+\]")
_FILTERS = 64  # sets of outputs for which a signature keeps a function of its own


class TensorFlowRuntime:
    """The signatures of a SavedModel, with the tensor names, defaults and method names that the file states.

    TensorFlow 2's loader runs them, TensorFlow 1's files included; a session does where it cannot, as
    for variables by reference.
    """

    name = "tensorflow"

    def __init__(self, version_dir: Path, engines: Engines = DEFAULT_ENGINES) -> None:
        self._tf = _tensorflow(engines)
        self.signatures: Mapping[str, Signature] = read_signatures(version_dir, engines.tags)
        self._calls = _load(self._tf, version_dir, engines.tags, self.signatures)

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        if signature not in self._calls:
            raise invalid(f'Signature "{signature}" cannot be called')
        specs = self.signatures[signature].inputs
        fitted = {alias: conform(alias, array, specs[alias]) for alias, array in inputs.items()}
        try:
            results = self._calls[signature](fitted, outputs)
        except (self._tf.errors.OpError, TypeError, ValueError) as error:
            raise self._explained(error, specs, fitted) from error
        return {alias: results[alias] for alias in outputs}

    def _explained(
        self, error: Any, specs: Mapping[str, TensorSpec], inputs: Mapping[str, np.ndarray]
    ) -> ServingError:
        is_op = isinstance(error, self._tf.errors.OpError)
        code = Code(error.error_code) if is_op else Code.INVALID_ARGUMENT
        expected = ", ".join(f'"{alias}" {spec}' for alias, spec in specs.items())
        given = ", ".join(f'"{alias}" {list(array.shape)}' for alias, array in inputs.items())
        return ServingError(code, f"{_reason(error)} (expected {expected}; given {given})")


def _reason(error: Any) -> str:
    """What went wrong, without the lines that tell where in the server the graph was loaded."""
    lines = (getattr(error, "message", None) or str(error)).splitlines()
    places = [i for i, line in enumerate(lines) if line.startswith(_PLACES)]
    return _FUNCTION.sub("", "\n".join(lines[places[-1] + 1 if places else 0 :]).strip())


def _tensorflow(engines: Engines) -> Any:
    """The module, set up by the first version that is loaded: TensorFlow is configured once in a process."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    try:
        # By itself it counts the machine's processors, not the container's.
        tf.config.threading.set_intra_op_parallelism_threads(engines.intra_op or cores())
        tf.config.threading.set_inter_op_parallelism_threads(engines.inter_op or cores())
    except RuntimeError:
        log.debug("TensorFlow runs already, with the number of threads it was first given")
    if engines.bfloat16:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    return tf


def _load(
    tf: Any, version_dir: Path, tags: Sequence[str], signatures: Mapping[str, Signature]
) -> Mapping[str, Call]:
    try:
        return _functions(tf, version_dir, tags)
    except Exception as error:
        try:
            calls = _sessions(tf, version_dir, tags, signatures)
        except Exception:
            message = f"{version_dir} cannot be loaded by TensorFlow: {error}"
            raise ServingError(Code.DATA_LOSS, message) from error
        log.info("%s runs in a session of TensorFlow 1: %s", version_dir, error)
        return calls


# --- TensorFlow 2's loader ----------------------------------------------------------------------------------


def _functions(tf: Any, version_dir: Path, tags: Sequence[str]) -> Mapping[str, Call]:
    model = tf.saved_model.load(os.fspath(version_dir), tags=list(tags))
    return {name: Function(tf, model, function) for name, function in model.signatures.items()}


class Function:
    """A signature as a function; one that is asked for some of its outputs computes those alone."""

    def __init__(self, tf: Any, model: Any, function: Any) -> None:
        self._tf = tf
        # Signatures live as long as the object they were restored with.
        self._model = model
        self._function = function
        self._partial: dict[frozenset[str], Any] = {}
        self._lock = threading.Lock()

    def __call__(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        feeds = {alias: self._tf.constant(array) for alias, array in inputs.items()}
        results = self._for(frozenset(outputs))(**feeds)
        return {alias: _array(results[alias]) for alias in outputs}

    def _for(self, outputs: frozenset[str]) -> Any:
        if outputs >= set(self._function.structured_outputs):
            return self._function
        with self._lock:
            if outputs not in self._partial and len(self._partial) < _FILTERS:
                self._partial[outputs] = self._reduced(outputs)
            return self._partial.get(outputs, self._function)

    def _reduced(self, outputs: frozenset[str]) -> Any:
        """Traced anew, what the results do not need is pruned. Shapes stay open: declared ones bind none."""

        def chosen(**feeds: Any) -> Any:
            results = self._function(**feeds)
            return {alias: results[alias] for alias in outputs}

        declared = self._function.structured_input_signature[1]
        specs = {alias: self._tf.TensorSpec(None, spec.dtype) for alias, spec in declared.items()}
        return self._tf.function(chosen, autograph=False).get_concrete_function(**specs)


def _array(tensor: Any) -> np.ndarray:
    value = tensor.numpy()
    return np.asarray(value, object) if isinstance(value, bytes | str) else np.asarray(value)


# --- TensorFlow 1's session ---------------------------------------------------------------------------------


def _sessions(
    tf: Any, version_dir: Path, tags: Sequence[str], signatures: Mapping[str, Signature]
) -> Mapping[str, Call]:
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    with graph.as_default():
        tf.compat.v1.saved_model.load(session, list(tags), os.fspath(version_dir))
    return {name: _session_call(session, signature) for name, signature in signatures.items()}


def _session_call(session: Any, signature: Signature) -> Call:
    def call(inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        feeds = {signature.inputs[alias].name: array for alias, array in inputs.items()}
        results = session.run({alias: signature.outputs[alias].name for alias in outputs}, feeds)
        return {
            alias: np.asarray(value, object) if isinstance(value, bytes | str) else np.asarray(value)
            for alias, value in results.items()
        }

    return call


# --- the file -----------------------------------------------------------------------------------------------


def read_signatures(version_dir: Path, tags: Sequence[str]) -> dict[str, Signature]:
    """Read from the file, without TensorFlow: a loaded SavedModel no longer knows tensor names, defaults and
    method names.
    """
    saved = _read(version_dir)
    for graph in saved.meta_graphs:
        if set(graph.meta_info_def.tags) == set(tags):
            return {name: _signature(signature) for name, signature in graph.signature_def.items()}
    found = "; ".join(" ".join(graph.meta_info_def.tags) for graph in saved.meta_graphs)
    raise ServingError(
        Code.NOT_FOUND,
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }} in {version_dir}, "
        f"which has: {{ {found} }}. Export it for serving, or give --saved_model_tags",
    )


def _read(version_dir: Path) -> Any:
    saved_model = message("tensorflow.SavedModel")
    binary, text = version_dir / "saved_model.pb", version_dir / "saved_model.pbtxt"
    try:
        if binary.is_file() or not text.is_file():
            return saved_model.FromString(binary.read_bytes())
        return text_format.Parse(text.read_text(encoding="utf-8"), saved_model(), descriptor_pool=POOL)
    except Exception as error:
        raise ServingError(Code.DATA_LOSS, f"{binary} cannot be read: {error}") from error


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
