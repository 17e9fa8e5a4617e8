"""What a model file or folder says of itself: signatures, shapes, labels, card. Nothing in it is run."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporters.errors import ExportError
from zoo.errors import ZooError

CARD = "card.json"
GRAPH = "saved_model.pb"
LABELS = Path("assets") / "labels.txt"
HIDDEN = "__saved_model_init_op"
ANY = None


@dataclass(frozen=True)
class Tensor:
    """dtype: as NumPy names it, or string; shape: None stands for any number, a word for any that is equal
    to the others of that name; a shape of None: of any rank.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Signature:
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Inspected:
    """weights: the stored tensors, where the file has them by name; facts: what else the format tells;
    parts: the files of a folder; card: card.json of a published version.
    """

    path: str
    format: str
    bytes: int
    signatures: tuple[Signature, ...] = ()
    labels: tuple[str, ...] = ()
    weights: tuple[Tensor, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Inspected, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)


def inspect(path: str | os.PathLike[str]) -> Inspected:
    """A SavedModel, a published version (or the folder of a model's versions: its newest), or a .keras, .h5,
    .weights.h5, .onnx, .tflite or .safetensors file.

    Raises ExportError naming a path that is none of these, or a file that is damaged.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    reader = next((READERS[end] for end in READERS if path.name.lower().endswith(end)), None)
    if reader is None or not path.is_file():
        known = ", ".join(READERS)
        raise ExportError(f'"{path}" is no model; give a file ({known}) or a folder with a {GRAPH} or {CARD}')
    try:
        return reader(path)
    except ZooError:
        raise
    except Exception as error:  # each library has its own errors for a damaged file
        raise ExportError(f'"{path}" is damaged or no {path.suffix} file: {error}') from error


def versions(folder: Path) -> list[Path]:
    """The versions in a model's folder, the newest last."""
    names = [name for name in os.listdir(folder) if name.isascii() and name.isdigit()]
    return [folder / name for name in sorted(names, key=int) if (folder / name).is_dir()]


def read_card(folder: Path) -> dict[str, Any]:
    """card.json. Raises ExportError where there is none that can be read."""
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
    except FileNotFoundError:
        raise ExportError(f'"{folder}" holds no {CARD}: it is no published version') from None
    except (OSError, ValueError) as error:
        raise ExportError(f'"{folder / CARD}" cannot be read: {error}') from error
    if not isinstance(card, dict):
        raise ExportError(f'"{folder / CARD}" cannot be read: it is no JSON object')
    return card


def _folder(folder: Path) -> Inspected:
    if (folder / CARD).is_file():
        return _version(folder)
    if (folder / GRAPH).is_file():
        return _saved_model(folder)
    if (folder / "model.keras").is_file():
        return inspect(folder / "model.keras")
    found = versions(folder)
    if not found:
        raise ExportError(
            f'"{folder}" is no model: it holds neither {GRAPH} nor {CARD} nor numbered versions'
        )
    return _folder(found[-1])


def _version(folder: Path) -> Inspected:
    card = read_card(folder)
    files = sorted(path for path in folder.iterdir() if path.is_file() and _is_model(path))
    parts = [_saved_model(folder)] if (folder / GRAPH).is_file() else []
    parts += [inspect(path) for path in files]
    labels = tuple(map(str, card.get("labels", ())))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Inspected(str(folder), "model directory", size, (), labels, parts=tuple(parts), card=card)


def _is_model(path: Path) -> bool:
    return any(path.name.lower().endswith(end) for end in READERS)


def _saved_model(folder: Path) -> Inspected:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        graphs = saved_model_pb2.SavedModel.FromString((folder / GRAPH).read_bytes()).meta_graphs
    except DecodeError as error:
        raise ExportError(f'"{folder / GRAPH}" is damaged: {error}') from error
    named = {name: found for graph in graphs for name, found in graph.signature_def.items() if name != HIDDEN}
    signatures = tuple(_signature_def(name, named[name]) for name in sorted(named))
    labels = _lines(folder / LABELS)
    stored = [folder / GRAPH, *(folder / "variables").glob("*"), *(folder / "assets").glob("*")]
    facts = {
        "tensorflow": graphs[0].meta_info_def.tensorflow_version if graphs else "",
        "tags": sorted({tag for graph in graphs for tag in graph.meta_info_def.tags}),
        "methods": {name: named[name].method_name for name in sorted(named)},
    }
    return Inspected(str(folder), "SavedModel", _size(*stored), signatures, labels, facts=facts)


def _signature_def(name: str, found: Any) -> Signature:
    return Signature(name, _tensor_infos(found.inputs), _tensor_infos(found.outputs))


def _tensor_infos(infos: Any) -> tuple[Tensor, ...]:
    from tensorflow import dtypes

    def shape(proto: Any) -> tuple[int | None, ...] | None:
        return None if proto.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in proto.dim)

    return tuple(
        Tensor(name, dtypes.as_dtype(infos[name].dtype).name, shape(infos[name].tensor_shape))
        for name in sorted(infos)
    )


def _keras(file: Path) -> Inspected:
    """The model is built, in safe mode: a Keras file does not say what shapes come out."""
    from zoo.classifier import load_file

    model = load_file(file)
    known = getattr(model, "zoo", None)
    inputs = tuple(Tensor(t.name, str(t.dtype), tuple(t.shape)) for t in model.inputs)
    outputs = tuple(Tensor(t.name, str(t.dtype), tuple(t.shape)) for t in model.outputs)
    return Inspected(
        str(file),
        f"Keras {file.suffix}",
        file.stat().st_size,
        (Signature("call", inputs, outputs),),
        known.labels if known else (),
        tuple(Tensor(v.path, str(v.dtype), tuple(v.shape)) for v in model.variables),
        {"name": model.name, **({"facts": known.to_dict()} if known else {})},
    )


def _weights_h5(file: Path) -> Inspected:
    import h5py

    found: list[Tensor] = []

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            found.append(Tensor(name, node.dtype.name, node.shape))

    with h5py.File(file, "r") as opened:
        opened.visititems(visit)
    return Inspected(str(file), "Keras .weights.h5", file.stat().st_size, weights=tuple(found))


def _onnx(file: Path) -> Inspected:
    import onnx

    model = onnx.load(os.fspath(file), load_external_data=False)
    values = [tuple(map(_onnx_tensor, side)) for side in (model.graph.input, model.graph.output)]
    about = {entry.key: entry.value for entry in model.metadata_props}
    labels = tuple(map(str, json.loads(about.pop("labels", "[]"))))
    stored = tuple(
        Tensor(t.name, onnx.helper.tensor_dtype_to_np_dtype(t.data_type).name, tuple(t.dims))
        for t in model.graph.initializer
    )
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    facts = {"opset": opsets, "producer": model.producer_name, "nodes": len(model.graph.node), **about}
    signature = Signature(model.graph.name, *values)
    size = _size(file, file.with_name(f"{file.name}.data"))
    return Inspected(str(file), "ONNX", size, (signature,), labels, stored, facts)


def _onnx_tensor(value: Any) -> Tensor:
    from onnx.helper import tensor_dtype_to_np_dtype

    kind = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else (d.dim_param or ANY) for d in kind.shape.dim]
    dtype = "string" if kind.elem_type == 8 else tensor_dtype_to_np_dtype(kind.elem_type).name
    return Tensor(value.name, dtype, tuple(dims) if kind.HasField("shape") else None)


def _tflite(file: Path) -> Inspected:
    from exporters.tflite import interpreter_class

    interpreter = interpreter_class()(model_path=os.fspath(file))
    signatures = []
    for name in sorted(interpreter.get_signature_list()):
        runner = interpreter.get_signature_runner(name)
        sides = (runner.get_input_details(), runner.get_output_details())
        signatures.append(
            Signature(name, *(tuple(_tflite_tensor(n, d) for n, d in s.items()) for s in sides))
        )
    if not signatures:
        sides = (interpreter.get_input_details(), interpreter.get_output_details())
        signatures.append(Signature("", *(tuple(_tflite_tensor(d["name"], d) for d in s) for s in sides)))
    labels: tuple[str, ...] = ()
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if "labels.txt" in archive.namelist():
                labels = tuple(archive.read("labels.txt").decode("utf-8").splitlines())
    return Inspected(str(file), "TFLite", file.stat().st_size, tuple(signatures), labels)


def _tflite_tensor(name: str, details: Mapping[str, Any]) -> Tensor:
    shape = details.get("shape_signature", details["shape"])
    return Tensor(name, details["dtype"].__name__, tuple(ANY if n < 0 else int(n) for n in shape))


def _safetensors(file: Path) -> Inspected:
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        if length > file.stat().st_size:
            raise ValueError(f"its header would have {length} bytes")
        header = json.loads(opened.read(length))
    about = header.pop("__metadata__", {})
    stored = tuple(
        Tensor(n, DTYPES.get(t["dtype"], t["dtype"]), tuple(t["shape"])) for n, t in header.items()
    )
    return Inspected(str(file), "safetensors", file.stat().st_size, weights=stored, facts=about)


DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip

# The longest ending first.
READERS: dict[str, Callable[[Path], Inspected]] = {
    ".weights.h5": _weights_h5,
    ".keras": _keras,
    ".h5": _keras,
    ".onnx": _onnx,
    ".tflite": _tflite,
    ".safetensors": _safetensors,
}


def _lines(file: Path) -> tuple[str, ...]:
    return tuple(file.read_text("utf-8").splitlines()) if file.is_file() else ()


def _size(*files: Path) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())
