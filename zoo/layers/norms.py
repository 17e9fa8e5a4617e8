"""Norms over channels, groups of them, or their neighbours."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("zoo")
class ResponseNormalization(layers.Layer):
    """Channels compete: each is scaled by its norm over the map [N, H, W, C] against the mean of all
    channels' norms, and learns how much of that to add. Woo et al., arXiv 2301.00808.
    """

    reference_names: ClassVar[dict[str, str]] = {"scale": "weight"}

    def build(self, input_shape: Any) -> None:
        channels = (input_shape[-1],)
        self.scale = self.add_weight(shape=channels, initializer="zeros", name="scale")
        self.bias = self.add_weight(shape=channels, initializer="zeros", name="bias")

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def call(self, x: Any) -> Any:
        energy = ops.sum(ops.square(ops.cast(x, "float32")), (1, 2), keepdims=True)
        # The gradient of the root is infinite at 0, where a channel is dead.
        norm = ops.sqrt(ops.maximum(energy, 1e-12))
        relative = ops.cast(norm / (ops.mean(norm, -1, keepdims=True) + 1e-6), x.dtype)
        return x + self.bias + self.scale * (x * relative)


@keras.saving.register_keras_serializable("zoo")
class DeviationNormalization(layers.Layer):
    """Divides by the deviation of a place's channels, [..., C], and leaves the mean where it is: timm's
    SimpleNorm, whose variance is the unbiased one.
    """

    def __init__(self, epsilon: float = 1e-6, **options: Any) -> None:
        super().__init__(**options)
        self.epsilon = epsilon

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def call(self, x: Any) -> Any:
        channels = x.shape[-1]
        variance = ops.var(ops.cast(x, "float32"), -1, keepdims=True) * (channels / (channels - 1))
        return x * ops.cast(ops.rsqrt(variance + self.epsilon), x.dtype) * self.scale

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("zoo")
class EvoNormalization(layers.Layer):
    """Normalises by the deviation of a picture's groups of channels and, where it is active, activates by
    x * sigmoid(v * x), in one: [N, H, W, C]. Liu et al., arXiv 2004.02967, S0.
    """

    reference_names: ClassVar[dict[str, str]] = {"scale": "weight", "slope": "v"}

    def __init__(self, groups: int = 32, epsilon: float = 1e-5, active: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.groups, self.epsilon, self.active = groups, epsilon, active

    def build(self, input_shape: Any) -> None:
        channels = (input_shape[-1],)
        self.scale = self.add_weight(shape=channels, initializer="ones", name="scale")
        self.bias = self.add_weight(shape=channels, initializer="zeros", name="bias")
        if self.active:
            self.slope = self.add_weight(shape=channels, initializer="ones", name="slope")

    def call(self, x: Any) -> Any:
        _, height, width, channels = ops.shape(x)
        split = ops.reshape(x, (-1, height, width, self.groups, channels // self.groups))
        variance = ops.var(ops.cast(split, "float32"), (1, 2, 4), keepdims=True)
        inverse = ops.cast(ops.rsqrt(variance + self.epsilon), x.dtype)
        y = ops.reshape(split * inverse, (-1, height, width, channels))
        y = y * ops.sigmoid(x * self.slope) if self.active else y
        return y * self.scale + self.bias

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon, "active": self.active}


@keras.saving.register_keras_serializable("zoo")
class LocalResponseNormalization(layers.Layer):
    """x / (bias + alpha * sum of squares over the `size` nearest channels) ** beta. AlexNet, section 3.3."""

    def __init__(
        self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, bias: float = 2.0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.size, self.alpha, self.beta, self.bias = size, alpha, beta, bias

    def call(self, x: Any) -> Any:
        channels, reach = x.shape[-1], self.size // 2
        squares = ops.pad(ops.square(x), (*[(0, 0)] * (len(x.shape) - 1), (reach, reach)))
        near = sum(squares[..., i : i + channels] for i in range(self.size))
        return x / ops.power(self.bias + self.alpha * near, self.beta)

    def get_config(self) -> dict[str, Any]:
        own = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "bias": self.bias}
        return {**super().get_config(), **own}
