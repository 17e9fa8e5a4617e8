"""The checks of Predict, Classify and Regress that no well-made model reaches through a server."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from serving.errors import Code, ServingError
from serving.models.inference import (
    Class,
    bind,
    check_regression,
    classes,
    classification_outputs,
    values,
)
from serving.runtimes import Signature, TensorSpec
from serving.runtimes.base import CLASSIFY, REGRESS
from serving.wire import json_examples
from serving.wire.protos import Example
from serving.wire.tensors import DTYPES

SPECS = {dtype.name: TensorSpec("t:0", dtype, (-1,)) for dtype in DTYPES}


def strings(*rows: list[bytes]) -> np.ndarray:
    return np.array(rows, object)


def floats(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_classes_pair_labels_and_scores() -> None:
    assert classes(strings([b"a", b"b"]), floats([0.75, 0.25]), 1) == [[Class("a", 0.75), Class("b", 0.25)]]
    assert classes(None, floats([1.0], [2.0]), 2) == [[Class("", 1.0)], [Class("", 2.0)]]
    assert classes(strings([b"\xc3\xa9"]), None, 1) == [[Class("é", 0.0)]]
    assert values(floats([1.0], [2.0]), 2) == values(np.array([1, 2], np.float32), 2) == [1.0, 2.0]


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "labels": (
        lambda: classes(floats([1.0]), None, 1),
        "Expected classes Tensor of DT_STRING. Got: DT_FLOAT",
    ),
    "scores": (
        lambda: classes(None, np.zeros((1, 1), np.int64), 1),
        "Expected scores Tensor of DT_FLOAT. Got: DT_INT64",
    ),
    "rank": (
        lambda: classes(None, np.zeros(2, np.float32), 2),
        "Expected Tensor shape: [batch_size num_classes] but got [2]",
    ),
    "batch": (lambda: classes(None, floats([1.0]), 2), "Expected scores output batch size of 2. Got: 1"),
    "columns": (
        lambda: classes(strings([b"a"]), floats([1.0, 2.0]), 1),
        "Tensors class and score should match in dim_size(1). Got 1 vs. 2",
    ),
    "value shape": (
        lambda: values(floats([1.0, 2.0]), 1),
        "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,2]",
    ),
    "value batch": (
        lambda: values(floats([1.0]), 3),
        "Input batch size did not match output batch size: 3 vs. 1",
    ),
    "value type": (
        lambda: values(np.zeros(1, np.float64), 1),
        "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE",
    ),
    "three outputs": (
        lambda: classification_outputs(signature("abc"), strict=False),
        "Expected one or two output Tensors, found 3",
    ),
    "strict classify": (
        lambda: classification_outputs(signature(["scores"], method=REGRESS), strict=True),
        "Expected classification signature method_name to be tensorflow/serving/classify. Was: "
        "tensorflow/serving/regress",
    ),
    "strict regress": (
        lambda: check_regression(signature(["outputs"], method=CLASSIFY), strict=True),
        "Expected regression signature method_name to be tensorflow/serving/regress. Was: "
        "tensorflow/serving/classify",
    ),
    "two values": (
        lambda: check_regression(signature("ab"), strict=False),
        "Expected one output Tensor.",
    ),
    "names": (
        lambda: bind(signature("y", inputs="ab"), {"a": 1, "c": 2}, lambda value, alias: np.array(value)),
        "Signature input alias: b(feed name: t:0) not found in request and no default value provided. Inputs "
        "expected to be in the request {a,b}, or default input alias set: {}",
    ),
    "count": (
        lambda: bind(signature("y", inputs="a"), {"a": 1, "c": 2}, lambda value, alias: np.array(value)),
        "input size does not match signature: 2!=1 len({a,c}) != len({a}). Sent extra: {c}. "
        "Missing but required: {}.",
    ),
}


def signature(outputs: Iterable[str], inputs: Iterable[str] = ("inputs",), method: str = "") -> Signature:
    return Signature(dict.fromkeys(inputs, SPECS["string"]), dict.fromkeys(outputs, SPECS["float"]), method)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_worded_as_upstream(name: str) -> None:
    refused, message = REFUSED[name]
    with pytest.raises(ServingError) as caught:
        refused()
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)


def test_defaults_stand_in_for_what_is_left_out() -> None:
    with_default = Signature({"a": SPECS["float"], "b": SPECS["float"]}, {}, defaults={"b": np.float32(7)})
    bound = bind(with_default, {"a": 1.0}, lambda value, alias: np.float32(value))
    assert bound == {"a": 1.0, "b": 7.0}


def test_json_features_take_the_type_of_their_first_value() -> None:
    body = {
        "context": {"all": 1},
        "examples": [
            {"i": [1, True], "f": [1.5, 2.5], "s": ["é", {"b64": "/w=="}], "none": [], "low": -(10**400)}
        ],
    }
    (serialised,) = json_examples.examples(body, "classify")
    features = Example.FromString(serialised).features.feature
    assert list(features["all"].int64_list.value) == [1]
    assert list(features["i"].int64_list.value) == [1, 1]
    assert list(features["f"].float_list.value) == [1.5, 2.5]
    assert list(features["s"].bytes_list.value) == ["é".encode(), b"\xff"]
    assert features["none"].WhichOneof("kind") is None
    assert list(features["low"].float_list.value) == [-np.inf]


def test_json_results_are_written_as_upstream_writes_numbers() -> None:
    assert json_examples.classes_reply([[Class('a"', float(np.float32(1 / 3))), Class("", 1e7)]]) == (
        b'{"results":[[["a\\"",0.333333343],["",1e+07]]]}'
    )
    assert json_examples.values_reply([3.0, float("nan")]) == b'{"results":[3.0,NaN]}'
