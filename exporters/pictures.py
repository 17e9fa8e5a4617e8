"""Pictures to compare by, and to warm a server up with."""

from __future__ import annotations

import io
from collections.abc import Sequence
from os import PathLike

import numpy as np
from PIL import Image

from exporters.errors import ExportError
from zoo.preprocessing import Preprocessing, evaluate, read_image

Picture = str | PathLike[str] | bytes | np.ndarray

COUNT = 4


def samples(preprocessing: Preprocessing) -> list[np.ndarray]:
    """Generated pictures, RGB uint8 [H, W, 3], always the same: waves, a disc and noise.

    A third larger than the input size, so that they are resized on the way in.
    """
    height, width = (side * 4 // 3 for side in preprocessing.input_size)
    return [_sample(seed, height, width + 8 * seed) for seed in range(COUNT)]


def _sample(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phases, periods = rng.uniform(0, 2 * np.pi, (3, 2)), rng.uniform(6, height, (3, 2))
    waves = [
        np.sin(x * 6.28 / px + a) + np.cos(y * 6.28 / py + b)
        for (a, b), (px, py) in zip(phases, periods, strict=True)
    ]
    disc = np.hypot(y - height * rng.uniform(0.3, 0.7), x - width * rng.uniform(0.3, 0.7)) < height / 4
    picture = 128 + 50 * np.stack(waves, -1) + disc[..., None] * rng.uniform(-60, 60, 3)
    return np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)


def read(pictures: Sequence[Picture]) -> list[np.ndarray]:
    """Paths, encoded bytes or uint8 [H, W, 3] -> uint8 [H, W, 3].

    Raises ExportError for other arrays, DataError for files that are no pictures.
    """
    if not len(pictures):
        raise ExportError("pictures is empty; give some, or None for generated ones")
    return [_read(i, picture) for i, picture in enumerate(pictures)]


def _read(i: int, picture: Picture) -> np.ndarray:
    if not isinstance(picture, np.ndarray):
        return read_image(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ExportError(
            f"pictures[{i}] is {picture.dtype} {list(picture.shape)}; give RGB uint8 [height, width, 3]"
        )
    return picture


def fit(preprocessing: Preprocessing, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 [H, W, 3] of any sizes -> float32 [N, h, w, 3] at the input size."""
    return np.stack([evaluate(preprocessing, picture) for picture in pictures]).astype(np.float32)


def png(picture: np.ndarray) -> bytes:
    """RGB uint8 [H, W, 3] -> an encoded picture that decodes to the same pixels."""
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()
