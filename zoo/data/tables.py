"""A CSV file or a data frame with a line for each picture: its path, its label or labels and, where it says
so, its split, or the group whose pictures stay on one side.

One label stands in a column label. Several stand in one cell of a column labels, between marks, or each has a
column of 0 and 1, as pandas.get_dummies makes them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from zoo.data.listing import SIDE_OF, Item, Listing, indexed_sets
from zoo.preprocessing import KIND_OF

PATHS = ("path", "file", "filename", "image", "filepath")
LABELS = ("label", "class", "category", "target")
SEVERAL = ("labels", "classes", "categories", "targets", "tags")
SPLITS = ("split", "set", "subset")
GROUPS = ("group", "group_id", "patient", "patient_id", "subject", "subject_id")
DELIMITERS = (",", ";", "\t")  # spreadsheets write the latter two
MARKS = ("|", ";")  # between labels, wherever they are
MORE_MARKS = (",", " ")  # in a column that says that it holds several, where no cell has one of those
FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
Row = tuple[str, dict[str, str]]  # "line 7", and its fields


@dataclass(frozen=True)
class Labels:
    """How a row says its labels: `of` gives them; several: any number, else one; classes: where the header
    names them; problems and notices: sentences.
    """

    of: Callable[[dict[str, str]], list[str]]
    several: bool
    classes: tuple[str, ...] | None = None
    problems: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def list_table(file: Path) -> Listing:
    """Columns by name, between the delimiter that the header has most of, quoted as RFC 4180 says; paths are
    relative to the file's folder, and may be written as Windows does.
    """
    title = f'"{file}"'
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            header = text.readline()
            text.seek(0)
            reader = csv.DictReader(text, strict=True, delimiter=max(DELIMITERS, key=header.count))
            names = list(reader.fieldnames or ())
            rows = [(f"line {reader.line_num}", row) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        return Listing(title, [], (), [f"it is not a CSV file in UTF-8: {error}"])
    return _listing(title, names, rows, file.parent)


def list_frame(frame: Any) -> Listing:
    """A pandas DataFrame of the same columns; paths are relative to the current folder."""
    names = [str(name) for name in frame.columns]
    cells = frame.itertuples(index=False, name=None)
    rows = [(f"row {i}", dict(zip(names, map(_text, row), strict=True))) for i, row in enumerate(cells)]
    return _listing("the data frame", names, rows, Path())


def _text(cell: Any) -> str:
    """Empty where it is missing: None, or a number that is not itself."""
    return "" if cell is None or cell != cell else str(cell)


def _listing(title: str, names: list[str], rows: list[Row], home: Path) -> Listing:
    columns = _columns(names)
    flags = [name for name in names if name.strip() and name not in columns.values()]
    missing = [kind for kind in ("path", "label") if kind not in columns]
    if missing == ["label"] and ("labels" in columns or flags):
        missing = []
    if missing:
        stated = f'it has no column "{missing[0]}", only {", ".join(names)}: call the columns path and label'
        return Listing(title, [], (), [stated])
    labels = _labels(rows, columns, flags)
    good, problems = _checked(rows, columns, labels, home)
    classes, places, _ = indexed_sets([labels.of(row) for _, row in good], labels.classes)
    items = [
        Item(
            _place(row[columns["path"]], home),
            row[columns["path"]].strip(),
            own,
            _side(row, columns),
            _group(row, columns),
        )
        for (_, row), own in zip(good, places, strict=True)
    ]
    if not rows:
        problems.append("it names no pictures")
    problems = [*labels.problems, *_sides_for_groups(items, columns), *problems]
    flagged = not {"label", "labels"} & columns.keys()
    return Listing(title, items, classes, problems, labels.several, [*labels.notices], flagged=flagged)


def _columns(names: list[str]) -> dict[str, str]:
    """What a column is for -> its name in the file."""
    kinds = {"path": PATHS, "label": LABELS, "labels": SEVERAL, "split": SPLITS, "group": GROUPS}
    return {
        kind: name
        for kind, words in kinds.items()
        for name in reversed(names)
        if name.strip().lower().replace(" ", "_") in words
    }


def _labels(rows: list[Row], columns: dict[str, str], flags: Sequence[str]) -> Labels:
    if "labels" in columns:
        return _marked(rows, columns["labels"], (*MARKS, *MORE_MARKS))
    if "label" not in columns:
        return _flagged(rows, flags)
    marked = _marked(rows, columns["label"], MARKS)
    if any(len(marked.of(row)) > 1 for _, row in rows):
        return marked
    return Labels(lambda row: [(row[columns["label"]] or "").strip()], several=False)


def _marked(rows: list[Row], column: str, marks: Sequence[str]) -> Labels:
    """A cell's labels stand between marks: the first of them that occurs in the column."""
    texts = [(row[column] or "").strip() for _, row in rows]
    mark = next((mark for mark in marks if any(mark in text for text in texts)), marks[0])

    def of(row: dict[str, str]) -> list[str]:
        return [part.strip() for part in (row[column] or "").split(mark) if part.strip()]

    split = f'the column "{column}" is split at spaces: write | between labels that have spaces themselves'
    return Labels(of, several=True, notices=(split,) if mark == " " else ())


def _flagged(rows: list[Row], columns: Sequence[str]) -> Labels:
    """Every column is a class, 1 where the picture has it."""
    problems = [f'it names the column "{name}" twice' for name in columns if columns.count(name) > 1]
    for name in columns:
        wrong = [(place, row[name]) for place, row in rows if (row[name] or "").strip().lower() not in FLAGS]
        if wrong:
            place, value = wrong[0]
            problems.append(
                f'there is no column "label", and the column "{name}" holds "{value or ""}" in {place}, '
                "not 0 or 1"
            )

    def of(row: dict[str, str]) -> list[str]:
        return [name.strip() for name in columns if FLAGS.get((row[name] or "").strip().lower())]

    classes = tuple(name.strip() for name in columns)
    return Labels(of, several=True, classes=classes, problems=tuple(dict.fromkeys(problems)))


def _checked(
    rows: list[Row], columns: dict[str, str], labels: Labels, home: Path
) -> tuple[list[Row], list[str]]:
    good, problems = [], []
    for place, row in rows:
        problem = _problem(row, columns, labels, home)
        if problem:
            problems.append(f"{place}: {problem}")
        else:
            good.append((place, row))
    return good, problems


def _problem(row: dict[str, str], columns: dict[str, str], labels: Labels, home: Path) -> str:
    path = (row[columns["path"]] or "").strip()
    if not path or not (labels.several or any(labels.of(row))):
        return "a path is missing" if labels.several else "a path or a label is missing"
    place = _place(path, home)
    if not place.is_file():
        whole = next((one for one in KIND_OF if place.with_name(place.name + one).is_file()), "")
        return f'"{path}" does not exist' + (f', "{path}{whole}" does' if whole else "")
    side = (row[columns["split"]] or "").strip() if "split" in columns else ""
    if side and side.lower() not in SIDE_OF:
        return f'the split "{side}" is none of train, val, test'
    return ""


def _place(path: str, home: Path) -> Path:
    """Where the picture is."""
    place = home / path.strip()
    return place if "\\" not in path or place.is_file() else home / PureWindowsPath(path.strip()).as_posix()


def _side(row: dict[str, str], columns: dict[str, str]) -> str:
    return SIDE_OF.get((row[columns["split"]] or "").strip().lower(), "") if "split" in columns else ""


def _group(row: dict[str, str], columns: dict[str, str]) -> str:
    return (row[columns["group"]] or "").strip() if "group" in columns else ""


def _sides_for_groups(items: Sequence[Item], columns: dict[str, str]) -> list[str]:
    groups = {item.group for item in items if item.group}
    if not groups or not all(group.lower() in SIDE_OF for group in groups):
        return []
    return [f'the column "{columns["group"]}" says {" and ".join(sorted(groups))}: call it split']
