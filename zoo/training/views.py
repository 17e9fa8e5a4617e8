"""Several views of each picture, seen once by the frozen bottom: augmentation at the cost of a few passes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.progress import progress
from zoo.training.answers import answers, together
from zoo.training.augmentation import augmentation
from zoo.training.recipe import Recipe

MAPS = np.float16


def maps_of_views(bottom: keras.Model, images: np.ndarray, recipe: Recipe, path: Path) -> np.ndarray:
    """uint8 images [N, h, w, 3] -> the bottom's maps, float16 [views, N, ...], mapped from the file `path`.

    View 0 is the pictures themselves. A file that is there is complete, and taken as it is.
    """
    if not path.exists():
        partial = path.with_name(f".{path.name}")
        _write(bottom, images, recipe, partial)
        os.replace(partial, path)
    return np.load(path, mmap_mode="r")


def _write(bottom: keras.Model, images: np.ndarray, recipe: Recipe, path: Path) -> None:
    stored: Any = None
    at_once = min(together(images, recipe.batch_size), len(images))
    with progress() as bar:
        line = bar.add_task("look at the pictures", total=recipe.views * len(images))
        for view in range(recipe.views):
            change = augmentation(recipe, 100 * recipe.seed + view)
            for start in range(0, len(images), at_once):
                batch = images[start : start + at_once]
                changed = change(batch) if view else batch
                maps = answers(bottom, changed, at_once)
                if stored is None:
                    shape = (recipe.views, len(images), *maps.shape[1:])
                    stored = np.lib.format.open_memmap(path, "w+", MAPS, shape)
                stored[view, start : start + len(batch)] = maps
                bar.advance(line, len(batch))
    stored.flush()
