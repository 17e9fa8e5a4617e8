"""Pictures to compare by, and to warm a server up with."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from exporters.errors import ExportError
from zoo.classifier import MULTI_LABEL, Facts
from zoo.data.folders import pictures_in
from zoo.errors import DataError
from zoo.preprocessing import Picture, Preprocessing, evaluate, read_image

# A folder (with a folder for each class, perhaps), pictures by class, or pictures.
Source: TypeAlias = "str | PathLike[str] | Mapping[str, Sequence[Picture]] | Sequence[Picture]"

COUNT = 4
CALIBRATION = 200


@dataclass(frozen=True)
class Given:
    """pictures: RGB uint8 [H, W, 3] of any sizes; truth: their classes, int64 [N], where known; real: not
    generated.
    """

    pictures: Sequence[np.ndarray]
    truth: np.ndarray | None = None
    real: bool = True


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


def given(source: Source | None, facts: Facts) -> Given:
    """Pictures to compare by: generated ones for None.

    Raises ExportError for no pictures and for classes that the model does not know; DataError for files and
    arrays that are no pictures.
    """
    if source is None:
        return Given(samples(facts.preprocessing), None, real=False)
    groups = _groups(source)
    pictures = [picture for group in groups.values() for picture in group]
    if not pictures:
        raise ExportError("pictures is empty; give some, or None for generated ones")
    return Given(_read(pictures), _truth(groups, facts, strict=isinstance(source, Mapping)))


def calibration(source: Source, preprocessing: Preprocessing) -> np.ndarray:
    """At most CALIBRATION of the pictures, spread over all of them: float32 [N, h, w, 3] at the input size.

    Raises as `given`.
    """
    pictures = [picture for group in _groups(source).values() for picture in group]
    if not pictures:
        raise ExportError("there are no pictures to calibrate with; give some hundred of the usual ones")
    count = min(len(pictures), CALIBRATION)
    chosen = [pictures[i * len(pictures) // count] for i in range(count)]
    return fit(preprocessing, _read(chosen))


def _read(pictures: Sequence[Picture]) -> list[np.ndarray]:
    found = []
    for i, picture in enumerate(pictures):
        try:
            found.append(read_image(picture))
        except DataError as error:
            raise DataError(f"pictures[{i}]: {error}") from error
    return found


def _groups(source: Source) -> Mapping[str, Sequence[Picture]]:
    """By class; those of no class under the empty name."""
    if isinstance(source, Mapping):
        return source
    if not isinstance(source, str | PathLike):
        if not isinstance(source, Iterable):
            raise ExportError(f"{source!r:.80} is no list of pictures; give a folder of pictures, or a list")
        return {"": [*source]}
    folder = Path(source)
    if not folder.is_dir():
        raise ExportError(f'"{folder}" is no folder; give a folder of pictures, or a list of them')
    groups: dict[str, list[Picture]] = {}
    for path in pictures_in(folder):
        inside = path.relative_to(folder).parts
        groups.setdefault(inside[0] if len(inside) > 1 else "", []).append(path)
    return groups


def _truth(groups: Mapping[str, Sequence[Picture]], facts: Facts, *, strict: bool) -> np.ndarray | None:
    """The class of each picture; None for a folder whose folders are no classes of the model, and where a
    picture may have several.
    """
    if facts.task == MULTI_LABEL:
        return None
    names = {name for name, pictures in groups.items() if len(pictures)}
    strange = sorted(names - set(facts.labels))
    if strange and (strict or len(strange) < len(names)):
        raise ExportError(
            f'the pictures are in the class "{strange[0]}", which is none of the labels of {facts.name}'
        )
    if strange:
        return None
    classes = [
        [facts.labels.index(name)] * len(pictures) for name, pictures in groups.items() if len(pictures)
    ]
    return np.concatenate(classes).astype(np.int64)


def fit(preprocessing: Preprocessing, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 [H, W, 3] of any sizes -> float32 [N, h, w, 3] at the input size."""
    return np.stack([evaluate(preprocessing, picture) for picture in pictures]).astype(np.float32)


def png(picture: np.ndarray) -> bytes:
    """RGB uint8 [H, W, 3] -> an encoded picture that decodes to the same pixels."""
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()
