"""Which pictures train, which stop the training, which judge it. A picture's content decides, or the name of
the group that it belongs to.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.data.pictures import Pictures
from zoo.errors import ZooError

SIDES = ("training", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of the pictures on each side, int64, ordered by content, in whatever order they came.

    Training never sees validation and test, early stopping and the choice of the best weights never see test.
    """

    training: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(pictures: Pictures, validation: float, test: float) -> Split:
    """About the given fractions of each class. Pictures of one unit, equal ones and those of a group, share a
    side; adding some moves no other.

    The one exception: a class too small to have all three sides lends the nearest unit to an empty
    side, and may get it back when it grows. A unit with several labels counts for each of them. Where the
    data names sides, they stay; only those that it does not name are taken from the training pictures.

    Raises ZooError for fractions below 0, or that leave nothing to learn from.
    """
    if min(validation, test) < 0 or not validation + test < 1:
        raise ZooError(
            f"validation and test are fractions of the pictures, at least 0 and together below 1, not "
            f"{validation} and {test}"
        )
    named = {u: SIDES.index(side) for u, side in zip(pictures.units, pictures.sides, strict=True) if side}
    sides = {unit: side for unit, side in named.items() if side}
    wanted = {"validation": validation, "test": test}
    shares = [0.0 if side in pictures.sides else share for side, share in wanted.items()]
    labels = [pictures.labels_of(i) for i in range(len(pictures))]
    ordered = sorted(range(len(pictures)), key=lambda i: (pictures.hashes[i], labels[i]))
    # Of a picture that is there with different labels, the first ones count.
    first = {pictures.hashes[i]: i for i in reversed(ordered)}
    own: dict[str, tuple[int, ...]] = {}
    for i in first.values():
        unit = pictures.units[i]
        if unit not in sides:
            own[unit] = tuple(sorted({*own.get(unit, ()), *labels[i]}))
    sides |= _sides_of(own, *shares)
    by_content = np.asarray(ordered)
    side = np.asarray([sides[pictures.units[i]] for i in ordered])
    return Split(*(by_content[side == i] for i in range(len(SIDES))))


def units_of(contents: Sequence[str], groups: Sequence[str]) -> tuple[str, ...]:
    """What stays on one side: for each picture 32 hex digits that those of its group share, of no group ("")
    its content's hash. Groups that share a picture are one.

    The group's name makes the digits, so that more pictures of it move none.
    """
    own = [
        hashlib.blake2b(group.encode(), digest_size=16).hexdigest() if group else content
        for content, group in zip(contents, groups, strict=True)
    ]
    lower: dict[str, str] = {}

    def lowest(unit: str) -> str:
        while unit in lower:
            unit = lower[unit]
        return unit

    first: dict[str, str] = {}
    for unit, content in zip(own, contents, strict=True):
        low, high = sorted((lowest(unit), lowest(first.setdefault(content, unit))))
        if low != high:
            lower[high] = low
    return tuple(map(lowest, own))


def _sides_of(labels: Mapping[str, tuple[int, ...]], validation: float, test: float) -> dict[str, int]:
    """Unit -> index into SIDES. Its digits are a place on a line: test, validation, training.

    labels: of each unit. No unit is lent by a side that has no other of one of its labels; rare labels
    choose first, as in Sechidis et al., ECML 2011.
    """
    places = {unit: int(unit[:13], 16) / 16**13 for unit in sorted(labels)}
    sides = {u: 2 if place < test else 1 if place < test + validation else 0 for u, place in places.items()}
    counts = Counter((label, sides[u]) for u in sides for label in labels[u])
    members: dict[int, list[str]] = defaultdict(list)
    for unit in sides:
        for label in labels[unit]:
            members[label].append(unit)
    middles = (
        ((1 + test + validation) / 2, 0, 1.0),
        (test + validation / 2, 1, validation),
        (test / 2, 2, test),
    )
    for label in sorted(members, key=lambda label: (len(members[label]), label)):
        for middle, empty, share in middles:
            if not share or counts[label, empty]:
                continue
            lenders = [u for u in members[label] if all(counts[one, sides[u]] > 1 for one in labels[u])]
            if lenders:
                lent = min(lenders, key=lambda u: abs(places[u] - middle))
                counts.subtract((one, sides[lent]) for one in labels[lent])
                counts.update((one, empty) for one in labels[lent])
                sides[lent] = empty
    return sides
