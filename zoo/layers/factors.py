"""Learned factors: of channels, of residuals, of whole maps."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("zoo")
class Scale(layers.Layer):
    """Multiplies each channel by a learned factor: layer scale. Touvron et al., arXiv 2103.17239.

    rank: the factors are kept as [C], with 3 as [C, 1, 1] and with 4 as [1, C, 1, 1], as the reference does.
    """

    reference_names: ClassVar[dict[str, str]] = {"scale": "gamma"}

    def __init__(self, initial: float = 1e-6, rank: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.initial, self.rank = initial, rank

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.Constant(self.initial)
        channels = input_shape[-1]
        shape = {1: (channels,), 3: (channels, 1, 1), 4: (1, channels, 1, 1)}[self.rank]
        self.scale = self.add_weight(shape=shape, initializer=start, name="scale")

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def call(self, x: Any) -> Any:
        return x * ops.reshape(self.scale, (-1,))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial": self.initial, "rank": self.rank}


@keras.saving.register_keras_serializable("zoo")
class ChannelScale(Scale):
    """The same as the references of MetaFormer name it."""

    reference_names: ClassVar[dict[str, str]] = {"scale": "scale"}


@keras.saving.register_keras_serializable("zoo")
class BareScale(Scale):
    """The same where the reference knows the factors by the layer's own name."""

    reference_names: ClassVar[dict[str, str]] = {"scale": ""}


@keras.saving.register_keras_serializable("zoo")
class SkipGain(layers.Layer):
    """Multiplies a residual by one learned number, 0 at first. De and Smith, arXiv 2002.10444."""

    reference_names: ClassVar[dict[str, str]] = {"gain": "skipinit_gain"}

    def build(self, input_shape: Any) -> None:
        self.gain = self.add_weight(shape=(), initializer="zeros", name="gain")

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def call(self, x: Any) -> Any:
        return x * self.gain


@keras.saving.register_keras_serializable("zoo")
class Affine(layers.Layer):
    """One learned factor and one learned addend for a whole map, of these values at first: PP-HGNetV2's, and
    StarReLU's (Yu et al., arXiv 2210.13452).
    """

    reference_names: ClassVar[dict[str, str]] = {"scale": "scale"}

    def __init__(self, factor: float = 1.0, addend: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.factor, self.addend = factor, addend

    def build(self, input_shape: Any) -> None:
        factor, addend = map(keras.initializers.Constant, (self.factor, self.addend))
        self.scale = self.add_weight(shape=(1,), initializer=factor, name="scale")
        self.bias = self.add_weight(shape=(1,), initializer=addend, name="bias")

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def call(self, x: Any) -> Any:
        return x * self.scale + self.bias

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor, "addend": self.addend}
