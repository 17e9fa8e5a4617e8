"""Several views of each picture, seen once by the frozen bottom: augmentation at the cost of a few passes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from zoo.progress import progress
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


def maps(bottom: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    """float16 [N, ...], in memory."""
    return bottom.predict(images, batch_size=batch_size, verbose=0).astype(MAPS)


def _write(bottom: keras.Model, images: np.ndarray, recipe: Recipe, path: Path) -> None:
    shape = (recipe.views, len(images), *bottom.output_shape[1:])
    stored = np.lib.format.open_memmap(path, "w+", MAPS, shape)
    with progress() as bar:
        line = bar.add_task("look at the pictures", total=recipe.views * len(images))
        for view in range(recipe.views):
            change = augmentation(recipe, view)
            for start in range(0, len(images), recipe.batch_size):
                batch = images[start : start + recipe.batch_size]
                changed = change(batch, training=True) if view else batch
                stored[view, start : start + len(batch)] = bottom.predict_on_batch(changed)
                bar.advance(line, len(batch))
    stored.flush()


def augmentation(recipe: Recipe, view: int) -> keras.Sequential:
    """Images 0..255 -> the same pictures a little moved, turned, zoomed and, where asked, mirrored."""
    seed = 1000 * recipe.seed + 10 * view
    how: dict[str, Any] = {"fill_mode": "nearest"}
    changes = [
        layers.RandomFlip("horizontal", seed=seed) if recipe.flip else None,
        layers.RandomRotation(recipe.rotation, **how, seed=seed + 1) if recipe.rotation else None,
        layers.RandomTranslation(recipe.shift, recipe.shift, **how, seed=seed + 2) if recipe.shift else None,
        layers.RandomZoom(recipe.zoom, **how, seed=seed + 3) if recipe.zoom else None,
    ]
    used = [change for change in changes if change]
    return keras.Sequential([*used, layers.Activation("linear")])
