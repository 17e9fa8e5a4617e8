"""model.tflite by LiteRT (TensorFlow Lite's interpreter under its new name), or by TensorFlow where that is
not installed.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from flatbuffers import encode, flexbuffers, number_types
from flatbuffers.table import Table

from serving.errors import Code, ServingError, invalid
from serving.machine import cores
from serving.protos import message
from serving.runtimes.base import DEFAULT_ENGINES, Engines, Signature, TensorSpec, conform
from serving.tensors import DTYPES, DType, of_array

FILE = "model.tflite"

Arrays = Mapping[str, np.ndarray]


class LiteRuntime:
    """A TensorFlow Lite file: its own signatures, those that TensorFlow Serving's tools wrote into its
    metadata, or one from its tensors' names. Input sizes follow the request.
    """

    name = "litert"

    def __init__(self, version_dir: Path, engines: Engines = DEFAULT_ENGINES) -> None:
        file = version_dir / FILE
        count = engines.interpreters or cores()
        interpreter_class = _interpreter_class()
        self._idle: SimpleQueue[Lite] = SimpleQueue()
        try:
            stated = stated_signatures(file.read_bytes())
            for _ in range(count):
                interpreter = interpreter_class(model_path=os.fspath(file), num_threads=engines.intra_op or 1)
                lite = _lite(interpreter, stated)
                self._idle.put(lite)
        except Exception as error:
            raise ServingError(Code.DATA_LOSS, f"{file} cannot be loaded by LiteRT: {error}") from error
        self.signatures: Mapping[str, Signature] = {n: call.signature for n, call in lite.items()}

    def run(self, signature: str, inputs: Arrays, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        specs = self.signatures[signature].inputs
        fitted = {alias: conform(alias, array, specs[alias]) for alias, array in inputs.items()}
        with self._interpreter() as lite:
            try:
                results = lite[signature].function(fitted)
            except (RuntimeError, ValueError) as error:
                given = ", ".join(f'"{alias}" {list(array.shape)}' for alias, array in fitted.items())
                expected = ", ".join(f'"{alias}" {spec}' for alias, spec in specs.items())
                raise invalid(f"{error} (expected {expected}; given {given})") from error
            return {alias: results[alias] for alias in outputs}

    @contextmanager
    def _interpreter(self) -> Iterator["Lite"]:
        """One that nobody else uses: interpreters run one request at a time."""
        lite = self._idle.get()
        try:
            yield lite
        finally:
            self._idle.put(lite)


@dataclass(frozen=True)
class Call:
    """A signature and the function behind it, which gives all its outputs."""

    signature: Signature
    function: Callable[[Arrays], Arrays]


Lite = Mapping[str, Call]


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        return tf.lite.Interpreter
    return Interpreter


def _lite(interpreter: Any, stated: Mapping[str, Any]) -> Lite:
    own = interpreter.get_signature_list()
    if own and not stated:
        return {name: _own_call(interpreter, name) for name in own}
    inputs = {_plain(d["name"]): d for d in interpreter.get_input_details()}
    outputs = {_plain(d["name"]): d for d in interpreter.get_output_details()}
    if not stated:
        return {"serving_default": _tensor_call(interpreter, inputs, outputs)}
    return {
        name: _tensor_call(
            interpreter,
            {alias: inputs[_plain(info.name)] for alias, info in definition.inputs.items()},
            {alias: outputs[_plain(info.name)] for alias, info in definition.outputs.items()},
        )
        for name, definition in stated.items()
    }


def _plain(tensor: str) -> str:
    return tensor.removesuffix(":0")


def _own_call(interpreter: Any, name: str) -> Call:
    runner = interpreter.get_signature_runner(name)
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    return Call(_signature(inputs, outputs), lambda arrays: runner(**arrays))


def _tensor_call(interpreter: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Call:
    def function(arrays: Arrays) -> Arrays:
        for alias, array in arrays.items():
            interpreter.resize_tensor_input(inputs[alias]["index"], array.shape)
        interpreter.allocate_tensors()
        for alias, array in arrays.items():
            interpreter.set_tensor(inputs[alias]["index"], array)
        interpreter.invoke()
        return {alias: interpreter.get_tensor(details["index"]) for alias, details in outputs.items()}

    return Call(_signature(inputs, outputs), function)


def _signature(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Signature:
    return Signature(
        {alias: _spec(details) for alias, details in inputs.items()},
        {alias: _spec(details) for alias, details in outputs.items()},
    )


def _spec(details: Mapping[str, Any]) -> TensorSpec:
    shape = details["shape_signature"] if len(details["shape_signature"]) else details["shape"]
    return TensorSpec(details["name"], _dtype(details["dtype"]), tuple(int(size) for size in shape))


def _dtype(numpy: Any) -> DType:
    if np.dtype(numpy).kind in "SUO":
        return next(dtype for dtype in DTYPES if dtype.name == "string")
    return of_array(np.zeros((), numpy))


# --- signatures in the file's metadata ----------------------------------------------------------------------

_METADATA = "signature_defs_metadata"
# Places of fields in TensorFlow Lite's schema (tables Model, Metadata, Buffer).
_MODEL_BUFFERS, _MODEL_METADATA, _METADATA_NAME, _METADATA_BUFFER, _BUFFER_DATA = 4, 6, 0, 1, 0


def stated_signatures(model: bytes) -> dict[str, Any]:
    """The tensorflow.SignatureDefs in the metadata of a TensorFlow Lite file, by name, if it has any."""
    data = bytearray(model)
    root = Table(data, encode.Get(number_types.UOffsetTFlags.packer_type, data, 0))
    for metadata in _tables(root, _MODEL_METADATA):
        if _text(metadata, _METADATA_NAME) == _METADATA:
            buffer = _tables(root, _MODEL_BUFFERS)[_number(metadata, _METADATA_BUFFER)]
            return _definitions(_bytes(buffer, _BUFFER_DATA))
    return {}


def _definitions(data: bytes) -> dict[str, Any]:
    definition = message("tensorflow.SignatureDef")
    entries = flexbuffers.GetRoot(bytearray(data)).AsMap
    names = [key.AsKey for key in entries.Keys]
    return {name: definition.FromString(bytes(entries[name].AsStringBytes)) for name in names}


def _tables(table: Table, field: int) -> list[Table]:
    offset = table.Offset(4 + 2 * field)
    if not offset:
        return []
    start = table.Vector(offset)
    return [Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(table.VectorLen(offset))]


def _text(table: Table, field: int) -> str:
    offset = table.Offset(4 + 2 * field)
    return table.String(table.Pos + offset).decode() if offset else ""


def _number(table: Table, field: int) -> int:
    offset = table.Offset(4 + 2 * field)
    return table.Get(number_types.Uint32Flags, table.Pos + offset) if offset else 0


def _bytes(table: Table, field: int) -> bytes:
    offset = table.Offset(4 + 2 * field)
    if not offset:
        return b""
    start = table.Vector(offset)
    return bytes(table.Bytes[start : start + table.VectorLen(offset)])
