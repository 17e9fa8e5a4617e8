"""A folder per class; or folders train, val and test, with a folder per class in each."""

from __future__ import annotations

from pathlib import Path

from zoo.data.listing import SIDE_OF, SUFFIXES, Item, Listing


def list_folder(folder: Path) -> Listing:
    """Nested folders belong to their class; hidden files, and those that are no pictures, are passed over."""
    homes = _folders(folder)
    sides = {home: SIDE_OF.get(home.name.lower(), "") for home in homes}
    split = bool(homes) and all(sides.values()) and "training" in sides.values()
    groups = [(side, _folders(home)) for home, side in sides.items()] if split else [("", homes)]
    classes = sorted({home.name for _, group in groups for home in group})
    items = [
        Item(path, path.relative_to(folder).as_posix(), (classes.index(home.name),), side)
        for side, group in groups
        for home in group
        for path in pictures_in(home)
    ]
    problems = [problem for home in (homes if split else [folder]) for problem in _loose(home)]
    if not items:
        problems.append("it holds no pictures in class folders (jpg, jpeg, png, bmp, gif, webp)")
    return Listing(f'"{folder}"', items, tuple(classes), problems)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _loose(folder: Path) -> list[str]:
    loose = [path.name for path in sorted(folder.iterdir()) if _is_picture(path)]
    if not loose:
        return []
    return [f"{len(loose)} pictures belong to no class folder, {loose[0]} first: move them into one"]


def pictures_in(home: Path) -> list[Path]:
    """All of the folder and of its folders, sorted, but hidden ones."""
    inside = (path for path in home.rglob("*") if _is_picture(path))
    return sorted(
        path for path in inside if not any(part.startswith(".") for part in path.relative_to(home).parts)
    )


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
