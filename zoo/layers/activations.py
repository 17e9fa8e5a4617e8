"""Activations that Keras has under no name."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("zoo")
def gelu_tanh(x: Any) -> Any:
    """GELU by a tanh of x and its cube. Hendrycks and Gimpel, arXiv 1606.08415, section 2."""
    return keras.activations.gelu(x, approximate=True)
