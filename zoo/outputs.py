"""What a classifier's network can tell beside its predictions: the features and the logits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import keras
from keras import layers

from zoo.arguments import check_model
from zoo.build import OUTPUT
from zoo.errors import ZooError
from zoo.layers import TwinDense


class Borrowed(layers.Layer):
    """Computes with another layer's variables."""

    def __init__(self, layer: Any, **options: Any) -> None:
        super().__init__(name=f"{layer.name}.borrowed", dtype=layer.compute_dtype, **options)
        self.layer = layer


class Unactivated(Borrowed):
    """A Dense layer without the activation inside; it may be quantized."""

    def call(self, x: Any) -> Any:
        activation, self.layer.activation = self.layer.activation, None
        try:
            return self.layer(x)
        finally:
            self.layer.activation = activation


# An Identity stands for the classifier that a module of TensorFlow Hub has inside.
CLASSIFIERS = (layers.Dense, layers.Conv2D, layers.Identity, TwinDense, Unactivated)
# What may stand between the classifier and its scores.
PASSED = (
    layers.Flatten,
    layers.Reshape,
    layers.ReLU,
    layers.Activation,
    layers.Softmax,
    layers.GlobalAveragePooling2D,
)


def heads(model: keras.Model) -> keras.Model:
    """Images -> {"features": [N, D], "logits": [N, C], "probabilities": [N, C]}, float32, sharing all
    variables.

    Logits are what the last softmax or sigmoid takes; a model that ends in neither gives them, and its
    probabilities are their softmax. Features are what enters the classifier; a map is averaged. Models inside
    the model are opened. Raises ZooError for another end, or where no Dense layer or convolution is the
    classifier.
    """
    model = flat(model)
    scores, activation = _unactivated(predictions_of(model))
    classified = _classified(scores)
    features = _vectors(_taken(classified), producer(classified).name)
    outputs = {
        "features": layers.Activation("linear", dtype="float32", name="features.out")(features),
        "logits": layers.Activation("linear", dtype="float32", name="logits.out")(scores),
        "probabilities": layers.Activation(activation, dtype="float32", name="probabilities.out")(scores),
    }
    return keras.Model(model.inputs[0], outputs, name=model.name)


def predictions_of(model: keras.Model) -> Any:
    """The tensor of the predictions, without those of the heads that help in training alone."""
    # A Sequential model has no `output`.
    output = getattr(model, "output", None)
    return output[OUTPUT] if isinstance(output, dict) else model.outputs[0]


def gives_logits(model: keras.Model) -> bool:
    """Whether the predictions are the logits: neither softmax nor sigmoid makes probabilities of them."""
    return _activation(producer(predictions_of(model))) == "linear"


def classifier_layer(model: keras.Model) -> Any:
    """The Dense layer that the predictions come from, or the 1x1 convolution whose map is pooled to them;
    an Identity where a module of TensorFlow Hub gives them.

    Raises ZooError where a model has none.
    """
    return producer(_classified(predictions_of(model)))


def features_of(classifier: Any) -> Any:
    """The vectors [N, D] before the classifier and its dropout; a map is averaged."""
    return _vectors(classifier.input, classifier.name)


def is_one_graph(model: keras.Model) -> bool:
    """Whether the model is neither Sequential nor has models inside. Raises ZooError for what is none."""
    check_model(model)
    return not isinstance(model, keras.Sequential) and not any(map(_is_model, model.layers))


def flat(
    model: keras.Model, images: Any = None, replacement: Callable[[Any], Any] = lambda layer: layer
) -> keras.Model:
    """The same layers as one graph, with the layers of the models inside the model; the model itself where
    it is one.

    images: symbolic pictures to begin with instead of the model's own. replacement: a layer -> what to call
    in its place, once for a layer that is called twice.
    """
    replacement = cache(replacement)
    is_one = is_one_graph(model)
    if is_one and images is None and all(replacement(layer) is layer for layer in model.layers):
        return model

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_model(layer):
            return flat(layer, replacement=replacement).call(*args, **kwargs)
        return replacement(layer)(*args, **kwargs)

    network = keras.Model(model.inputs[0], predictions_of(model), name=model.name)
    opened = called_anew(network, call, images)
    return opened if is_one else called_anew(opened, _unless_converted, images)


def called_anew(model: keras.Model, call: Callable[..., Any], images: Any = None) -> keras.Model:
    """The same graph with `call`, of a layer and its arguments, in place of every layer's own call; images as
    `flat` takes them.
    """
    return keras.models.clone_model(
        model, input_tensors=images, clone_function=lambda layer: layer, call_function=call
    )


def _unless_converted(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """What a model makes of its inputs when it is called is an operation of Keras's, no layer's, and hides
    where they come from. Layers turn floats into their own themselves.
    """
    if type(layer).__name__ == "ConvertToTensor":
        own, given = layer.dtype, args[0].dtype
        if own in (None, given) or all(map(keras.backend.is_float_dtype, (own, given))):
            return args[0]
    return layer(*args, **kwargs)


def _is_model(layer: Any) -> bool:
    return isinstance(layer, keras.Model) and bool(getattr(layer, "inputs", None))


def nodes(model: keras.Model) -> list[Any]:
    """What is done from the inputs to the outputs, each after what it takes: Keras's nodes, one for each call
    of a layer or of an operation, such as the + between tensors.
    """
    found: dict[int, Any] = {}
    waiting = [*map(_node, model.outputs)]
    while waiting:
        node = waiting[-1]
        ahead = [source for source in map(_node, node.input_tensors) if id(source) not in found]
        waiting += ahead
        if not ahead:
            found[id(waiting.pop())] = node
    return [*found.values()]


def _unactivated(output: Any) -> tuple[Any, str]:
    """The tensor before the last activation, and what makes probabilities of it."""
    layer = producer(output)
    name = _activation(layer)
    if name not in ("linear", "softmax", "sigmoid"):
        raise ZooError(f'"{layer.name}" ends in {name}; a classifier ends in softmax, sigmoid or logits')
    if isinstance(layer, layers.Activation | layers.Softmax):
        return _taken(output), "softmax" if name == "linear" else name
    if name == "linear":
        return output, "softmax"
    if isinstance(layer, layers.Dense):
        return Unactivated(layer)(_taken(output)), name
    raise ZooError(f'"{layer.name}" has its {name} inside; make it a layer of its own, an Activation')


def _activation(layer: Any) -> str:
    if isinstance(layer, layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", keras.activations.linear)
    return getattr(activation, "__name__", str(activation))


def _classified(scores: Any) -> Any:
    """The classifier's own output, from which the scores come."""
    tensor = scores
    while isinstance(producer(tensor), PASSED) or producer(tensor).name == "global_pool":
        tensor = _taken(tensor)
    if not isinstance(producer(tensor), CLASSIFIERS):
        raise ZooError(f'"{producer(tensor).name}" is no classifier; the model must end in a Dense layer')
    return tensor


def _vectors(features: Any, classifier: str) -> Any:
    if isinstance(producer(features), layers.Dropout):
        features = _taken(features)
    if len(features.shape) == 4:
        features = layers.GlobalAveragePooling2D(name=f"{classifier}.features")(features)
    return features


def producer(tensor: Any) -> Any:
    return tensor._keras_history.operation


def _node(tensor: Any) -> Any:
    """The call that gave this tensor; a shared layer was called more than once."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def _taken(tensor: Any) -> Any:
    """What the layer that gave this tensor was called with."""
    return _node(tensor).input_tensors[0]
