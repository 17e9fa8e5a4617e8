"""What was found before any picture is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo.data.pictures import Source

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"})
SIDE_OF = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclass(frozen=True, eq=False)
class Item:
    """name: what a person calls the picture; label: index of its class; side: of SIDES where the data says
    which, else "".
    """

    source: Source
    name: str
    label: int
    side: str = ""


@dataclass(frozen=True)
class Listing:
    """title: what a person calls the data; problems: sentences."""

    title: str
    items: list[Item]
    classes: tuple[str, ...]
    problems: list[str]


def indexed(
    labels: Sequence[Any], classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[int], list[str]]:
    """Labels (integers or strings) -> the classes' names, the index of each label among them, and problems.

    Without classes, the different labels in order are the classes.
    """
    if classes is None:
        distinct = sorted(set(labels))
        places = {label: i for i, label in enumerate(distinct)}
        return tuple(map(str, distinct)), [places[label] for label in labels], []
    names = tuple(map(str, classes))
    known: dict[Any, int] = {name: i for i, name in enumerate(names)} | {i: i for i in range(len(names))}
    strange = sorted({str(label) for label in labels if label not in known})
    problems = [f"the label {label} is none of the {len(names)} classes" for label in strange]
    return names, [known.get(label, 0) for label in labels], problems
