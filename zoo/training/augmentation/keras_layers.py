"""By Keras's preprocessing layers, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from zoo.training.augmentation.changes import Changes
from zoo.training.augmentation.custom import RandomWarp


def keras_layers(changes: Changes, seed: int) -> Callable[[Any], Any]:
    """Keras has no random resized crop: that one is ours."""
    edge: dict[str, Any] = {"fill_mode": "nearest"}
    shift, crop, contrast = changes.shift, changes.smallest_crop, changes.contrast
    made = [
        changes.flip and layers.RandomFlip("horizontal", seed=seed, dtype="float32"),
        crop < 1 and RandomWarp(smallest_crop=crop, seed=seed + 1, dtype="float32"),
        changes.rotation and layers.RandomRotation(changes.rotation, **edge, seed=seed + 2, dtype="float32"),
        shift and layers.RandomTranslation(shift, shift, **edge, seed=seed + 3, dtype="float32"),
        changes.zoom and layers.RandomZoom(changes.zoom, **edge, seed=seed + 4, dtype="float32"),
        changes.brightness and layers.RandomBrightness(changes.brightness, seed=seed + 5, dtype="float32"),
        # One number would mean 1 to 1 + contrast.
        contrast and layers.RandomContrast((contrast, contrast), seed=seed + 6, dtype="float32"),
    ]
    used = keras.Sequential([layer for layer in made if layer] or [layers.Identity()])
    return lambda images: used(images, training=True)
