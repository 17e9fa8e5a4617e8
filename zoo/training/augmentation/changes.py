"""The changes that every way of augmentation makes, and the geometry of one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

DRAWS = 9  # random numbers for one picture's geometry
ASPECTS = (3 / 4, 4 / 3)  # of a random crop: Szegedy et al., arXiv 1409.4842


@dataclass(frozen=True)
class Changes:
    """Strengths at most; 0, False and 1.0 of smallest_crop: none. What leaves the picture is filled with its
    nearest pixel.

    flip: left to right, every other picture; smallest_crop: the share of the area that a random crop keeps
    at least before it is stretched to the old size; rotation: of a full turn; shift: of height and width;
    zoom: of the size, in and out; brightness: added, of 255; contrast: the distance to the mean becomes
    1 - contrast to 1 + contrast times as large.
    """

    flip: bool = False
    smallest_crop: float = 1.0
    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    @property
    def moves(self) -> bool:
        return self.flip or self.smallest_crop < 1 or any((self.rotation, self.shift, self.zoom))


def warps(changes: Changes, draws: Any, size: tuple[int, int], xp: Any) -> Any:
    """One map of places for each picture, as keras.ops.image.affine_transform takes them: [N, 8], from a
    place (x, y) of the new picture to (a0 x + a1 y + a2, b0 x + b1 y + b2) of the old one.

    draws: uniform in 0..1, [N, DRAWS]; size: height and width; xp: a namespace of NumPy's functions (numpy,
    keras.ops, tensorflow.experimental.numpy) that the draws belong to.
    """
    height, width = size
    flip, turn, right, down, out, area, aspect, crop_x, crop_y = (draws[:, i] for i in range(DRAWS))
    zoom = 1 + changes.zoom * (2 * out - 1)
    angle = 2 * math.pi * changes.rotation * (2 * turn - 1)
    share = changes.smallest_crop + (1 - changes.smallest_crop) * area
    low, high = (math.log(bound) if changes.smallest_crop < 1 else 0.0 for bound in ASPECTS)
    ratio = xp.exp(low + (high - low) * aspect)
    across, along = (xp.minimum(xp.sqrt(part), xp.ones_like(part)) for part in (share * ratio, share / ratio))
    mirror = 2 * xp.floor(2 * flip) - 1 if changes.flip else 1
    a0, a1 = mirror * across * zoom * xp.cos(angle), -mirror * across * zoom * xp.sin(angle)
    b0, b1 = along * zoom * xp.sin(angle), along * zoom * xp.cos(angle)
    x, y = (width - 1) / 2, (height - 1) / 2
    a2 = x - a0 * x - a1 * y + width * (changes.shift * (2 * right - 1) + (1 - across) * (crop_x - 0.5))
    b2 = y - b0 * x - b1 * y + height * (changes.shift * (2 * down - 1) + (1 - along) * (crop_y - 0.5))
    nought = xp.zeros_like(a0)
    return xp.stack([a0, a1, a2, b0, b1, b2, nought, nought], axis=-1)
