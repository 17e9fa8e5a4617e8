"""Files that take a fixed number of pictures at a time, as engines for fixed shapes want them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from exporters.errors import ExportError
from exporters.subject import Run


def check(batch: int | None) -> None:
    """Raises ExportError for what is no number of pictures."""
    if batch is not None and (type(batch) is not int or batch < 1):
        raise ExportError(f"batch is {batch!r}; give how many pictures a file takes at a time, 1 or more")


def filled(images: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Parts of exactly `count` pictures; the last is filled up with its last picture."""
    for i in range(0, len(images), count):
        part = images[i : i + count]
        yield np.concatenate([part, np.repeat(part[-1:], count - len(part), 0)])


def in_batches(run: Run, count: int | None) -> Run:
    """The same for any number of pictures, where the file takes `count` at a time; None: it takes any."""
    if count is None:
        return run

    def whole(images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = [run(part) for part in filled(images, count)]
        return {
            name: np.concatenate([output[name] for output in outputs])[: len(images)] for name in outputs[0]
        }

    return whole
