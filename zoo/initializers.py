"""He initialisation, and one drawn by NumPy: Keras took half of a large network's build time to draw its
values.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

KERNELS = ("kernel_initializer", "depthwise_initializer", "pointwise_initializer")
LARGE = 2**22  # numbers, of which the backend draws more at a time than NumPy does


class QuickHeUniform(keras.initializers.HeUniform):
    """Uniform in +-sqrt(6 / fan-in), fan-in being all of the shape but its last axis. He et al., arXiv
    1502.01852. Follows keras.utils.set_random_seed as Keras's own does, with other numbers.
    """

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        if math.prod(shape) > LARGE:
            return super().__call__(shape, dtype)
        limit = math.sqrt(6 / math.prod(shape[:-1]))
        values = np.random.Generator(np.random.SFC64(self.seed)).random(shape, np.float32)
        values -= np.float32(0.5)
        values *= np.float32(2 * limit)
        return keras.ops.convert_to_tensor(values, dtype)


def he_fan_out() -> keras.initializers.Initializer:
    """Normal, by the channels that a kernel gives, as many authors of hybrids start theirs: behind it queries
    and keys stay small. He et al., arXiv 1502.01852, equation 14.
    """
    return keras.initializers.VarianceScaling(2, "fan_out", "untruncated_normal")


def name_the_stock_one(model: keras.Model) -> None:
    """Puts Keras's HeUniform into the configuration: a saved network then needs no class of ours."""
    for layer in model.layers:
        for role in KERNELS:
            if isinstance(getattr(layer, role, None), QuickHeUniform):
                setattr(layer, role, keras.initializers.HeUniform())
