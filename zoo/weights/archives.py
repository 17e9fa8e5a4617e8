"""Archives from elsewhere, opened only within limits: no member leaves its folder, none is a link, none
unpacks to far more than came.
"""

from __future__ import annotations

import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, cast

from zoo.errors import WeightsError

LIMIT = 8 << 30  # bytes unpacked; no published network comes near it
RATIO = 100  # bytes unpacked for each that came, counted beyond SMALL; trained weights have about 1
SMALL = 64 << 20  # bytes; fresh variables, all zeros or ones, compress a thousandfold
MEMBERS = 10_000
HEADERS = 1 << 20  # bytes between two members


def extract(archive: Path, folder: Path) -> None:
    """Unpack a .tar.gz file into the folder, which exists. Raises WeightsError; members may be left then."""
    limit = most(archive.stat().st_size)
    try:
        with gzip.open(archive) as unpacked:
            bounded = _Bounded(unpacked)
            # A stream: seeking backwards would unpack all from the start.
            with tarfile.open(fileobj=cast(IO[bytes], bounded), mode="r|") as members:
                _extract(members, bounded, folder, limit)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise WeightsError(f"{archive} is not a sound .tar.gz archive: {error}") from error


def unpack_only(archive: Path, destination: Path) -> None:
    """Write the one file of a .zip to the destination, whatever its name inside. Raises WeightsError."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            if len(members) != 1:
                raise WeightsError(f"{archive} holds {len(members)} files, where one was expected")
            _check_total(archive, 1, members[0].file_size)
            with opened.open(members[0]) as source, destination.open("wb") as target:
                shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise WeightsError(f"{archive} is not a sound .zip archive: {error}") from error


def check_zip(archive: Path) -> None:
    """Raises WeightsError for a zip file that is not safe to unpack, zipfile.BadZipFile for no zip file."""
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise WeightsError(f'{archive}: refused, "{member.filename}" in it is a link or a device')
        _check_name(archive, member.filename)
    _check_total(archive, len(members), sum(member.file_size for member in members))


def most(size: int) -> int:
    """To how many bytes an archive of `size` bytes may unpack."""
    return min(LIMIT, max(SMALL, RATIO * size))


class _Bounded:
    """A stream that gives no more than was allowed so far: tarfile reads a header of any size into memory."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self.stream, self.allowed = stream, HEADERS

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.allowed -= len(data)
        if self.allowed < 0:
            raise tarfile.ReadError("its headers are larger than its files")
        return data


def _extract(members: tarfile.TarFile, bounded: _Bounded, folder: Path, limit: int) -> None:
    total = 0
    for count, member in enumerate(members, start=1):
        if not (member.isreg() or member.isdir()) or member.issparse():
            raise tarfile.ExtractError(f'refused, "{member.name}" in it is a link, a device or sparse')
        total += member.size
        if total > limit or count > MEMBERS:
            raise tarfile.ExtractError(f"refused, it unpacks to more than {limit} bytes or {MEMBERS} files")
        bounded.allowed += member.size + HEADERS
        members.extract(member, folder, set_attrs=False, filter="data")


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise WeightsError(f'{archive}: refused, "{name}" in it would be written outside of its folder')


def _check_total(archive: Path, count: int, size: int) -> None:
    limit = most(archive.stat().st_size)
    if size > limit or count > MEMBERS:
        raise WeightsError(f"{archive}: refused, it unpacks to more than {limit} bytes or {MEMBERS} files")
