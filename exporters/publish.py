"""A version is written beside the base directory and appears by one rename, complete or not at all.

While it is written, its folder `.NAME.partial-XXXXXXXX` is locked by the writing process. The lock ends
with the process, however that ends, so an unlocked partial folder is a killed export's and may be removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from exporters.errors import ExportError

MAX_VERSION = 2**63 - 1
TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


@contextmanager
def partial_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, removed at the end unless published. ExportError names the path."""
    missing = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    try:
        folder, lock = _create(target)
    except OSError as error:
        _remove_empty(missing)
        raise ExportError(f'cannot write to "{target.parent}": {error.strerror}') from error
    try:
        _remove_abandoned(target)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        _remove_empty(missing)


def publish(folder: Path, target: Path, finish: Callable[[int], None]) -> int:
    """Rename the folder to TARGET/VERSION, the highest number there + 1, after finish(VERSION).

    Of two at once the slower one gets the next number. Returns VERSION. Raises ExportError naming the path.
    """
    created = not target.exists()
    try:
        while True:
            version = next_version(target)
            finish(version)
            target.mkdir(exist_ok=True)
            if _renamed(folder, target / str(version)):
                return version
    except OSError as error:
        if created:
            _remove_empty([target])
        raise ExportError(f'cannot publish to "{target}": {error.strerror}') from error


def next_version(target: Path) -> int:
    """1 + the highest name in the folder that a server would take for a version; other names do not count."""
    names = os.listdir(target) if target.is_dir() else []
    numbers = [int(name) for name in names if re.fullmatch(r"[0-9]+", name)]
    highest = max((n for n in numbers if n <= MAX_VERSION), default=0)
    if highest == MAX_VERSION:
        raise ExportError(f'"{target}/{highest}" is the highest version there can be; remove it')
    return highest + 1


def _renamed(folder: Path, version: Path) -> bool:
    try:
        os.rename(folder, version)
    except OSError as error:
        if error.errno in TAKEN and version.exists():
            return False
        raise
    return True


def _create(target: Path) -> tuple[Path, int]:
    """A new locked folder. Where another export took it for abandoned before it was locked, a next one is
    made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder = target.parent / f"{_prefix(target)}{secrets.token_hex(4)}"
        folder.mkdir()
        lock = _lock(folder)
        if lock is not None and folder.exists():
            return folder, lock
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None where another holds it or the folder is gone."""
    with suppress(FileNotFoundError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return descriptor
    return None


def _remove_abandoned(target: Path) -> None:
    for folder in target.parent.iterdir():
        if folder.name.startswith(_prefix(target)) and folder.is_dir():
            lock = _lock(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _prefix(target: Path) -> str:
    return f".{target.name}.partial-"


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
