"""Which pictures train, which stop the training, which judge it. A picture's content decides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
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
    """About the given fractions of each class. Equal pictures share a side; adding some moves no other.

    The one exception: a class too small to have all three sides lends the nearest picture to an empty
    side, and may get it back when it grows. A picture with several labels counts for each of them. Where the
    data names sides, they stay; only those that it does not name are taken from the training pictures.

    Raises ZooError for fractions below 0, or that leave nothing to learn from.
    """
    if min(validation, test) < 0 or not validation + test < 1:
        raise ZooError(
            f"validation and test are fractions of the pictures, at least 0 and together below 1, not "
            f"{validation} and {test}"
        )
    named = {h: SIDES.index(side) for h, side in zip(pictures.hashes, pictures.sides, strict=True) if side}
    sides = {content: side for content, side in named.items() if side}
    wanted = {"validation": validation, "test": test}
    shares = [0.0 if side in pictures.sides else share for side, share in wanted.items()]
    labels = [pictures.labels_of(i) for i in range(len(pictures))]
    ordered = sorted(range(len(pictures)), key=lambda i: (pictures.hashes[i], labels[i]))
    # Of a picture that is there with different labels, the first ones count.
    own = {pictures.hashes[i]: labels[i] for i in reversed(ordered) if pictures.hashes[i] not in sides}
    sides |= _sides_of(own, *shares)
    by_content = np.asarray(ordered)
    side = np.asarray([sides[pictures.hashes[i]] for i in ordered])
    return Split(*(by_content[side == i] for i in range(len(SIDES))))


def _sides_of(labels: Mapping[str, tuple[int, ...]], validation: float, test: float) -> dict[str, int]:
    """Content hash -> index into SIDES. The hash is a place on a line: test, validation, training.

    labels: of each content. No picture is lent by a side that has no other of one of its labels; rare labels
    choose first, as in Sechidis et al., ECML 2011.
    """
    places = {content: int(content[:13], 16) / 16**13 for content in sorted(labels)}
    sides = {c: 2 if place < test else 1 if place < test + validation else 0 for c, place in places.items()}
    counts = Counter((label, sides[c]) for c in sides for label in labels[c])
    members: dict[int, list[str]] = defaultdict(list)
    for content in sides:
        for label in labels[content]:
            members[label].append(content)
    middles = (
        ((1 + test + validation) / 2, 0, 1.0),
        (test + validation / 2, 1, validation),
        (test / 2, 2, test),
    )
    for label in sorted(members, key=lambda label: (len(members[label]), label)):
        for middle, empty, share in middles:
            if not share or counts[label, empty]:
                continue
            lenders = [c for c in members[label] if all(counts[one, sides[c]] > 1 for one in labels[c])]
            if lenders:
                lent = min(lenders, key=lambda c: abs(places[c] - middle))
                counts.subtract((one, sides[lent]) for one in labels[lent])
                counts.update((one, empty) for one in labels[lent])
                sides[lent] = empty
    return sides
