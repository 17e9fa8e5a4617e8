"""What people keep pictures in -> `Pictures`. All that is wrong is said once, together, before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.pictures import Pictures, Source, content_hash, in_threads, pixels
from zoo.data.split import SIDES
from zoo.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"})
PROBLEMS_SHOWN = 100


@dataclass(frozen=True)
class Listing:
    """Found before opening any picture: items (source, name, class index), problems as sentences."""

    title: str
    items: list[tuple[Source, str, int]]
    classes: tuple[str, ...]
    problems: list[str]


def open_data(data: str | PathLike[str] | tuple[Any, ...]) -> Pictures:
    """Open and check labelled pictures.

    data is a folder with one folder of pictures per class (jpg, jpeg, png, bmp, gif, webp; nested folders
    belong to their class; hidden and other files are passed over), or (images, labels[, classes]): images
    uint8 [N, H, W, 3] or [N, H, W], labels N integers or strings, classes the names of labels 0, 1, ...

    Raises DataError listing all that is wrong: a missing folder, unreadable pictures, fewer than two classes,
    empty classes, classes with too few different pictures to be split, arrays that do not fit each other.
    """
    listing = _list_arrays(*data) if isinstance(data, tuple) and len(data) in (2, 3) else _list_folder(data)
    hashes = _hash_all(listing) if listing.items else []
    problems = (
        listing.problems + [problem for _, problem in hashes if problem] + _class_problems(listing, hashes)
    )
    if problems:
        raise DataError(_message(listing.title, problems))
    sources, names, labels = zip(*listing.items, strict=True)
    contents = tuple(content for content, _ in hashes)
    return Pictures(sources, names, np.asarray(labels, np.int64), listing.classes, contents)


def _list_folder(data: Any) -> Listing:
    if not isinstance(data, (str, PathLike)):
        raise DataError(f"data must be a folder or a tuple (images, labels), not {type(data).__name__}")
    folder = Path(data)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f'the data folder "{folder}" {what}; give a folder with one folder of pictures per class'
        )
    homes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = [
        (path, path.relative_to(folder).as_posix(), i)
        for i, home in enumerate(homes)
        for path in _pictures_in(home)
    ]
    problems = []
    loose = [path.name for path in sorted(folder.iterdir()) if _is_picture(path)]
    if loose:
        problems.append(
            f"{len(loose)} pictures belong to no class folder, {loose[0]} first: move them into one"
        )
    if not found:
        problems.append("it holds no pictures in class folders (jpg, jpeg, png, bmp, gif, webp)")
    return Listing(f'"{folder}"', list(found), tuple(home.name for home in homes), problems)


def _pictures_in(home: Path) -> list[Path]:
    inside = (path for path in home.rglob("*") if _is_picture(path))
    return sorted(
        path for path in inside if not any(part.startswith(".") for part in path.relative_to(home).parts)
    )


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")


def _list_arrays(images: Any, labels: Any, classes: Sequence[str] | None = None) -> Listing:
    images, labels = np.asarray(images), np.asarray(labels)
    names, indices, problems = _label_indices(labels, classes)
    if images.dtype != np.uint8:
        problems.append(f"images are {images.dtype}: give uint8, 0..255")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] != 3):
        problems.append(f"images have the shape {images.shape}: give [N, H, W, 3] or [N, H, W]")
    if labels.ndim != 1 or len(images) != len(labels):
        problems.append(
            f"there are {len(images)} images and labels of the shape {labels.shape}: give one label per image"
        )
    if not len(images):
        problems.append("there are no pictures")
    if problems:
        raise DataError(_message("the arrays", problems))
    items = [
        (image, f"picture {i}", index) for i, (image, index) in enumerate(zip(images, indices, strict=True))
    ]
    return Listing("the arrays", items, names, [])


def _label_indices(
    labels: np.ndarray, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[int], list[str]]:
    """Class names, the index of each label among them, and what is wrong."""
    if labels.dtype.kind not in "iuUO":
        return (), [], [f"labels are {labels.dtype}: give integers or strings"]
    values = labels.ravel().tolist()
    if classes is None:
        distinct = sorted(set(values))
        return tuple(map(str, distinct)), [distinct.index(value) for value in values], []
    names = tuple(map(str, classes))
    known = {name: i for i, name in enumerate(names)} | {i: i for i in range(len(names))}
    strange = sorted({str(value) for value in values if value not in known})
    problems = [f"the label {value} is none of the {len(names)} classes" for value in strange]
    return names, [known.get(value, 0) for value in values], problems


def _hash_all(listing: Listing) -> list[tuple[str, str | None]]:
    """For each item its content's hash, or what is wrong with it."""
    sources = (source for source, _, _ in listing.items)
    return list(in_threads("check the pictures", _hash_one, sources))


def _hash_one(source: Source) -> tuple[str, str | None]:
    try:
        return content_hash(pixels(source)), None
    except DataError as error:
        return "", str(error)


def _class_problems(listing: Listing, hashes: list[tuple[str, str | None]]) -> list[str]:
    problems = []
    if len(listing.classes) == 1:
        problems.append(f'"{listing.classes[0]}" is the only class; at least two are needed')
    files = Counter(index for _, _, index in listing.items)
    contents = {
        (index, content)
        for (_, _, index), (content, problem) in zip(listing.items, hashes, strict=True)
        if not problem
    }
    different = Counter(index for index, _ in contents)
    for index, name in enumerate(listing.classes):
        if not files[index]:
            problems.append(f'the class "{name}" is empty')
        elif different[index] < len(SIDES):
            problems.append(
                f'the class "{name}" has only {different[index]} different and readable pictures; '
                f"at least {len(SIDES)} are needed to split it into {', '.join(SIDES)}"
            )
    return problems


def _message(title: str, problems: list[str]) -> str:
    shown = problems[:PROBLEMS_SHOWN]
    more = [f"... and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
    return f"{title} cannot be used for training:\n" + "\n".join(f"  - {problem}" for problem in shown + more)
