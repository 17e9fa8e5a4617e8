"""By one layer of our own: all moves are one map of places, so a picture is resampled once, not thrice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

import keras
from keras import ops

from zoo.training.augmentation.changes import DRAWS, Changes, warps


@keras.saving.register_keras_serializable("zoo")
class RandomWarp(keras.layers.Layer):
    """Images [N, h, w, 3], 0..255 -> the same while not training; else changed, each in its own way.

    The arguments are those of `Changes` and of every layer. Works on every backend, and inside a model.
    """

    def __init__(self, *, seed: int | None = None, **options: Any) -> None:
        changes = {field.name: options.pop(field.name) for field in fields(Changes) if field.name in options}
        super().__init__(**options)
        self.changes, self.seed = Changes(**changes), seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> Any:
        if not training:
            return images
        count, height, width, _ = ops.shape(images)
        draws = keras.random.uniform((count, DRAWS), seed=self.generator)
        light = keras.random.uniform((2, count, 1, 1, 1), -1.0, 1.0, seed=self.generator)
        if self.changes.moves:
            transforms = warps(self.changes, draws, (height, width), ops)
            images = ops.image.affine_transform(
                images, transforms, fill_mode="nearest", data_format="channels_last"
            )
        images = images + 255 * self.changes.brightness * light[0]
        mean = ops.mean(images, axis=(1, 2), keepdims=True)
        return ops.clip((images - mean) * (1 + self.changes.contrast * light[1]) + mean, 0, 255)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **asdict(self.changes), "seed": self.seed}


def custom(changes: Changes, seed: int) -> Callable[[Any], Any]:
    layer = RandomWarp(**asdict(changes), seed=seed, dtype="float32")
    return lambda images: layer(images, training=True)
