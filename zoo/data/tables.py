"""A CSV file with a line for each picture: path, label and, where it says so, split."""

from __future__ import annotations

import csv
from pathlib import Path

from zoo.data.listing import SIDE_OF, Item, Listing, indexed

PATHS = ("path", "file", "filename", "image", "filepath")
LABELS = ("label", "class", "category", "target")
SPLITS = ("split", "set", "subset")
Row = tuple[int, dict[str, str]]  # the number of its last line, and its fields


def list_table(file: Path) -> Listing:
    """Columns by name, quoted as RFC 4180 says; paths are relative to the file's folder."""
    title = f'"{file}"'
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, strict=True)
            columns = _columns(list(reader.fieldnames or ()))
            rows = [(reader.line_num, row) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        return Listing(title, [], (), [f"it is not a CSV file in UTF-8: {error}"])
    missing = [wanted for wanted in ("path", "label") if wanted not in columns]
    if missing:
        return Listing(title, [], (), [f'its first line names no column "{missing[0]}": path,label'])
    good, problems = _checked(rows, columns, file.parent)
    labels = [row[columns["label"]].strip() for _, row in good]
    classes, places, _ = indexed(labels, None)
    items = [
        Item(
            file.parent / row[columns["path"]].strip(),
            row[columns["path"]].strip(),
            place,
            _side(row, columns),
        )
        for (_, row), place in zip(good, places, strict=True)
    ]
    if not rows:
        problems.append("it names no pictures")
    return Listing(title, items, classes, problems)


def _columns(names: list[str]) -> dict[str, str]:
    """What a column is for -> its name in the file."""
    kinds = {"path": PATHS, "label": LABELS, "split": SPLITS}
    return {
        kind: name
        for kind, words in kinds.items()
        for name in reversed(names)
        if name.strip().lower() in words
    }


def _checked(rows: list[Row], columns: dict[str, str], home: Path) -> tuple[list[Row], list[str]]:
    good, problems = [], []
    for line, row in rows:
        problem = _problem(row, columns, home)
        if problem:
            problems.append(f"line {line}: {problem}")
        else:
            good.append((line, row))
    return good, problems


def _problem(row: dict[str, str], columns: dict[str, str], home: Path) -> str:
    path, label = ((row[columns[kind]] or "").strip() for kind in ("path", "label"))
    if not path or not label:
        return "a path or a label is missing"
    if not (home / path).is_file():
        return f'"{path}" does not exist'
    side = (row[columns["split"]] or "").strip() if "split" in columns else ""
    if side and side.lower() not in SIDE_OF:
        return f'the split "{side}" is none of train, val, test'
    return ""


def _side(row: dict[str, str], columns: dict[str, str]) -> str:
    return SIDE_OF.get((row[columns["split"]] or "").strip().lower(), "") if "split" in columns else ""
