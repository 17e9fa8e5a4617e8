"""A folder per class; or folders train, val and test, with a folder per class in each."""

from __future__ import annotations

from pathlib import Path

from zoo.data.listing import READ, SIDE_OF, Item, Listing, counted
from zoo.preprocessing import KIND_OF


def list_folder(folder: Path) -> Listing:
    """Nested folders belong to their class; hidden files are passed over, and those that are no pictures, of
    which a notice tells.
    """
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
        problems.append(f"it holds no pictures in class folders ({READ})")
    notices = others_in(folder, [home for _, group in groups for home in group])
    return Listing(f'"{folder}"', items, tuple(classes), problems, notices=notices)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _loose(folder: Path) -> list[str]:
    loose = [path.name for path in sorted(folder.iterdir()) if _is_loose(path)]
    if not loose:
        return []
    return [f"{counted(len(loose), 'picture')} in no class folder, {loose[0]} first: move each into one"]


def _is_loose(path: Path) -> bool:
    return _is_picture(path) and path.is_file() and not path.name.startswith(".")


def pictures_in(home: Path) -> list[Path]:
    """All of the folder and of its folders, sorted, but hidden ones."""
    return [path for path in _files_in(home) if _is_picture(path)]


def others_in(folder: Path, homes: list[Path]) -> list[str]:
    """What is said of files that are passed over, in folders of pictures."""
    others = [path for home in homes for path in _files_in(home) if not _is_picture(path)]
    if not others:
        return []
    first, kinds = others[0].relative_to(folder).as_posix(), {path.suffix.lower() for path in others}
    which = f"not of a kind that is read ({', '.join(sorted(kinds))})"
    return [f"{counted(len(others), 'file')}, {first} first: {which}; passed over"]


def _files_in(home: Path) -> list[Path]:
    found = sorted(path for path in home.rglob("*") if path.is_file())
    return [path for path in found if not any(p.startswith(".") for p in path.relative_to(home).parts)]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in KIND_OF
