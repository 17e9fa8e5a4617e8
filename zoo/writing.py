"""Files and folders that are there complete or not at all, and that one process writes at a time."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import ZooError


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Where to write what `path` will be: beside it, renamed to it at the end, gone after an error.

    Missing parents of `path` are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        partial = Path(folder) / path.name
        yield partial
        os.replace(partial, path)


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Hold the file's lock, which ends with the process at the latest; Windows has none.

    Raises ZooError naming the folder where another holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with file.open() as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ZooError(f'"{file.parent}" is being written by another run: wait for it') from None
        yield
