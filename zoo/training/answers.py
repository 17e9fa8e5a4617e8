"""A network's answers to many pictures, or to the maps of many, by a function that is traced once."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from zoo.training.device import shareable

PIXELS = 1 << 19  # 128 pictures of 64 x 64


def together(images: np.ndarray, batch_size: int) -> int:
    """How many of the images [N, H, W, 3] a network that does not learn sees at once: as many as in a step of
    training, and more of small ones, which take a processor less time in larger batches.
    """
    return max(batch_size, PIXELS // (images.shape[1] * images.shape[2]))


def answers(model: keras.Model, x: np.ndarray, at_once: int) -> Any:
    """x: [N, ...] of any type, computed in float32 -> the model's outputs, [N, ...] each.

    The last batch is filled up: Keras would trace and optimise the network anew for a shorter one, and its
    `predict` does so for every array.
    """
    at_once = shareable(at_once)
    parts = [_of_batch(model, x[i : i + at_once], at_once) for i in range(0, len(x), at_once)]
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)


def _of_batch(model: keras.Model, batch: np.ndarray, size: int) -> Any:
    rows = np.minimum(np.arange(size), len(batch) - 1)
    found = model.predict_on_batch(batch[rows].astype(np.float32))
    return keras.tree.map_structure(lambda array: array[: len(batch)], found)
