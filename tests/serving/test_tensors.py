"""TensorProto to NumPy and back."""

import ml_dtypes
import numpy as np
import pytest

from serving.errors import Code, ServingError
from serving.wire.protos import TensorProto
from serving.wire.tensors import DTYPES, to_array, to_proto

NUMBERS = [d for d in DTYPES if d.name != "string"]


def proto(dtype: int, shape: tuple[int, ...], **fields: object) -> TensorProto:
    made = TensorProto(dtype=dtype, **fields)
    made.tensor_shape.SetInParent()
    for size in shape:
        made.tensor_shape.dim.add().size = size
    return made


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda d: d.name)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_every_type_survives_the_way_out_and_in(dtype: object, shape: tuple[int, ...]) -> None:
    array = np.array([0, 1, 2, 3, 100, 1])[: int(np.prod(shape))].reshape(shape).astype(dtype.numpy)
    sent = to_proto(array)
    assert sent.dtype == dtype.number
    assert not sent.tensor_content
    back = to_array(TensorProto.FromString(sent.SerializeToString()), "x")
    assert back.dtype == dtype.numpy
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda d: d.name)
def test_tensor_content_is_read(dtype: object) -> None:
    array = np.array([[1, 0], [2, 1]]).astype(dtype.numpy)
    made = proto(dtype.number, (2, 2), tensor_content=array.tobytes())
    np.testing.assert_array_equal(to_array(made, "x"), array)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32", "float64"])
def test_special_numbers_keep_their_bits(dtype: object) -> None:
    array = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-7], dtype)
    assert to_array(to_proto(array), "x").tobytes() == array.tobytes()


def test_the_ends_of_the_integer_types() -> None:
    for dtype in (np.int8, np.uint16, np.int32, np.int64, np.uint32, np.uint64):
        array = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
        np.testing.assert_array_equal(to_array(to_proto(array), "x"), array)


def test_strings_are_bytes_and_text_is_utf8() -> None:
    back = to_array(to_proto(np.array([["é", "b\x00c"]])), "x")
    assert back.tolist() == [["é".encode(), b"b\x00c"]]
    assert to_array(to_proto(np.array([b"\xff"], object)), "x").tolist() == [b"\xff"]


def test_a_short_list_repeats_its_last_value_and_none_means_zeros() -> None:
    assert to_array(proto(1, (2, 2), float_val=[1, 2]), "x").tolist() == [[1, 2], [2, 2]]
    assert to_array(proto(3, (3,)), "x").tolist() == [0, 0, 0]
    assert to_array(proto(7, (2,)), "x").tolist() == [b"", b""]
    assert to_array(proto(7, (3,), string_val=[b"a", b"b"]), "x").tolist() == [b"a", b"b", b"b"]


@pytest.mark.parametrize(
    "made",
    [
        proto(1, (1,), float_val=[1, 2]),
        proto(1, (-1,), float_val=[1]),
        proto(1, (1 << 40,), float_val=[1]),
        proto(1, (1 << 62, 1 << 62, 0), float_val=[1]),
        proto(1, (1,) * 65, float_val=[1]),
        proto(1, (2,), tensor_content=b"123"),
        proto(7, (1,), tensor_content=b"a"),
        proto(8, (1,), scomplex_val=[1]),
        proto(20, (1,)),
        proto(999, (1,)),
    ],
    ids=[
        *("too many", "negative", "huge", "product", "rank", "content length", "string content"),
        *("half complex", "resource", "unknown"),
    ],
)
def test_what_is_no_tensor_is_refused_by_name(made: TensorProto) -> None:
    with pytest.raises(ServingError) as caught:
        to_array(made, "pixels")
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert caught.value.message == "tensor parsing error: pixels"


def test_an_array_that_no_tensor_carries_is_refused() -> None:
    with pytest.raises(ServingError, match="Unsupported data type: datetime64"):
        to_proto(np.array(["2020-01-01"], "datetime64[D]"))
    with pytest.raises(ServingError, match="holds text or bytes, not dict"):
        to_proto(np.array([{}], object))
