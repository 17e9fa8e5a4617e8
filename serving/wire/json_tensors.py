"""TensorFlow Serving's JSON predict bodies to arrays, and arrays to its replies.

Checks, their order and their words are upstream's (util/json_tensor.cc), because clients match on them.
"""

import base64
import binascii
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from serving.errors import Code, ServingError, invalid
from serving.runtimes import Signature, TensorSpec

_SHOWN = 256
_INT32 = (-(2**31), 2**31 - 1)
_INTEGERS = {
    "int32": _INT32,
    "int16": _INT32,
    "int8": _INT32,
    "uint8": _INT32,
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
_CONSTANTS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


# --- reading ------------------------------------------------------------------------------------------------


def parse_body(body: bytes) -> dict[str, Any]:
    """The JSON object of a request; what follows the first complete value is ignored, the first of two equal
    keys wins.
    """
    text = body.decode("utf-8", "surrogateescape").lstrip(" \t\r\n")
    if not text:
        raise invalid("JSON Parse error: The document is empty")
    try:
        value = _decode(text)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: Invalid value. at offset: {error.pos}") from error
    except (RecursionError, ValueError) as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {shown(value)} Is not object")
    return value


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


def _decode(text: str) -> Any:
    try:
        return _DECODER.raw_decode(text)[0]
    except json.JSONDecodeError:
        if "Inf" not in text:
            raise
        return _DECODER.raw_decode(_STRING_OR_INF.sub(lambda m: "Infinity" if m[0] == "Inf" else m[0], text))[
            0
        ]


_DECODER = json.JSONDecoder(object_pairs_hook=_first_wins, parse_constant=_CONSTANTS.__getitem__)
# "Inf" is legal upstream and unknown to Python; matching strings too keeps the word inside them as it is.
_STRING_OR_INF = re.compile(r'"(?:[^"\\]|\\.)*"|\bInf\b')


def signature_name(body: Mapping[str, Any]) -> str:
    """The signature that the body asks for, "" when it names none."""
    name = body.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {shown(body)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def is_row(body: Mapping[str, Any]) -> bool:
    """Whether the body uses the row format, `instances`."""
    return "instances" in body


def to_arrays(body: Mapping[str, Any], signature: Signature) -> dict[str, np.ndarray]:
    """The signature's inputs from `instances` (a row each) or `inputs` (a column each)."""
    if not signature.inputs:
        name = body.get("signature_name") or "DEFAULT"
        raise invalid(f"Failed to get input map for signature: {name}")
    if "instances" in body and "inputs" in body:
        raise invalid(
            f"JSON Value: {shown(body)} Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist"
        )
    if "instances" in body:
        return _rows(body["instances"], signature)
    if "inputs" in body:
        return _columns(body["inputs"], signature)
    raise invalid(f"JSON Value: {shown(body)} Missing 'inputs' or 'instances' key")


def _columns(value: Any, signature: Signature) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) or is_b64(value):
        if len(signature.inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as "
                "per tensorinfo_map"
            )
        return {alias: _tensor(value, spec) for alias, spec in signature.inputs.items()}
    for alias in signature.inputs:
        if alias not in value:
            raise invalid(f"Missing named input: {alias} in 'inputs' object.")
    return {alias: _tensor(value[alias], spec) for alias, spec in signature.inputs.items()}


def _rows(instances: Any, signature: Signature) -> dict[str, np.ndarray]:
    if not isinstance(instances, list):
        raise invalid("Expecting 'instances' to be an list/array")
    if not instances:
        raise invalid("No values in 'instances' array")
    if isinstance(instances[0], dict) and not is_b64(instances[0]):
        return _object_rows(instances, signature)
    if len(signature.inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as "
            "per tensorinfo_map"
        )
    for i, item in enumerate(instances):
        if isinstance(item, dict) and not is_b64(item):
            raise invalid(f"Expecting value/list but got object at item {i} of input list")
    return {alias: _stacked(instances, spec, "") for alias, spec in signature.inputs.items()}


def _object_rows(instances: list[Any], signature: Signature) -> dict[str, np.ndarray]:
    aliases = sorted(signature.inputs)
    for i, item in enumerate(instances):
        if not isinstance(item, dict) or is_b64(item):
            raise invalid(f"Expecting object but got list at item {i} of input list")
        unknown = next((alias for alias in item if alias not in signature.inputs), None)
        if unknown is not None:
            raise invalid(
                f"Failed to process element: {i} of 'instances' list. "
                f"JSON object: does not have named input: {unknown}"
            )
        if len(item) != len(aliases):
            raise invalid(
                f"Failed to process element: {i} of 'instances' list. JSON object: {shown(item)} keys must "
                f"be equal to: {','.join(aliases)}"
            )
    return {
        alias: _stacked([item[alias] for item in instances], spec, alias)
        for alias, spec in signature.inputs.items()
    }


def _stacked(items: list[Any], spec: TensorSpec, key: str) -> np.ndarray:
    """All rows of one input at once; only when that fails, row by row, to say which one is at fault."""
    try:
        return _tensor(items, spec)
    except ServingError as error:
        _blame(items, spec, key)
        raise error


def _blame(items: list[Any], spec: TensorSpec, key: str) -> None:
    first: tuple[int, ...] | None = None
    for i, item in enumerate(items):
        try:
            shape = _tensor(item, spec).shape
            first = shape if first is None else first
            if math.prod(shape) != math.prod(first):
                raise invalid(f"Expecting tensor size: {math.prod(first)} but got: {math.prod(shape)}")
            if shape != first:
                raise invalid(f"Expecting shape {_dims(first)} but got: {_dims(shape)}")
        except ServingError as error:
            where = f" [key: {key} ]" if key else " "
            message = f"Failed to process element: {i}{where}of 'instances' list. Error: "
            raise ServingError(error.code, f"{message}{error.code.name}: {error.message}") from error


def _dims(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _tensor(value: Any, spec: TensorSpec) -> np.ndarray:
    """A value or nested lists of any depth -> an array of the spec's type, shaped by the first elements."""
    shape: list[int] = []
    level = [value]
    while level and isinstance(level[0], list):
        size = len(level[0])
        for item in level:
            if not isinstance(item, list):
                raise invalid(f"JSON Value: {shown(item)} found at incorrect level: {len(shape) + 1}")
            if len(item) != size:
                raise invalid(
                    f"Encountered list at unexpected size: {len(item)} at level: {len(shape)} "
                    f"expected size: {size}"
                )
        level = [leaf for item in level for leaf in item]
        shape.append(size)
    if list in set(map(type, level)):
        raise invalid(f"Encountered list at unexpected level: {len(shape)} expected: <{len(shape)}")
    if len(shape) > 64:
        raise invalid(
            f"Encountered list at unexpected level: {len(shape)}: a tensor has at most 64 dimensions"
        )
    return _leaves(level, spec).reshape(shape)


def _leaves(values: list[Any], spec: TensorSpec) -> np.ndarray:
    name = spec.dtype.name
    types = set(map(type, values))
    if name in ("float", "double"):
        _require(types <= {int, float}, values, name, (int, float))
        return _floats(values, spec)
    if name in _INTEGERS:
        _require(types <= {int}, values, name, (int,))
        low, high = _INTEGERS[name]
        if values and (min(values) < low or max(values) > high):
            wrong = next(v for v in values if not low <= v <= high)
            raise invalid(_not_of(wrong, name))
        return np.array(values, np.int64 if low < 0 else np.uint64).astype(spec.dtype.numpy)
    if name == "bool":
        _require(types <= {bool}, values, name, (bool,))
        return np.array(values, np.bool_)
    if name == "string":
        flat = np.empty(len(values), object)
        flat[:] = [to_bytes(v) for v in values]
        return flat
    value = shown(values[0]) if values else "[]"
    raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {value} to type: {name}")


def _floats(values: list[Any], spec: TensorSpec) -> np.ndarray:
    """Numbers beyond the type's range become infinite, as upstream's casts do; so do integers beyond a
    double's.
    """
    try:
        wide = np.array(values, np.float64)
    except OverflowError:
        largest = sys.float_info.max
        ends = {True: math.inf, False: -math.inf}
        wide = np.array([ends[v > 0] if abs(v) > largest else v for v in values], np.float64)
    with np.errstate(over="ignore"):
        return wide.astype(spec.dtype.numpy)


def _require(right: bool, values: list[Any], name: str, kinds: tuple[type, ...]) -> None:
    if not right:
        raise invalid(_not_of(next(v for v in values if type(v) not in kinds), name))


def _not_of(value: Any, name: str) -> str:
    return f"JSON Value: {shown(value)} Type: {json_type(value)} is not of expected type: {name}"


def json_type(value: Any) -> str:
    """How messages name the JSON type of a value."""
    if value is None or isinstance(value, bool):
        return {None: "Null", False: "False", True: "True"}[value]
    names = ((dict, "Object"), (list, "Array"), (str, "String"))
    return next((name for kind, name in names if isinstance(value, kind)), "Number")


def to_bytes(value: Any) -> bytes:
    """The bytes of a string, or of a {"b64": ...} object."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass" if _lone(value) else "surrogateescape")
    if not isinstance(value, dict):
        raise invalid(_not_of(value, "string"))
    if not is_b64(value):
        raise invalid(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
    encoded = value["b64"].rstrip("=")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def _lone(text: str) -> bool:
    """Whether a string holds a surrogate that no byte of the body stands for: one written as an escape."""
    return any("\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff" for c in text)


def is_b64(value: Any) -> bool:
    """Whether a value is a {"b64": text} object, which stands for bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def shown(value: Any) -> str:
    """A JSON value for an error message: compact, cut near 256 bytes, and never built longer than that."""
    text = ""
    for chunk in _ENCODER.iterencode(_pruned(value)):
        text += chunk
        if len(text) > _SHOWN:
            return text[:_SHOWN] + "..."
    return text


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _pruned(value: Any, depth: int = 50) -> Any:
    """The beginning of a value, so that a message about a large or deep body stays cheap."""
    if depth == 0:
        return "..."
    if isinstance(value, list):
        return [_pruned(item, depth - 1) for item in value[:_SHOWN]]
    if isinstance(value, dict):
        return {key: _pruned(item, depth - 1) for key, item in list(value.items())[:_SHOWN]}
    return value[: _SHOWN + 1] if isinstance(value, str) else value


# --- writing ------------------------------------------------------------------------------------------------


def row_reply(outputs: Mapping[str, np.ndarray]) -> bytes:
    """{"predictions": [...]}: an entry per row, a bare value for one output, an object for several."""
    batch = None
    for alias, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {alias} has no shape information ")
        if batch not in (None, len(array)):
            raise invalid(
                f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: {batch}"
            )
        batch = len(array)
    columns = {alias: _row_texts(alias, array) for alias, array in outputs.items()}
    if len(columns) == 1:
        (rows,) = columns.values()
    else:
        keys = [json.dumps(alias) for alias in columns]
        rows = [
            "{" + ",".join(f"{key}:{text}" for key, text in zip(keys, texts, strict=True)) + "}"
            for texts in zip(*columns.values(), strict=True)
        ]
    return _bytes('{"predictions":[' + ",".join(rows) + "]}")


def column_reply(outputs: Mapping[str, np.ndarray]) -> bytes:
    """{"outputs": value}, or an object of values when there are several outputs."""
    texts = {alias: _nested(list(_tokens(alias, array)), array.shape) for alias, array in outputs.items()}
    if len(texts) == 1:
        (value,) = texts.values()
    else:
        value = "{" + ",".join(f"{json.dumps(alias)}:{text}" for alias, text in texts.items()) + "}"
    return _bytes(f'{{"outputs":{value}}}')


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _row_texts(alias: str, array: np.ndarray) -> list[str]:
    tokens = list(_tokens(alias, array))
    size = math.prod(array.shape[1:])
    return [_nested(tokens[i * size : (i + 1) * size], array.shape[1:]) for i in range(len(array))]


def _nested(tokens: Sequence[str], shape: tuple[int, ...]) -> str:
    for axis in range(len(shape) - 1, -1, -1):
        size, count = shape[axis], math.prod(shape[:axis])
        tokens = ["[" + ",".join(tokens[i * size : (i + 1) * size]) + "]" for i in range(count)]
    return tokens[0]


def _tokens(alias: str, array: np.ndarray) -> Iterator[str]:
    """The JSON of every element, in order."""
    flat = array.reshape(-1)
    if array.dtype == object:
        write = _b64_text if alias.endswith("_bytes") else _string_text
        return map(write, flat.tolist())
    if array.dtype == np.bool_:
        return ("true" if value else "false" for value in flat.tolist())
    if array.dtype.kind in "iu":
        return map(str, flat.tolist())
    if array.dtype == np.float32:
        return map(_number(np.float32, 9), flat.tolist())
    if array.dtype == np.float64:
        return map(_number(np.float64, 17), flat.tolist())
    name = "half" if array.dtype == np.float16 else array.dtype.name
    raise invalid(f"Failed to write JSON value for tensor type: {name}")


def _number(kind: type[np.floating], digits: int) -> Callable[[float], str]:
    """Six digits where they give the same number back, else as many as the type needs; always recognisable as
    a decimal.
    """

    def write(value: float) -> str:
        if not math.isfinite(value):
            return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
        text = f"{value:.6g}"
        if kind(text) != value:
            text = f"{value:.{digits}g}"
        return text if "." in text or "e" in text else text + ".0"

    return write


float_text = _number(np.float32, 9)


def _b64_text(value: bytes | str) -> str:
    return json.dumps({"b64": base64.b64encode(_encoded(value)).decode()})


def _string_text(value: bytes | str) -> str:
    """The raw bytes inside a JSON string, valid UTF-8 or not."""
    return json.dumps(_encoded(value).decode("utf-8", "surrogateescape"), ensure_ascii=False)


def _encoded(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value
