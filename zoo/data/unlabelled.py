"""Pictures that nobody has labelled: a folder of them, paths, or arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.arrays import items_of, problems_of_images
from zoo.data.folders import files_in, is_picture, passed_over
from zoo.data.listing import READ, Item, Listing


def list_unlabelled(data: Any) -> Listing:
    """data: a folder, whose folders' names say nothing, paths, or uint8 images [N, H, W, 3] or [N, H, W]."""
    if isinstance(data, str | PathLike):
        return _of_folder(Path(data))
    if isinstance(data, np.ndarray):
        return _listing("the unlabelled arrays", items_of(data, [()] * len(data)), problems_of_images(data))
    paths = list(data) if isinstance(data, Iterable) else [data]
    strange = [one for one in paths if not isinstance(one, str | PathLike)]
    if strange:
        kind = type(strange[0]).__name__
        problem = f"{kind} is no path: give a folder, paths, or uint8 images [N, H, W, 3]"
        return _listing("the unlabelled pictures", [], [problem])
    return _listing("the unlabelled pictures", [Item(Path(path), str(path), ()) for path in paths], [])


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
