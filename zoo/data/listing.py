"""What was found before any picture is opened."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from zoo.data.pictures import Source
from zoo.preprocessing import KIND_OF

READ = ", ".join(suffix.removeprefix(".") for suffix in KIND_OF)  # the ends of names, for messages
ONE_HOT = (
    "every row of 0 and 1 has one 1: each picture has one label; where pictures can have several, give lists "
    "of labels"
)
SIDE_OF = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def sides_of(names: Iterable[str]) -> dict[str, str]:
    """What the names stand for, where they are those of sides, the training's among them; else nothing."""
    sides = {name: side_of(name) for name in names}
    return sides if all(sides.values()) and "training" in sides.values() else {}


def side_of(name: str) -> str:
    """The side that a name such as Train or seg_train has a word for; "" where it has none, or of two."""
    found = {SIDE_OF[word] for word in re.split(r"[\W\d_]+", name.lower()) if word in SIDE_OF}
    return found.pop() if len(found) == 1 else ""


@dataclass(frozen=True, eq=False)
class Item:
    """name: what a person calls the picture; labels: indices of its classes, rising; side: of SIDES where the
    data says which, else ""; group: of pictures that belong together, as a patient's do, else "".
    """

    source: Source
    name: str
    labels: tuple[int, ...]
    side: str = ""
    group: str = ""


@dataclass(frozen=True)
class Listing:
    """title: what a person calls the data; problems: sentences; several: a picture may have any number of
    labels, none too, else it has one; notices: sentences about data that can be used; labelled: somebody has
    said what the labels are; flagged: by 0 and 1 for each class, as one-hot labels say it of a single one.
    """

    title: str
    items: list[Item]
    classes: tuple[str, ...]
    problems: list[str]
    several: bool = False
    notices: list[str] = field(default_factory=list)
    labelled: bool = True
    flagged: bool = False

    def settled(self) -> Listing:
        """Of one label for each picture, where every row of 0 and 1 has one 1."""
        if not self.flagged or any(len(item.labels) != 1 for item in self.items):
            return self
        return replace(self, several=False, notices=[*self.notices, ONE_HOT])


def indexed(
    labels: Sequence[Any], classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[int], list[str]]:
    """Labels (integers or strings) -> the classes' names, the index of each label among them, and problems.

    Without classes, the different labels in order are the classes.
    """
    fraction = next((label for label in labels if isinstance(label, float)), None)
    if fraction is not None:
        return (), [0] * len(labels), [f"the label {fraction:g} is no class: give integers or strings"]
    if classes is None:
        kinds = {isinstance(label, str) for label in labels}
        if len(kinds) > 1:
            return (), [0] * len(labels), ["some labels are numbers and some are texts: give one kind"]
        distinct = sorted(set(labels))
        places = {label: i for i, label in enumerate(distinct)}
        return tuple(map(str, distinct)), [places[label] for label in labels], []
    names = tuple(map(str, classes))
    known: dict[Any, int] = {name: i for i, name in enumerate(names)} | {i: i for i in range(len(names))}
    strange = sorted({str(label) for label in labels if label not in known})
    problems = [f"the label {label} is none of the {len(names)} classes" for label in strange]
    return names, [known.get(label, 0) for label in labels], problems


def indexed_sets(
    sets: Sequence[Sequence[Any]], classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[tuple[int, ...]], list[str]]:
    """The same of each picture's labels, however many it has."""
    names, places, problems = indexed([label for labels in sets for label in labels], classes)
    rest = iter(places)
    return names, [tuple(sorted({next(rest) for _ in labels})) for labels in sets], problems


def ones(
    targets: np.ndarray, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[tuple[int, ...]], list[str]]:
    """The same of targets [N, C] of 0 and 1, of which each column is a class."""
    names = tuple(map(str, range(targets.shape[1]) if classes is None else classes))
    if targets.dtype.kind not in "biuf" or not np.isin(targets, (0, 1)).all():
        return names, [], [f"targets of the shape {targets.shape} must be 0 or 1, one column for each class"]
    if len(names) != targets.shape[1]:
        return names, [], [f"there are {len(names)} classes and {targets.shape[1]} columns of targets"]
    return names, [tuple(np.flatnonzero(row).tolist()) for row in targets], []
