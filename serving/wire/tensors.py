"""TensorProto to NumPy and back, for every type that a TensorFlow Serving request can carry."""

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from serving.errors import invalid
from serving.wire.protos import TensorProto

MAX_BYTES = (
    1 << 31
)  # of one tensor: a short *_val list may stand for any shape, so the shape alone must not cost memory


@dataclass(frozen=True)
class DType:
    """A tensor type: TensorFlow's number and name, NumPy's type, and the TensorProto field that carries its
    values.
    """

    number: int
    name: str
    numpy: np.dtype[Any]
    field: str


def _dtype(number: int, name: str, numpy: Any, field: str) -> DType:
    return DType(number, name, np.dtype(numpy), field)


DTYPES = (
    _dtype(1, "float", np.float32, "float_val"),
    _dtype(2, "double", np.float64, "double_val"),
    _dtype(3, "int32", np.int32, "int_val"),
    _dtype(4, "uint8", np.uint8, "int_val"),
    _dtype(5, "int16", np.int16, "int_val"),
    _dtype(6, "int8", np.int8, "int_val"),
    _dtype(7, "string", object, "string_val"),
    _dtype(8, "complex64", np.complex64, "scomplex_val"),
    _dtype(9, "int64", np.int64, "int64_val"),
    _dtype(10, "bool", np.bool_, "bool_val"),
    _dtype(14, "bfloat16", ml_dtypes.bfloat16, "half_val"),
    _dtype(17, "uint16", np.uint16, "int_val"),
    _dtype(18, "complex128", np.complex128, "dcomplex_val"),
    _dtype(19, "half", np.float16, "half_val"),
    _dtype(22, "uint32", np.uint32, "uint32_val"),
    _dtype(23, "uint64", np.uint64, "uint64_val"),
)
_BY_NUMBER = {d.number: d for d in DTYPES}
_BY_NAME = {d.name: d for d in DTYPES}
_BY_NUMPY = {d.numpy: d for d in DTYPES}
_PARTS: dict[str, np.dtype[Any]] = {"scomplex_val": np.dtype("<f4"), "dcomplex_val": np.dtype("<f8")}
_FIXED_WIDTH = {"float_val", "double_val", "scomplex_val", "dcomplex_val"}


def by_number(number: int) -> DType:
    """The type of TensorFlow's DataType number; one that no array matches when requests cannot carry it
    (resources, init ops).
    """
    return _BY_NUMBER.get(number) or DType(number, f"type {number}", np.dtype(np.void), "")


def by_name(name: str) -> DType:
    """The type of TensorFlow's name, as "float"; KeyError for one that is not served."""
    return _BY_NAME[name]


def of_array(array: np.ndarray) -> DType:
    """The type of an array; text (U) and bytes (S) arrays are strings."""
    if array.dtype.kind in "US":
        return _BY_NUMPY[np.dtype(object)]
    plain = array.dtype.newbyteorder("=")
    if plain not in _BY_NUMPY:
        raise invalid(f"Unsupported data type: {array.dtype}")
    return _BY_NUMPY[plain]


def to_array(proto: Any, alias: str) -> np.ndarray:
    """The array of a TensorProto: tensor_content or typed values, the last of which repeats to fill the
    shape.

    Strings become an object array of bytes; an array of tensor_content cannot be written to. Raises
    INVALID_ARGUMENT "tensor parsing error: ALIAS" for an unknown type, an unknown or negative shape, a tensor
    above MAX_BYTES, too many values, or content whose length is not the shape's.
    """
    dtype = _BY_NUMBER.get(proto.dtype)
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if dtype is None or proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise invalid(f"tensor parsing error: {alias}")
    if len(shape) > 64 or math.prod(shape) * dtype.numpy.itemsize > MAX_BYTES:
        raise invalid(f"tensor parsing error: {alias}")
    try:
        # Read once: each look at the field is a copy.
        content = proto.tensor_content
        flat = _content(content, dtype, math.prod(shape)) if content else _values(proto, dtype)
        return _fill(flat, math.prod(shape)).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise invalid(f"tensor parsing error: {alias}") from error


def _content(content: bytes, dtype: DType, size: int) -> np.ndarray:
    if dtype.name == "string":
        raise ValueError("strings do not travel in tensor_content")
    flat = np.frombuffer(content, dtype.numpy.newbyteorder("<"))
    if flat.size != size:
        raise ValueError("content and shape differ")
    return flat.astype(dtype.numpy, copy=False)


def _values(proto: Any, dtype: DType) -> np.ndarray:
    values = getattr(proto, dtype.field)
    if dtype.field in _PARTS:
        return np.array(values, dtype=_PARTS[dtype.field]).view(dtype.numpy)
    if dtype.field == "half_val":
        return np.array(values, np.int32).astype(np.uint16).view(dtype.numpy)
    if dtype.field == "int_val":
        return np.array(values, np.int32).astype(dtype.numpy)
    if dtype.field == "string_val":
        flat = np.empty(len(values), object)
        flat[:] = values
        return flat
    return np.array(values, dtype.numpy)


def _fill(flat: np.ndarray, size: int) -> np.ndarray:
    """Exactly `size` values: none given means zeros (empty strings), a short list repeats its last."""
    if flat.size == size:
        return flat
    if flat.size > size:
        raise ValueError("more values than the shape holds")
    if flat.size == 0:
        return np.full(size, b"" if flat.dtype == object else 0, flat.dtype)
    return np.concatenate([flat, np.full(size - flat.size, flat[-1], flat.dtype)])


def to_proto(array: Any, dtype: DType | None = None) -> Any:
    """The TensorProto of an array, its values in the typed field; text is encoded as UTF-8.

    `dtype` is the type of the array unless given. Raises INVALID_ARGUMENT for an array that no tensor type
    fits.
    """
    array = np.asarray(array)
    dtype = dtype or of_array(array)
    proto = _typed(array.reshape(-1), dtype)
    proto.dtype = dtype.number
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    return proto


def to_content(array: np.ndarray, dtype: DType | None = None) -> Any:
    """The TensorProto of an array as to_proto, its values in tensor_content where they are no strings."""
    dtype = dtype or of_array(array)
    if dtype.name == "string":
        return to_proto(array, dtype)
    content = np.ascontiguousarray(array, dtype.numpy.newbyteorder("<")).tobytes()
    proto = TensorProto(dtype=dtype.number, tensor_content=content)
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    return proto


def _typed(flat: np.ndarray, dtype: DType) -> Any:
    if dtype.field in _FIXED_WIDTH:
        return _from_wire(dtype.field, flat.astype(dtype.numpy.newbyteorder("<"), copy=False).tobytes())
    proto = TensorProto()
    if dtype.field == "string_val":
        proto.string_val.extend(_bytes(value) for value in flat.tolist())
    elif dtype.field == "half_val":
        proto.half_val.extend(flat.view(np.uint16).tolist())
    else:
        getattr(proto, dtype.field).extend(flat.tolist())
    return proto


def _from_wire(field: str, data: bytes) -> Any:
    """A TensorProto whose packed field holds `data`: parsing the wire form is twenty times faster than
    appending numbers.
    """
    number = TensorProto.DESCRIPTOR.fields_by_name[field].number
    size, header = len(data), bytearray([number << 3 | 2])
    while size > 127:
        header.append(size & 127 | 128)
        size >>= 7
    header.append(size)
    return TensorProto.FromString(bytes(header) + data)


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise invalid(f"A string tensor holds text or bytes, not {type(value).__name__}")
