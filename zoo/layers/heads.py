"""What stands at the end of a network: pooling, and a classifier of two heads."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("zoo")
class GeneralizedMeanPooling2D(layers.Layer):
    """The mean over all places of x ** p, to the power 1 / p, with p learned: [N, H, W, C] -> [N, C]. At
    p = 1 it is the average, towards infinity the maximum. Values below `epsilon` count as it. Radenovic et
    al., arXiv 1711.02512.
    """

    reference_names: ClassVar[dict[str, str]] = {"power": "p"}

    def __init__(
        self, power: float = 3.0, epsilon: float = 1e-6, keepdims: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self.initial, self.epsilon, self.keepdims = power, epsilon, keepdims

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.Constant(self.initial)
        self.power = self.add_weight(shape=(1,), initializer=start, name="power")

    def call(self, x: Any) -> Any:
        power = ops.cast(self.power, "float32")
        raised = ops.power(ops.maximum(ops.cast(x, "float32"), self.epsilon), power)
        mean = ops.mean(raised, (1, 2), keepdims=self.keepdims)
        return ops.cast(ops.power(mean, 1 / power), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        own = {"power": self.initial, "epsilon": self.epsilon, "keepdims": self.keepdims}
        return {**super().get_config(), **own}


def twin_names(first: str, second: str) -> dict[str, str]:
    """What the two layers' weights are called in the reference, by what stands before."""
    return {
        "kernel": f"{first}weight",
        "bias": f"{first}bias",
        "second_kernel": f"{second}weight",
        "second_bias": f"{second}bias",
    }


@keras.saving.register_keras_serializable("zoo")
class TwinDense(layers.Layer):
    """The mean of two linear classifiers, one taught by the labels and one by another network: two vectors
    joined, [N, 2 * D] -> [N, units]. Touvron et al., arXiv 2012.12877.
    """

    reference_names: ClassVar[dict[str, str]] = twin_names("head.l.", "head_dist.l.")
    vectors = 2  # one behind the other

    def __init__(self, units: int, kernel_initializer: Any = "glorot_uniform", **options: Any) -> None:
        super().__init__(**options)
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Any) -> None:
        shape, start = (input_shape[-1] // self.vectors, self.units), self.kernel_initializer
        self.kernel = self.add_weight(shape=shape, initializer=start, name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.second_kernel = self.add_weight(shape=shape, initializer=start.clone(), name="second_kernel")
        self.second_bias = self.add_weight(shape=(self.units,), initializer="zeros", name="second_bias")

    def call(self, x: Any) -> Any:
        return ops.matmul(x, ops.cast(self._kernels(), x.dtype)) / 2 + (self.bias + self.second_bias) / 2

    def _kernels(self) -> Any:
        return ops.concatenate([self.kernel, self.second_kernel])

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        start = keras.initializers.serialize(self.kernel_initializer)
        return {**super().get_config(), "units": self.units, "kernel_initializer": start}


@keras.saving.register_keras_serializable("zoo")
class PlainTwinDense(TwinDense):
    """The same of one vector, [N, D] -> [N, units]: two linear layers, named NAME and NAME_dist."""

    reference_names: ClassVar[dict[str, str]] = twin_names("", "_dist.")
    vectors = 1  # which both heads see

    def _kernels(self) -> Any:
        return self.kernel + self.second_kernel


@keras.saving.register_keras_serializable("zoo")
class NormedTwinDense(TwinDense):
    """The same of two vectors, as the linear layers of NAME and of NAME_dist."""

    reference_names: ClassVar[dict[str, str]] = twin_names("linear.", "_dist.linear.")
