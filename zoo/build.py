"""From a name's facts to a keras.Model: normalisation, the family's network, the classifier."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import keras
from keras import layers

from zoo.arguments import Size, fixed
from zoo.blocks import POOLINGS, Net, concatenate
from zoo.errors import ZooError, did_you_mean
from zoo.initializers import KERNELS, name_the_stock_one
from zoo.layers import BiasedAttention, ConditionalConv2D, NormedTwinDense, PlainTwinDense, TwinDense
from zoo.preprocessing import Preprocessing
from zoo.registry import Architecture, Weights

OUTPUT = "predictions"


def build(
    architecture: Architecture,
    weights: Weights,
    *,
    classes: int,
    input_size: Size,
    classifier_activation: str | None = "softmax",
    dropout: float | None = None,
    drop_path: float | None = None,
    pooling: str | None = None,
    auxiliary: bool = False,
    activation: str | None = None,
    initializer: str | None = None,
) -> keras.Model:
    """Images float32 [N, H, W, 3], RGB 0..255 -> probabilities [N, classes], or logits with activation None.

    The weights' conventions (padding, epsilon, mean, std, build) are built in; the variables are freshly
    initialised. dropout, drop_path, pooling (one of zoo.blocks.POOLINGS), activation (between the layers;
    gates keep theirs) and initializer (of kernels), by their names in Keras, default to the paper's. With
    auxiliary=True the outputs are a dict: "predictions", and one of the same shape by each auxiliary head
    ("aux1", ...). Raises ZooError for an input size or pooling that the network cannot take, an unknown
    name, where it has no auxiliary heads, and where Keras is set to channels first.
    """
    if keras.config.image_data_format() != "channels_last":
        raise ZooError(
            "Keras is set to channels first, the zoo's networks and their weights have their channels last: "
            'call keras.config.set_image_data_format("channels_last")'
        )
    if auxiliary and not architecture.auxiliary:
        raise ZooError(f"{architecture.name} has no auxiliary heads")
    heads = architecture.auxiliary if auxiliary else {}
    smallest = max(architecture.smallest, *(side.smallest for side in heads.values()), 0)
    if min(fixed(input_size, (smallest, smallest))) < smallest:
        raise ZooError(
            f"{architecture.name} needs pictures of at least {smallest} x {smallest} pixels, not {input_size}"
        )
    rate = architecture.dropout if dropout is None else dropout
    path = architecture.drop_path if drop_path is None else drop_path
    if isinstance(classifier_activation, str) and classifier_activation:
        named(classifier_activation, "classifier_activation", keras.activations)
    if pooling and pooling not in POOLINGS:
        raise ZooError(f'unknown pooling "{pooling}"; there are: {", ".join(POOLINGS)}')
    net = Net(weights.padding, weights.epsilon, drop_path=path, dropout=rate, pooling=pooling or "avg")
    images = keras.Input((*input_size, 3), name="images")
    family = import_module(f"zoo.architectures.{architecture.family}")
    maps = getattr(family, architecture.builder)(
        net, normalise(images, weights.preprocessing), **architecture.build | weights.build
    )
    head = HEADS[architecture.head]
    outputs = activate(head(net, maps, classes, architecture.classifier), classifier_activation, OUTPUT)
    if heads:
        trunk = keras.Model(images, maps)
        outputs = {OUTPUT: outputs}
        for name, side in heads.items():
            x = family.auxiliary(net, trunk.get_layer(side.after).output, name)
            x = layers.Dense(classes, name=side.classifier)(x)
            outputs[name] = activate(x, classifier_activation, f"{name}.{OUTPUT}")
    model = keras.Model(images, outputs, name=architecture.name)
    name_the_stock_one(model)
    if pooling and not {"global_pool", "head_pool"} & {layer.name for layer in model.layers}:
        raise ZooError(f"{architecture.name} does not pool its last map: it has no pooling to choose")
    return varied(model, activation, initializer) if activation or initializer else model


# Of gates and outputs, which an activation of the user's does not replace.
GATES = ("linear", "softmax", "sigmoid", "hard_sigmoid")


def varied(model: keras.Model, activation: str | None, initializer: str | None) -> keras.Model:
    """The network anew, with another activation between its layers and other initial kernels.

    The names are Keras's, or those that a function or class is registered by with Keras. Raises ZooError for
    an unknown one.
    """
    function = named(activation, "activation", keras.activations) if activation else None
    start = named(initializer, "initializer", keras.initializers) if initializer else None

    def vary(layer: Any) -> Any:
        config = layer.get_config()
        between = isinstance(layer, layers.Activation) and config["activation"] not in GATES
        if function and (between or isinstance(layer, (layers.ReLU, layers.LeakyReLU))):
            return layers.Activation(function, dtype=layer.dtype_policy, name=layer.name)
        kernels = {key: keras.initializers.serialize(start) for key in KERNELS if start and key in config}
        return type(layer).from_config(config | kernels)

    return keras.models.clone_model(model, clone_function=vary)


def named(name: str, kind: str, known: Any) -> Any:
    """What Keras, or its registry, has under the name. Raises ZooError with the nearest one."""
    registered = keras.saving.get_registered_object(name)
    if registered:
        return registered() if isinstance(registered, type) else registered
    try:
        return known.get(name)
    except ValueError as error:
        names = [one for one in dir(known) if one.islower() and not one.startswith("_")]
        names = [one for one in names if one not in ("get", "serialize", "deserialize")]
        hint = did_you_mean(name, names, f"Keras has: {', '.join(names)}")
        raise ZooError(f'unknown {kind} "{name}"; {hint}') from error


def normalise(images: Any, preprocessing: Preprocessing) -> Any:
    """(images / 255 - mean) / std, as one multiplication and one addition."""
    pairs = list(zip(preprocessing.mean, preprocessing.std, strict=True))
    scale = [1 / (255 * std) for _, std in pairs]
    return layers.Rescaling(scale, [-mean / std for mean, std in pairs], name="normalise")(images)


def classify(net: Net, maps: Any, classes: int, name: str, bias: bool = True) -> Any:
    """The head of almost every network since 2013: global pooling, dropout, one linear layer.

    A network that flattens its maps gives vectors [N, D], which are not pooled.
    """
    x = net.global_pool(maps) if len(maps.shape) == 4 else maps
    return layers.Dense(classes, use_bias=bias, name=name)(net.drop(x, "drop"))


def classify_normed(net: Net, maps: Any, classes: int, name: str) -> Any:
    """A norm before the linear layer."""
    return classify(net, net.norm(net.global_pool(maps), "head.bn"), classes, name)


def classify_places(net: Net, maps: Any, classes: int, name: str) -> Any:
    """Classify every place by a 1x1 convolution, rectify, then pool. Lin et al., arXiv 1312.4400."""
    x = layers.Conv2D(classes, 1, name=name)(net.drop(maps, "drop"))
    x = layers.Activation("relu", name="head.act")(x)
    return net.global_pool(x)


def classify_twice(net: Net, maps: Any, classes: int, name: str) -> Any:
    """A norm and a linear layer, twice; the mean of both. Touvron et al., arXiv 2012.12877."""
    norms = (f"{name}.head.bn", f"{name}.head_dist.bn")
    return TwinDense(classes, name=name)(_normed_twice(net, maps, norms, name))


def classify_beside(net: Net, maps: Any, classes: int, name: str) -> Any:
    """The same, whose second part is called NAME_dist."""
    norms = (f"{name}.bn", f"{name}_dist.bn")
    return NormedTwinDense(classes, name=name)(_normed_twice(net, maps, norms, name))


def _normed_twice(net: Net, maps: Any, norms: tuple[str, str], name: str) -> Any:
    """Maps [N, H, W, C] -> vectors [N, 2 * C]."""
    x = net.drop(net.global_pool(maps), "drop")
    return concatenate([net.norm(x, norm) for norm in norms], name)


def classify_plainly_twice(net: Net, maps: Any, classes: int, name: str) -> Any:
    """Two linear layers alone; their mean."""
    x = net.drop(net.global_pool(maps), "drop")
    return PlainTwinDense(classes, name=name)(x)


HEADS: dict[str, Callable[..., Any]] = {
    "linear": classify,
    "normed": classify_normed,
    "twin": classify_twice,
    "twin_beside": classify_beside,
    "plain_twin": classify_plainly_twice,
    "unbiased": partial(classify, bias=False),
    "convolution": classify_places,
}


def activate(logits: Any, activation: str | None, name: str) -> Any:
    return layers.Activation(activation, dtype="float32", name=name)(logits) if activation else logits


def count_macs(model: keras.Model) -> int:
    """Multiply-adds of convolutions and linear layers for one image, as the papers count them."""
    return sum(_macs(layer) for layer in model.layers)


def _macs(layer: Any) -> int:
    if isinstance(layer, ConditionalConv2D):
        mixing, kernel = math.prod(layer.experts.shape), layer.experts.shape[1]
        return mixing + kernel * math.prod(layer.output.shape[1:-1])
    if isinstance(layer, BiasedAttention) and layer.talking:
        queries, keys, _ = (math.prod(x.shape[1:-1]) for x in layer.input)
        return 2 * layer.heads**2 * queries * keys
    if isinstance(layer, TwinDense):
        return 2 * math.prod(layer.kernel.shape)
    if isinstance(layer, layers.Conv2DTranspose):
        return math.prod(layer.kernel.shape) * math.prod(layer.input.shape[1:-1])
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)):
        if layer.output.shape[0] not in (None, 1):
            return 0  # Of no image, but of what is known of its places.
        calls = len(layer._inbound_nodes)  # PolyNet's convolutions are applied several times
        return calls * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
    return 0
