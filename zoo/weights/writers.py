"""A model's weights as a file under the reference's own names, for timm and PyTorch without this library."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from zoo.errors import UnknownModelError, WeightsError
from zoo.registry import resolve
from zoo.weights.convert import slots, state_dict
from zoo.writing import complete

if TYPE_CHECKING:
    import keras


def save(model: keras.Model, path: str | PathLike[str]) -> Path:
    """Write a .safetensors file with the keys, shapes and layouts of the reference; complete or not at all.

    The same weights give the same bytes. PyTorch's load_state_dict(strict=True) takes the file: it counts
    BatchNorm's missing num_batches_tracked from 0. Raises WeightsError for another ending, and for variables
    that have no name there.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f'cannot save weights to "{path}": the name must end in .safetensors')
    _check(model)
    tensors = {key: np.ascontiguousarray(value) for key, value in _in_its_shapes(model).items()}
    with complete(path) as partial:
        # What PyTorch's readers ask for.
        save_file(tensors, partial, metadata={"format": "pt"})
    return path


def _in_its_shapes(model: keras.Model) -> dict[str, np.ndarray]:
    """Linear layers that are pointwise convolutions in the reference have kernels [out, in, 1, 1] there."""
    pattern = _pointwise(model)
    if pattern is None:
        return state_dict(model)
    return {
        key: value[..., None, None]
        if value.ndim == 2 and re.search(pattern, key.rpartition(".")[0])
        else value
        for key, value in state_dict(model).items()
    }


def _pointwise(model: keras.Model) -> str | None:
    """None for a model that is none of the catalog's."""
    known = getattr(model, "zoo", None)
    try:
        return resolve(known.name.partition(".")[0])[0].pointwise if known else None
    except UnknownModelError:
        return None


def _check(model: keras.Model) -> None:
    """Every weight has a key, and each its own."""
    known = [slot.key for slot in slots(model)]
    if len(set(known)) < len(known):
        twice = next(key for key in known if known.count(key) > 1)
        raise WeightsError(f'two weights of {model.name} are called "{twice}"; give its layers unique names')
    named = {id(slot.variable) for slot in slots(model)}
    nameless = [variable.path for variable in model.weights if id(variable) not in named]
    if nameless:
        raise WeightsError(
            f'"{nameless[0]}" of {model.name} has no name in the reference; save a .keras file'
        )
