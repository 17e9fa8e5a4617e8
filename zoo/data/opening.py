"""What people keep pictures in -> `Pictures`. All that is wrong is said once, together, before training."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from tarfile import is_tarfile
from typing import Any
from zipfile import is_zipfile

import numpy as np

from zoo.data.arrays import list_arrays, list_rows, list_sides
from zoo.data.checking import look_at_all, notices_of, problems_of
from zoo.data.folders import list_folder
from zoo.data.listing import Listing
from zoo.data.pictures import Pictures
from zoo.data.records import list_records, record_files
from zoo.data.split import units_of
from zoo.data.tables import list_frame, list_table
from zoo.data.unlabelled import list_unlabelled
from zoo.errors import DataError

log = logging.getLogger("zoo")

PROBLEMS_SHOWN = 100


def open_data(data: Any, *, to_split: bool = True) -> Pictures:
    """Open and check labelled pictures. data is one of
    - a folder with one folder of pictures per class (of zoo.preprocessing.KIND_OF's kinds; nested folders
      belong to their class; hidden and other files, __MACOSX and its like are passed over), or with folders
      train, val and test of such;
    - a .csv or .tsv file with the columns path (relative to it), label and, if wanted, split; several labels
      of a picture in a column labels, between | or ;, or in a column of 0 and 1 for each class; or a pandas
      DataFrame of these columns, its paths relative to the current folder;
    - a .tfrecord file or a folder of them, of tf.train.Example with image/encoded and image/class/label;
    - (images, labels[, classes]): images [N, H, W, 3] or [N, H, W] in 0..255, or N pictures; labels N
      integers or strings, or 0 and 1 in [N, C], C > 1, where a picture may have several; classes the names of
      labels 0, 1, ...; or ((images, labels), (images, labels)) to learn from and to test by, as
      keras.datasets gives them;
    - {label: pictures};
    - a tf.data.Dataset or any other iterable of (picture, label) or {"image": picture, "label": ...}; several
      labels are an array of 0 and 1, or a list; or a dict of such with the keys train, val and test;
    - Pictures, which are given back.

    A picture is what zoo.preprocessing.read_image takes: a path, an array, encoded bytes or an image of
    Pillow's, turned as its EXIF says. A side that the data names (train, val, test) is kept. Data that is not
    to be split, but only to judge by, may have one class, and few pictures of each.

    Raises DataError listing all that is wrong: what is missing, unreadable or truncated, fewer than two
    classes, empty classes, classes with too few different pictures to be split, equal pictures on two sides,
    arrays that do not fit each other. What is handled or merely weak is logged together, once: files
    passed over or not what their names say, CMYK, 16 bits, EXIF's turns, duplicates, contradictions, small
    classes.
    """
    if isinstance(data, Pictures):
        return data
    return _opened(_listing(data).settled(), to_split=to_split)


def open_unlabelled(data: Any) -> Pictures:
    """Open and check pictures that nobody has labelled: `Pictures` of no classes, labels bool [N, 0]. data is
    - a folder of pictures, in whatever folders of it, whose names say nothing;
    - images [N, H, W, 3] or [N, H, W] in 0..255, or paths, arrays, encoded bytes or images of Pillow's.

    Raises DataError listing what is missing, unreadable or truncated, or that there are no pictures.
    """
    return _opened(list_unlabelled(data), to_split=False)


def _opened(listing: Listing, *, to_split: bool) -> Pictures:
    seen = look_at_all(listing) if listing.items else []
    if problems := problems_of(listing, seen, to_split=to_split):
        raise DataError(_listed(f"{listing.title} cannot be used", problems))
    if notices := notices_of(listing, seen, to_split=to_split):
        log.warning("%s", _listed(f"{listing.title} can be used; note", notices))
    contents = tuple(one.content for one in seen)
    return Pictures(
        sources=tuple(item.source for item in listing.items),
        names=tuple(item.name for item in listing.items),
        labels=_labels(listing),
        classes=listing.classes,
        hashes=contents,
        looks=np.stack([one.look for one in seen]),
        sides=tuple(item.side for item in listing.items),
        units=units_of(contents, [item.group for item in listing.items]),
    )


def _labels(listing: Listing) -> np.ndarray:
    if not listing.several:
        return np.asarray([item.labels[0] for item in listing.items], np.int64)
    labels = np.zeros((len(listing.items), len(listing.classes)), bool)
    for row, item in zip(labels, listing.items, strict=True):
        row[list(item.labels)] = True
    return labels


def _listing(data: Any) -> Listing:
    if isinstance(data, str | PathLike):
        return _list_path(Path(data))
    if isinstance(data, tuple) and len(data) == 2 and all(_is_pair(part) for part in data):
        return list_sides(*data)
    if isinstance(data, tuple) and len(data) in (2, 3):
        return list_arrays(*data)
    if hasattr(data, "itertuples"):
        return list_frame(data)
    if isinstance(data, Iterable):
        return list_rows(data)
    raise DataError(
        "data must be a folder, a .csv or .tfrecord file, a tuple (images, labels), {label: pictures}, a "
        f"DataFrame or an iterable of such pairs, not {type(data).__name__}"
    )


def _is_pair(part: Any) -> bool:
    return isinstance(part, tuple) and len(part) == 2 and hasattr(part[1], "__len__")


def _list_path(path: Path) -> Listing:
    if path.is_dir():
        records = record_files(path)
        return list_records(records) if records else list_folder(path)
    if path.suffix.lower() in (".csv", ".tsv") and path.is_file():
        return list_table(path)
    if ".tfrecord" in path.name and path.is_file():
        return list_records([path])
    if path.is_file() and (is_zipfile(path) or is_tarfile(path)):
        raise DataError(f'the data "{path}" is an archive: unpack it, and give the folder')
    what = "is neither a folder nor a .csv or .tfrecord file" if path.exists() else "does not exist"
    raise DataError(f'the data "{path}" {what}; give a folder with one folder of pictures per class')


def _listed(title: str, sentences: list[str]) -> str:
    shown = sentences[:PROBLEMS_SHOWN]
    more = [f"... and {len(sentences) - len(shown)} more"] if len(sentences) > len(shown) else []
    return f"{title}:\n" + "\n".join(f"  - {sentence}" for sentence in shown + more)
