"""TFRecord files without TensorFlow: the records one after the other, each with its length and checksums."""

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from serving.errors import Code, ServingError

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")


def read(file: Path) -> Iterator[bytes]:
    """The records of a file; DATA_LOSS where it is none or is cut off.

    Only the checksum of a record's length is verified: it tells a TFRecord from other files at once, where
    the records' own would cost a second for every ten megabytes.
    """
    with file.open("rb") as stream:
        while head := stream.read(12):
            if len(head) < 12 or _CHECKSUM.unpack(head[8:])[0] != masked_crc(head[:8]):
                raise ServingError(
                    Code.DATA_LOSS, f"corrupted record at {stream.tell() - len(head)} in {file}"
                )
            (size,) = _LENGTH.unpack(head[:8])
            record = stream.read(size)
            if len(record) < size or len(stream.read(4)) < 4:
                raise ServingError(Code.DATA_LOSS, f"truncated record at {stream.tell()} in {file}")
            yield record


def framed(record: bytes) -> bytes:
    """A record as it stands in a file: what every TFRecord reader accepts."""
    length = _LENGTH.pack(len(record))
    return length + _CHECKSUM.pack(masked_crc(length)) + record + _CHECKSUM.pack(masked_crc(record))


def masked_crc(data: bytes) -> int:
    """The CRC-32C (Castagnoli) of data, rotated and offset as the format wants it."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)
