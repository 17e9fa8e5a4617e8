"""How pictures are changed while a network learns: what, as the recipe says, and by whose functions."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers

from zoo.training.augmentation.changes import Changes
from zoo.training.augmentation.custom import custom
from zoo.training.augmentation.generator import generator
from zoo.training.augmentation.keras_layers import keras_layers
from zoo.training.augmentation.tf_image import tf_image

if TYPE_CHECKING:
    from zoo.training.recipe import Recipe

Change = Callable[[np.ndarray], Any]
GROUP = 4  # pictures that share an operation: Keras's policies draw one for all that they are given at once

# By whose functions the same changes are made.
WAYS: dict[str, Callable[[Changes, int], Change]] = {
    "layers": keras_layers,
    "tf_image": tf_image,
    "custom": custom,
    "generator": generator,
}
# What else is done, by layers that draw their own strengths.
POLICIES: dict[str, Callable[[int], list[layers.Layer]]] = {
    "none": lambda _: [],
    "light": lambda _: [],  # it is `Changes`
    # Cubuk et al., arXiv 1909.13719
    "randaugment": lambda seed: [layers.RandAugment(num_ops=2, factor=0.3, seed=seed, dtype="float32")],
    # One change of any strength, as TrivialAugment: Mueller and Hutter, arXiv 2103.10158
    "trivial": lambda seed: [layers.RandAugment(num_ops=1, factor=1.0, seed=seed, dtype="float32")],
    # Hendrycks et al., arXiv 1912.02781
    "augmix": lambda seed: [layers.AugMix(seed=seed, dtype="float32")],
}


def is_policy(name: str) -> bool:
    """One of POLICIES, or what a layer or function is registered as by
    keras.saving.register_keras_serializable.
    """
    return name in POLICIES or keras.saving.get_registered_object(name) is not None


def augmentation(recipe: Recipe, seed: int) -> Change:
    """A function: images [N, h, w, 3], 0..255, of any type -> the same pictures changed, float32, 0..255."""
    random.seed(seed)  # Keras's AugMix draws from Python's generator, whatever its seed
    change = WAYS[recipe.augment_with](changes_of(recipe), 16 * seed)
    further = _policy(recipe.augment, 16 * seed + 14)
    if recipe.erase:
        further.append(layers.RandomErasing(recipe.erase, seed=16 * seed + 15, dtype="float32"))

    def changed(images: np.ndarray) -> np.ndarray:
        x = keras.ops.convert_to_numpy(change(np.asarray(images, np.float32)))
        if not further:
            return x
        return np.concatenate([_through(further, x[i : i + GROUP]) for i in range(0, len(x), GROUP)])

    return changed


def _through(changers: list[Any], x: Any) -> np.ndarray:
    for changer in changers:
        x = changer(x, training=True) if isinstance(changer, layers.Layer) else changer(x)
    return keras.ops.convert_to_numpy(x)


def changes_of(recipe: Recipe) -> Changes:
    """What any of WAYS can do; moves belong to the policy `light`, the rest is the recipe's own."""
    moves = {name: getattr(recipe, name) for name in ("shift", "zoom", "rotation")}
    return Changes(
        flip=recipe.flip,
        smallest_crop=recipe.smallest_crop,
        brightness=recipe.brightness,
        contrast=recipe.contrast,
        **(moves if recipe.augment == "light" else {}),
    )


def mixtures(recipe: Recipe, seed: int) -> list[layers.Layer]:
    """Ways to mix two pictures (or their maps), and their labels in the same shares."""
    ways = []
    if recipe.mixup:
        ways.append(layers.MixUp(recipe.mixup, seed=seed))
    if recipe.cutmix:
        ways.append(layers.CutMix(recipe.cutmix, seed=seed))
    return ways


def _policy(name: str, seed: int) -> list[Any]:
    if name in POLICIES:
        return list(POLICIES[name](seed))
    registered = keras.saving.get_registered_object(name)
    return [registered() if isinstance(registered, type) else registered]
