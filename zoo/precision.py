"""What a network computes in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from zoo.classifier import attach


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
    """The model itself where its layers hold and compute float32; else a copy that does, of the same values.

    Layers that were quantized (whole numbers for weights) stay as they are, and so do the model's facts.
    """
    if all(_is_float32(layer) for layer in model._flatten_layers() if not isinstance(layer, keras.Model)):
        return model
    copy = _copied(model)
    copy.set_weights(model.get_weights())
    known = getattr(model, "zoo", None)
    return attach(copy, known) if known else copy


def _is_float32(layer: Any) -> bool:
    return layer.dtype_policy.name == "float32" or layer.dtype_policy.quantization_mode is not None


def _copied(model: keras.Model) -> keras.Model:
    own = model.inputs if isinstance(model, keras.Sequential) else model.input
    images = keras.tree.map_structure(_float32_input, own)
    return keras.models.clone_model(model, images, clone_function=_recast)


def _float32_input(tensor: Any) -> Any:
    return keras.Input(batch_shape=tensor.shape, dtype="float32", name=tensor.name)


def _recast(layer: Any) -> Any:
    if isinstance(layer, keras.Model) and layer.inputs:
        return _copied(layer)
    return type(layer).from_config(_with_float32(layer.get_config()))


def _with_float32(config: Any) -> Any:
    """A layer's config, where layers may be inside, too."""
    if isinstance(config, dict):
        is_policy = config.get("class_name") == "DTypePolicy"
        return "float32" if is_policy else {key: _with_float32(value) for key, value in config.items()}
    return [_with_float32(value) for value in config] if isinstance(config, list) else config
