"""JSON predict bodies: upstream's checks in upstream's words, and numbers that every client can parse."""

import json
import math

import numpy as np
import pytest

from serving.errors import Code, ServingError
from serving.runtimes import Signature, TensorSpec
from serving.wire.json_tensors import column_reply, parse_body, row_reply, to_arrays
from serving.wire.tensors import DTYPES

TYPES = {dtype.name: dtype for dtype in DTYPES}


def signature(**inputs: str) -> Signature:
    return Signature({a: TensorSpec(f"{a}:0", TYPES[t], None) for a, t in inputs.items()}, {})


ONE = signature(x="float")
TWO = signature(a="float", b="int32")
TEXT = signature(s="string")


def read(body: str, of: Signature = ONE) -> dict[str, list]:
    return {alias: array.tolist() for alias, array in to_arrays(parse_body(body.encode()), of).items()}


@pytest.mark.parametrize(
    ("body", "of", "expected"),
    [
        ('{"instances": [1, 2.5]}', ONE, {"x": [1, 2.5]}),
        ('{"instances": [[1], [2]]} trailing', ONE, {"x": [[1], [2]]}),
        ('{"instances": [{"x": 1}, {"x": 2}]}', ONE, {"x": [1, 2]}),
        ('{"inputs": 3}', ONE, {"x": 3}),
        ('{"inputs": {"x": [[]]}}', ONE, {"x": [[]]}),
        ('{"instances": [1], "instances": [2]}', ONE, {"x": [1]}),
        ('{"inputs": {"a": [1], "b": [2, 3], "extra": 0}}', TWO, {"a": [1], "b": [2, 3]}),
        ('{"instances": [{"b64": "aGk"}, "Inf, é"], "t": Inf}', TEXT, {"s": [b"hi", "Inf, é".encode()]}),
        ('{"instances": [{"s": {"b64": "aGk="}}]}', TEXT, {"s": [b"hi"]}),
        ('{"inputs": {"b64": "aGk="}}', TEXT, {"s": b"hi"}),
        (
            '{"inputs": [1e39, -1e39, 1e-60, Infinity, -Inf]}',
            ONE,
            {"x": [math.inf, -math.inf, 0, math.inf, -math.inf]},
        ),
        ('{"inputs": [1' + "0" * 400 + "]}", ONE, {"x": [math.inf]}),
        ('{"inputs": [true, false]}', signature(x="bool"), {"x": [True, False]}),
        ('{"inputs": [18446744073709551615]}', signature(x="uint64"), {"x": [2**64 - 1]}),
    ],
)
def test_bodies_become_arrays(body: str, of: Signature, expected: dict[str, object]) -> None:
    assert read(body, of) == expected


def test_not_a_number_is_read() -> None:
    assert math.isnan(read('{"inputs": [NaN]}')["x"][0])


@pytest.mark.parametrize(
    ("body", "of", "message"),
    [
        ("", ONE, "JSON Parse error: The document is empty"),
        ("{bad", ONE, "JSON Parse error: Invalid value. at offset: 1"),
        ("[" * 100000, ONE, "JSON Parse error"),
        ("[1]", ONE, "JSON Value: [1] Is not object"),
        ("{}", ONE, "JSON Value: {} Missing 'inputs' or 'instances' key"),
        (
            '{"inputs": 1, "instances": [1]}',
            ONE,
            "expecting only one of 'inputs' or 'instances' keys to exist",
        ),
        ('{"instances": 1}', ONE, "Expecting 'instances' to be an list/array"),
        ('{"instances": []}', ONE, "No values in 'instances' array"),
        ('{"instances": [{"y": 1}]}', ONE, "JSON object: does not have named input: y"),
        ('{"instances": [{"a": 1}]}', TWO, "keys must be equal to: a,b"),
        ('{"instances": [1]}', TWO, "instances is a plain list, but expecting list of objects"),
        ('{"inputs": [1]}', TWO, "inputs is a plain value/list, but expecting an object"),
        ('{"inputs": {"a": 1}}', TWO, "Missing named input: b in 'inputs' object."),
        ('{"instances": [{"x": 1}, 2]}', ONE, "Expecting object but got list at item 1 of input list"),
        ('{"instances": [2, {"x": 1}]}', ONE, "Expecting value/list but got object at item 1 of input list"),
        (
            '{"instances": [[1, 2], [1]]}',
            ONE,
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting tensor size: 2 but got: 1",
        ),
        (
            '{"instances": [{"x": [[1], [2]]}, {"x": [1, 2]}]}',
            ONE,
            "Failed to process element: 1 [key: x ]of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting shape [2,1] but got: [2]",
        ),
        (
            '{"inputs": [[1, 2], [3]]}',
            ONE,
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        ('{"inputs": [[1], 2]}', ONE, "JSON Value: 2 found at incorrect level: 2"),
        ('{"inputs": [1, [2]]}', ONE, "Encountered list at unexpected level: 1"),
        ('{"inputs": [null]}', ONE, "JSON Value: null Type: Null is not of expected type: float"),
        ('{"inputs": [1, true]}', ONE, "JSON Value: true Type: True is not of expected type: float"),
        ('{"inputs": ["1"]}', ONE, 'JSON Value: "1" Type: String is not of expected type: float'),
        (
            '{"inputs": [1.0]}',
            signature(x="int32"),
            "JSON Value: 1.0 Type: Number is not of expected type: int32",
        ),
        ('{"inputs": [2147483648]}', signature(x="uint8"), "is not of expected type: uint8"),
        ('{"inputs": [1]}', TEXT, "JSON Value: 1 Type: Number is not of expected type: string"),
        ('{"inputs": [{"b64": 1}]}', TEXT, 'JSON Value: {"b64":1} not formatted correctly for base64 data'),
        ('{"inputs": {"b64": "???"}}', TEXT, "Unable to base64 decode"),
        ('{"inputs": 1}', Signature({}, {}), "Failed to get input map for signature: DEFAULT"),
    ],
)
def test_refusals_say_what_upstream_says(body: str, of: Signature, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        read(body, of)
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert message in caught.value.message


def test_types_that_json_cannot_carry_are_unimplemented() -> None:
    with pytest.raises(ServingError, match="UNIMPLEMENTED: Conversion of JSON Value: 1 to type: half"):
        read('{"inputs": [1]}', signature(x="half"))


def test_a_message_about_a_large_body_stays_short() -> None:
    with pytest.raises(ServingError) as caught:
        read(json.dumps({"x": [0] * 100000}))
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(9e6), "9e+06"),
        (np.float32(999999), "999999.0"),
        (np.float32(3e-5), "3e-05"),
        (np.float32(1 / 3), "0.333333343"),
        (np.float32(2), "2.0"),
        (np.float64(0.1), "0.1"),
        (np.float64(1 / 3), "0.33333333333333331"),
        (np.float32("nan"), "NaN"),
        (np.float32("-inf"), "-Infinity"),
        (np.int8(-3), "-3"),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (np.bool_(True), "true"),
    ],
)
def test_numbers_are_written_as_upstream_writes_them(value: np.generic, text: str) -> None:
    assert column_reply({"y": np.asarray(value)}) == f'{{"outputs":{text}}}'.encode()


def test_every_float_survives_its_text() -> None:
    bits = np.random.default_rng(0).integers(0, 2**31, 2000, np.uint32).view(np.float32)
    finite = bits[np.isfinite(bits)]
    back = json.loads(row_reply({"y": finite}))["predictions"]
    assert np.array_equal(np.array(back, np.float32), finite)


def test_rows_and_columns() -> None:
    outputs = {"y": np.array([[1, 2], [3, 4]]), "s_bytes": np.array([b"a", b"\xff"], object)}
    assert json.loads(row_reply(outputs)) == {
        "predictions": [{"y": [1, 2], "s_bytes": {"b64": "YQ=="}}, {"y": [3, 4], "s_bytes": {"b64": "/w=="}}]
    }
    assert json.loads(column_reply(outputs))["outputs"]["y"] == [[1, 2], [3, 4]]
    assert row_reply({"y": np.zeros((0, 2))}) == b'{"predictions":[]}'
    assert column_reply({"y": np.zeros((2, 0))}) == b'{"outputs":[[],[]]}'
    assert row_reply({"s": np.array([b'"\xff'], object)}) == b'{"predictions":["\\"\xff"]}'


def test_outputs_that_are_no_rows_are_refused() -> None:
    with pytest.raises(ServingError, match="Tensor name: y has no shape information"):
        row_reply({"y": np.float32(1)})
    with pytest.raises(ServingError, match="Tensor name: b has inconsistent batch size: 1 expecting: 2"):
        row_reply({"a": np.zeros(2), "b": np.zeros(1)})
    with pytest.raises(ServingError, match="Failed to write JSON value for tensor type: half"):
        row_reply({"a": np.zeros(2, np.float16)})
