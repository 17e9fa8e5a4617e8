"""Pictures that nobody has labelled: a folder of them, paths, or arrays."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from zoo.data.arrays import items_of, read_images
from zoo.data.folders import files_in, is_picture, passed_over
from zoo.data.listing import READ, Item, Listing


def list_unlabelled(data: Any) -> Listing:
    """data: a folder, whose folders' names say nothing, images [N, H, W, 3] or [N, H, W] in 0..255, or paths,
    arrays, images of Pillow's or encoded bytes.
    """
    if isinstance(data, str | PathLike):
        return _of_folder(Path(data))
    images, problems = read_images(data)
    return _listing("the unlabelled pictures", items_of(images, [()] * len(images)), problems)


def _of_folder(folder: Path) -> Listing:
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        return _listing(f'"{folder}"', [], [f"it {what}; give a folder of pictures"])
    files = files_in(folder)
    items = [Item(path, path.relative_to(folder).as_posix(), ()) for path in files if is_picture(path)]
    return _listing(f'"{folder}"', items, [], passed_over(folder, files))


def _listing(title: str, items: list[Item], problems: list[str], notices: Sequence[str] = ()) -> Listing:
    if not items and not problems:
        problems = [f"it holds no pictures ({READ})"]
    return Listing(
        title, [] if problems else items, (), problems, several=True, notices=[*notices], labelled=False
    )
