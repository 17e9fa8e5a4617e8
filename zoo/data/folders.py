"""A folder per class; or folders train, val and test, with a folder per class in each."""

from __future__ import annotations

from pathlib import Path

from zoo.data.listing import READ, Item, Listing, side_of, sides_of
from zoo.preprocessing import KIND_OF
from zoo.wording import counted

# What archives of macOS, network drives and discs leave in a folder, with previews inside that are no data.
OF_SYSTEMS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")


def list_folder(folder: Path) -> Listing:
    """Nested folders belong to their class; hidden files and folders of systems are passed over, and files
    that are no pictures, of which a notice tells.
    """
    homes = _folders(folder)
    sides = sides_of(home.name for home in homes)
    groups = [(sides[home.name], _folders(home)) for home in homes] if sides else [("", homes)]
    classes = sorted({home.name for _, group in groups for home in group})
    found = [(side, home, files_in(home)) for side, group in groups for home in group]
    items = [
        Item(path, path.relative_to(folder).as_posix(), (classes.index(home.name),), side)
        for side, home, files in found
        for path in files
        if is_picture(path)
    ]
    problems = [problem for home in (homes if sides else [folder]) for problem in _loose(home)]
    problems += [] if sides else _misplaced(homes)
    if not items:
        problems.append(f"it holds no pictures in class folders ({READ})")
    notices = passed_over(folder, [path for *_, files in found for path in files])
    return Listing(f'"{folder}"', items, tuple(classes), problems, notices=notices)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _is_hidden(path.name))


def _misplaced(homes: list[Path]) -> list[str]:
    """Of what would be taken for classes: a folder around them, and sides that are not alone."""
    inner = _folders(homes[0]) if len(homes) == 1 else []
    if len(inner) > 1:
        return [f'it is one folder around {len(inner)}: if those are the classes, give "{homes[0]}"']
    named = [home.name for home in homes if side_of(home.name)]
    if {"training"} < {side_of(name) for name in named}:
        classes = [home.name for home in homes if home.name not in named]
        return [
            f"{_quoted(named)} are called like sides of a split, {_quoted(classes)} not: give one kind alone"
        ]
    return []


def _quoted(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f'"{name}"' for name in names[:3]) + more


def _loose(folder: Path) -> list[str]:
    loose = [path.name for path in sorted(folder.iterdir()) if _is_loose(path)]
    if not loose:
        return []
    return [f"{counted(len(loose), 'picture')} in no class folder, {loose[0]} first: move each into one"]


def _is_loose(path: Path) -> bool:
    return is_picture(path) and path.is_file() and not _is_hidden(path.name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in OF_SYSTEMS


def pictures_in(home: Path) -> list[Path]:
    """The pictures among `files_in`."""
    return [path for path in files_in(home) if is_picture(path)]


def files_in(home: Path) -> list[Path]:
    """All of the folder and of its folders, sorted, but hidden ones."""
    shown = (path for path in home.rglob("*") if not any(map(_is_hidden, path.relative_to(home).parts)))
    return sorted(path for path in shown if path.is_file())


def passed_over(folder: Path, files: list[Path]) -> list[str]:
    """What is said of those that are no pictures."""
    others = [path for path in files if not is_picture(path)]
    if not others:
        return []
    first, kinds = others[0].relative_to(folder).as_posix(), {path.suffix.lower() for path in others}
    which = f"not of a kind that is read ({', '.join(sorted(kinds))})"
    return [f"{counted(len(others), 'file')}, {first} first: {which}; passed over"]


def is_picture(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() in KIND_OF
