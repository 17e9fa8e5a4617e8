"""By NumPy and Pillow, a picture at a time, as generators of the classic kind do inside a keras PyDataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from zoo.training.augmentation.changes import DRAWS, Changes, warps


def generator(changes: Changes, seed: int) -> Callable[[Any], Any]:
    random = np.random.default_rng(seed)

    def change(images: np.ndarray) -> np.ndarray:
        draws = random.uniform(size=(len(images), DRAWS))
        light, contrast = random.uniform(-1, 1, (2, len(images)))
        transforms = warps(changes, draws, images.shape[1:3], np)
        moved = map(warp, images, transforms) if changes.moves else images
        return np.stack(
            [
                shade(image, 255 * changes.brightness * delta, 1 + changes.contrast * factor)
                for image, delta, factor in zip(moved, light, contrast, strict=True)
            ]
        )

    return change


def warp(image: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """float32 [h, w, 3] 0..255 and a map of places -> the picture through it, whole numbers, bilinear."""
    height, width = image.shape[:2]
    a0, a1, a2, b0, b1, b2 = transform[:6]
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)])
    reached = corners @ np.array([[a0, b0], [a1, b1]]) + (a2, b2)
    border = int(np.ceil(max(-reached.min(), *(reached.max(axis=0) - (width, height)), 0))) + 1
    padded = np.pad(image.round().astype(np.uint8), ((border, border), (border, border), (0, 0)), "edge")
    # Pillow's places are pixels' corners, ours their centres.
    centre_x, centre_y = 0.5 - (a0 + a1) / 2 + border, 0.5 - (b0 + b1) / 2 + border
    places = (a0, a1, a2 + centre_x, b0, b1, b2 + centre_y)
    moved = Image.fromarray(padded).transform(
        (width, height), Image.Transform.AFFINE, places, Image.Resampling.BILINEAR
    )
    return np.asarray(moved, np.float32)


def shade(image: np.ndarray, delta: float, factor: float) -> np.ndarray:
    """Brighter by delta, then farther from the mean of each channel by factor."""
    brighter = image + np.float32(delta)
    mean = brighter.mean(axis=(0, 1))
    return np.clip((brighter - mean) * np.float32(factor) + mean, 0, 255)
