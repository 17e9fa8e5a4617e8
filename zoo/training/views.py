"""Several views of each picture, seen once by the frozen bottom: augmentation at the cost of a few passes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
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
            change = augmentation(recipe, 100 * recipe.seed + view)
            for start in range(0, len(images), recipe.batch_size):
                batch = images[start : start + recipe.batch_size]
                changed = change(batch, training=True) if view else batch
                stored[view, start : start + len(batch)] = bottom.predict_on_batch(changed)
                bar.advance(line, len(batch))
    stored.flush()


def augmentation(recipe: Recipe, seed: int) -> keras.Sequential:
    """Images 0..255 -> the same pictures changed as the recipe's policy says."""
    random.seed(seed)  # Keras's AugMix draws from Python's generator, whatever its seed
    used = POLICIES[recipe.augment](recipe, 4 * seed)
    if recipe.flip:
        used.insert(0, layers.RandomFlip("horizontal", seed=4 * seed + 3))
    if recipe.erase:
        used.append(layers.RandomErasing(recipe.erase, seed=4 * seed + 3))
    return keras.Sequential([*used, layers.Activation("linear")])


def mixtures(recipe: Recipe, seed: int) -> list[layers.Layer]:
    """Ways to mix two pictures (or their maps), and their labels in the same shares."""
    ways = []
    if recipe.mixup:
        ways.append(layers.MixUp(recipe.mixup, seed=seed))
    if recipe.cutmix:
        ways.append(layers.CutMix(recipe.cutmix, seed=seed))
    return ways


def _light(recipe: Recipe, seed: int) -> list[layers.Layer]:
    """A little moved, turned and zoomed."""
    how: dict[str, Any] = {"fill_mode": "nearest"}
    changes = [
        layers.RandomRotation(recipe.rotation, **how, seed=seed) if recipe.rotation else None,
        layers.RandomTranslation(recipe.shift, recipe.shift, **how, seed=seed + 1) if recipe.shift else None,
        layers.RandomZoom(recipe.zoom, **how, seed=seed + 2) if recipe.zoom else None,
    ]
    return [change for change in changes if change]


POLICIES: dict[str, Callable[[Recipe, int], list[layers.Layer]]] = {
    "none": lambda _, __: [],
    "light": _light,
    # Cubuk et al., arXiv 1909.13719
    "randaugment": lambda _, seed: [layers.RandAugment(num_ops=2, factor=0.3, seed=seed)],
    # One change of any strength, as TrivialAugment: Mueller and Hutter, arXiv 2103.10158
    "trivial": lambda _, seed: [layers.RandAugment(num_ops=1, factor=1.0, seed=seed)],
    # Hendrycks et al., arXiv 1912.02781
    "augmix": lambda _, seed: [layers.AugMix(seed=seed)],
}
