"""Networks without their classifier: the feature maps at each stride, and the pooled vector."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import keras

from zoo.arguments import Size
from zoo.classifier import attach, facts
from zoo.errors import ZooError
from zoo.layers import (
    AdaptiveAverage,
    GeneralizedMeanPooling2D,
    HalvingBorder,
    LastWindow,
    WholeSteps,
)
from zoo.loading import DEFAULT, load_trunk
from zoo.outputs import classifier_layer, features_of, producer
from zoo.precision import in_one_graph

# The numbered part of the network that a layer stands in: "blocks.2.0" of "blocks.2.0.conv_dw.pad".
BLOCK = re.compile(r"(?:[^.\d]+\.)*[^.]*\d[^.]*(?:\.\d+(?=\.|$))*")
# What stands between the last map and the classifier, and serves it alone.
HEADS = ("conv_head", "head", "in_conv", "msfa", "final_conv", "final_layer", "pre_logits", "flatten", "drop")
NORMALISE = "normalise"
DOWNSAMPLE = ".downsample"
SAME_MAP = (keras.layers.ZeroPadding2D, HalvingBorder, LastWindow, WholeSteps)
NORMS = (keras.layers.LayerNormalization, keras.layers.BatchNormalization)
NO_MAP = (
    GeneralizedMeanPooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    AdaptiveAverage,
    keras.layers.Flatten,
    keras.layers.Dense,
)


def features(
    model_or_name: keras.Model | str | PathLike[str],
    levels: Sequence[int] | int = (2, 3, 4, 5),
    weights: str | PathLike[str] | None = DEFAULT,
    *,
    input_size: int | Size | None = None,
) -> keras.Model:
    """The backbone for detection and segmentation: pictures [N, H, W, 3] in 0..255 -> a list of maps, that of
    level n about [N, H / 2**n, W / 2**n, channels] (an odd side is rounded as the network does).

    levels: one or several. A level's map is the one that enters the block which halves it; the deepest is the
    network's last, before the layers that serve its classifier alone. model_or_name: a Classifier, whose
    layers are shared (copied, where it has models inside), or with weights and input_size what `load` takes.
    What came out: model.zoo.card["features"], a dict for each level: level, reduction (2**level), channels,
    layer.

    Raises ZooError naming the levels that exist where one of them does not, and what `load` raises.
    """
    model = _classifier(model_or_name, weights, input_size)
    maps = maps_of(model)
    levels = (levels,) if isinstance(levels, int) else levels
    missing = [level for level in levels if level not in maps]
    existing = ", ".join(f"{level} (stride {2**level})" for level in maps) or _only_stride(model)
    if not levels:
        raise ZooError(f"name at least one level; {model.name} has: {existing}")
    if missing:
        raise ZooError(f"{model.name} has no maps of levels {missing}; it has: {existing}")
    chosen = [(level, maps[level]) for level in levels]
    found = [
        {"level": level, "reduction": 2**level, "channels": x.shape[-1], "layer": producer(x).name}
        for level, x in chosen
    ]
    backbone = keras.Model(model.inputs[0], [x for _, x in chosen], name=model.name)
    known = facts(model)
    return attach(backbone, replace(known, labels=(), card={**known.card, "features": found}))


def _only_stride(model: keras.Model) -> str:
    return f"none, for its maps are of stride {max(_strides(model).values())}"


def embedder(
    model_or_name: keras.Model | str | PathLike[str],
    weights: str | PathLike[str] | None = DEFAULT,
    *,
    input_size: int | Size | None = None,
) -> keras.Model:
    """Pictures [N, H, W, 3] in 0..255 -> vectors [N, D], float32: what the classifier sees, without dropout.

    model_or_name: a Classifier, whose layers are shared (copied, where it has models inside), or with weights
    and input_size what `load` takes, which says what is raised.
    """
    model = _classifier(model_or_name, weights, input_size)
    vectors = keras.layers.Activation("linear", dtype="float32", name="features")(
        features_of(classifier_layer(model))
    )
    return attach(keras.Model(model.inputs[0], vectors, name=model.name), replace(facts(model), labels=()))


def _classifier(model_or_name: Any, weights: Any, input_size: Any) -> keras.Model:
    if not isinstance(model_or_name, keras.Model):
        return load_trunk(model_or_name, weights, input_size=input_size)
    if weights != DEFAULT or input_size is not None:
        raise ZooError("weights and input_size go with a name: a model has its own")
    return in_one_graph(model_or_name)


def maps_of(model: keras.Model) -> dict[int, Any]:
    """A classifier's maps by level, for every power of two among their strides."""
    strides = _strides(model)
    halvings = [
        (layer, source)
        for layer, stride in strides.items()
        for source in _sources(layer)
        if strides.get(source, stride) < stride
    ]
    # In HarDNet's blocks it stands at the end, behind the block's map; elsewhere beside what halves, too.
    beside = {_block(layer) for layer, _ in halvings if DOWNSAMPLE not in layer.name}
    found = {}
    for layer, source in halvings:
        block = _block(layer)
        if _normed_for(layer, source):
            block = _home(layer)
        elif block not in beside:
            block = layer.name.partition(DOWNSAMPLE)[0] + DOWNSAMPLE
        stride = strides[source]
        found[stride] = _entering(block, stride, strides) or _unpadded(source)
    head = next((layer for layer in strides if layer.name.partition(".")[0] in HEADS), None)
    last = _unpadded(_sources(head)[0]) if head else next(reversed(strides))
    found[strides[last]] = last
    return {
        stride.bit_length() - 1: layer.output
        for stride, layer in sorted(found.items(), key=lambda pair: pair[0])
        if stride.bit_count() == 1 and layer.name != NORMALISE
    }


def _strides(model: keras.Model) -> dict[Any, int]:
    """Every layer before the classifier that gives a map or its tokens -> input pixels per place, in the
    order of the network.
    """
    end = classifier_layer(model)
    strides: dict[Any, int] = {}
    for layer in model.operations:
        if layer is end:
            break
        sources = _sources(layer)
        known = [strides[source] for source in sources if source in strides]
        if isinstance(layer, keras.layers.InputLayer):
            strides[layer] = 1
        elif known and not isinstance(layer, NO_MAP) and len(keras.tree.flatten(layer.output)[0].shape) > 2:
            own = getattr(layer, "sides_of", None)
            strides[layer] = round(max(known) * _step(layer)) if own is None else strides[sources[own]]
    return strides


def _step(layer: Any) -> float:
    if isinstance(layer, keras.layers.UpSampling2D):
        return 1 / layer.size[0]
    stride = getattr(layer, "strides", (1,))[0]
    return 1 / stride if isinstance(layer, keras.layers.Conv2DTranspose) else stride


def _entering(block: str, stride: int, strides: dict[Any, int]) -> Any:
    """The last map of that stride that enters the block from outside; None where none does."""

    def inside(layer: Any) -> bool:
        return f"{layer.name}.".startswith(f"{block}.")

    entering = [
        source
        for inner in strides
        if inside(inner)
        for source in _sources(inner)
        if strides.get(source) == stride and not inside(source)
    ]
    order = {source: position for position, source in enumerate(strides)}
    return max(entering, key=order.__getitem__, default=None)


def _normed_for(layer: Any, source: Any) -> bool:
    """Whether the source is a norm beside the layer, as "downsample.0" is beside "downsample.1"."""
    return isinstance(source, NORMS) and _home(layer) == _home(source) != ""


def _home(layer: Any) -> str:
    return layer.name.rpartition(".")[0]


def _block(layer: Any) -> str:
    found = BLOCK.match(layer.name)
    return found.group() if found else layer.name.removesuffix(".pad")


def _sources(layer: Any) -> list[Any]:
    return [producer(tensor) for tensor in keras.tree.flatten(layer.input)]


def _unpadded(layer: Any) -> Any:
    while isinstance(layer, SAME_MAP):
        (layer,) = _sources(layer)
    return layer
