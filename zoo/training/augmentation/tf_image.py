"""By TensorFlow's functions of images, as in the map of a tf.data pipeline."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from zoo.training.augmentation.changes import DRAWS, Changes, warps

if TYPE_CHECKING:
    import tensorflow as tf


def tf_image(changes: Changes, seed: int) -> Callable[[Any], Any]:
    """Every batch has a seed of its own, as stateless functions want. Moves go through the operation that
    Keras's layers use, for tf.image cannot rotate.
    """
    numbers = count()
    return lambda images: change(changes, images, (seed, next(numbers))).numpy()


def change(changes: Changes, images: Any, seed: tuple[int, int]) -> tf.Tensor:
    """[N, h, w, 3], 0..255 -> the same float32, changed. Raises nothing in a graph: shapes may be unknown."""
    import tensorflow as tf

    images = tf.cast(images, tf.float32)
    number = tf.shape(images)[0]
    where, light, contrast = tf.unstack(tf.random.split(seed, 3))
    if changes.moves:
        images = _moved(changes, images, tf.random.stateless_uniform((number, DRAWS), where))
    delta = changes.brightness * tf.random.stateless_uniform((number, 1, 1, 1), light, -1.0, 1.0)
    images = tf.image.adjust_brightness(images, 255 * delta)
    factors = 1 + changes.contrast * tf.random.stateless_uniform((number, 1, 1, 1), contrast, -1.0, 1.0)
    mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
    return tf.clip_by_value((images - mean) * factors + mean, 0.0, 255.0)


def _moved(changes: Changes, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    size = images.shape[1:3]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=warps(changes, draws, tuple(size), tf.experimental.numpy),
        output_shape=size,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )
