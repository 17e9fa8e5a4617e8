"""Layers that Keras lacks, or has in a form that neither exports nor trains well. Registered under "zoo".

`reference_names` maps a variable to its name in the reference's state dict where that is not the usual one.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import layers


@keras.saving.register_keras_serializable("zoo")
class GroupedConv2D(layers.Conv2D):
    """A convolution in groups, as one plain operation of TensorFlow.

    Keras compiles every grouped Conv2D by XLA: the SavedModel then carries `_XlaMustCompile`, which a stock
    model server refuses, and training on a CPU is 50 times slower than dense.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        if keras.backend.backend() != "tensorflow":
            return super().convolution_op(inputs, kernel)
        import tensorflow as tf

        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate)


@keras.saving.register_keras_serializable("zoo")
class Scale(layers.Layer):
    """Multiplies each channel by a learned factor: layer scale. Touvron et al., arXiv 2103.17239."""

    reference_names: ClassVar[dict[str, str]] = {"scale": "gamma"}

    def __init__(self, initial: float = 1e-6, **options: Any) -> None:
        super().__init__(**options)
        self.initial = initial

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.Constant(self.initial)
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer=start, name="scale")

    def call(self, x: Any) -> Any:
        return x * self.scale

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial": self.initial}
