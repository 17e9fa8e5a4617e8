"""The network as a TensorFlow graph whose weights are constants: what the converters take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from exporters.errors import ExportError
from exporters.subject import OUTPUTS, Subject
from zoo.layers import GroupedConv2D, for_conversion, has_grouped_gradient

# A protocol buffer, and so a graph with its weights, holds 2 GiB; the nodes need some of it.
MOST_BYTES = 2**31 - 2**25


def frozen(
    model: Subject, shape: Sequence[int | None] | None = None, outside: Sequence[keras.Variable] = ()
) -> Any:
    """A concrete function: images float32, [batch, *image_shape] or of the shape given -> the tensors of
    OUTPUTS in the order of their names. outside: variables that are no constants, but inputs after the
    images.
    """
    shape = tuple(shape or (model.batch, *model.image_shape))
    if shape == (None, *model.image_shape) and not outside and _traced_for_all(model):
        return convert_variables_to_constants_v2(model.traced)
    specs = [tf.TensorSpec(shape, tf.float32, name="images")]
    specs += [tf.TensorSpec(variable.shape, variable.dtype) for variable in outside]

    @tf.function(input_signature=specs)
    def network(images: tf.Tensor, *values: tf.Tensor) -> dict[str, tf.Tensor]:
        with keras.StatelessScope(state_mapping=list(zip(outside, values, strict=True))):
            outputs = model.heads(images, training=False)
        return {name: tf.cast(outputs[name], tf.float32) for name in OUTPUTS}

    with for_conversion():
        concrete = network.get_concrete_function()
    return convert_variables_to_constants_v2(concrete)


def _traced_for_all(model: Subject) -> bool:
    """Whether the converters take what TensorFlow runs here: no convolution in groups is another for them."""
    grouped = [layer for layer in model.network.layers if isinstance(layer, GroupedConv2D)]
    return all(has_grouped_gradient(layer.compute_dtype) for layer in grouped)


def too_large(model: Subject) -> list[keras.Variable]:
    """The variables that must stay outside of a graph with constants: none where all fit, else all but the
    small ones.
    """
    variables = sorted(model.model.variables, key=_bytes_of)
    totals = list(accumulate(map(_bytes_of, variables)))
    if totals[-1] <= MOST_BYTES:
        return []
    return [variable for variable, total in zip(variables, totals, strict=True) if total > MOST_BYTES // 64]


def check_size(model: Subject, what: str) -> None:
    """Raises ExportError for weights that do not fit into one file of the format."""
    if too_large(model):
        size = sum(map(_bytes_of, model.model.variables))
        raise ExportError(
            f"{model.model.name} has {size / 2**30:.1f} GiB of weights, a file of {what} holds 2; "
            "export it as saved_model, onnx, h5 or keras"
        )


def _bytes_of(variable: keras.Variable) -> int:
    return math.prod(variable.shape) * np.dtype(variable.value.dtype.as_numpy_dtype).itemsize
