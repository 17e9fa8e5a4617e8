"""What people keep pictures in -> `Pictures`. All that is wrong is said once, together, before training."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.data.arrays import list_arrays, list_rows
from zoo.data.duplicates import look
from zoo.data.folders import list_folder
from zoo.data.listing import Listing
from zoo.data.pictures import Pictures, Source, content_hash, in_threads, pixels
from zoo.data.records import list_records, record_files
from zoo.data.split import SIDES
from zoo.data.tables import list_table
from zoo.errors import DataError
from zoo.preprocessing import kind_of

log = logging.getLogger("zoo")

PROBLEMS_SHOWN = 100
KINDS_OF = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP"}


class Seen(NamedTuple):
    """A picture once opened: its content's hash and its look, or what is wrong; what its name promises
    wrongly.
    """

    content: str
    look: np.ndarray
    problem: str = ""
    misnamed: str = ""


def open_data(data: Any, *, to_split: bool = True) -> Pictures:
    """Open and check labelled pictures. data is one of
    - a folder with one folder of pictures per class (jpg, jpeg, png, bmp, gif, webp; nested folders belong to
      their class; hidden and other files are passed over), or with folders train, val and test of such;
    - a .csv file with the columns path (relative to it), label and, if wanted, split;
    - a .tfrecord file or a folder of them, of tf.train.Example with image/encoded and image/class/label;
    - (images, labels[, classes]): images uint8 [N, H, W, 3] or [N, H, W], labels N integers or strings,
      classes the names of labels 0, 1, ...;
    - a tf.data.Dataset or any other iterable of (image, label) or {"image": ..., "label": ...}.

    Pictures are turned as their EXIF says. A side that the data names (train, val, test) is kept. Data that
    is not to be split, but only to judge by, may have one class, and few pictures of each.

    Raises DataError listing all that is wrong: what is missing, unreadable or truncated, fewer than two
    classes, empty classes, classes with too few different pictures to be split, equal pictures on two sides,
    arrays that do not fit each other.
    """
    listing = _listing(data)
    seen = _look_at_all(listing) if listing.items else []
    problems = listing.problems + [one.problem for one in seen if one.problem]
    if listing.classes and to_split:
        problems += _class_problems(listing, seen) + _leaks(listing, seen)
    if problems:
        raise DataError(_message(listing.title, problems))
    misnamed = [one.misnamed for one in seen if one.misnamed]
    if misnamed:
        log.warning(
            "%d files are not what their names say, %s first; they are read", len(misnamed), misnamed[0]
        )
    return Pictures(
        sources=tuple(item.source for item in listing.items),
        names=tuple(item.name for item in listing.items),
        labels=np.asarray([item.label for item in listing.items], np.int64),
        classes=listing.classes,
        hashes=tuple(one.content for one in seen),
        looks=np.stack([one.look for one in seen]),
        sides=tuple(item.side for item in listing.items),
    )


def _listing(data: Any) -> Listing:
    if isinstance(data, str | PathLike):
        return _list_path(Path(data))
    if isinstance(data, tuple) and len(data) in (2, 3):
        return list_arrays(*data)
    if isinstance(data, Iterable):
        return list_rows(data)
    raise DataError(
        "data must be a folder, a .csv or .tfrecord file, a tuple (images, labels) or an iterable of such "
        f"pairs, not {type(data).__name__}"
    )


def _list_path(path: Path) -> Listing:
    if path.is_dir():
        records = record_files(path)
        return list_records(records) if records else list_folder(path)
    if path.suffix.lower() == ".csv" and path.is_file():
        return list_table(path)
    if ".tfrecord" in path.name and path.is_file():
        return list_records([path])
    what = "is neither a folder nor a .csv or .tfrecord file" if path.exists() else "does not exist"
    raise DataError(f'the data "{path}" {what}; give a folder with one folder of pictures per class')


def _look_at_all(listing: Listing) -> list[Seen]:
    sources = ((item.source, item.name) for item in listing.items)
    return list(in_threads("check the pictures", lambda pair: _look_at(*pair), sources))


def _look_at(source: Source, name: str) -> Seen:
    try:
        rgb = pixels(source)
    except DataError as error:
        problem = f"{name}: {error}" if isinstance(source, bytes) else str(error)
        return Seen("", np.zeros(0, np.uint8), problem)
    promised = KINDS_OF.get(source.suffix.lower()) if isinstance(source, Path) else None
    kind = kind_of(source) if promised and isinstance(source, Path) else None
    return Seen(content_hash(rgb), look(rgb), misnamed=f"{name} ({kind})" if kind != promised else "")


def _class_problems(listing: Listing, seen: list[Seen]) -> list[str]:
    problems = []
    if len(listing.classes) == 1:
        problems.append(f'"{listing.classes[0]}" is the only class; at least two are needed')
    files = Counter(item.label for item in listing.items)
    contents = {
        (item.label, one.content)
        for item, one in zip(listing.items, seen, strict=True)
        if not one.problem and item.side in ("", "training")
    }
    different = Counter(label for label, _ in contents)
    needed = len(SIDES) - len({item.side for item in listing.items} - {"", "training"})
    for index, name in enumerate(listing.classes):
        if not files[index]:
            problems.append(f'the class "{name}" is empty')
        elif different[index] < needed:
            problems.append(
                f'the class "{name}" has only {different[index]} different and readable pictures; '
                f"at least {needed} are needed to split it into {', '.join(SIDES[:needed])}"
            )
    return problems


def _leaks(listing: Listing, seen: list[Seen]) -> list[str]:
    """The same picture on two sides would judge a network by what it has learnt."""
    by_content: dict[str, dict[str, str]] = defaultdict(dict)
    for item, one in zip(listing.items, seen, strict=True):
        if item.side and not one.problem:
            by_content[one.content].setdefault(item.side, item.name)
    return [
        f"{' and '.join(names.values())} are the same picture, on two sides: remove one"
        for names in by_content.values()
        if len(names) > 1
    ]


def _message(title: str, problems: list[str]) -> str:
    shown = problems[:PROBLEMS_SHOWN]
    more = [f"... and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
    return f"{title} cannot be used:\n" + "\n".join(f"  - {problem}" for problem in shown + more)
