"""Pictures that look alike though their pixels differ: resized, compressed again, a shade lighter."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from PIL import Image

from zoo.data.pictures import Pictures
from zoo.data.split import SIDES, Split

SIDE = 16
LIKENESS = 0.985  # re-encoded and resized photos have 0.999, different ones of a class seldom 0.97
CHUNK = 1024


def look(rgb: np.ndarray) -> np.ndarray:
    """RGB uint8 [H, W, 3] -> its greys at 16 x 16, uint8 [256]."""
    small = Image.fromarray(rgb).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small).ravel()


def near_duplicates(pictures: Pictures, sides: Split) -> list[dict[str, Any]]:
    """Pairs of nearly equal pictures on two sides of the split, the likest first: names, labels and sides (of
    both), likeness (the correlation of their looks, so light and contrast do not matter), indices.

    Exact duplicates share a side, so they are none.
    """
    found = [
        (likeness, i, j, first, second)
        for first, second in combinations(reversed(SIDES), 2)
        for likeness, i, j in _alike(pictures.looks, getattr(sides, first), getattr(sides, second))
    ]
    return [
        {
            "names": [pictures.names[i], pictures.names[j]],
            "labels": [pictures.described(i), pictures.described(j)],
            "sides": [first, second],
            "likeness": likeness,
            "indices": [i, j],
        }
        for likeness, i, j, first, second in sorted(found, key=lambda pair: -pair[0])
    ]


def _alike(looks: np.ndarray, ones: np.ndarray, others: np.ndarray) -> list[tuple[float, int, int]]:
    found = []
    for some in np.array_split(ones, len(ones) // CHUNK + 1):
        left = _normal(looks[some])
        for rest in np.array_split(others, len(others) // CHUNK + 1):
            likeness = left @ _normal(looks[rest]).T
            near = np.argwhere(likeness >= LIKENESS)
            found += [(float(likeness[i, j]), int(some[i]), int(rest[j])) for i, j in near]
    return found


def _normal(looks: np.ndarray) -> np.ndarray:
    """Each less its mean, of length 1; a picture of one colour is like none."""
    x = looks.astype(np.float32) - looks.mean(axis=1, keepdims=True, dtype=np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1)
