"""A .tflite file by LiteRT (TensorFlow Lite's interpreter under its new name), or by TensorFlow where that is
not installed.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from flatbuffers import encode, flexbuffers, number_types
from flatbuffers.table import Table

from serving.errors import Code, ServingError, invalid
from serving.machine import cores
from serving.runtimes import pictures
from serving.runtimes.base import (
    DEFAULT_ENGINES,
    Arrays,
    Call,
    Engines,
    OfCalls,
    Signature,
    TensorSpec,
    one_of,
)
from serving.wire.protos import message
from serving.wire.tensors import DType, by_name, of_array


class LiteRuntime(OfCalls):
    """A TensorFlow Lite file: its own signatures, those that TensorFlow Serving's tools wrote into its
    metadata, or one from its tensors' names. Input sizes follow the request. With card.json beside it, a zoo
    model's signatures, whose numbers are float also where the file's are whole numbers.
    """

    name = "litert"

    def __init__(
        self, version_dir: Path, file: str = "model.tflite", engines: Engines = DEFAULT_ENGINES
    ) -> None:
        floats = (version_dir / pictures.FILE).is_file()
        idle = _interpreters(version_dir / file, floats, engines)
        lite = idle.get()
        idle.put(lite)
        plain = {name: Call(f.signature, partial(_run, idle, name)) for name, f in lite.items()}
        super().__init__(pictures.of_directory(version_dir, file, plain))


@dataclass(frozen=True)
class Function:
    """A signature of one interpreter and what runs it, which gives all its outputs."""

    signature: Signature
    run: Callable[[Arrays], Arrays]


Lite = Mapping[str, Function]


def _interpreters(file: Path, floats: bool, engines: Engines) -> "SimpleQueue[Lite]":
    """Each runs one request at a time."""
    interpreter_class = _interpreter_class()
    idle: SimpleQueue[Lite] = SimpleQueue()
    try:
        stated = stated_signatures(file.read_bytes())
        for _ in range(engines.interpreters or cores()):
            interpreter = interpreter_class(model_path=os.fspath(file), num_threads=engines.intra_op or 1)
            idle.put(_lite(interpreter, stated, floats))
    except Exception as error:
        raise ServingError(Code.DATA_LOSS, f"{file} cannot be loaded by LiteRT: {error}") from error
    return idle


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        return tf.lite.Interpreter
    return Interpreter


def _run(idle: "SimpleQueue[Lite]", name: str, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
    for alias, array in inputs.items():
        # Some kernels of LiteRT 2.3 write where they must not.
        if not array.size:
            raise invalid(f'Input "{alias}" is empty, {list(array.shape)}: LiteRT runs no such request')
    with one_of(idle) as lite:
        function = lite[name]
        try:
            return function.run(inputs)
        except (RuntimeError, ValueError) as error:
            specs = function.signature.inputs
            given = ", ".join(f'"{alias}" {list(array.shape)}' for alias, array in inputs.items())
            expected = ", ".join(f'"{alias}" {spec}' for alias, spec in specs.items())
            raise invalid(f"{error} (expected {expected}; given {given})") from error


def _lite(interpreter: Any, stated: Mapping[str, Any], floats: bool) -> Lite:
    own = interpreter.get_signature_list()
    if own and not stated:
        return {name: _own_function(interpreter, name, floats) for name in own}
    inputs = {_plain(d["name"]): d for d in interpreter.get_input_details()}
    outputs = {_plain(d["name"]): d for d in interpreter.get_output_details()}
    if not stated:
        return {"serving_default": _tensor_function(interpreter, inputs, outputs)}
    return {
        name: _tensor_function(
            interpreter,
            {alias: inputs[_plain(info.name)] for alias, info in definition.inputs.items()},
            {alias: outputs[_plain(info.name)] for alias, info in definition.outputs.items()},
        )
        for name, definition in stated.items()
    }


def _plain(tensor: str) -> str:
    return tensor.removesuffix(":0")


def _own_function(interpreter: Any, name: str, floats: bool) -> Function:
    runner = interpreter.get_signature_runner(name)
    inputs, outputs = runner.get_input_details(), runner.get_output_details()

    def run(arrays: Arrays) -> Arrays:
        return runner(**arrays)

    def run_in_floats(arrays: Arrays) -> Arrays:
        results = runner(**{alias: quantized(array, inputs[alias]) for alias, array in arrays.items()})
        return {alias: dequantized(array, outputs[alias]) for alias, array in results.items()}

    return Function(_signature(inputs, outputs, floats), run_in_floats if floats else run)


def _tensor_function(interpreter: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Function:
    def run(arrays: Arrays) -> Arrays:
        for alias, array in arrays.items():
            interpreter.resize_tensor_input(inputs[alias]["index"], array.shape)
        interpreter.allocate_tensors()
        for alias, array in arrays.items():
            interpreter.set_tensor(inputs[alias]["index"], array)
        interpreter.invoke()
        return {alias: interpreter.get_tensor(details["index"]) for alias, details in outputs.items()}

    return Function(_signature(inputs, outputs), run)


def _signature(inputs: Mapping[str, Any], outputs: Mapping[str, Any], floats: bool = False) -> Signature:
    return Signature(
        {alias: _spec(details, floats) for alias, details in inputs.items()},
        {alias: _spec(details, floats) for alias, details in outputs.items()},
    )


def _spec(details: Mapping[str, Any], floats: bool) -> TensorSpec:
    shape = details["shape_signature"] if len(details["shape_signature"]) else details["shape"]
    dtype = by_name("float") if floats and _scale(details) else _dtype(details["dtype"])
    return TensorSpec(details["name"], dtype, tuple(int(size) for size in shape))


def _dtype(numpy: Any) -> DType:
    return by_name("string") if np.dtype(numpy).kind in "SUO" else of_array(np.zeros((), numpy))


# --- whole numbers that stand for others --------------------------------------------------------------------


def _scale(details: Mapping[str, Any]) -> float:
    """What a step of a quantized tensor is worth; 0 where the numbers stand for themselves."""
    return details["quantization"][0]


def quantized(values: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    """float32 -> what the tensor holds; `details`: LiteRT's description of the tensor."""
    scale, zero_point = details["quantization"]
    if not scale:
        return values
    limits = np.iinfo(details["dtype"])
    steps = np.rint(values / np.float32(scale)) + zero_point
    return np.clip(steps, limits.min, limits.max).astype(details["dtype"])


def dequantized(values: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    """What the tensor holds -> float32."""
    scale, zero_point = details["quantization"]
    return (values.astype(np.float32) - zero_point) * np.float32(scale) if scale else values


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
