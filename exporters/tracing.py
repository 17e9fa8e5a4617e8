"""The network as a TensorFlow graph whose weights are constants: what the converters take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from exporters.errors import ExportError
from exporters.subject import OUTPUTS, Subject
from zoo.layers import GroupedConv2D, for_conversion, has_grouped_gradient

# A protocol buffer, and so a graph with its weights, holds 2 GiB; the nodes need some of it.
MOST_BYTES = 2**31 - 2**25
# TensorFlow copies a graph a dozen times on its way, and the constants in it: a large network is frozen by a
# way that is shorter, and of VGG's hidden layers, 0.5 GiB, nothing but the shape is needed.
LARGE_NETWORK, LARGE_KERNEL = 2**27, 2**24


def frozen(
    model: Subject, shape: Sequence[int | None] | None = None, outside: Sequence[keras.Variable] = ()
) -> Any:
    """A concrete function: images float32, [batch, *image_shape] or of the shape given -> the tensors of
    OUTPUTS in the order of their names. outside: variables that are no constants, but inputs after the
    images.
    """
    shape = tuple(shape or (model.batch, *model.image_shape))
    usual = shape == (None, *model.image_shape) and not outside
    if usual and _traced_for_all(model) and _total(model) < LARGE_NETWORK:
        return convert_variables_to_constants_v2(model.traced)
    given = {id(variable) for variable in outside}
    inside = [variable for variable in model.model.variables if id(variable) not in given]
    arrays = [variable.numpy() for variable in inside]
    specs = [tf.TensorSpec(shape, tf.float32, name="images")]
    specs += [tf.TensorSpec(variable.shape, variable.dtype) for variable in outside]

    @tf.function(input_signature=specs)
    def network(images: tf.Tensor, *values: tf.Tensor) -> dict[str, tf.Tensor]:
        state = zip([*outside, *inside], [*values, *map(tf.constant, arrays)], strict=True)
        with keras.StatelessScope(state_mapping=list(state)):
            outputs = model.heads(images, training=False)
        return {name: tf.cast(outputs[name], tf.float32) for name in OUTPUTS}

    with for_conversion():
        return network.get_concrete_function()


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


def spared(model: Subject) -> list[keras.Variable]:
    """The variables that better stay outside though all fit: large kernels that take up no norm."""
    plain = [layer for layer in model.model.layers if type(layer) in (layers.Dense, layers.Conv2D)]
    kernels = [layer.kernel for layer in plain if layer.use_bias]
    # under LoRA or quantized, a layer's kernel is computed, no variable
    variables = [kernel for kernel in kernels if isinstance(kernel, keras.Variable)]
    return [variable for variable in variables if _bytes_of(variable) >= LARGE_KERNEL]


def check_size(model: Subject, what: str) -> None:
    """Raises ExportError for weights that do not fit into one file of the format."""
    if too_large(model):
        size = _total(model)
        raise ExportError(
            f"{model.model.name} has {size / 2**30:.1f} GiB of weights, a file of {what} holds 2; "
            "export it as saved_model, onnx, h5 or keras"
        )


def _total(model: Subject) -> int:
    return sum(map(_bytes_of, model.model.variables))


def _bytes_of(variable: keras.Variable) -> int:
    return math.prod(variable.shape) * np.dtype(variable.value.dtype.as_numpy_dtype).itemsize
