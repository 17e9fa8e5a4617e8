"""TFRecord files without TensorFlow: the records one after the other, each with its length and checksums."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import google_crc32c

from serving.errors import Code, ServingError

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")


def read(file: Path) -> Iterator[bytes]:
    """The records of a file; DATA_LOSS where it is none, is damaged or is cut off."""
    with file.open("rb") as stream:
        while head := stream.read(_LENGTH.size):
            place = stream.tell() - len(head)
            if len(head) < _LENGTH.size or not _fits(head, stream):
                raise ServingError(Code.DATA_LOSS, f"corrupted record at {place} in {file}")
            (size,) = _LENGTH.unpack(head)
            record = stream.read(size)
            if len(record) < size or not _fits(record, stream):
                raise ServingError(Code.DATA_LOSS, f"truncated or damaged record at {place} in {file}")
            yield record


def _fits(data: bytes, stream: IO[bytes]) -> bool:
    """Whether the checksum that follows is the data's."""
    checksum = stream.read(_CHECKSUM.size)
    return checksum == _CHECKSUM.pack(masked_crc(data))


def framed(record: bytes) -> bytes:
    """A record as it stands in a file: what every TFRecord reader accepts."""
    length = _LENGTH.pack(len(record))
    return length + _CHECKSUM.pack(masked_crc(length)) + record + _CHECKSUM.pack(masked_crc(record))


def masked_crc(data: bytes) -> int:
    """The CRC-32C (Castagnoli) of data, rotated and offset as the format wants it."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
