"""What a network computes in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from zoo.classifier import attach
from zoo.outputs import flat, is_one_graph

# Policies of Keras for layers that have, or compute in, other floats.
OTHERS = ("float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")


@contextmanager
def float32_policy() -> Iterator[None]:
    """What is made meanwhile holds and computes float32, whatever Keras is set to."""
    policy, floats = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_floatx(floats)
        keras.config.set_dtype_policy(policy)


def in_float32(model: keras.Model) -> keras.Model:
    """The model itself where its layers hold and compute no other floats; else a copy whose layers hold and
    compute float32, of the same values and facts. Layers of whole numbers stay as they are.
    """
    layers = (layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model))
    if not any(layer.dtype_policy.name in OTHERS for layer in layers):
        return model
    return copy_in_float32(model)


def in_one_graph(model: keras.Model) -> keras.Model:
    """The model itself, or a copy in float32 where it is Sequential or has models inside."""
    return model if is_one_graph(model) else copy_in_float32(model)


def copy_in_float32(model: keras.Model) -> keras.Model:
    """The same values and facts in one graph of layers that hold and compute float32, or whole numbers."""
    network = flat(model)
    images = keras.tree.map_structure(_float32_input, network.input)
    copy = keras.models.clone_model(network, images, clone_function=_recast)
    copy.set_weights(network.get_weights())
    known = getattr(model, "zoo", None)
    return attach(copy, known) if known else copy


def _float32_input(tensor: Any) -> Any:
    dtype = "float32" if tensor.dtype in OTHERS else tensor.dtype
    return keras.Input(batch_shape=tensor.shape, dtype=dtype, name=tensor.name)


def _recast(layer: Any) -> Any:
    return type(layer).from_config(_with_float32(layer.get_config()))


def _with_float32(config: Any) -> Any:
    """A layer's config, where layers may be inside, too."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy" and config["config"]["name"] in OTHERS:
            return "float32"
        return {key: _with_float32(value) for key, value in config.items()}
    return [_with_float32(value) for value in config] if isinstance(config, list) else config
