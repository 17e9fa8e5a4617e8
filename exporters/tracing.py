"""The network as a TensorFlow graph whose weights are constants: what the converters take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from exporters.errors import ExportError
from exporters.subject import OUTPUTS, Subject

# A protocol buffer, and so a graph with its weights, holds 2 GiB; the nodes need some of it.
MOST_BYTES = 2**31 - 2**25


def frozen(model: Subject, shape: Sequence[int | None] | None = None) -> Any:
    """A concrete function: images float32, [N, *image_shape] or of the shape given -> the tensors of OUTPUTS
    in the order of their names.
    """
    spec = tf.TensorSpec(shape or (None, *model.image_shape), tf.float32, name="images")

    @tf.function(input_signature=[spec])
    def network(images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = model.heads(images, training=False)
        return {name: tf.cast(outputs[name], tf.float32) for name in OUTPUTS}

    return convert_variables_to_constants_v2(network.get_concrete_function())


def check_size(model: Subject, what: str) -> None:
    """Raises ExportError for weights that do not fit into one file of the format."""
    size = sum(4 * variable.value.shape.num_elements() for variable in model.model.variables)
    if size > MOST_BYTES:
        raise ExportError(
            f"{model.model.name} has {size / 2**30:.1f} GiB of weights, a file of {what} holds 2; "
            "export it as saved_model, h5 or keras"
        )
