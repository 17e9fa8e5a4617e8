"""Activations that Keras has under no name."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("zoo")
def gelu_tanh(x: Any) -> Any:
    """GELU by tanh: x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). Hendrycks and Gimpel, arXiv 1606.08415,
    section 2.
    """
    return keras.activations.gelu(x, approximate=True)
