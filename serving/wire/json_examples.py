"""TensorFlow Serving's JSON bodies of classify and regress to tf.Examples, and their results to replies.

Checks, their order and their words are upstream's (util/json_tensor.cc), because clients match on them.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from serving.errors import invalid
from serving.models.inference import Class
from serving.wire.json_tensors import float_text, is_b64, json_type, to_bytes
from serving.wire.protos import Example

_INT64 = (-(2**63), 2**63 - 1)


def examples(body: Mapping[str, Any], method: str) -> list[bytes]:
    """The serialised tf.Examples of a body, its context before each; INVALID_ARGUMENT names the feature."""
    context = _example(body["context"]).SerializeToString() if "context" in body else b""
    if "examples" not in body:
        raise invalid(f"When method is {method}, key 'examples' is expected and was not found")
    listed = body["examples"]
    if not isinstance(listed, list):
        raise invalid("Expecting 'examples' value to be an list/array")
    if not listed:
        raise invalid("'examples' value is an empty array")
    return [context + _example(item).SerializeToString() for item in listed]


def _example(features: Any) -> Any:
    if not isinstance(features, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_type(features)}")
    example = Example()
    for name, value in features.items():
        try:
            _fill(example.features.feature[name], name, value if isinstance(value, list) else [value])
        except UnicodeEncodeError as error:
            raise invalid(f"Feature: {name!a} is not UTF-8") from error
    return example


def _fill(feature: Any, name: str, values: Sequence[Any]) -> None:
    """The first value decides the type; the others must be of it too."""
    kinds = [_kind(name, value) for value in values]
    if not kinds:
        return
    if set(kinds) != {kinds[0]}:
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {kinds[0]}")
    if kinds[0] == "bytes":
        feature.bytes_list.value.extend(to_bytes(value) for value in values)
    elif kinds[0] == "float":
        feature.float_list.value.extend(_float(value) for value in values)
    else:
        feature.int64_list.value.extend(int(value) for value in values)


def _float(value: float) -> float:
    """Integers below int64 count as decimals, however long they are."""
    try:
        return float(value)
    except OverflowError:
        return -math.inf


def _kind(name: str, value: Any) -> str:
    if isinstance(value, int):
        if value > _INT64[1]:
            raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        return "int64" if value >= _INT64[0] else "float"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str) or is_b64(value):
        return "bytes"
    raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")


def classes_reply(rows: Sequence[Sequence[Class]]) -> bytes:
    """{"results": [[[label, score], ...], ...]}, a list of pairs per example."""
    texts = (
        ",".join(f"[{json.dumps(c.label, ensure_ascii=False)},{float_text(c.score)}]" for c in row)
        for row in rows
    )
    return ('{"results":[' + ",".join(f"[{text}]" for text in texts) + "]}").encode()


def values_reply(values: Sequence[float]) -> bytes:
    """{"results": [value, ...]}, one per example."""
    return ('{"results":[' + ",".join(map(float_text, values)) + "]}").encode()
