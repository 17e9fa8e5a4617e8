"""Every picture opened once before training: what makes the data unusable, and what a person should know."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from zoo.data.duplicates import look
from zoo.data.listing import Item, Listing
from zoo.data.pictures import Source, content_hash, in_threads
from zoo.data.split import SIDES, units_of
from zoo.errors import DataError
from zoo.preprocessing import KIND_OF, KINDS, read_image
from zoo.wording import counted

SMALL = 20  # pictures of a class: with fewer, its figures say little
ORIENTATION = 0x0112  # the EXIF tag


class Seen(NamedTuple):
    """A picture once opened: its content's hash and its look, or what is wrong; what is odd, yet handled."""

    content: str
    look: np.ndarray
    problem: str = ""
    oddities: tuple[str, ...] = ()


def look_at_all(listing: Listing) -> list[Seen]:
    sources = ((item.source, item.name) for item in listing.items)
    return list(in_threads("check the pictures", lambda pair: _look_at(*pair), sources))


def _look_at(source: Source, name: str) -> Seen:
    try:
        rgb = read_image(source)
    except DataError as error:
        problem = f"{name}: {error}" if isinstance(source, bytes) else str(error)
        return Seen("", np.zeros(0, np.uint8), problem)
    return Seen(content_hash(rgb), look(rgb), oddities=_oddities(source) if isinstance(source, Path) else ())


def _oddities(path: Path) -> tuple[str, ...]:
    """From the file's header alone."""
    with Image.open(path, formats=KINDS) as image:
        promised = KIND_OF.get(path.suffix.lower(), image.format)
        found = {
            "not of the kind that the name says; read by content": image.format not in (promised, "MPO"),
            "CMYK; converted to RGB": image.mode == "CMYK",
            "16 bits a channel; the upper 8 are used": image.mode.startswith("I;16"),
            "transparent; only colours are used": "A" in image.getbands() or "transparency" in image.info,
            "stored turned; set upright by EXIF": image.getexif().get(ORIENTATION, 1) != 1,
            "several frames; the first is used": getattr(image, "n_frames", 1) > 1 and image.format != "MPO",
        }
    return tuple(what for what, is_so in found.items() if is_so)


def problems_of(listing: Listing, seen: list[Seen], *, to_split: bool) -> list[str]:
    """All that forbids using the data, sentence by sentence."""
    problems = listing.problems + [one.problem for one in seen if one.problem]
    if listing.labelled and listing.items and not listing.classes:
        problems.append("no picture has a label")
    if listing.classes and to_split:
        problems += _class_problems(listing, seen) + _leaks(listing, seen)
    return problems


def notices_of(listing: Listing, seen: list[Seen], *, to_split: bool) -> list[str]:
    """What is done with odd files, and what will weaken the result; the data can be used."""
    by_oddity: dict[str, list[str]] = defaultdict(list)
    by_content: dict[str, list[int]] = defaultdict(list)
    for i, one in enumerate(seen):
        by_content[one.content].append(i)
        for oddity in one.oddities:
            by_oddity[oddity].append(listing.items[i].name)
    notices = [
        f"{counted(len(names), 'file')}, {names[0]} first: {oddity}" for oddity, names in by_oddity.items()
    ]
    twins = [places for places in by_content.values() if len(places) > 1]
    if twins and to_split:
        copies = sum(map(len, twins)) - len(twins)
        notices.append(
            f"{counted(copies, 'exact duplicate')}, {_names(listing, twins[0])} first: each on one side"
        )
    groups = {item.group for item in listing.items if item.group}
    if groups and to_split:
        notices.append(f"{counted(len(groups), 'group')}, {min(groups)} first: each on one side")
    torn = [places for places in twins if len({listing.items[i].labels for i in places}) > 1]
    if torn:
        names = _names(listing, torn[0])
        what = "labelled in more than one way" if listing.several else "in more than one class"
        notices.append(f"{counted(len(torn), 'picture')} {what}, {names} first: correct the labels")
    notices += listing.notices + _numbers_of_labels(listing)
    counts = sorted(Counter(label for item in listing.items for label in item.labels).items())
    small = [f"{listing.classes[label]} ({count})" for label, count in counts if count < SMALL]
    if small and to_split:
        notices.append(
            f"{counted(len(small), 'class', 'classes')} of fewer than {SMALL} pictures: {_first(small)}"
        )
    return notices


def _numbers_of_labels(listing: Listing) -> list[str]:
    """Of pictures that may have several labels."""
    several = listing.several and listing.labelled
    numbers = Counter(len(item.labels) for item in listing.items) if several else {}
    if numbers.keys() == {1}:
        return [
            "every picture has one label: where no picture can have two, give one column label, or labels [N]"
        ]
    return [f"{counted(numbers[0], 'picture')} without a label"] if numbers.get(0) else []


def _names(listing: Listing, places: list[int]) -> str:
    return " and ".join(listing.items[i].name for i in places[:2])


def _first(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _class_problems(listing: Listing, seen: list[Seen]) -> list[str]:
    problems = []
    if len(listing.classes) == 1:
        problems.append(f'"{listing.classes[0]}" is the only class; at least two are needed')
    files = Counter(label for item in listing.items for label in item.labels)
    pairs = zip(listing.items, seen, strict=True)
    readable = [(item, one.content) for item, one in pairs if not one.problem]
    units = units_of([content for _, content in readable], [item.group for item, _ in readable])
    kinds = {
        (label, unit)
        for (item, _), unit in zip(readable, units, strict=True)
        if item.side in ("", "training")
        for label in item.labels
    }
    different = Counter(label for label, _ in kinds)
    grouped = any(item.group for item in listing.items)
    what = "groups that share no picture" if grouped else "different and readable pictures"
    needed = len(SIDES) - len({item.side for item in listing.items} - {"", "training"})
    for index, name in enumerate(listing.classes):
        if not files[index]:
            problems.append(f'the class "{name}" is empty')
        elif different[index] < needed:
            problems.append(
                f'the class "{name}" has only {different[index]} {what}; '
                f"at least {needed} are needed to split it into {', '.join(SIDES[:needed])}"
            )
    return problems


def _leaks(listing: Listing, seen: list[Seen]) -> list[str]:
    """The same picture, or the same group, on two sides would judge a network by what it has learnt."""
    pairs = list(zip(listing.items, seen, strict=True))
    pictures = _on_two_sides((one.content, item) for item, one in pairs if not one.problem)
    groups = _on_two_sides((item.group, item) for item in listing.items if item.group)
    return [f"{names} are the same picture, on two sides: remove one" for names in pictures.values()] + [
        f'{names} are of the group "{group}", on two sides: give it one' for group, names in groups.items()
    ]


def _on_two_sides(items: Iterable[tuple[str, Item]]) -> dict[str, str]:
    """What is on several of the sides that the data names -> the first picture's name on each."""
    names: dict[str, dict[str, str]] = defaultdict(dict)
    for key, item in items:
        if item.side:
            names[key].setdefault(item.side, item.name)
    return {key: " and ".join(of.values()) for key, of in names.items() if len(of) > 1}
