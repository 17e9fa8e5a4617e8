"""A Keras model as one flat graph that TensorFlow's converters can trace, sharing all variables with it.

Models inside the model are opened, and Keras's convolutions in groups, which it compiles by XLA, become plain
operations. The result is for tracing and running; only the model itself is saved.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from exporters.errors import ExportError


class Borrowed(layers.Layer):
    """Computes with another layer's variables."""

    def __init__(self, layer: Any, **options: Any) -> None:
        super().__init__(name=f"{layer.name}.borrowed", dtype=layer.dtype_policy, **options)
        self.layer = layer


class PlainGroups(Borrowed):
    """A convolution in groups as one operation of TensorFlow."""

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        conv = self.layer
        kernel = tf.cast(conv.kernel, x.dtype)
        y = tf.nn.conv2d(x, kernel, conv.strides, conv.padding.upper(), dilations=conv.dilation_rate)
        y = y if conv.bias is None else y + tf.cast(conv.bias, y.dtype)
        return conv.activation(y)


class Unactivated(Borrowed):
    """A Dense layer without the activation inside."""

    def call(self, x: Any) -> Any:
        y = keras.ops.matmul(x, keras.ops.cast(self.layer.kernel, x.dtype))
        return y if self.layer.bias is None else y + keras.ops.cast(self.layer.bias, y.dtype)


# An Identity stands for the classifier that a module of TensorFlow Hub has inside.
CLASSIFIERS = (layers.Dense, layers.Conv2D, layers.Identity, Unactivated)
# What may stand between the classifier and its scores.
PASSED = (layers.Flatten, layers.Reshape, layers.ReLU, layers.Activation, layers.GlobalAveragePooling2D)


def classifier(model: keras.Model) -> keras.Model:
    """The same graph without optimizer and loss, and without the heads that help in training alone."""
    # A Sequential model has none.
    named = getattr(model, "output", None)
    output = named["predictions"] if isinstance(named, dict) else model.outputs[0]
    return keras.Model(model.inputs[0], output, name=model.name)


def traceable(model: keras.Model, images: Any = None) -> keras.Model:
    """The flat graph; from `images`, where these symbolic pictures are not those of the model."""
    functional = classifier(model)
    if images is None and not any(_is_model(layer) or _is_grouped(layer) for layer in model.layers):
        return functional
    return keras.models.clone_model(
        functional, input_tensors=images, clone_function=lambda layer: layer, call_function=_call
    )


def _call(layer: Any, *args: Any, **kwargs: Any) -> Any:
    if _is_model(layer):
        return traceable(layer).call(*args, **kwargs)
    return PlainGroups(layer)(*args) if _is_grouped(layer) else layer(*args, **kwargs)


def _is_model(layer: Any) -> bool:
    return isinstance(layer, keras.Model) and bool(getattr(layer, "inputs", None))


def _is_grouped(layer: Any) -> bool:
    return type(layer) is layers.Conv2D and layer.groups > 1 and layer.data_format == "channels_last"


def heads(network: keras.Model) -> keras.Model:
    """Images -> {"features": [N, D], "logits": [N, C], "probabilities": [N, C]}, float32.

    Logits are what the last softmax or sigmoid takes; a model that ends in neither gives them, and its
    probabilities are their softmax. Features are what enters the classifier; a map is averaged. Raises
    ExportError for another end, or where no Dense layer or convolution is the classifier.
    """
    scores, activation = _unactivated(network.outputs[0])
    outputs = {
        "features": layers.Activation("linear", dtype="float32", name="features.out")(_features(scores)),
        "logits": layers.Activation("linear", dtype="float32", name="logits.out")(scores),
        "probabilities": layers.Activation(activation, dtype="float32", name="probabilities.out")(scores),
    }
    return keras.Model(network.inputs[0], outputs, name=network.name)


def _unactivated(output: Any) -> tuple[Any, str]:
    """The tensor before the last activation, and what makes probabilities of it."""
    layer = _producer(output)
    if isinstance(layer, layers.Softmax):
        return _taken(output), "softmax"
    activation = getattr(layer, "activation", keras.activations.linear)
    name = getattr(activation, "__name__", str(activation))
    if name == "linear":
        return (_taken(output) if isinstance(layer, layers.Activation) else output), "softmax"
    if name not in ("softmax", "sigmoid"):
        raise ExportError(f'"{layer.name}" ends in {name}; a classifier ends in softmax, sigmoid or logits')
    if isinstance(layer, layers.Activation):
        return _taken(output), name
    if isinstance(layer, layers.Dense):
        return Unactivated(layer)(_taken(output)), name
    raise ExportError(f'"{layer.name}" has its {name} inside; make it a layer of its own, an Activation')


def _features(scores: Any) -> Any:
    tensor = scores
    while isinstance(_producer(tensor), PASSED) or _producer(tensor).name == "global_pool":
        tensor = _taken(tensor)
    classifier = _producer(tensor)
    if not isinstance(classifier, CLASSIFIERS):
        raise ExportError(f'"{classifier.name}" is no classifier; the model must end in a Dense layer')
    features = _taken(tensor)
    if isinstance(_producer(features), layers.Dropout):
        features = _taken(features)
    if len(features.shape) == 4:
        features = layers.GlobalAveragePooling2D(name=f"{classifier.name}.features")(features)
    return features


def _producer(tensor: Any) -> Any:
    return tensor._keras_history.operation


def _taken(tensor: Any) -> Any:
    """What the layer that gave this tensor was called with; a shared layer was called more than once."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index].input_tensors[0]
