"""Which pictures train, which stop the training, which judge it. A picture's content decides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.data.pictures import Pictures

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
    side, and may get it back when it grows. Where the data names sides, they stay; only those that it does
    not name are taken from the training pictures.
    """
    named = {h: SIDES.index(side) for h, side in zip(pictures.hashes, pictures.sides, strict=True) if side}
    sides = {content: side for content, side in named.items() if side}
    wanted = {"validation": validation, "test": test}
    shares = [0.0 if side in pictures.sides else share for side, share in wanted.items()]
    for label in range(len(pictures.classes)):
        mine = sorted({pictures.hashes[i] for i in np.flatnonzero(pictures.labels == label)} - sides.keys())
        sides |= _sides_of(mine, *shares)
    by_content = np.lexsort((pictures.labels, np.asarray(pictures.hashes)))
    side = np.asarray([sides[pictures.hashes[i]] for i in by_content])
    return Split(*(by_content[side == i] for i in range(len(SIDES))))


def _sides_of(hashes: list[str], validation: float, test: float) -> dict[str, int]:
    """Content hash -> index into SIDES. The hash is a place on a line: test, validation, training."""
    places = {content: int(content[:13], 16) / 16**13 for content in hashes}
    sides = {c: 2 if place < test else 1 if place < test + validation else 0 for c, place in places.items()}
    middles = (
        ((1 + test + validation) / 2, 0, 1.0),
        (test + validation / 2, 1, validation),
        (test / 2, 2, test),
    )
    for middle, empty, share in middles:
        if share and empty not in sides.values():
            lenders = [c for c in sides if list(sides.values()).count(sides[c]) > 1]
            if lenders:
                sides[min(lenders, key=lambda c: abs(places[c] - middle))] = empty
    return sides
