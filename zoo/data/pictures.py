"""A checked set of labelled pictures as plain data."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from zoo.errors import DataError
from zoo.preprocessing import Preprocessing, load_image
from zoo.progress import progress
from zoo.wording import counted

IN_MEMORY = 2 << 30  # bytes of decoded pictures; more of them lie in a file

Source = Path | bytes | np.ndarray
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Pictures:
    """N pictures in a stable order.

    sources: paths, encoded bytes, or uint8 arrays [H, W, 3] or [H, W]; names: what a person calls each;
    labels: int64 [N], indices into classes, or, where a picture may have several labels or none, bool [N, C];
    hashes: 32 hex digits of each picture's RGB pixels, in a file or in an array; looks: uint8 [N, 256], greys
    of 16 x 16; sides: where the data says who trains, one of zoo.data.SIDES for each, else "";
    units: what stays on one side, 32 hex digits that pictures of one group share, each content's hash where
    the data knows no groups.
    """

    sources: tuple[Source, ...]
    names: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    hashes: tuple[str, ...]
    looks: np.ndarray
    sides: tuple[str, ...]
    units: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        return (
            f"Pictures({counted(len(self), 'picture')} of {counted(len(self.classes), 'class', 'classes')})"
        )

    def chosen(self, indices: Sequence[int] | np.ndarray) -> Pictures:
        def of(values: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(values[i] for i in indices)

        rows = np.asarray(indices, np.int64)
        return Pictures(
            sources=of(self.sources),
            names=of(self.names),
            labels=self.labels[rows],
            classes=self.classes,
            hashes=of(self.hashes),
            looks=self.looks[rows],
            sides=of(self.sides),
            units=of(self.units),
        )

    def joined(self, others: Pictures) -> Pictures:
        """These, then others of the same classes."""
        return Pictures(
            sources=self.sources + others.sources,
            names=self.names + others.names,
            labels=np.concatenate([self.labels, others.labels]),
            classes=self.classes,
            hashes=self.hashes + others.hashes,
            looks=np.concatenate([self.looks, others.looks]),
            sides=self.sides + others.sides,
            units=self.units + others.units,
        )

    @property
    def digest(self) -> str:
        """Names this set of contents, labels, classes, sides and groups, in whatever order they came."""
        pairs = sorted(zip(self.hashes, self.labels.tolist(), self.sides, strict=True))
        grouped = self.units != self.hashes
        groups = [sorted(set(zip(self.hashes, self.units, strict=True)))] if grouped else []
        return hashlib.blake2b(repr((self.classes, pairs, *groups)).encode(), digest_size=16).hexdigest()

    def labels_of(self, i: int) -> tuple[int, ...]:
        """The picture's labels as indices into classes, rising."""
        labels = self.labels[i]
        return tuple(np.flatnonzero(labels).tolist()) if labels.ndim else (int(labels),)

    def described(self, i: int) -> str:
        """The picture's labels in words."""
        return " and ".join(self.classes[label] for label in self.labels_of(i)) or "no label"

    def facts(self) -> dict[str, Any]:
        """Counts for people; contradictions are equal pictures with different labels."""
        own = [self.labels_of(i) for i in range(len(self))]
        counts = np.bincount([i for labels in own for i in labels], minlength=len(self.classes))
        pairs = set(zip(self.hashes, own, strict=True))
        groups = {unit for unit, content in zip(self.units, self.hashes, strict=True) if unit != content}
        return {
            "pictures": len(self),
            "classes": len(self.classes),
            "per_class": dict(zip(self.classes, counts.tolist(), strict=True)),
            "duplicates": len(self) - len(set(self.hashes)),
            "contradictions": len(pairs) - len(set(self.hashes)),
            "digest": self.digest,
            **({"groups": len(groups)} if groups else {}),
        }


def content_hash(rgb: np.ndarray) -> str:
    digest = hashlib.blake2b(repr(rgb.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


def images(pictures: Pictures, preprocessing: Preprocessing, indices: np.ndarray) -> np.ndarray:
    """The chosen pictures as the network takes them: uint8 [len(indices), h, w, 3]. Above IN_MEMORY they lie
    in a file of the temporary folder, which goes with the array. Raises DataError where it has no room.
    """
    chosen = [pictures.sources[i] for i in indices]
    decoded = _room((len(chosen), *preprocessing.input_size, 3))
    for place, picture in enumerate(in_threads("pictures", partial(load_image, preprocessing), chosen)):
        decoded[place] = picture
    return decoded


def _room(shape: tuple[int, ...]) -> np.ndarray:
    """uint8, without values."""
    size, folder = math.prod(shape), tempfile.gettempdir()
    if size <= IN_MEMORY:
        return np.empty(shape, np.uint8)
    # Beforehand: writing to the map of a file that the disk has no room for ends the process.
    if size > shutil.disk_usage(folder).free:
        raise DataError(
            f"{shape[0]} decoded pictures take {size / 1e9:.1f} GB, and {folder} has less room: "
            "set TMPDIR to a folder of a larger disk, or give a smaller input_size"
        )
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.asarray(np.memmap(file, np.uint8, "w+", shape=shape))


def in_batches(task: str, work: Callable[[Any], T], items: Iterable[Any], size: int) -> Iterator[list[T]]:
    """Results in the items' order, `size` at a time, the next being worked on while one batch is used."""
    todo = list(items)
    with progress() as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        line = bar.add_task(task, total=len(todo))
        coming = [[pool.submit(work, item) for item in todo[:size]]]
        for start in range(0, len(todo), size):
            ready = coming.pop()
            coming.append([pool.submit(work, item) for item in todo[start + size : start + 2 * size]])
            yield [future.result() for future in ready]
            bar.advance(line, len(ready))


def batches(
    task: str, preprocessing: Preprocessing, sources: Iterable[Source], size: int
) -> Iterator[np.ndarray]:
    """Pictures as a network takes them, uint8 [n, h, w, 3], n <= size, in their order."""
    for images in in_batches(task, partial(load_image, preprocessing), sources, size):
        yield np.stack(images)


def in_threads(task: str, work: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
    """Results in the items' order; Pillow decodes and resizes outside Python's lock."""
    todo = list(items)
    with progress() as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        line = bar.add_task(task, total=len(todo))
        for result in pool.map(work, todo):
            bar.advance(line)
            yield result
